"""Metrics and losses of scene segmentation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

CONVENTION = (
    "mIoU: intersection and union of each class over all labelled points of all scenes, mean over the classes that "
    "occur in truth or prediction; ignored points count nowhere"
)


@dataclass(frozen=True)
class SceneScores:
    """Scores of a scene segmenter on one set, in 0..1; see CONVENTION.

    Args:
        miou: mean IoU over classes.
        accuracy: share of correct points (overall accuracy).
        mean_accuracy: mean recall over the classes that occur in the truth.
        per_class: IoU of each class that occurs in truth or prediction.
        recall: recall of each class that occurs in the truth.
        shares: share of each class among the labelled points.
        confusion: ``confusion[truth, prediction]`` counts points.
    """

    miou: float
    accuracy: float
    mean_accuracy: float
    per_class: dict[str, float]
    recall: dict[str, float]
    shares: dict[str, float]
    confusion: Int[np.ndarray, "C C"]


def score_confusion(confusion: Int[np.ndarray, "C C"], class_names: Sequence[str]) -> SceneScores:
    """Score a confusion matrix of points."""
    right, truth, predicted = np.diag(confusion).astype(float), confusion.sum(1), confusion.sum(0)
    union = truth + predicted - right
    total = max(int(truth.sum()), 1)
    per_class = {name: float(right[i] / union[i]) for i, name in enumerate(class_names) if union[i]}
    recall = {name: float(right[i] / truth[i]) for i, name in enumerate(class_names) if truth[i]}
    return SceneScores(
        miou=_mean(per_class),
        accuracy=float(right.sum() / total),
        mean_accuracy=_mean(recall),
        per_class=per_class,
        recall=recall,
        shares={name: float(truth[i] / total) for i, name in enumerate(class_names)},
        confusion=confusion,
    )


def _mean(values: dict[str, float]) -> float:
    return float(np.mean(list(values.values()))) if values else 0.0


def lovasz_softmax(probability: Float[Tensor, "N C"], labels: Int[Tensor, " N"]) -> Float[Tensor, ""]:
    """Return the Lovász-softmax loss, a surrogate of 1 - mIoU over the classes present (Berman et al. 2018).

    ``labels``: from 0 to C - 1; remove ignored points first.
    """
    losses = []
    for label in labels.unique().tolist():
        inside = (labels == label).float()
        errors, order = (inside - probability[:, label]).abs().sort(descending=True)
        sorted_inside = inside[order]
        intersection = sorted_inside.sum() - sorted_inside.cumsum(0)
        union = sorted_inside.sum() + (1 - sorted_inside).cumsum(0)
        jaccard = 1 - intersection / union
        gradient = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
        losses.append((errors * gradient).sum())
    return torch.stack(losses).mean() if losses else probability.sum() * 0
