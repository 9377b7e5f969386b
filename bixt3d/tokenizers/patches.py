"""One token per image patch, for the same encoder that reads points (paper, section 2.3)."""

import math
from abc import ABC, abstractmethod
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bixt3d.nn.batch_norm import ImageBatchNorm
from bixt3d.nn.mlp import init_linear
from bixt3d.ops import sinusoid
from bixt3d.types import InputError, Pyramid, Tokens


class ImageTokenizer(nn.Module, ABC):
    """Base class: turn images into tokens, one per patch, in row-major order.

    A sinusoidal positional encoding of a patch's row and column is added to its token. Positions are ``1/n .. 1`` along
    each axis, for any number n of rows or columns: images may have any size that is a multiple of ``stride``.

    Args:
        dim: width of the tokens.
        stride: pixels from one patch to the next.
        position: ``project``: 32 features per axis, then a linear layer; ``plain``: dim / 2 features per axis, added
            without a layer.
    """

    def __init__(self, dim: int, stride: int, position: Literal["project", "plain"] = "project"):
        super().__init__()
        if position not in ("project", "plain"):
            raise InputError(f"unknown position '{position}': choose project or plain")
        if position == "plain" and dim % 4:
            raise InputError(f"plain positions need a width that is a multiple of 4, not {dim}")
        self.dim, self.level_dims, self.stride = dim, [dim], stride
        self.num_features = 32 if position == "project" else dim // 2
        self.position = nn.Linear(2 * self.num_features, dim) if position == "project" else nn.Identity()
        self.position.apply(init_linear)

    @abstractmethod
    def embed(self, image: Float[Tensor, "B I X Y"]) -> Float[Tensor, "B D R C"]:
        """Return the features of every patch, without positional encoding."""

    def forward(self, image: Float[Tensor, "B I X Y"]) -> Pyramid:
        """Return one level of tokens. Raises InputError if an image side is not a multiple of the stride."""
        rows, columns = image.shape[-2:]
        if rows % self.stride or columns % self.stride:
            raise InputError(
                f"an image of {rows} x {columns} pixels does not divide into patches {self.stride} pixels apart: "
                f"crop, pad or resize it to multiples of {self.stride}"
            )
        feats = self.embed(image)
        grid = (feats.shape[2], feats.shape[3])
        pos = grid_positions(*grid, image.device)
        encoded = self.position(sinusoid(pos, self.num_features).to(feats.dtype))
        return (Tokens(feats.flatten(2).transpose(1, 2) + encoded, pos.expand(feats.shape[0], -1, -1), grid=grid),)


class PatchTokenizer(ImageTokenizer):
    """A linear layer on each patch of ``kernel`` x ``kernel`` pixels; patches overlap if ``stride`` is smaller.

    Images are padded with ``(kernel - stride) / 2`` zero pixels on each side.

    Args:
        dim: width of the tokens.
        kernel: side of a patch in pixels.
        stride: pixels from one patch to the next; None: ``kernel``.
        position: see `ImageTokenizer`.

    Example:
        >>> (tokens,) = PatchTokenizer(dim=32, kernel=16)(torch.rand(2, 3, 64, 96))
        >>> tokens.feats.shape, tokens.grid
        (torch.Size([2, 24, 32]), (4, 6))
    """

    def __init__(
        self,
        dim: int = 192,
        kernel: int = 16,
        stride: int | None = None,
        position: Literal["project", "plain"] = "project",
    ):
        stride = stride or kernel
        super().__init__(dim, stride, position)
        if stride < 1 or kernel < stride or (kernel - stride) % 2:
            raise InputError(
                f"patches of {kernel} pixels cannot be {stride} apart: kernel - stride must be even and not negative"
            )
        self.project = nn.Conv2d(3, dim, kernel, stride, padding=(kernel - stride) // 2)
        init_patches(self.project)

    def embed(self, image: Float[Tensor, "B I X Y"]) -> Float[Tensor, "B D R C"]:
        return self.project(image)


class ConvTokenizer(ImageTokenizer):
    """A convolutional stem: 3x3 convolutions of stride 2, each with twice the width of the one before.

    Args:
        dim: width of the tokens.
        stride: pixels from one token to the next, a power of two.
        position: see `ImageTokenizer`.
    """

    def __init__(self, dim: int = 192, stride: int = 16, position: Literal["project", "plain"] = "project"):
        super().__init__(dim, stride, position)
        steps = stride.bit_length() - 1
        if stride < 2 or stride != 2**steps or dim % 2 ** (steps - 1):
            raise InputError(
                f"convolutions of stride 2 make no tokens of width {dim} at a stride of {stride}: the stride must be a "
                "power of two, and the width a multiple of half the stride"
            )
        widths = [3] + [dim >> i for i in reversed(range(steps))]
        layers: list[nn.Module] = []
        for width, next_width in pairwise(widths):
            conv = nn.Conv2d(width, next_width, 3, 2, padding=1, bias=False)
            layers += [nn.Sequential(conv, ImageBatchNorm(next_width)), nn.GELU()]
        self.project = nn.Sequential(*layers[:-1])

    def embed(self, image: Float[Tensor, "B I X Y"]) -> Float[Tensor, "B D R C"]:
        return self.project(image)


def grid_positions(
    rows: int | torch.SymInt, columns: int | torch.SymInt, device: torch.device | None = None
) -> Float[Tensor, "1 T 2"]:
    """Return (row, column) of every patch in row-major order: ``(i + 1) / (n + 1e-6)`` along an axis of n patches."""
    axes = [torch.arange(1, n + 1, dtype=torch.float32, device=device) / (n + 1e-6) for n in (rows, columns)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).view(1, -1, 2)


def init_patches(conv: nn.Conv2d) -> None:
    """Initialize a patch convolution as BiXT's authors: truncated LeCun normal, zero bias."""
    fan_in = conv.weight[0].numel()
    std = math.sqrt(1 / fan_in) / 0.87962566103423978  # standard deviation of a normal truncated at 2
    nn.init.trunc_normal_(conv.weight, std=std, a=-2 * std, b=2 * std)
    nn.init.zeros_(conv.bias)
