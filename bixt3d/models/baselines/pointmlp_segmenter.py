"""PointMLP for part segmentation (Ma et al. 2022): four stages of affine grouping, then its decoder; no attention."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bixt3d.models.decoder import PointMLPDecoder
from bixt3d.models.features import ModelFeatures
from bixt3d.models.segmenter import CloudSegmenter
from bixt3d.nn.feature_scale import FeatureScale
from bixt3d.nn.grouping import GroupBlock
from bixt3d.nn.mlp import LinearBatchNormReLU
from bixt3d.ops._backend import without_autocast
from bixt3d.types import Features, InputError, Pyramid, Tokens


class PointMLPSegmenter(CloudSegmenter):
    """PointMLP part segmenter: each stage groups neighbors of fewer points, the decoder returns to every point.

    Args:
        num_parts: number of parts, over all categories; 0: `forward` returns features of every point (B, N, D).
        num_categories: number of categories.
        features: point features that it reads, such as ``normal,rgb``; None: those of the data set.
        dim: width of the point embedding.
        growth: for each stage, the factor by which the width grows.
        num_pre: for each stage, the number of residual blocks on every neighbor.
        num_post: for each stage, the number of residual blocks on every group.
        ratio: hidden width of the stages' residual blocks, as a multiple of their width.
        num_neighbors: neighbors of each centroid, itself included.
        reduce: the factor by which each stage reduces the number of points.
        normalize: see AffineGroupLinear.
        decoder_dims: widths of the decoder's steps, from the coarsest level to the finest.
        decoder_blocks: for each step, the number of residual blocks on every point.
        use_category: whether the model reads the category of each cloud.
        dropout: dropout rate before the last linear layer.
    """

    head_name = "decoder.head.3"

    def __init__(  # noqa: PLR0913 (a constructor is the schema of its settings)
        self,
        num_parts: int,
        num_categories: int,
        features: str | None = None,
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
        self.num_classes = num_parts
        if not len(growth) == len(num_pre) == len(num_post):
            raise InputError(
                f"growth, num_pre and num_post need one number per stage, but have {len(growth)}, {len(num_pre)} "
                f"and {len(num_post)}"
            )
        self.features, self.reads_category = Features.parse(features), use_category
        self.feature_scale = FeatureScale(self.features)
        self.embedding = LinearBatchNormReLU(3 + self.features.width, dim)
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
        self, xyz: Tensor, feats: Tensor | None = None, category: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B N C"]:
        return self.decoder(self._stages(xyz, self.check(xyz, feats, category)), category)

    def make_head(self, num_classes: int) -> nn.Module:
        return self.decoder.make_head(num_classes)

    def forward_features(
        self, xyz: Tensor, feats: Tensor | None = None, category: Int[Tensor, " B"] | None = None
    ) -> ModelFeatures:
        """Return the groups of the last stage and their mean, of clouds ``xyz`` (B, N, 3) with ``feats`` (B, N, F).

        ``category`` is ignored: only the decoder reads it.
        """
        *_, tokens = self._stages(xyz, self.features.check(xyz, feats))
        return ModelFeatures(None, tokens, tokens.feats.mean(1))

    def _stages(self, xyz: Tensor, feats: Tensor) -> Pyramid:
        feats = self.feature_scale(feats)
        with without_autocast(xyz):  # the first stage takes differences of neighbors
            tokens = Tokens(self.embedding(torch.cat([xyz, feats], -1)), xyz)
        pyramid = [tokens]
        for stage in self.stages:
            tokens, _ = stage(tokens)
            pyramid.append(tokens)
        return tuple(pyramid)
