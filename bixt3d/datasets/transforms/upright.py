"""The up axis of clouds: y in most 3D models, z in most scans of buildings and terrain, -y for depth cameras."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from bixt3d.types import InputError

Up = Literal["y", "z", "-y", "-z"]
UPS: tuple[Up, ...] = ("y", "z", "-y", "-z")
"""Up directions, each a quarter turn about x after the previous one."""


def turn_upright(vectors: Float[Tensor, "N 3"], up: str, wanted: str) -> Float[Tensor, "N 3"]:
    """Rotate points or normals about the x axis so that the direction ``up`` becomes ``wanted``."""
    if up not in UPS:
        raise InputError(f"up is one of {', '.join(UPS)}, not {up}")
    for _ in range((UPS.index(wanted) - UPS.index(up)) % len(UPS)):
        x, y, z = vectors.unbind(-1)
        vectors = torch.stack([x, -z, y], dim=-1)
    return vectors
