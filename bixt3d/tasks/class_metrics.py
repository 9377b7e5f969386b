"""What a classifier is worth: by scikit-learn, from logits and labels."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy


@dataclass(frozen=True)
class ClassScores:
    """Scores of a classifier on one set. Accuracies lie between 0 and 1."""

    overall_accuracy: float
    mean_accuracy: float
    loss: float
    per_class: dict[str, float]
    confusion: np.ndarray
    class_names: tuple[str, ...]


def score_classes(logits: Float[Tensor, "S C"], labels: Int[Tensor, " S"], class_names: tuple[str, ...]) -> ClassScores:
    """Return overall accuracy (OA), mean class accuracy (mAcc: mean recall over classes that occur), and the matrix.

    ``confusion[truth, prediction]`` counts clouds; ``loss`` is the plain cross entropy.
    """
    from sklearn.metrics import confusion_matrix

    truth, predicted = labels.cpu().numpy(), logits.argmax(1).cpu().numpy()
    confusion = confusion_matrix(truth, predicted, labels=range(len(class_names)))
    counts = confusion.sum(1)
    recall = {name: float(confusion[i, i] / counts[i]) for i, name in enumerate(class_names) if counts[i]}
    return ClassScores(
        overall_accuracy=float(np.trace(confusion) / confusion.sum()),
        mean_accuracy=float(np.mean(list(recall.values()))),
        loss=float(cross_entropy(logits.float(), labels)),
        per_class=recall,
        confusion=confusion,
        class_names=class_names,
    )


def smooth_cross_entropy(
    logits: Float[Tensor, "B C"],
    labels: Int[Tensor, " B"],
    smoothing: float = 0.0,
    reduction: Literal["mean", "none"] = "mean",
) -> Float[Tensor, "*B"]:
    """Return cross entropy with label smoothing spread over the *other* classes, as PointMLP does (FACTS: section 4).

    PyTorch's own spreads it over all classes; this is the same with a larger smoothing.
    """
    num_classes = logits.shape[1]
    whole = smoothing * num_classes / (num_classes - 1)
    return cross_entropy(logits.float(), labels, label_smoothing=whole, reduction=reduction)


def log_frequency(label: Int[Tensor, " S"], num_classes: int) -> Float[Tensor, " C"]:
    """Return the log of the share of each class in a set; about -20 for a class that is absent."""
    return (torch.bincount(label, minlength=num_classes) / len(label)).clamp(min=1e-9).log()


@torch.no_grad()
def count_correct(logits: Float[Tensor, "B C"], labels: Int[Tensor, " B"]) -> Float[Tensor, ""]:
    """Return how many clouds are classified right, on the device."""
    return (logits.argmax(1) == labels).sum().float()
