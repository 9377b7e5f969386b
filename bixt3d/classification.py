"""The task of saying what a cloud is: its settings, its scores, and the files that a run leaves behind."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from lightning_fabric import Fabric
from torch import Tensor, nn

from bixt3d.config import SettingsParser, make_settings_parser
from bixt3d.datasets import CloudAugment, CloudSource, stratified_split, take_points
from bixt3d.engine.checkpoint import save_weights, write_json
from bixt3d.engine.loop import predict_all
from bixt3d.engine.metrics import ClassScores
from bixt3d.engine.optim import Optim
from bixt3d.engine.report import commit
from bixt3d.engine.runtime import Runtime, device_name
from bixt3d.models.presets import MakeClassifier
from bixt3d.types import CloudSet, InputError

TASK = "classification"
HOW_TO_TRAIN = "python tools/train_cls.py --cfg cfgs/shapes_cls.yaml"


@dataclass
class Train:
    """How long and on what.

    Args:
        epochs: passes over the training set.
        batch_size: clouds for each update, over all processes.
        eval_batch_size: clouds at a time in evaluation; changes no result.
        label_smoothing: probability given to the other classes.
        eval_every: evaluate after every so many epochs, and after the last.
        balance: let rare classes count as much as frequent ones: in training, the log of how frequent a class is
            is added to its logit (Menon et al. 2021, "Long-tail learning via logit adjustment").
    """

    epochs: int = 300
    batch_size: int = 32
    eval_batch_size: int = 64
    label_smoothing: float = 0.2
    eval_every: int = 1
    balance: bool = False

    def __post_init__(self):
        for name in ("epochs", "batch_size", "eval_batch_size", "eval_every"):
            if getattr(self, name) < 1:
                raise InputError(f"train.{name} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.label_smoothing <= 0.5:
            raise InputError(f"train.label_smoothing must lie between 0 and 0.5, not be {self.label_smoothing}")


def make_parser(description: str) -> SettingsParser:
    """Return the parser of all settings of a classification run."""
    parser = make_settings_parser(description)
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, shuffling and augmentation")
    parser.add_argument("--data", type=CloudSource, help="the data set")
    parser.add_argument("--model", type=MakeClassifier, help="the model")
    parser.add_class_arguments(CloudAugment, "augment", help="augmentation of training clouds")
    parser.add_argument("--optim", type=Optim, default=Optim())
    parser.add_argument("--train", type=Train, default=Train())
    parser.add_argument("--runtime", type=Runtime, default=Runtime())
    return parser


@dataclass
class Sets:
    """The clouds of a run; ``val`` is carved out of the training set, or None."""

    train: CloudSet
    val: CloudSet | None
    test: CloudSet


def split_sets(clouds: tuple[CloudSet, CloudSet], val_fraction: float, seed: int) -> Sets:
    """Return the sets of a run, with a stratified validation set where one is asked for."""
    train, test = clouds
    if not val_fraction:
        return Sets(train, None, test)
    train_index, val_index = stratified_split(train.label, val_fraction, seed)
    return Sets(train.subset(train_index), train.subset(val_index), test)


def class_logits(model: nn.Module, clouds: CloudSet, run: Any, fabric: Fabric, votes: int = 1) -> Float[Tensor, "S C"]:
    """Return the logits of every cloud of a set, from its first points.

    With ``votes`` > 1: log of the mean probability over the cloud as it is and over ``votes - 1`` random scalings of
    its axes in [0.8, 1.25], the same at every call.
    """
    num_points, batch_size = run.data.num_points, run.train.eval_batch_size
    first = predict_all(model, clouds, batch_size, lambda batch: take_points(batch, num_points), fabric)
    if votes == 1:
        return first
    generator = torch.Generator(fabric.device).manual_seed(0)
    scale = CloudAugment(scale=(0.8, 1.25))
    total = first.softmax(1)
    for _ in range(votes - 1):
        total += predict_all(
            model, clouds, batch_size, lambda batch: scale(batch, num_points, generator), fabric
        ).softmax(1)
    return (total / votes).log()


def keep_weights(folder: Path, module: nn.Module, config: str, class_names: Sequence[str], name: str = "model") -> None:
    """Save weights with what is needed to build and use their model again: settings and class names."""
    metadata = {"task": TASK, "config": config, "class_names": json.dumps(list(class_names))}
    save_weights(folder / f"{name}.safetensors", module.state_dict(), metadata)


def describe_result(scores: ClassScores, module: nn.Module, fabric: Fabric, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what result.json holds: scores of the last epoch on the test set, and where they come from."""
    return {
        "task": TASK,
        "overall_accuracy": scores.overall_accuracy,
        "mean_accuracy": scores.mean_accuracy,
        "per_class": scores.per_class,
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "device": device_name(fabric),
        "version": version("bixt3d"),
        "torch": torch.__version__,
        "commit": commit(),
        **facts,
    }


def show_scores(scores: ClassScores) -> str:
    """Return overall accuracy, mean class accuracy and a table of the classes as text."""
    counts = scores.confusion.sum(1)
    width = max(len(name) for name in scores.class_names)
    lines = [f"{'class':{width}}  clouds  accuracy"]
    for name, count in zip(scores.class_names, counts, strict=True):
        accuracy = f"{scores.per_class[name]:9.2%}" if name in scores.per_class else "        -"
        lines.append(f"{name:{width}}  {count:6d} {accuracy}")
    return "\n".join(
        [*lines, f"overall accuracy {scores.overall_accuracy:.2%}, mean class accuracy {scores.mean_accuracy:.2%}"]
    )


def write_results(
    folder: Path,
    result: dict[str, Any],
    scores: ClassScores,
    logits: Float[Tensor, "S C"],
    test: CloudSet,
    page: Mapping[str, Any],
) -> None:
    """Write result.json, three pictures and report.html; ``page`` holds title, rows, command, settings and up."""
    from bixt3d.viz.clouds import draw_clouds
    from bixt3d.viz.plots import draw_confusion, draw_curves
    from bixt3d.viz.report import ClassificationReport, write_report

    write_json(folder / "result.json", result)
    try:
        draw_curves(page["rows"], folder / "curves.png")
        draw_confusion(scores.confusion, test.class_names, folder / "confusion.png")
        mistakes, samples = _pick_clouds(logits.cpu(), test)
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
            confusion=scores.confusion,
            class_names=test.class_names,
            mistakes=mistakes,
            samples=samples,
            **page,
        )
        write_report(folder / "report.html", report)
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
