"""Image classification: settings, training step, evaluation and report."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot

from bixt3d.datasets import ImageAugment, ImageSource
from bixt3d.datasets.images.reading import ImageSet
from bixt3d.engine.fabric import Fabric
from bixt3d.engine.loop import Batch, Step, predict_all
from bixt3d.inference.images import ImagePredictor
from bixt3d.io.untrusted import check_count
from bixt3d.models.image_presets import MakeImageClassifier
from bixt3d.tasks.calibration import calibration_facts, calibration_text
from bixt3d.tasks.class_metrics import ClassScores, count_correct, score_classes
from bixt3d.tasks.image_metrics import top_k_accuracy
from bixt3d.tasks.image_task import ImageTask, pixels_of
from bixt3d.tasks.inputs import LARGEST_IMAGE, describe_images, read_images
from bixt3d.tasks.scores import Evaluation, Score
from bixt3d.tasks.settings import Run, Train
from bixt3d.types import InputError

FEW = 40
"""Largest number of classes with a table of their accuracies and a confusion matrix."""


@dataclass
class ImageClassTrain(Train):
    """Settings of training: duration, batch size and loss.

    Args:
        loss: cross entropy, or binary cross entropy of each class (bce), averaged over classes. With MixUp or CutMix
            the targets of both are the mixed probabilities, and train_accuracy counts the label of the larger share.
    """

    loss: Literal["cross_entropy", "bce"] = "cross_entropy"


@dataclass
class ImageClassEvaluation(Evaluation):
    """The logits of every image of a set, and their scores; ``scores.overall_accuracy`` is the top-1 accuracy."""

    logits: Float[Tensor, "S C"]
    scores: ClassScores
    top5: float

    def row(self) -> dict[str, float]:
        return {"accuracy": self.scores.overall_accuracy, "top5": self.top5, "loss": self.scores.loss}

    def facts(self) -> dict[str, Any]:
        scores = self.scores
        return {
            "top1": scores.overall_accuracy,
            "top5": self.top5,
            "mean_accuracy": scores.mean_accuracy,
            "per_class": scores.per_class,
            **calibration_facts(scores.calibration),
        }

    def text(self) -> str:
        scores, counts = self.scores, self.scores.confusion.sum(1)
        lines = []
        if len(scores.class_names) <= FEW:
            width = max(len(name) for name in scores.class_names)
            lines.append(f"{'class':{width}}  images  accuracy")
            for name, count in zip(scores.class_names, counts, strict=True):
                accuracy = f"{scores.per_class[name]:9.2%}" if name in scores.per_class else "        -"
                lines.append(f"{name:{width}}  {count:6d} {accuracy}")
        lines.append(f"top-1 {scores.overall_accuracy:.2%}, top-5 {self.top5:.2%}")
        return "\n".join([*lines, calibration_text(scores.calibration)])


class ImageClassification(ImageTask):
    """Classify images."""

    name = "image classification"
    program = "imgcls"
    example = "bixt3d train imgcls --cfg cifar10"
    headline = {"top1": Score("accuracy"), "top5": Score("top5")}
    data, model, train, augmentation = ImageSource, MakeImageClassifier, ImageClassTrain, ImageAugment

    def describe_input(self, run: Run, images: ImageSet) -> dict[str, Any]:
        return describe_images(size=run.data.size, crop_fraction=run.data.crop_fraction)

    def make_predictor(self, model: nn.Module, names: Mapping[str, Any], given: Mapping[str, Any], source: str) -> Any:
        given = read_images(given, ("size", "crop_fraction"), source)
        size, crop_fraction = check_count(given["size"], f"size of {source}", 1, LARGEST_IMAGE), given["crop_fraction"]
        if not (type(crop_fraction) in (int, float) and 0.01 <= crop_fraction <= 1):
            raise InputError(f"crop_fraction of {source} should be a fraction of the image, from 0.01 to 1")
        return ImagePredictor(model, names["class_names"], size, crop_fraction)

    def mixes(self, run: Run) -> bool:
        return run.augment.mixing(2) is not None

    def make_augment(self, run: Run, train: ImageSet, epoch: int) -> Callable[[Batch, int], Batch]:
        mix = run.augment.mixing(len(train.class_names))

        def augment(batch: Batch, step: int) -> Batch:
            image, target = mix(batch["image"], batch["label"], "mix", run.seed, epoch, step)
            return {"image": image, "label": target}

        return augment if mix else super().make_augment(run, train, epoch)

    def make_step(self, run: Run, train: ImageSet) -> Step:
        num_classes, smoothing = len(train.class_names), run.train.label_smoothing

        def step(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
            logits, target = model(batch["image"]), batch["label"]
            correct = count_correct(logits, target if target.ndim == 1 else target.argmax(1))
            if run.train.loss == "cross_entropy":
                return cross_entropy(logits.float(), target, label_smoothing=smoothing), correct
            target = one_hot(target, num_classes).float() if target.ndim == 1 else target
            target = target * (1 - smoothing) + smoothing / num_classes
            return binary_cross_entropy_with_logits(logits.float(), target), correct

        return step

    def evaluate(
        self, module: nn.Module, images: ImageSet, run: Run, fabric: Fabric, votes: int = 1
    ) -> ImageClassEvaluation:
        def forward(model: nn.Module, batch: Batch) -> tuple[Tensor]:
            return (model(batch["image"]).float(),)

        (logits,) = predict_all(module, images, run.train.eval_batch_size, forward, fabric)
        scores = score_classes(logits, images.label, images.class_names)
        return ImageClassEvaluation(logits, scores, top_k_accuracy(logits, images.label, 5))

    def write_report(
        self, folder: Path, evaluation: ImageClassEvaluation, test: ImageSet, run: Run, page: Mapping[str, Any]
    ) -> None:
        from bixt3d.io.writing import replace_file
        from bixt3d.viz.image_report import ImageReport, write_image_report
        from bixt3d.viz.images import images_png
        from bixt3d.viz.plots import confusion_png, draw_curves

        draw_curves(page["rows"], folder / "curves.png")
        confusion = None
        if len(test.class_names) <= FEW:
            confusion = confusion_png(evaluation.scores.confusion, test.class_names)
            replace_file(folder / "confusion.png", confusion)
        pictures = []
        for name, title, words, index in _pick_images(evaluation, test):
            png = images_png(pixels_of(test, index), [_title(evaluation, test, i) for i in index])
            replace_file(folder / f"{name}.png", png)
            pictures.append((title, words, png))
        report = ImageReport(
            headline=[("top-1", f"{page['result']['top1']:.2%}"), ("top-5", f"{page['result']['top5']:.2%}")],
            table=(("class", "accuracy", "test images", "most often mistaken for"), _class_table(evaluation.scores)),
            pictures=pictures,
            about=f"Classification of {len(test.class_names):,} classes, tested on {len(test):,} images",
            confusion=confusion,
            **page,
        )
        write_image_report(folder / "report.html", report)


def _class_table(scores: ClassScores) -> list[tuple[str, float | None, int, str | None]]:
    lines = []
    for i, name in enumerate(scores.class_names):
        others = scores.confusion[i].copy()
        others[i] = 0
        mistaken_for = scores.class_names[others.argmax()] if others.any() else None
        lines.append((name, scores.per_class.get(name), int(scores.confusion[i].sum()), mistaken_for))
    return lines


def _pick_images(
    evaluation: ImageClassEvaluation, test: ImageSet, most: int = 16
) -> list[tuple[str, str, str, list[int]]]:
    """Return the images for the report: the first correct one of each class, and the most confident mistakes."""
    confidence, predicted = evaluation.logits.softmax(1).max(1)
    confidence, predicted, label = confidence.cpu(), predicted.cpu(), test.label.cpu()
    wrong = (predicted != label).nonzero().squeeze(1)
    mistakes = wrong[confidence[wrong].argsort(descending=True, stable=True)][:most].tolist()
    right = (predicted == label).nonzero().squeeze(1).tolist()
    firsts = {int(label[i]): i for i in reversed(right)}  # the first of each class
    samples = [firsts[number] for number in sorted(firsts)][:most]
    pictures = [
        ("predictions", "Correct predictions", "The first correctly classified image of each class.", samples),
        ("mistakes", "Most confident mistakes", f"{len(mistakes)} of {len(wrong):,} mistakes.", mistakes),
    ]
    return [picture for picture in pictures if picture[3]]


def _title(evaluation: ImageClassEvaluation, test: ImageSet, i: int) -> str:
    confidence, predicted = evaluation.logits[i].softmax(0).max(0)
    answer, truth = test.class_names[int(predicted)], test.class_names[int(test.label[i])]
    return f"{answer} {float(confidence):.0%}" + ("" if answer == truth else f"\n(is {truth})")
