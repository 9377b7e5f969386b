"""One token per point: the paper's naive tokenization of clouds. Also the base class of cloud tokenizers."""

import math
from abc import ABC, abstractmethod

from torch import Tensor, cat, nn

from bixt3d.nn.feature_scale import FeatureScale
from bixt3d.nn.mlp import init_linear
from bixt3d.ops import sinusoid
from bixt3d.types import Features, InputError, Pyramid, Tokens


class Tokenizer(nn.Module, ABC):
    """Base class: turn point clouds into tokens.

    Attributes: ``dim``: width of the tokens of the last level; ``level_dims``: width of each level, finest first;
    ``features``: the point features that it reads besides coordinates.
    """

    dim: int
    level_dims: list[int]
    features: Features = Features()

    @abstractmethod
    def forward(self, xyz: Tensor, feats: Tensor | None = None) -> Pyramid:
        """Return levels of tokens, finest first, of clouds ``xyz`` (B, N, 3) with features ``feats`` (B, N, F)."""


class PointTokenizer(Tokenizer):
    """Sinusoidal encoding of each point (3D: xyz; 6D: xyz and normal), then a linear layer (paper, section 2.3).

    Colors and scalars are standardized and go through a separate linear layer or MLP, without sinusoids.

    Args:
        dim: width of the tokens.
        features: point features to read, such as ``normal,rgb`` (None: in a config, those of the data set; else none).
        num_features: sinusoidal features per axis.
        temperature: the lowest frequency is ``scale / temperature``.
        scale: the highest frequency, in radians per unit of length; clouds are normalized to the unit sphere.
        hidden: width of the hidden layer of the MLP for colors and scalars, if there are any; 0: a linear layer.

    Example:
        >>> tokenizer = PointTokenizer(dim=32, features="rgb")
        >>> (tokens,) = tokenizer(torch.rand(2, 128, 3), torch.rand(2, 128, 3))
        >>> tokens.feats.shape
        torch.Size([2, 128, 32])
    """

    def __init__(
        self,
        dim: int = 192,
        features: str | None = None,
        num_features: int = 32,
        temperature: float = 10000.0,
        scale: float = 2 * math.pi,
        hidden: int = 0,
    ):
        super().__init__()
        if num_features < 2:
            raise InputError(f"a sinusoidal encoding needs at least 2 features per axis, not {num_features}")
        if hidden < 0:
            raise InputError(f"the width of a hidden layer must be positive, or 0 for none, not {hidden}")
        self.dim, self.level_dims, self.features = dim, [dim], Features.parse(features)
        self.num_features, self.temperature, self.scale = num_features, temperature, scale
        num_axes = 3 + 3 * len(self.features.slices("normal"))
        self.project = nn.Linear(num_axes * num_features, dim)
        self.project.apply(init_linear)
        if self.features.width + 3 > num_axes:
            self.feature_scale = FeatureScale(self.features)
            width = self.features.width + 3 - num_axes
            into = [nn.Linear(width, hidden), nn.ReLU()] if hidden else []
            last = nn.Linear(hidden or width, dim, bias=False)
            self.project_feats = nn.Sequential(*into, last) if hidden else last
            self.project_feats.apply(init_linear)

    def forward(self, xyz: Tensor, feats: Tensor | None = None) -> Pyramid:
        feats = self.features.check(xyz, feats)
        pos = cat([xyz, *(feats[..., columns] for columns in self.features.slices("normal"))], -1)
        encoded = sinusoid(pos, self.num_features, self.temperature, self.scale)
        tokens = self.project(encoded.to(self.project.weight.dtype))
        if others := self.features.slices("color", "scalar"):
            scaled = self.feature_scale(feats)
            tokens = tokens + self.project_feats(cat([scaled[..., columns] for columns in others], -1))
        return (Tokens(tokens, xyz),)
