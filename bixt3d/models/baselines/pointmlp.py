"""PointMLP (Ma et al. 2022): four stages of affine grouping and residual MLPs, no attention."""

from collections.abc import Sequence
from typing import Literal

from jaxtyping import Float
from torch import Tensor, cat, nn

from bixt3d.models.classifier import CloudClassifier
from bixt3d.models.features import ModelFeatures
from bixt3d.nn.feature_scale import FeatureScale
from bixt3d.nn.grouping import GroupBlock
from bixt3d.nn.mlp import ChannelsLastBatchNorm
from bixt3d.ops._backend import without_autocast
from bixt3d.types import Features, InputError, Tokens


class PointMLP(CloudClassifier):
    """PointMLP classifier: each stage samples fewer points and groups their neighbors; max pooling before the head.

    Args:
        num_classes: number of classes; 0: `forward` returns the pooled features (B, D).
        dim: width of the point embedding.
        growth: for each stage, the factor by which the width grows.
        num_pre: for each stage, the number of residual blocks on every neighbor.
        num_post: for each stage, the number of residual blocks on every group.
        ratio: hidden width of the residual blocks, as a multiple of their width.
        num_neighbors: neighbors of each centroid, itself included.
        reduce: the factor by which each stage reduces the number of points.
        normalize: see AffineGroupLinear.
        dropout: dropout rate before the last two linear layers.
        features: point features that it reads, such as ``normal,rgb``; None: those of the data set.

    Example:
        >>> model = PointMLP(40, dim=8, num_neighbors=8)
        >>> model(torch.rand(2, 128, 3)).shape
        torch.Size([2, 40])
    """

    def __init__(  # noqa: PLR0913 (a constructor is the schema of its settings)
        self,
        num_classes: int,
        dim: int = 64,
        growth: Sequence[int] = (2, 2, 2, 2),
        num_pre: Sequence[int] = (2, 2, 2, 2),
        num_post: Sequence[int] = (2, 2, 2, 2),
        ratio: float = 1.0,
        *,
        num_neighbors: int = 24,
        reduce: int = 2,
        normalize: Literal["anchor", "center"] = "anchor",
        dropout: float = 0.5,
        features: str | None = None,
    ):
        super().__init__()
        if not len(growth) == len(num_pre) == len(num_post):
            raise InputError(
                f"growth, num_pre and num_post need one number per stage, but have {len(growth)}, {len(num_pre)} "
                f"and {len(num_post)}"
            )
        self.features = Features.parse(features)
        self.feature_scale = FeatureScale(self.features)
        width = 3 + self.features.width
        self.embedding = nn.Sequential(
            nn.Linear(width, dim, bias=False), ChannelsLastBatchNorm(dim), nn.ReLU(inplace=True)
        )
        self.stages = nn.ModuleList()
        for factor, pre, post in zip(growth, num_pre, num_post, strict=True):
            stage = GroupBlock(
                dim,
                dim * factor,
                num_neighbors,
                reduce=reduce,
                num_pre=pre,
                num_post=post,
                ratio=ratio,
                normalize=normalize,
            )
            self.stages.append(stage)
            dim *= factor
        self.head_dim, self.dropout = dim, dropout
        self.head = self.new_head(num_classes)

    def make_head(self, num_classes: int) -> nn.Module:
        return nn.Sequential(
            nn.Linear(self.head_dim, 512),
            ChannelsLastBatchNorm(512),
            nn.ReLU(inplace=True),
            nn.Dropout(self.dropout),
            nn.Linear(512, 256),
            ChannelsLastBatchNorm(256),
            nn.ReLU(inplace=True),
            nn.Dropout(self.dropout),
            nn.Linear(256, num_classes),
        )

    def forward(self, xyz: Tensor, feats: Tensor | None = None) -> Float[Tensor, "B C"]:
        return self.head(self.forward_features(xyz, feats).pooled)

    def forward_features(self, xyz: Tensor, feats: Tensor | None = None) -> ModelFeatures:
        """Return groups of the last stage and their maximum, of clouds ``xyz`` (B, N, 3) with ``feats`` (B, N, F)."""
        feats = self.feature_scale(self.features.check(xyz, feats))
        with without_autocast(xyz):  # the first stage takes differences of neighbors
            tokens = Tokens(self.embedding(cat([xyz, feats], -1)), xyz)
        for stage in self.stages:
            tokens, _ = stage(tokens)
        return ModelFeatures(None, tokens, tokens.feats.amax(1))


class PointMLPElite(PointMLP):
    """PointMLP-elite, the small variant: half the width, a quarter of the hidden width, fewer residual blocks.

    Args:
        num_classes: number of classes; 0: `forward` returns the pooled features (B, D).
        num_neighbors: neighbors of each centroid, itself included.
        reduce: the factor by which each stage reduces the number of points.
        normalize: see AffineGroupLinear.
        dropout: dropout rate before the last two linear layers.
        features: point features that it reads, such as ``normal,rgb``; None: those of the data set.
    """

    def __init__(
        self,
        num_classes: int,
        num_neighbors: int = 24,
        reduce: int = 2,
        normalize: Literal["anchor", "center"] = "anchor",
        dropout: float = 0.5,
        features: str | None = None,
    ):
        super().__init__(
            num_classes,
            dim=32,
            growth=(2, 2, 2, 1),
            num_pre=(1, 1, 2, 1),
            num_post=(1, 1, 2, 1),
            ratio=0.25,
            num_neighbors=num_neighbors,
            reduce=reduce,
            normalize=normalize,
            dropout=dropout,
            features=features,
        )
