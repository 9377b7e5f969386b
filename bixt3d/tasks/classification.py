"""Classification of point clouds: settings, training step, evaluation and report."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bixt3d.datasets import CloudSource, cut_and_mix
from bixt3d.datasets.transforms.draws import Draws
from bixt3d.engine.fabric import Fabric
from bixt3d.engine.loop import Batch, Step
from bixt3d.inference.clouds import Predictor
from bixt3d.models.presets import MakeClassifier
from bixt3d.tasks.class_evaluation import ClassEvaluation, evaluate_classes
from bixt3d.tasks.class_metrics import count_correct, log_frequency, smooth_cross_entropy
from bixt3d.tasks.corrupted import evaluate_corrupted, read_baseline, relative_errors
from bixt3d.tasks.inputs import read_clouds
from bixt3d.tasks.scores import Evaluation, Score
from bixt3d.tasks.settings import Run, Train
from bixt3d.tasks.task import Task
from bixt3d.types import CloudSet, InputError


@dataclass
class ClassTrain(Train):
    """Settings of training: duration, batch size and loss.

    Args:
        balance: class-balanced loss by logit adjustment: add the log frequency of each class to its logit in training
            (Menon et al. 2021, "Long-tail learning via logit adjustment").
        mix: probability that one side of a training cloud is replaced by that of another, and its label in proportion
            (CutMix for clouds, see cut_and_mix); train_accuracy then counts the label of the larger share.
    """

    label_smoothing: float = 0.2
    balance: bool = False
    mix: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.mix <= 1:
            raise InputError(f"train.mix must be between 0 and 1, not {self.mix}")


class Classification(Task):
    """Classify clouds."""

    name = "classification"
    program = "cls"
    example = "bixt3d train cls --cfg shapes_cls"
    headline = {"overall_accuracy": Score("accuracy"), "mean_accuracy": Score("mean_accuracy")}
    data, model, train = CloudSource, MakeClassifier, ClassTrain
    has_baseline = True
    more = "corrupted", "score corrupted clouds too: seven corruptions, five levels of each, after ModelNet-C"

    def relative_to(self, place: Path, test: CloudSet, run: Run) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
        return partial(relative_errors, read_baseline(place, test, run.data.num_points))

    def make_predictor(self, model: nn.Module, names: Mapping[str, Any], given: Mapping[str, Any], source: str) -> Any:
        return Predictor(model, names["class_names"], **read_clouds(given, model, source))

    def mixes(self, run: Run) -> bool:
        return run.train.mix > 0

    def make_augment(self, run: Run, train: CloudSet, epoch: int) -> Callable[[Batch, int], Batch]:
        augment_alone = super().make_augment(run, train, epoch)

        def augment(batch: Batch, step: int) -> Batch:
            batch = augment_alone(batch, step)
            return cut_and_mix(batch, run.train.mix, Draws(batch["index"], "mix", run.seed, epoch))

        return augment if run.train.mix else augment_alone

    def make_step(self, run: Run, train: CloudSet) -> Step:
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

    def evaluate(self, module: nn.Module, clouds: CloudSet, run: Run, fabric: Fabric, votes: int = 1) -> Evaluation:
        return evaluate_classes(module, clouds, run, fabric, votes)

    def evaluate_more(self, module: nn.Module, clouds: CloudSet, run: Run, fabric: Fabric, votes: int) -> Evaluation:
        return evaluate_corrupted(module, clouds, run, fabric, votes)

    def write_report(
        self, folder: Path, evaluation: ClassEvaluation, test: CloudSet, run: Run, page: Mapping[str, Any]
    ) -> None:
        from bixt3d.io.writing import replace_file
        from bixt3d.viz.clouds import draw_clouds
        from bixt3d.viz.plots import draw_confusion, draw_curves, reliability_png
        from bixt3d.viz.report import ClassificationReport, write_class_report

        confusion = evaluation.scores.confusion
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
            up=run.data.up,
        )
        report = ClassificationReport(
            confusion=confusion,
            class_names=test.class_names,
            mistakes=mistakes,
            samples=samples,
            corruptions=more.get("corruptions"),
            reliability=reliability_png(evaluation.scores.calibration.numpy()),
            up=run.data.up,
            **page,
        )
        write_class_report(folder / "report.html", report)


def _truth(cloud: Any) -> str:
    return "" if cloud.truth == cloud.predicted else f" (is {cloud.truth})"


def _pick_clouds(logits: Tensor, test: CloudSet, most: int = 12) -> tuple[list, list]:
    """Return the most confident mistakes, and the first correct prediction of each class."""
    from bixt3d.viz.report import PredictedCloud

    confidence, predicted = logits.softmax(1).max(1)
    label = test.label.cpu()

    def cloud(i: int) -> PredictedCloud:
        names = test.class_names[int(label[i])], test.class_names[int(predicted[i])]
        return PredictedCloud(test.xyz[i, :1024].cpu().numpy().astype(np.float32), *names, float(confidence[i]), i)

    wrong = (predicted != label).nonzero().squeeze(1)
    wrong = wrong[confidence[wrong].argsort(descending=True, stable=True)][:most]
    right = predicted == label
    firsts = [
        int((right & (label == c)).nonzero()[0]) for c in range(len(test.class_names)) if (right & (label == c)).any()
    ]
    return [cloud(i) for i in wrong.tolist()], [cloud(i) for i in firsts[: 2 * most]]
