"""Evaluate the robustness of a classifier: its accuracy on corrupted clouds, for each corruption and severity level."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from bixt3d.datasets import CORRUPTIONS, LEVELS, corrupt
from bixt3d.engine.fabric import Fabric
from bixt3d.tasks.class_evaluation import ClassEvaluation, evaluate_classes
from bixt3d.tasks.settings import Run
from bixt3d.types import CloudSet


@dataclass
class CorruptedEvaluation(ClassEvaluation):
    """Scores on the clean set, and overall accuracy for each corruption, level by level."""

    corruptions: Mapping[str, Sequence[float]]

    def mean(self) -> float:
        """Return the mean accuracy over all corruptions and levels."""
        return statistics.fmean(accuracy for line in self.corruptions.values() for accuracy in line)

    def facts(self) -> dict[str, Any]:
        return super().facts() | {"corruptions": self.corruptions, "corruptions_mean": self.mean()}

    def text(self) -> str:
        width = max(map(len, self.corruptions))
        lines = [f"{'corruption':{width}}" + "".join(f"  level {level}" for level in LEVELS) + "     mean"]
        for name, line in self.corruptions.items():
            lines.append(f"{name:{width}}" + "".join(f" {share:8.2%}" for share in [*line, statistics.fmean(line)]))
        return "\n".join([super().text(), *lines, f"overall accuracy on corrupted clouds {self.mean():.2%}"])

    def pictures(self) -> dict[str, bytes]:
        from bixt3d.viz.plots import corruptions_png

        return {"corruptions": corruptions_png(self.corruptions, self.scores.overall_accuracy)}


def evaluate_corrupted(
    module: nn.Module, clouds: CloudSet, run: Run, fabric: Fabric, votes: int = 1
) -> CorruptedEvaluation:
    """Score a classifier on the clean set, and on the same clouds with each corruption at each level."""

    def accuracy(name: str, level: int) -> float:
        corrupted = corrupt(clouds, name, level, run.data.num_points)
        return evaluate_classes(module, corrupted, run, fabric, votes).scores.overall_accuracy

    clean = evaluate_classes(module, clouds, run, fabric, votes)
    found = {name: [accuracy(name, level) for level in LEVELS] for name in CORRUPTIONS}
    return CorruptedEvaluation(clean.logits, clean.scores, found)
