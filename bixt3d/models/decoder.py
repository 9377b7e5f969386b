"""PointMLP's decoder (Ma et al. 2022): feature propagation from the coarsest level back to every point."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bixt3d.nn.mlp import ChannelsLastBatchNorm, LinearBatchNormReLU, ResidualMLP
from bixt3d.ops import interpolate
from bixt3d.types import InputError, Pyramid, Tokens


class DecoderBlock(nn.Module):
    """Feature propagation: interpolate features at the next finer level, add its skip connection, refine the result.

    The first layer is linear on ``[fine | interpolated]``, and so is the interpolation: the layer is applied to the
    coarse tokens, which are fewer, before they are interpolated, with the same result.
    """

    def __init__(self, dim: int, skip_dim: int, out_dim: int, num_blocks: int, ratio: float):
        super().__init__()
        self.dims = [skip_dim, dim]
        self.fuse = LinearBatchNormReLU(skip_dim + dim, out_dim)
        self.refine = nn.Sequential(*[ResidualMLP(out_dim, ratio) for _ in range(num_blocks)])

    def forward(self, fine: Tokens, coarse: Tokens) -> Float[Tensor, "B T O"]:
        """Return the features of the fine level."""
        linear, norm, relu = self.fuse
        weight_fine, weight_coarse = linear.weight.split(self.dims, 1)
        interpolated = interpolate(fine.pos, coarse.pos, coarse.feats @ weight_coarse.T)
        return self.refine(relu(norm(fine.feats @ weight_fine.T + interpolated)))


class PointMLPDecoder(nn.Module):
    """PointMLP's part segmentation decoder: inverse-distance interpolation, skip connections, a global context.

    Built as ``PointMLPDecoder(num_parts, num_categories, level_dims, ...)``.

    Args:
        num_parts: number of parts, over all categories; 0: the decoder returns features of every point (B, N, 128).
        num_categories: number of categories.
        level_dims: widths of the levels, finest first.
        dims: widths of the decoder's steps, from the coarsest level to the finest.
        num_blocks: for each step, residual blocks on every point.
        ratio: hidden width of the residual blocks, as a multiple of their width.
        context_dim: width of the global context, which max-pools the features of every level; 0: no context. A maximum
            over all points grows with their number, so models of scenes, which read windows of several sizes, do
            without.
        category_dim: width of the category's embedding; 0: the category is not read.
        dropout: dropout rate before the last linear layer.
    """

    def __init__(  # noqa: PLR0913 (a constructor is the schema of its settings)
        self,
        num_parts: int,
        num_categories: int,
        level_dims: Sequence[int],
        dims: Sequence[int] = (512, 256, 128, 128),
        num_blocks: Sequence[int] = (4, 4, 4, 4),
        *,
        ratio: float = 1.0,
        context_dim: int = 64,
        category_dim: int = 64,
        dropout: float = 0.5,
    ):
        super().__init__()
        steps = len(level_dims) - 1
        if not len(dims) == len(num_blocks) == steps:
            raise InputError(
                f"a decoder of {steps + 1} levels takes {steps} steps, but dims has {len(dims)} numbers and num_blocks "
                f"{len(num_blocks)}"
            )
        if min(context_dim + 1, *dims, category_dim + 1) < 1:
            raise InputError(
                f"dims of a decoder must be at least 1, context_dim and category_dim at least 0, not {list(dims)}, "
                f"{context_dim} and {category_dim}"
            )
        self.num_categories, self.reads_category = num_categories, category_dim > 0
        self.blocks = nn.ModuleList()
        dim = level_dims[-1]
        for skip_dim, out_dim, num in zip(reversed(level_dims[:-1]), dims, num_blocks, strict=True):
            self.blocks.append(DecoderBlock(dim, skip_dim, out_dim, num, ratio))
            dim = out_dim
        self.has_context = context_dim > 0
        if self.has_context:
            self.level_context = nn.ModuleList(
                [LinearBatchNormReLU(level_dim, context_dim) for level_dim in level_dims]
            )
            self.context = LinearBatchNormReLU(context_dim * len(level_dims), context_dim)
        if self.reads_category:
            self.category = nn.Sequential(
                LinearBatchNormReLU(num_categories, category_dim), LinearBatchNormReLU(category_dim, category_dim)
            )
        self.head = nn.Sequential(
            nn.Linear(dim + context_dim + category_dim, 128),
            ChannelsLastBatchNorm(128),
            nn.Dropout(dropout),
            self.make_head(num_parts) if num_parts else nn.Identity(),
        )

    @staticmethod
    def make_head(num_parts: int) -> nn.Module:
        """Return a new last layer."""
        return nn.Linear(128, num_parts)

    def forward(self, pyramid: Pyramid, category: Int[Tensor, " B"] | None = None) -> Float[Tensor, "B N C"]:
        """Return the logits of every part for every point of the finest level."""
        tokens = pyramid[-1]
        for block, fine in zip(self.blocks, pyramid[-2::-1], strict=True):
            tokens = Tokens(block(fine, tokens), fine.pos)
        shared = []
        if self.has_context:
            maxima = [layer(level.feats).amax(1) for layer, level in zip(self.level_context, pyramid, strict=True)]
            shared.append(self.context(torch.cat(maxima, -1)))
        if self.reads_category:
            shared.append(self.category(nn.functional.one_hot(category, self.num_categories).to(tokens.feats.dtype)))
        linear, norm, dropout, last = self.head  # what all points of a cloud share is multiplied once
        dim = tokens.feats.shape[2]
        weight_feats, weight_shared = linear.weight.split([dim, linear.in_features - dim], 1)
        bias = torch.cat(shared, -1) @ weight_shared.T + linear.bias if shared else linear.bias[None]
        return last(dropout(norm(tokens.feats @ weight_feats.T + bias[:, None])))
