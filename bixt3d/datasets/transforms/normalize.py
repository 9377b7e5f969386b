"""Clouds in the unit sphere, and the refusal of those that cannot be brought there."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bixt3d.types import InputError


def normalize_clouds(
    xyz: Float[Tensor, "S N 3"], origin: str = "these clouds", first: int = 0
) -> Float[Tensor, "S N 3"]:
    """Centre every cloud on the mean of its points and scale it until its farthest point is at distance 1.

    ``origin`` says in errors where the clouds come from, ``first`` which of its clouds is the first of these. Raises
    InputError for a cloud with a coordinate that is not finite, or with all its points in one place, or so near or far
    that they cannot be told apart.
    """
    check_each(torch.isfinite(xyz).flatten(1).all(dim=1), origin, "has coordinates that are not finite numbers", first)
    check_each((xyz != xyz[:, :1]).flatten(1).any(dim=1), origin, "has all its points in one place", first)
    centred = xyz.double() - xyz.double().mean(dim=1, keepdim=True)
    radius = centred.norm(dim=2, keepdim=True).amax(dim=1, keepdim=True)
    in_range_mask = (radius > 1e-150) & (radius < 1e150)
    check_each(in_range_mask.flatten(), origin, "is too small or too large to be scaled", first)
    return (centred / radius).to(xyz.dtype)


def check_each(good_mask: Bool[Tensor, " S"], origin: str, fault: str, first: int = 0) -> None:
    """Raise InputError, which names the first cloud that is not good, unless all are."""
    if not good_mask.all():
        raise InputError(f"cloud {first + int((~good_mask).nonzero()[0])} of {origin} {fault}")
