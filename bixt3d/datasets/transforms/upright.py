"""Which way is up: y in most models, z in most scans of land and houses, -y in what depth cameras see."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from bixt3d.types import InputError

Up = Literal["y", "z", "-y", "-z"]
UPS: tuple[Up, ...] = ("y", "z", "-y", "-z")
"""Directions that may be up, each a quarter turn about x after the one before."""


def turn_upright(vectors: Float[Tensor, "N 3"], up: str, wanted: str) -> Float[Tensor, "N 3"]:
    """Turn points or normals about the x axis until what pointed ``up`` points where it is wanted; mirrors nothing."""
    if up not in UPS:
        raise InputError(f"up is one of {', '.join(UPS)}, not {up}")
    for _ in range((UPS.index(wanted) - UPS.index(up)) % len(UPS)):
        x, y, z = vectors.unbind(-1)
        vectors = torch.stack([x, -z, y], dim=-1)
    return vectors
