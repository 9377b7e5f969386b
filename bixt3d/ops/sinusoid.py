"""Sinusoidal positional encoding for any number of axes."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from bixt3d.types import InputError


def sinusoid(
    pos: Float[Tensor, "... P"], num_features: int = 32, temperature: float = 10000.0, scale: float = 2 * math.pi
) -> Float[Tensor, "... P*{num_features}"]:
    """Return the sinusoidal positional encoding: ``num_features`` per axis, axis after axis (paper, section 2.3).

    Feature i of coordinate p is the sine (i even) or cosine (i odd) of ``scale * p / temperature**(2 * (i // 2) / F)``
    with F = ``num_features``. Always float32. Raises InputError for an odd number of features.

    Example:
        >>> sinusoid(torch.rand(2, 128, 3), num_features=32).shape
        torch.Size([2, 128, 96])
    """
    if num_features < 2 or num_features % 2:
        raise InputError(f"a sinusoidal encoding needs an even number of features per axis, not {num_features}")
    pair = torch.arange(num_features // 2, device=pos.device, dtype=torch.float32)
    frequency = scale / temperature ** (2 * pair / num_features)
    angle = pos.float()[..., None] * frequency
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(-3)
