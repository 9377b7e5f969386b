"""Clouds in the unit sphere, and the refusal of those that cannot be brought there."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bixt3d.types import InputError


def normalize_clouds(xyz: Float[Tensor, "S N 3"], origin: str = "these clouds") -> Float[Tensor, "S N 3"]:
    """Centre every cloud on the mean of its points and scale it until its farthest point is at distance 1.

    ``origin`` says in errors where the clouds come from. Raises InputError for a cloud with a coordinate that is not
    finite, or with all its points in one place.
    """
    check_each(torch.isfinite(xyz).flatten(1).all(dim=1), origin, "has coordinates that are not finite numbers")
    check_each((xyz != xyz[:, :1]).flatten(1).any(dim=1), origin, "has all its points in one place")
    centred = xyz.double() - xyz.double().mean(dim=1, keepdim=True)
    return (centred / centred.norm(dim=2, keepdim=True).amax(dim=1, keepdim=True)).to(xyz.dtype)


def check_each(good_mask: Bool[Tensor, " S"], origin: str, fault: str) -> None:
    """Raise InputError, which names the first cloud that is not good, unless all are."""
    if not good_mask.all():
        raise InputError(f"cloud {int((~good_mask).nonzero()[0])} of {origin} {fault}")
