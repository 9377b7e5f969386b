"""Metrics of part segmentation: intersection over union (IoU) of parts, by two conventions that must not be mixed.

*ShapeNetPart* (PointNet's protocol): a point's part is the most probable one of its shape's category; a shape's IoU is
the mean over all parts of its category; a part that is absent from both prediction and truth counts 1.
*PointMLP* (its released code): the most probable one of all parts of all categories; the mean over the parts present
in the truth. By both, instance mIoU is the mean over shapes, class mIoU the mean over categories of their means.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

CONVENTION = "ShapeNetPart protocol: arg-max within the category's parts; a part absent from both counts 1"
POINTMLP_CONVENTION = "PointMLP's convention: arg-max over all parts; mean over the parts present in the truth"


@dataclass(frozen=True)
class PartScores:
    """Scores of a part segmenter on one set, in 0..1, by the ShapeNetPart protocol unless the name says PointMLP.

    Args:
        instance_miou: mean IoU over shapes.
        class_miou: mean over categories of their mean IoU.
        accuracy: share of correct points.
        per_category: mean IoU of each category that occurs.
        shape_iou: mean IoU of each shape.
        pointmlp_instance_miou: instance mIoU by PointMLP's convention.
        pointmlp_class_miou: class mIoU by PointMLP's convention.
    """

    instance_miou: float
    class_miou: float
    accuracy: float
    per_category: dict[str, float]
    shape_iou: Float[ndarray, " S"]
    pointmlp_instance_miou: float
    pointmlp_class_miou: float


def parts_mask(
    class_parts: Mapping[str, Sequence[int]], class_names: Sequence[str], num_parts: int
) -> Bool[Tensor, "C P"]:
    """Return a mask of the parts that each category has."""
    mask = torch.zeros(len(class_names), num_parts, dtype=torch.bool)
    for row, name in enumerate(class_names):
        mask[row, list(class_parts[name])] = True
    return mask


def choose_parts(
    logits: Float[Tensor, "B N P"], category: Int[Tensor, " B"], mask: Bool[Tensor, "C P"]
) -> Int[Tensor, "B N"]:
    """Return the most probable part of every point among the parts of its shape's category."""
    return logits.masked_fill(~mask[category][:, None], -torch.inf).argmax(-1)


def score_parts(
    predicted: Sequence[Int[Tensor, " _"]],
    predicted_freely: Sequence[Int[Tensor, " _"]],
    truth: Sequence[Int[Tensor, " _"]],
    category: Int[Tensor, " S"],
    class_names: Sequence[str],
    class_parts: Mapping[str, Sequence[int]],
) -> PartScores:
    """Score shapes of any number of points.

    ``predicted``: arg-max within the parts of the category; ``predicted_freely``: arg-max over all parts.
    """
    category_index = category.cpu().numpy()
    num_parts = 1 + max(part for parts in class_parts.values() for part in parts)
    own, free = np.zeros(len(truth)), np.zeros(len(truth))
    right = points = 0
    for i, (chosen, chosen_freely, labels) in enumerate(zip(predicted, predicted_freely, truth, strict=True)):
        inside = list(class_parts[class_names[category_index[i]]])
        iou, _ = _ious(chosen, labels, num_parts)
        own[i] = np.where(np.isnan(iou[inside]), 1.0, iou[inside]).mean()
        iou, present = _ious(chosen_freely, labels, num_parts)
        free[i] = iou[present].mean()
        right, points = right + int((chosen == labels).sum()), points + len(labels)
    means = _means_of_categories(own, category_index, class_names)
    free_means = _means_of_categories(free, category_index, class_names)
    return PartScores(
        instance_miou=float(own.mean()),
        class_miou=float(np.mean(list(means.values()))),
        accuracy=right / points,
        per_category=means,
        shape_iou=own,
        pointmlp_instance_miou=float(free.mean()),
        pointmlp_class_miou=float(np.mean(list(free_means.values()))),
    )


def _ious(
    predicted: Int[Tensor, " N"], truth: Int[Tensor, " N"], num_parts: int
) -> tuple[Float[ndarray, " P"], Bool[ndarray, " P"]]:
    """Return the IoU of every part, NaN if it is absent from both, and a mask of the parts present in the truth."""
    predicted, truth = predicted.cpu().numpy(), truth.cpu().numpy()
    both = np.bincount(truth[predicted == truth], minlength=num_parts)
    in_truth = np.bincount(truth, minlength=num_parts)
    union = in_truth + np.bincount(predicted, minlength=num_parts) - both
    return np.where(union > 0, both / np.maximum(union, 1), np.nan), in_truth > 0


def _means_of_categories(
    shape_iou: Float[ndarray, " S"], category: Int[ndarray, " S"], class_names: Sequence[str]
) -> dict[str, float]:
    return {name: float(shape_iou[category == row].mean()) for row, name in enumerate(class_names) if row in category}
