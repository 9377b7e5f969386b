"""Metrics of images: top-k accuracy of a classifier, intersection over union (IoU) of a segmenter."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

CONVENTION = (
    "mIoU: intersection and union of each class over the pixels of all images, mean over the classes that occur in "
    "truth or prediction; pixels without a true class do not count"
)


@dataclass(frozen=True)
class SegmentScores:
    """Scores of a segmenter on one set, in 0..1; see CONVENTION.

    Args:
        miou: mean IoU over classes.
        accuracy: share of correct pixels.
        mean_accuracy: mean recall over the classes that occur in the truth.
        per_class: IoU of each class that occurs in truth or prediction.
        shares: frequency of each class among the true pixels.
        image_iou: mean IoU of each image alone, by the same convention.
    """

    miou: float
    accuracy: float
    mean_accuracy: float
    per_class: dict[str, float]
    shares: dict[str, float]
    image_iou: Float[np.ndarray, " S"]


def top_k_accuracy(logits: Float[Tensor, "S C"], labels: Int[Tensor, " S"], k: int) -> float:
    """Return the share of examples whose true class is among the k most probable ones (or all, if fewer than k)."""
    best = logits.topk(min(k, logits.shape[1]), dim=1).indices
    return float((best == labels[:, None]).any(1).double().mean())


def count_pixels(
    predicted: Int[Tensor, "B X Y"], truth: Int[Tensor, "B X Y"], num_classes: int
) -> Int[Tensor, "B 3 C"]:
    """Count the pixels of each image and class that are correct, predicted, and true, in this order (dimension 1).

    Pixels whose true class is -1 are ignored.
    """
    first = torch.arange(len(truth), device=truth.device).view(-1, 1, 1) * num_classes
    known = truth >= 0

    def count(labels: Int[Tensor, "B X Y"], mask: Bool[Tensor, "B X Y"]) -> Int[Tensor, "B C"]:
        return torch.bincount((labels + first)[mask], minlength=len(truth) * num_classes).view(-1, num_classes)

    return torch.stack([count(truth, known & (predicted == truth)), count(predicted, known), count(truth, known)], 1)


def score_segments(counts: Int[Tensor, "S 3 C"], class_names: Sequence[str]) -> SegmentScores:
    """Score a set from the pixel counts of its images (see `count_pixels`)."""
    of_images = counts.cpu().numpy().astype(np.float64)
    right, predicted, truth = of_images.sum(0)
    iou = _iou(of_images.sum(0)[None])[0]
    there, total = truth > 0, max(truth.sum(), 1.0)
    return SegmentScores(
        miou=_mean(iou),
        accuracy=float(right.sum() / total),
        mean_accuracy=_mean(right[there] / truth[there]),
        per_class={name: float(iou[i]) for i, name in enumerate(class_names) if not np.isnan(iou[i])},
        shares={name: float(truth[i] / total) for i, name in enumerate(class_names)},
        image_iou=np.array([_mean(one) for one in _iou(of_images)]),
    )


def _iou(counts: Float[np.ndarray, "S 3 C"]) -> Float[np.ndarray, "S C"]:
    """Return the IoU of every class, NaN where it occurs neither in truth nor in prediction."""
    right, predicted, truth = counts[:, 0], counts[:, 1], counts[:, 2]
    union = predicted + truth - right
    return np.where(union > 0, right / np.maximum(union, 1), np.nan)


def _mean(values: Float[np.ndarray, " _"]) -> float:
    """Return the mean of the values that are not NaN; 0 without any."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else 0.0
