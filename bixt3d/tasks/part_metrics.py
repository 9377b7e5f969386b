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

from bixt3d.types import VOID

CONVENTION = "ShapeNetPart protocol: arg-max within the category's parts; a part absent from both counts 1"
PART_CONVENTION = "over all points of the category's test clouds together"
POINTMLP_CONVENTION = "PointMLP's convention: arg-max over all parts; mean over the parts present in the truth"


@dataclass(frozen=True)
class PartScores:
    """Scores of a part segmenter on one set, in 0..1, by the ShapeNetPart protocol unless the name says PointMLP.

    Args:
        instance_miou: mean IoU over shapes.
        class_miou: mean over categories of their mean IoU.
        accuracy: share of correct points.
        per_category: mean IoU of each category that occurs.
        shape_iou: mean IoU of each shape; NaN without a labelled point.
        part_iou: IoU of every part, by category, over all points of its shapes; NaN if absent from both.
        pointmlp_instance_miou: instance mIoU by PointMLP's convention.
        pointmlp_class_miou: class mIoU by PointMLP's convention.
    """

    instance_miou: float
    class_miou: float
    accuracy: float
    per_category: dict[str, float]
    shape_iou: Float[ndarray, " S"]
    part_iou: dict[str, Float[ndarray, " P"]]
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


def part_confidence(
    probability: Float[Tensor, "B N P"], category: Int[Tensor, " B"], mask: Bool[Tensor, "C P"]
) -> Float[Tensor, "B N"]:
    """Return the probability of the part that `choose_parts` chooses, among the parts of the category."""
    own = probability * mask[category][:, None]
    return own.amax(-1) / own.sum(-1).clamp(min=torch.finfo(own.dtype).tiny)


def score_parts(
    predicted: Sequence[Int[Tensor, " _"]],
    predicted_freely: Sequence[Int[Tensor, " _"]],
    truth: Sequence[Int[Tensor, " _"]],
    category: Int[Tensor, " S"],
    class_names: Sequence[str],
    class_parts: Mapping[str, Sequence[int]],
) -> PartScores:
    """Score shapes of any number of points; those without a label (`VOID`) do not count.

    ``predicted``: arg-max within the parts of the category; ``predicted_freely``: arg-max over all parts.
    """
    category_index = category.cpu().numpy()
    num_parts = 1 + max(part for parts in class_parts.values() for part in parts)
    own, free = (np.full(len(truth), np.nan) for _ in range(2))
    sums = {name: np.zeros((2, num_parts), np.int64) for name in class_names}  # points of intersection and union
    right = points = 0
    for i, (chosen, chosen_freely, labels) in enumerate(zip(predicted, predicted_freely, truth, strict=True)):
        name, known = class_names[category_index[i]], labels != VOID
        if not known.any():
            continue
        chosen, chosen_freely, labels = chosen[known], chosen_freely[known], labels[known]
        inside = list(class_parts[name])
        both, union, _ = _overlap(chosen, labels, num_parts)
        sums[name] += both, union
        iou = _ratio(both, union)
        own[i] = np.where(np.isnan(iou[inside]), 1.0, iou[inside]).mean()
        both, union, present = _overlap(chosen_freely, labels, num_parts)
        free[i] = _ratio(both, union)[present].mean()
        right, points = right + int((chosen == labels).sum()), points + len(labels)
    means = _means_of_categories(own, category_index, class_names)
    free_means = _means_of_categories(free, category_index, class_names)
    return PartScores(
        instance_miou=float(own[~np.isnan(own)].mean()),
        class_miou=float(np.mean(list(means.values()))),
        accuracy=right / max(points, 1),
        per_category=means,
        shape_iou=own,
        part_iou={name: _ratio(*sums[name]) for name in means},
        pointmlp_instance_miou=float(free[~np.isnan(free)].mean()),
        pointmlp_class_miou=float(np.mean(list(free_means.values()))),
    )


def _overlap(
    predicted: Int[Tensor, " N"], truth: Int[Tensor, " N"], num_parts: int
) -> tuple[Int[ndarray, " P"], Int[ndarray, " P"], Bool[ndarray, " P"]]:
    """Return the points of intersection and union of every part, and a mask of the parts present in the truth."""
    predicted, truth = predicted.cpu().numpy(), truth.cpu().numpy()
    both = np.bincount(truth[predicted == truth], minlength=num_parts)
    in_truth = np.bincount(truth, minlength=num_parts)
    return both, in_truth + np.bincount(predicted, minlength=num_parts) - both, in_truth > 0


def _ratio(both: Int[ndarray, " P"], union: Int[ndarray, " P"]) -> Float[ndarray, " P"]:
    """Return the IoU of every part, NaN without union."""
    return np.where(union > 0, both / np.maximum(union, 1), np.nan)


def _means_of_categories(
    shape_iou: Float[ndarray, " S"], category: Int[ndarray, " S"], class_names: Sequence[str]
) -> dict[str, float]:
    known = ~np.isnan(shape_iou)
    rows = {name: (category == row) & known for row, name in enumerate(class_names)}
    return {name: float(shape_iou[mask].mean()) for name, mask in rows.items() if mask.any()}
