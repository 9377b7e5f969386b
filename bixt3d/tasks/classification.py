"""The task of saying what a cloud is: its settings, its training step, its scores, and what a run shows of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from bixt3d.datasets import CloudSource, cut_and_mix, take_points
from bixt3d.datasets.transforms.draws import Draws
from bixt3d.engine.checkpoint import write_json
from bixt3d.engine.fabric import Fabric
from bixt3d.engine.loop import Batch, Step, predict_all
from bixt3d.inference.clouds import Predictor
from bixt3d.models.presets import MakeClassifier
from bixt3d.tasks.class_metrics import ClassScores, count_correct, log_frequency, score_classes, smooth_cross_entropy
from bixt3d.tasks.inputs import read_clouds
from bixt3d.tasks.scores import Evaluation, Score
from bixt3d.tasks.settings import Train
from bixt3d.tasks.task import Task
from bixt3d.types import CloudSet, InputError


@dataclass
class ClassTrain(Train):
    """How long and on what.

    Args:
        epochs: passes over the training set.
        batch_size: clouds for each update, over all processes, at most: those of an epoch are nearly equal.
        eval_batch_size: clouds at a time in evaluation; changes no result.
        label_smoothing: probability given to the other classes.
        eval_every: evaluate after every so many epochs, and after the last.
        steps: updates of the whole run, in place of epochs; the last epoch ends where they do.
        balance: let rare classes count as much as frequent ones: in training, the log of how frequent a class is
            is added to its logit (Menon et al. 2021, "Long-tail learning via logit adjustment").
        mix: probability that one side of a training cloud is replaced by that of another, and its label in proportion
            (see cut_and_mix); train_accuracy then counts the label of the larger share.
    """

    label_smoothing: float = 0.2
    balance: bool = False
    mix: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.mix <= 1:
            raise InputError(f"train.mix must lie between 0 and 1, not be {self.mix}")


@dataclass
class ClassEvaluation(Evaluation):
    """Logits of every cloud of a set, and their scores."""

    logits: Float[Tensor, "S C"]
    scores: ClassScores

    def row(self) -> dict[str, float]:
        scores = self.scores
        return {"accuracy": scores.overall_accuracy, "mean_accuracy": scores.mean_accuracy, "loss": scores.loss}

    def facts(self) -> dict[str, Any]:
        names = ("overall_accuracy", "mean_accuracy", "per_class")
        return {name: getattr(self.scores, name) for name in names}

    def text(self) -> str:
        scores, counts = self.scores, self.scores.confusion.sum(1)
        width = max(len(name) for name in scores.class_names)
        lines = [f"{'class':{width}}  clouds  accuracy"]
        for name, count in zip(scores.class_names, counts, strict=True):
            accuracy = f"{scores.per_class[name]:9.2%}" if name in scores.per_class else "        -"
            lines.append(f"{name:{width}}  {count:6d} {accuracy}")
        return "\n".join(
            [*lines, f"overall accuracy {scores.overall_accuracy:.2%}, mean class accuracy {scores.mean_accuracy:.2%}"]
        )

    def pictures(self) -> dict[str, bytes]:
        """Return pictures of this evaluation as PNG, beside those of every one."""
        return {}


class Classification(Task):
    """Say which class each cloud belongs to."""

    name = "classification"
    program = "cls"
    example = "python tools/train_cls.py --cfg cfgs/shapes_cls.yaml"
    headline = {"overall_accuracy": Score("accuracy"), "mean_accuracy": Score("mean_accuracy")}
    data, model, train = CloudSource, MakeClassifier, ClassTrain

    def make_predictor(self, model: nn.Module, names: Mapping[str, Any], given: Mapping[str, Any], source: str) -> Any:
        return Predictor(model, names["class_names"], **read_clouds(given, model, source))

    def mixes(self, run: Any) -> bool:
        return run.train.mix > 0

    def make_augment(self, run: Any, train: CloudSet, epoch: int) -> Callable[[Batch, int], Batch]:
        show = super().make_augment(run, train, epoch)

        def augment(batch: Batch, step: int) -> Batch:
            batch = show(batch, step)
            return cut_and_mix(batch, run.train.mix, Draws(batch["index"], "mix", run.seed, epoch))

        return augment if run.train.mix else show

    def make_step(self, run: Any, train: CloudSet) -> Step:
        prior = log_frequency(train.label, len(train.class_names)) if run.train.balance else 0.0

        def step(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
            logits = model(batch["xyz"], batch["feats"])
            loss = smooth_cross_entropy(logits.float() + prior, batch["label"], run.train.label_smoothing)
            return loss, count_correct(logits, batch["label"])

        def step_mixed(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
            logits, share = model(batch["xyz"], batch["feats"]), batch["kept"]
            labels = {"label": share, "other_label": 1 - share}
            losses = [
                share * smooth_cross_entropy(logits.float() + prior, batch[key], run.train.label_smoothing, "none")
                for key, share in labels.items()
            ]
            larger = torch.where(share >= 0.5, batch["label"], batch["other_label"])
            return sum(losses).mean(), count_correct(logits, larger)

        return step_mixed if run.train.mix else step

    def evaluate(self, module: nn.Module, clouds: CloudSet, run: Any, fabric: Fabric, votes: int = 1) -> Evaluation:
        logits = class_logits(module, clouds, run, fabric, votes)
        return ClassEvaluation(logits, score_classes(logits, clouds.label, clouds.class_names))

    def write_results(
        self,
        folder: Path,
        result: dict[str, Any],
        evaluation: Evaluation,
        test: CloudSet,
        run: Any,
        page: Mapping[str, Any],
    ) -> None:
        write_results(folder, result, evaluation, test, {**page, "up": run.data.up})


def class_logits(model: nn.Module, clouds: CloudSet, run: Any, fabric: Fabric, votes: int = 1) -> Float[Tensor, "S C"]:
    """Return the logits of every cloud of a set, from its first points.

    With ``votes`` > 1: log of the mean probability over the cloud as it is and over ``votes - 1`` looks at it as in
    training, augmented as the run's settings say (other points, if it resamples), and as number of the vote and place
    of the cloud in the set say alone.
    """
    num_points, batch_size = run.data.num_points, run.train.eval_batch_size

    def look(batch: Batch, vote: int) -> Batch:
        if not vote:
            return take_points(batch, num_points)
        return run.augment(batch, num_points, Draws(batch["index"], "vote", vote), run.data.features)

    def logits(vote: int) -> Float[Tensor, "S C"]:
        def forward(model: nn.Module, batch: Batch) -> tuple[Tensor]:
            batch = look(batch, vote)
            return (model(batch["xyz"], batch["feats"]).float(),)

        return predict_all(model, clouds, batch_size, forward, fabric)[0]

    if votes == 1:
        return logits(0)
    return (sum(logits(vote).softmax(1) for vote in range(votes)) / votes).log()


def write_results(
    folder: Path, result: dict[str, Any], evaluation: ClassEvaluation, test: CloudSet, page: Mapping[str, Any]
) -> None:
    """Write result.json, three pictures and report.html; ``page`` holds title, rows, command, settings and up."""
    from bixt3d.io.writing import replace_file
    from bixt3d.viz.clouds import draw_clouds
    from bixt3d.viz.plots import draw_confusion, draw_curves
    from bixt3d.viz.report import ClassificationReport, write_class_report

    confusion = evaluation.scores.confusion
    write_json(folder / "result.json", result)
    try:
        draw_curves(page["rows"], folder / "curves.png")
        draw_confusion(confusion, test.class_names, folder / "confusion.png")
        more = evaluation.pictures()
        for name, png in more.items():
            replace_file(folder / f"{name}.png", png)
        mistakes, samples = _pick_clouds(evaluation.logits.cpu(), test)
        shown = [*samples, *mistakes][:24]
        draw_clouds(
            np.stack([cloud.xyz for cloud in shown]),
            folder / "predictions.png",
            titles=[f"{cloud.predicted} {cloud.confidence:.0%}" + _truth(cloud) for cloud in shown],
            columns=8,
            up=page["up"],
        )
        report = ClassificationReport(
            result=result,
            confusion=confusion,
            class_names=test.class_names,
            mistakes=mistakes,
            samples=samples,
            corruptions=more.get("corruptions"),
            **page,
        )
        write_class_report(folder / "report.html", report)
    except OSError as error:
        raise InputError(f"could not write the report in {folder}: {error.strerror}; result.json is there") from error


def _truth(cloud: Any) -> str:
    return "" if cloud.truth == cloud.predicted else f" (is {cloud.truth})"


def _pick_clouds(logits: Tensor, test: CloudSet, most: int = 12) -> tuple[list, list]:
    """Return the most confident mistakes, and the right prediction of each class that comes first."""
    from bixt3d.viz.report import PredictedCloud

    confidence, predicted = logits.softmax(1).max(1)
    label = test.label.cpu()

    def show(i: int) -> PredictedCloud:
        names = test.class_names[int(label[i])], test.class_names[int(predicted[i])]
        return PredictedCloud(test.xyz[i, :1024].cpu().numpy().astype(np.float32), *names, float(confidence[i]), i)

    wrong = (predicted != label).nonzero().squeeze(1)
    wrong = wrong[confidence[wrong].argsort(descending=True, stable=True)][:most]
    right = predicted == label
    firsts = [
        int((right & (label == c)).nonzero()[0]) for c in range(len(test.class_names)) if (right & (label == c)).any()
    ]
    return [show(i) for i in wrong.tolist()], [show(i) for i in firsts[: 2 * most]]
