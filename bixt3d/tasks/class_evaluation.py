"""Evaluate a classifier of clouds, with test-time augmentation (voting) if asked for."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from bixt3d.datasets import take_points
from bixt3d.datasets.transforms.draws import Draws
from bixt3d.engine.fabric import Fabric
from bixt3d.engine.loop import Batch, predict_all
from bixt3d.tasks.calibration import calibration_facts, calibration_text
from bixt3d.tasks.class_metrics import ClassScores, score_classes
from bixt3d.tasks.scores import Evaluation
from bixt3d.tasks.settings import Run
from bixt3d.types import CloudSet


@dataclass
class ClassEvaluation(Evaluation):
    """The logits of every cloud of a set, and their scores."""

    logits: Float[Tensor, "S C"]
    scores: ClassScores

    def row(self) -> dict[str, float]:
        scores = self.scores
        return {"accuracy": scores.overall_accuracy, "mean_accuracy": scores.mean_accuracy, "loss": scores.loss}

    def facts(self) -> dict[str, Any]:
        names = ("overall_accuracy", "mean_accuracy", "macro_f1", "per_class")
        return {name: getattr(self.scores, name) for name in names} | calibration_facts(self.scores.calibration)

    def text(self) -> str:
        scores, counts = self.scores, self.scores.confusion.sum(1)
        width = max(len(name) for name in scores.class_names)
        lines = [f"{'class':{width}}  clouds  accuracy"]
        for name, count in zip(scores.class_names, counts, strict=True):
            accuracy = f"{scores.per_class[name]:9.2%}" if name in scores.per_class else "        -"
            lines.append(f"{name:{width}}  {count:6d} {accuracy}")
        lines.append(f"overall accuracy {scores.overall_accuracy:.2%}, mean class accuracy {scores.mean_accuracy:.2%}")
        lines.append(f"macro F1 {scores.macro_f1:.2%}")
        return "\n".join([*lines, calibration_text(scores.calibration)])

    def pictures(self) -> dict[str, bytes]:
        """Return additional pictures for the report, as PNG by file name."""
        return {}


def evaluate_classes(module: nn.Module, clouds: CloudSet, run: Run, fabric: Fabric, votes: int = 1) -> ClassEvaluation:
    """Score a classifier on a set; ``votes`` as in `class_logits`."""
    logits = class_logits(module, clouds, run, fabric, votes)
    return ClassEvaluation(logits, score_classes(logits, clouds.label, clouds.class_names))


def class_logits(model: nn.Module, clouds: CloudSet, run: Run, fabric: Fabric, votes: int = 1) -> Float[Tensor, "S C"]:
    """Return the logits of every cloud of a set, from its first ``num_points`` points.

    ``votes`` > 1 is test-time augmentation: the log of the mean probability over the unchanged cloud and over ``votes -
    1`` copies with the training augmentation of the run, drawn from vote and index of the cloud alone.
    """
    batch_size = run.train.eval_batch_size
    logits = [predict_all(model, clouds, batch_size, partial(_vote, run, i), fabric)[0] for i in range(votes)]
    return logits[0] if votes == 1 else (sum(one.softmax(1) for one in logits) / votes).log()


def _vote(run: Run, vote: int, model: nn.Module, batch: Batch) -> tuple[Tensor]:
    """Return the logits of one vote for the clouds of a batch."""
    if vote:
        batch = run.augment(batch, run.data.num_points, Draws(batch["index"], "vote", vote), run.data.features)
    else:
        batch = take_points(batch, run.data.num_points)
    return (model(batch["xyz"], batch["feats"]).float(),)
