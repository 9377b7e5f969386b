"""Evaluate the robustness of a classifier: accuracy on corrupted clouds by corruption and level, and its errors."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from bixt3d.datasets import CORRUPTIONS, LEVELS, corrupt
from bixt3d.engine.fabric import Fabric
from bixt3d.io.bounds import printable
from bixt3d.io.hub import WEIGHTS
from bixt3d.io.pretrained import find_run, results_folder
from bixt3d.tasks.class_evaluation import ClassEvaluation, evaluate_classes
from bixt3d.tasks.finishing import read_result
from bixt3d.tasks.settings import Run
from bixt3d.types import CloudSet, InputError

SIZES = ("test_clouds", "test_points")
"""Names in result.json of the number of clouds, and of the points of each."""


@dataclass
class CorruptedEvaluation(ClassEvaluation):
    """Scores on the clean set, and overall accuracy for each corruption, level by level.

    ``num_points``: points of a corrupted cloud.
    """

    corruptions: Mapping[str, Sequence[float]]
    num_points: int

    def mean(self) -> float:
        """Return the mean accuracy over all corruptions and levels."""
        return statistics.fmean(accuracy for line in self.corruptions.values() for accuracy in line)

    def facts(self) -> dict[str, Any]:
        sizes = dict(zip(SIZES, (len(self.logits), self.num_points), strict=True))
        return super().facts() | {"corruptions": self.corruptions, "corruptions_mean": self.mean()} | sizes

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
    return CorruptedEvaluation(clean.logits, clean.scores, found, run.data.num_points)


def read_baseline(place: Path, clouds: CloudSet, num_points: int) -> dict[str, Any]:
    """Return the result of a baseline on corrupted clouds.

    ``place``: a run folder, a name of weights, a folder of results, or a result.json. ``clouds``: the test set that the
    baseline was tested on too, ``num_points`` of each cloud.

    Raises InputError if there is none, or one of another test set: before the evaluation, which takes long.
    """
    run = find_run(place)
    folder = results_folder(run if run.suffix == ".safetensors" else run / WEIGHTS)
    for path in (folder / "test/result.json", folder / "result.json", run):
        result = read_result(path)
        if result and isinstance(result.get("corruptions"), dict):
            check_baseline(result, clouds, num_points, path)
            return result
    if not run.exists() and not folder.exists():
        raise InputError(f"there is no run {printable(place)}")
    raise InputError(
        f"{printable(place)} has no scores on corrupted clouds: make them with "
        f"`bixt3d test {printable(place)} --corrupted`"
    )


def check_baseline(result: Mapping[str, Any], clouds: CloudSet, num_points: int, path: Path) -> None:
    """Raise InputError for the result of a baseline that is damaged, of another test set, or without an error."""
    lines, classes = result["corruptions"], result.get("per_class")
    for name, line in lines.items():
        if not isinstance(line, list) or not all(type(share) in (int, float) and 0 <= share <= 1 for share in line):
            raise InputError(f"{printable(path)} is damaged: {printable(name)} has no accuracies")
    known = {clouds.class_names[label] for label in clouds.label.unique().tolist()}
    levels = {len(line) for line in lines.values()}
    if lines.keys() != CORRUPTIONS.keys() or levels != {len(LEVELS)} or set(classes or ()) != known:
        raise InputError("the baseline was tested on other classes or corruptions: test both runs on the same data")
    there, here = [result.get(size) for size in SIZES], [len(clouds), num_points]
    if None not in there and here != there:
        others, own = (f"{number} clouds of {points} points" for number, points in (there, here))
        raise InputError(f"the baseline was tested on {others}, this run on {own}: test both on the same data")
    if perfect := [name for name, line in lines.items() if min(line) == 1]:
        raise InputError(f"the baseline makes no error under {perfect[0]}: nothing is relative to that")


def relative_errors(baseline: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    """Return corruption errors relative to a baseline, and their mean (mCE), as ModelNet-C defines them.

    The error of a corruption is the sum of ``1 - accuracy`` over its levels, divided by that of the baseline; below 1
    is better than the baseline.
    """
    own, other = (
        {name: sum(1 - share for share in line) for name, line in one["corruptions"].items()}
        for one in (result, baseline)
    )
    errors = {name: error / other[name] for name, error in own.items()}
    return {"corruption_errors": errors, "mean_corruption_error": statistics.fmean(errors.values())}
