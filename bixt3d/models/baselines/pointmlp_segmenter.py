"""PointMLP for parts (Ma et al. 2022): four stages of affine grouping down, its decoder up, no attention."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bixt3d.models.decoder import PointMLPDecoder
from bixt3d.models.segmenter import CloudSegmenter
from bixt3d.nn.grouping import GroupBlock
from bixt3d.nn.mlp import LinearNorm
from bixt3d.ops._backend import without_autocast
from bixt3d.types import InputError, Tokens


class PointMLPSegmenter(CloudSegmenter):
    """Groups of groups, and back to every point.

    Args:
        num_parts: number of parts, over all categories.
        num_categories: number of categories.
        normals: points come with normals.
        dim: width of the embedded points.
        growth: for each stage, by how much it multiplies the width.
        num_pre: for each stage, residual blocks on every neighbor.
        num_post: for each stage, residual blocks on every group.
        ratio: inner width of the residual blocks of the stages.
        num_neighbors: neighbors of each centroid, itself included.
        reduce: by how much each stage divides the number of points.
        normalize: see AffineGroupLinear.
        decoder_dims: widths of the decoder's steps, from the coarsest level to the finest.
        decoder_blocks: for each of them, residual blocks on every point.
        use_category: tell the model the category of each cloud.
        dropout: dropout rate before the last linear layer.
    """

    def __init__(  # noqa: PLR0913 (a constructor is the schema of its settings)
        self,
        num_parts: int,
        num_categories: int,
        normals: bool = True,
        dim: int = 64,
        *,
        growth: Sequence[int] = (2, 2, 2, 2),
        num_pre: Sequence[int] = (2, 2, 2, 2),
        num_post: Sequence[int] = (2, 2, 2, 2),
        ratio: float = 1.0,
        num_neighbors: int = 32,
        reduce: int = 4,
        normalize: Literal["anchor", "center"] = "anchor",
        decoder_dims: Sequence[int] = (512, 256, 128, 128),
        decoder_blocks: Sequence[int] = (4, 4, 4, 4),
        use_category: bool = True,
        dropout: float = 0.5,
    ):
        super().__init__()
        if not len(growth) == len(num_pre) == len(num_post):
            raise InputError(
                f"growth, num_pre and num_post need one number per stage, but have {len(growth)}, {len(num_pre)} "
                f"and {len(num_post)}"
            )
        self.normals, self.reads_category = normals, use_category
        self.embedding = LinearNorm(6 if normals else 3, dim)
        self.stages, dims = nn.ModuleList(), [dim]
        for factor, pre, post in zip(growth, num_pre, num_post, strict=True):
            blocks = {"num_pre": pre, "num_post": post, "ratio": ratio}
            grouping = {"reduce": reduce, "normalize": normalize, "use_xyz": True}
            self.stages.append(GroupBlock(dims[-1], dims[-1] * factor, num_neighbors, **blocks, **grouping))
            dims.append(dims[-1] * factor)
        self.decoder = PointMLPDecoder(
            num_parts,
            num_categories,
            dims,
            decoder_dims,
            decoder_blocks,
            category_dim=64 if use_category else 0,
            dropout=dropout,
        )

    def forward(
        self, xyz: Float[Tensor, "B N 3"], feats: Float[Tensor, "B N F"], category: Int[Tensor, " B"]
    ) -> Float[Tensor, "B N C"]:
        if self.normals and feats.shape[-1] != 3:
            raise InputError(f"this model reads normals, but the clouds come with {feats.shape[-1]} features per point")
        with without_autocast(xyz):  # the first stage takes differences of neighbors
            tokens = Tokens(self.embedding(torch.cat([xyz, feats], -1) if self.normals else xyz), xyz)
        pyramid = [tokens]
        for stage in self.stages:
            tokens, _ = stage(tokens)
            pyramid.append(tokens)
        return self.decoder(tuple(pyramid), category)
