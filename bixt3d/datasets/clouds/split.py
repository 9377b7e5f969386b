"""Stratified validation split of a training set, so that models are not selected on the test set."""

import torch
from jaxtyping import Int
from torch import Tensor

from bixt3d.types import InputError


def stratified_split(
    label: Int[Tensor, " S"], fraction: float, seed: int
) -> tuple[Int[Tensor, " train"], Int[Tensor, " val"]]:
    """Split a data set by class; return the indices of the training and of the validation samples, both ascending.

    Of each class, ``fraction`` of the samples, rounded, are for validation; of two or more samples at least one goes to
    each side; a single sample goes to training. The same seed gives the same split on every machine.
    Raises InputError for a fraction outside (0, 1).

    Example:
        >>> label = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
        >>> train_index, val_index = stratified_split(label, 0.25, seed=0)
        >>> label[val_index]
        tensor([0, 1])
    """
    if not 0 < fraction < 1:
        raise InputError(f"the validation fraction must be between 0 and 1, not {fraction}")
    generator = torch.Generator().manual_seed(seed)
    val_mask = torch.zeros(len(label), dtype=torch.bool)
    for number in label.unique().tolist():
        member_index = (label.cpu() == number).nonzero().squeeze(1)
        num_clouds = len(member_index)
        num_val = min(max(round(fraction * num_clouds), 1), num_clouds - 1)
        val_mask[member_index[torch.randperm(num_clouds, generator=generator)[:num_val]]] = True
    train_index, val_index = (~val_mask).nonzero().squeeze(1), val_mask.nonzero().squeeze(1)
    return train_index.to(label.device), val_index.to(label.device)


def check_split(test_fraction: float, seed: int) -> None:
    """Raise InputError for a share of test clouds, or the seed that draws them, that is impossible."""
    if not 0 <= test_fraction < 1:
        raise InputError(f"test_fraction must be at least 0 and below 1, not {test_fraction}")
    if not 0 <= seed < 2**63:
        raise InputError(f"data.seed must not be negative, not {seed}")
