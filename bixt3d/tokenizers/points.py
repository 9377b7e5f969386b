"""Every point a token: the paper's naive way with clouds."""

import math
from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, cat, nn

from bixt3d.nn.mlp import init_linear
from bixt3d.ops import sinusoid
from bixt3d.types import InputError, Pyramid, Tokens


class Tokenizer(nn.Module, ABC):
    """Turn clouds into tokens. ``dim``: width of the tokens of the last level; ``level_dims``: of all levels."""

    dim: int
    level_dims: list[int]

    @abstractmethod
    def forward(self, xyz: Float[Tensor, "B N 3"], feats: Float[Tensor, "B N F"]) -> Pyramid:
        """Return one or more levels of tokens, finest first."""


class PointTokenizer(Tokenizer):
    """Sinusoidal features of every point (3D: xyz; 6D: xyz and normals), then a linear layer (paper, section 2.3).

    Args:
        dim: width of the tokens.
        normals: points come with normals, which are encoded like positions.
        num_features: sinusoidal features per axis.
        temperature: the lowest frequency is ``scale / temperature``.
        scale: the highest frequency, in radians per unit; clouds lie in the unit sphere.
    """

    def __init__(
        self,
        dim: int = 192,
        normals: bool = False,
        num_features: int = 32,
        temperature: float = 10000.0,
        scale: float = 2 * math.pi,
    ):
        super().__init__()
        if num_features < 2:
            raise InputError(f"a sinusoidal encoding needs at least 2 features per axis, not {num_features}")
        self.dim, self.level_dims, self.normals = dim, [dim], normals
        self.num_features, self.temperature, self.scale = num_features, temperature, scale
        self.project = nn.Linear((6 if normals else 3) * num_features, dim)
        self.project.apply(init_linear)

    def forward(self, xyz: Float[Tensor, "B N 3"], feats: Float[Tensor, "B N F"]) -> Pyramid:
        if self.normals and feats.shape[-1] != 3:
            raise InputError(f"this model reads normals, but the clouds come with {feats.shape[-1]} features per point")
        pos = cat([xyz, feats], -1) if self.normals else xyz
        encoded = sinusoid(pos, self.num_features, self.temperature, self.scale)
        return (Tokens(self.project(encoded.to(self.project.weight.dtype)), xyz),)
