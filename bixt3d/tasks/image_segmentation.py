"""Semantic segmentation of images: settings, training step, evaluation and report."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bixt3d.datasets import SegmentationAugment, SegmentationSource
from bixt3d.datasets.images.reading import ImageSet
from bixt3d.datasets.images.transforms import to_pixels
from bixt3d.engine.fabric import Fabric
from bixt3d.engine.loop import Batch, Step, predict_all
from bixt3d.inference.images import ImageSegmentationPredictor, segment
from bixt3d.io.untrusted import check_count
from bixt3d.models.image_presets import MakeImageSegmenter
from bixt3d.tasks.calibration import calibration_bins, calibration_facts, calibration_text
from bixt3d.tasks.class_metrics import sum_correct_shares
from bixt3d.tasks.image_metrics import CONVENTION, SegmentScores, count_pixels, score_segments
from bixt3d.tasks.image_task import ImageTask
from bixt3d.tasks.inputs import LARGEST_IMAGE, describe_images, read_images
from bixt3d.tasks.scores import Evaluation, Score
from bixt3d.tasks.settings import Run, Train
from bixt3d.types import InputError


@dataclass
class SegmentTrain(Train):
    """Settings of training and evaluation.

    Args:
        window: sliding-window evaluation: side of the window in pixels; windows move by two thirds of it, and their
            probabilities are averaged; null: whole images.
    """

    window: int | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.window is not None and self.window < 1:
            raise InputError(f"train.window must be at least 1 pixel, not {self.window}")


@dataclass
class SegmentEvaluation(Evaluation):
    """Scores of a segmenter on one set, and the model, for the pictures of the report."""

    scores: SegmentScores
    loss: float
    module: nn.Module
    window: int | None
    calibration: Tensor

    def row(self) -> dict[str, float]:
        scores = self.scores
        return {
            "miou": scores.miou,
            "accuracy": scores.accuracy,
            "mean_accuracy": scores.mean_accuracy,
            "loss": self.loss,
        }

    def facts(self) -> dict[str, Any]:
        scores = self.scores
        return {
            "convention": CONVENTION,
            "window": self.window,
            "miou": scores.miou,
            "pixel_accuracy": scores.accuracy,
            "mean_accuracy": scores.mean_accuracy,
            "per_class": scores.per_class,
            **calibration_facts(self.calibration),
        }

    def text(self) -> str:
        scores = self.scores
        width = max([5, *(len(name) for name in scores.per_class)])
        return "\n".join(
            [
                f"{'class':{width}}      IoU",
                *(f"{name:{width}} {iou:8.2%}" for name, iou in scores.per_class.items()),
                f"mIoU {scores.miou:.2%}, pixel accuracy {scores.accuracy:.2%}, mean class accuracy "
                f"{scores.mean_accuracy:.2%}",
                f"({CONVENTION})",
                calibration_text(self.calibration),
            ]
        )


class ImageSegmentation(ImageTask):
    """Segment images: one class for every pixel."""

    name = "image segmentation"
    program = "imgseg"
    example = "bixt3d train imgseg --cfg camvid"
    headline = {"miou": Score("miou"), "pixel_accuracy": Score("accuracy")}
    data, model, train, augmentation = SegmentationSource, MakeImageSegmenter, SegmentTrain, SegmentationAugment

    def describe_input(self, run: Run, images: ImageSet) -> dict[str, Any]:
        return describe_images(window=run.train.window)

    def make_predictor(self, model: nn.Module, names: Mapping[str, Any], given: Mapping[str, Any], source: str) -> Any:
        window = read_images(given, ("window",), source)["window"]
        if window is not None:
            check_count(window, f"window of {source}", 1, LARGEST_IMAGE)
        return ImageSegmentationPredictor(model, names["class_names"], window)

    def build(self, run: Run, images: ImageSet) -> nn.Module:
        model, size = super().build(run, images), run.data.size
        if size % (stride := getattr(model, "stride", 1)):
            raise InputError(
                f"crops of {size} x {size} pixels do not fit the model's stride of {stride} pixels: set --data.size to "
                f"a multiple of {stride}"
            )
        return model

    def make_augment(self, run: Run, train: ImageSet, epoch: int) -> Callable[[Batch, int], Batch]:
        return lambda batch, step: (
            batch | {"weight": (batch["labels"] >= 0).sum((1, 2))}
        )  # all pixels have equal weight

    def make_step(self, run: Run, train: ImageSet) -> Step:
        def step(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
            logits, labels = model(batch["image"]).float(), batch["labels"]
            smooth = run.train.label_smoothing
            losses = cross_entropy(logits, labels, ignore_index=-1, label_smoothing=smooth, reduction="none")
            loss = losses.sum() / batch["weight"].sum().clamp(min=1)  # its own mean is not deterministic on GPUs
            return loss, sum_correct_shares(logits.argmax(1), labels)

        return step

    def evaluate(
        self, module: nn.Module, images: ImageSet, run: Run, fabric: Fabric, votes: int = 1
    ) -> SegmentEvaluation:
        num_classes, window = len(images.class_names), run.train.window

        def forward(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
            logits, labels = segment(model, batch["image"], window), batch["labels"]
            loss = cross_entropy(logits, labels, ignore_index=-1, reduction="none").sum((1, 2))
            predicted = logits.argmax(1)
            confidence = logits.softmax(1).amax(1)
            pixels = (one.flatten(1) for one in (confidence, predicted == labels, labels >= 0))
            return count_pixels(predicted, labels, num_classes), loss, calibration_bins(*pixels)

        counts, loss, bins = predict_all(module, images, run.train.eval_batch_size, forward, fabric)
        mean_loss = float(loss.sum() / counts[:, 2].sum().clamp(min=1))
        scores = score_segments(counts, images.class_names)
        return SegmentEvaluation(scores, mean_loss, module, window, bins.sum(0).cpu())

    def write_report(
        self, folder: Path, evaluation: SegmentEvaluation, test: ImageSet, run: Run, page: Mapping[str, Any]
    ) -> None:
        from bixt3d.io.writing import replace_file
        from bixt3d.viz.image_report import ImageReport, write_image_report
        from bixt3d.viz.images import segmentations_png
        from bixt3d.viz.plots import draw_curves

        draw_curves(page["rows"], folder / "curves.png")
        pictures = []
        for name, title, words, index in _pick_images(evaluation.scores):
            png = segmentations_png(show_images(evaluation, test, index), test.class_names)
            replace_file(folder / f"{name}.png", png)
            pictures.append((title, words, png))
        scores = evaluation.scores
        lines = [(name, scores.per_class.get(name), scores.shares[name]) for name in test.class_names]
        report = ImageReport(
            headline=[
                ("mIoU", f"{page['result']['miou']:.2%}"),
                ("pixel accuracy", f"{page['result']['pixel_accuracy']:.2%}"),
            ],
            table=(("class", "IoU", "share of the pixels"), lines),
            pictures=pictures,
            about=f"Segmentation into {len(test.class_names):,} classes, tested on {len(test):,} images",
            remark=CONVENTION,
            **page,
        )
        write_image_report(folder / "report.html", report)


@torch.inference_mode()
def show_images(evaluation: SegmentEvaluation, test: ImageSet, index: list[int]) -> list[Any]:
    """Return test images for a picture: pixels, prediction, truth, and mean IoU as the title."""
    from bixt3d.viz.images import SegmentedImage

    evaluation.module.eval()
    shown = []
    for batch in test.subset(torch.tensor(index)).batches([torch.tensor([place]) for place in range(len(index))]):
        predicted = segment(evaluation.module, batch["image"], evaluation.window)[0].argmax(0)
        i = index[len(shown)]
        title = f"index {i}, mean IoU {evaluation.scores.image_iou[i]:.1%}"
        labels = (labels.cpu().numpy() for labels in (predicted, batch["labels"][0]))
        shown.append(SegmentedImage(to_pixels(batch["image"][0]), *labels, title))
    return shown


def _pick_images(scores: SegmentScores, most: int = 6) -> list[tuple[str, str, str, list[int]]]:
    """Return the images for the report: some spread evenly over the set, and those with the lowest mean IoU."""
    total = len(scores.image_iou)
    spread = np.unique(np.linspace(0, total - 1, min(most, total)).round().astype(int)).tolist()
    worst = scores.image_iou.argsort(kind="stable")[:most].tolist()
    return [
        ("predictions", "Examples", "Test images spread over the set.", spread),
        ("worst", "Worst", f"The {len(worst)} test images with the lowest mean IoU.", worst),
    ]
