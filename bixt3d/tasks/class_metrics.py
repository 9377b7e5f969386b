"""Metrics and loss of classification: accuracy, confusion matrix, cross entropy with label smoothing."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from bixt3d.tasks.calibration import bins_of_logits


@dataclass(frozen=True)
class ClassScores:
    """Scores of a classifier on one set.

    Args:
        overall_accuracy: share of correct examples (OA, top-1), in 0..1.
        mean_accuracy: mean recall over the classes that occur (mAcc), in 0..1.
        macro_f1: mean F1 over the classes that occur in truth or predictions, in 0..1.
        loss: cross entropy without label smoothing.
        per_class: recall of each class that occurs.
        confusion: the confusion matrix: ``confusion[truth, prediction]`` counts examples.
        class_names: names of its rows and columns.
        calibration: predictions by their confidence, see `calibration_bins`.
    """

    overall_accuracy: float
    mean_accuracy: float
    macro_f1: float
    loss: float
    per_class: dict[str, float]
    confusion: np.ndarray
    class_names: tuple[str, ...]
    calibration: Float[Tensor, "3 15"]


def score_classes(logits: Float[Tensor, "S C"], labels: Int[Tensor, " S"], class_names: tuple[str, ...]) -> ClassScores:
    """Return overall accuracy, mean class accuracy, macro F1, loss and confusion matrix of predictions."""
    confusion = count_confusion(labels.cpu(), logits.argmax(1).cpu(), len(class_names)).numpy()
    occurs = confusion.sum(0) + confusion.sum(1)  # in predictions and in the truth
    f1 = 2 * np.diag(confusion)[occurs > 0] / occurs[occurs > 0]
    counts = confusion.sum(1)
    recall = {name: float(confusion[i, i] / counts[i]) for i, name in enumerate(class_names) if counts[i]}
    return ClassScores(
        overall_accuracy=float(np.trace(confusion) / confusion.sum()),
        mean_accuracy=float(np.mean(list(recall.values()))),
        macro_f1=float(f1.mean()),
        loss=float(cross_entropy(logits.float(), labels)),
        per_class=recall,
        confusion=confusion,
        class_names=class_names,
        calibration=bins_of_logits(logits, labels),
    )


def count_confusion(truth: Int[Tensor, " N"], predicted: Int[Tensor, " N"], num_classes: int) -> Int[Tensor, "C C"]:
    """Count examples or points by true and predicted class; those with a negative true label are ignored."""
    known = truth >= 0
    pairs = truth[known].long() * num_classes + predicted[known].long()
    return torch.bincount(pairs, minlength=num_classes**2).view(num_classes, num_classes)


def smooth_cross_entropy(
    logits: Float[Tensor, "B C"],
    labels: Int[Tensor, " B"],
    smoothing: float = 0.0,
    reduction: Literal["mean", "none"] = "mean",
) -> Float[Tensor, "*B"]:
    """Return cross entropy with label smoothing over the *other* classes alone, as in PointMLP's code.

    Equals PyTorch's, which smooths over all C classes, with smoothing * C / (C - 1).
    """
    num_classes = logits.shape[1]
    over_all = smoothing * num_classes / (num_classes - 1)
    return cross_entropy(logits.float(), labels, label_smoothing=over_all, reduction=reduction)


def log_frequency(label: Int[Tensor, " S"], num_classes: int) -> Float[Tensor, " C"]:
    """Return the log of the frequency of each class in a set; about -20 for a class that is absent."""
    return (torch.bincount(label, minlength=num_classes) / len(label)).clamp(min=1e-9).log()


def frequency_weights(counts: Int[Tensor, " C"], power: float) -> Float[Tensor, " C"]:
    """Return a weight for each class: its frequency to the power of ``-power``, with mean 1 over the counted examples.

    Classes without an example weigh 0.
    """
    counts = counts.double()
    weight = torch.where(counts > 0, counts.clamp(min=1) ** -power, 0)
    return (weight * counts.sum() / (weight * counts).sum()).float()


@torch.no_grad()
def count_correct(logits: Float[Tensor, "B C"], labels: Int[Tensor, " B"]) -> Float[Tensor, ""]:
    """Return the number of correct predictions, as a tensor on the device."""
    return (logits.argmax(1) == labels).sum().float()


@torch.no_grad()
def sum_correct_shares(predicted: Int[Tensor, "B ..."], labels: Int[Tensor, "B ..."]) -> Float[Tensor, ""]:
    """Return the sum over a batch of the share of each sample's points or pixels with a label (>= 0) that are correct.

    A sample without labels counts as the mean of the others.
    """
    labelled = (labels >= 0).flatten(1).sum(1)
    shares = (predicted == labels).flatten(1).sum(1) / labelled.clamp(min=1)
    return shares.sum() * len(shares) / (labelled > 0).sum().clamp(min=1)
