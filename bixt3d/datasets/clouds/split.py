"""A validation set carved out of the training set, so that nobody selects a model on the test set."""

import torch
from jaxtyping import Int
from torch import Tensor

from bixt3d.types import InputError


def stratified_split(
    label: Int[Tensor, " S"], fraction: float, seed: int
) -> tuple[Int[Tensor, " train"], Int[Tensor, " val"]]:
    """Return the indices of the clouds to train on and to validate on, both ascending.

    Each class gives ``fraction`` of its clouds to validation, rounded, but with two or more clouds at least one to
    either side; the only cloud of a class is trained on. The same seed gives the same split on every machine.
    Raises InputError for a fraction outside (0, 1).
    """
    if not 0 < fraction < 1:
        raise InputError(f"the validation fraction must lie between 0 and 1, not be {fraction}")
    generator = torch.Generator().manual_seed(seed)
    val_mask = torch.zeros(len(label), dtype=torch.bool)
    for number in label.unique().tolist():
        member_index = (label.cpu() == number).nonzero().squeeze(1)
        num_clouds = len(member_index)
        num_val = min(max(round(fraction * num_clouds), 1), num_clouds - 1)
        val_mask[member_index[torch.randperm(num_clouds, generator=generator)[:num_val]]] = True
    train_index, val_index = (~val_mask).nonzero().squeeze(1), val_mask.nonzero().squeeze(1)
    return train_index.to(label.device), val_index.to(label.device)
