"""Normalization of clouds to the unit sphere."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bixt3d.errors import InputError, check_tensors


def normalize_clouds(
    xyz: Float[Tensor, "S N 3"], origin: str = "these clouds", first: int = 0
) -> Float[Tensor, "S N 3"]:
    """Normalize clouds to the unit sphere: subtract the mean of the points, divide by the largest distance from it.

    Computed in double precision; give coordinates far from the origin as float64. ``origin`` and ``first`` are for
    errors: the source of the clouds, and the index of the first of these in it. Raises InputError for a cloud with
    coordinates that are not finite, with all its points in one place, or too small or too large to be scaled.

    Example:
        >>> normalize_clouds(torch.tensor([[[1.0, 5, 5], [3, 5, 5]]]))
        tensor([[[-1., 0., 0.], [ 1., 0., 0.]]])
    """
    check_tensors(xyz=xyz)
    if xyz.ndim != 3 or xyz.shape[2] != 3:
        raise InputError(f"clouds have the shape (B, N, 3), not {tuple(xyz.shape)}: give a single cloud as xyz[None]")
    check_each(torch.isfinite(xyz).flatten(1).all(dim=1), origin, "has coordinates that are not finite numbers", first)
    check_each((xyz != xyz[:, :1]).flatten(1).any(dim=1), origin, "has all its points in one place", first)
    centred = xyz.double() - xyz.double().mean(dim=1, keepdim=True)
    radius = centred.norm(dim=2, keepdim=True).amax(dim=1, keepdim=True)
    in_range_mask = (radius > 1e-150) & (radius < 1e150)
    check_each(in_range_mask.flatten(), origin, "is too small or too large to be scaled", first)
    return (centred / radius).to(xyz.dtype)


def check_each(good_mask: Bool[Tensor, " S"], origin: str, fault: str, first: int = 0) -> None:
    """Raise InputError that names the first cloud whose mask is False, unless all are True."""
    if not good_mask.all():
        raise InputError(f"cloud {first + int((~good_mask).nonzero()[0])} of {origin} {fault}")
