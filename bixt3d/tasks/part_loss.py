"""The loss of part segmentation: cross entropy over the points with a label, with weights against rare parts."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from bixt3d.tasks.class_metrics import frequency_weights
from bixt3d.tasks.settings import Train
from bixt3d.types import VOID, InputError


@dataclass
class PartTrain(Train):
    """Settings of training: duration, batch size and loss.

    Args:
        balance: weights against rare parts: a point weighs by the frequency of its part in the training set to the
            power of minus ``balance``; 0: all points alike, 0.5: by the inverse root, 1: all parts alike.
    """

    balance: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.balance <= 1:
            raise InputError(f"train.balance must be between 0 and 1, not {self.balance}")


def part_weights(parts: Int[Tensor, "S N"], num_parts: int, balance: float) -> Float[Tensor, " P"]:
    """Return the weight of each part by its labelled points, see `frequency_weights`."""
    return frequency_weights(torch.bincount(parts[parts != VOID], minlength=num_parts), balance)


def part_loss(
    logits: Float[Tensor, "B N P"],
    parts: Int[Tensor, "B N"],
    label_smoothing: float = 0.0,
    weight: Float[Tensor, " P"] | None = None,
    void: bool = False,
) -> Float[Tensor, ""]:
    """Return the mean loss of clouds, each the mean over its labelled points, with the weights of their parts.

    ``void``: whether there may be points without a label.
    """
    if weight is None and not void:
        return cross_entropy(logits.float().flatten(0, 1), parts.flatten(), label_smoothing=label_smoothing)
    losses = cross_entropy(
        logits.float().transpose(1, 2),
        parts,
        weight=weight,
        ignore_index=VOID,
        label_smoothing=label_smoothing,
        reduction="none",
    )
    return (losses.sum(1) / (parts != VOID).sum(1).clamp(min=1)).mean()


def mean_of_labelled(values: Float[Tensor, "B N"], parts: Int[Tensor, "B N"]) -> Float[Tensor, " B"]:
    """Return the mean over the labelled points of each cloud; 0 if it has none."""
    mask = parts != VOID
    return (values * mask).sum(1) / mask.sum(1).clamp(min=1)
