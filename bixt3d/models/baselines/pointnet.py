"""PointNet (Qi et al. 2017): a shared MLP on every point, then the maximum over all points."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bixt3d.models.classifier import CloudClassifier
from bixt3d.models.features import ModelFeatures
from bixt3d.nn.feature_scale import FeatureScale
from bixt3d.nn.mlp import ChannelsLastBatchNorm
from bixt3d.types import Features, Tokens


class MLPLayer(nn.Sequential):
    """Linear with bias, batch norm, ReLU on (..., D): the layer of PointNet and PointNet++ as published."""

    def __init__(self, dim: int, out_dim: int):
        super().__init__(nn.Linear(dim, out_dim), ChannelsLastBatchNorm(out_dim), nn.ReLU(inplace=True))

    def forward(self, feats: Float[Tensor, "... D"]) -> Float[Tensor, "... O"]:
        return super().forward(feats.flatten(0, -2)).unflatten(0, feats.shape[:-1])


def mlp(*dims: int) -> nn.Sequential:
    """Return layers of these widths."""
    return nn.Sequential(*[MLPLayer(dim, out_dim) for dim, out_dim in zip(dims, dims[1:], strict=False)])


def class_head(dim: int, num_classes: int, dropout: float) -> nn.Sequential:
    """Return the head of both papers: widths 512 and 256, dropout after both (in PointNet after the second alone)."""
    return nn.Sequential(
        MLPLayer(dim, 512), nn.Dropout(dropout), MLPLayer(512, 256), nn.Dropout(dropout), nn.Linear(256, num_classes)
    )


class TransformNet(nn.Module):
    """Predict a matrix (B, D, D) from the points of a cloud ("T-Net"); the identity at first.

    Args:
        dim: width of the points.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim
        self.points, self.cloud = mlp(dim, 64, 128, 1024), mlp(1024, 512, 256)
        self.matrix = nn.Linear(256, dim * dim)
        nn.init.zeros_(self.matrix.weight)
        nn.init.zeros_(self.matrix.bias)

    def forward(self, feats: Float[Tensor, "B N D"]) -> Float[Tensor, "B D D"]:
        change = self.matrix(self.cloud(self.points(feats).amax(1))).view(-1, self.dim, self.dim)
        return change + torch.eye(self.dim, dtype=change.dtype, device=change.device)


class PointNet(CloudClassifier):
    """PointNet classifier, with or without its transform nets.

    The loss has no term that keeps the feature transform near an orthogonal matrix, as in most later code.

    Args:
        num_classes: number of classes; 0: `forward` returns the pooled features (B, D).
        transforms: transform coordinates and features by matrices predicted from the cloud ("T-Nets").
        dropout: dropout rate after the hidden layers of the head.
        features: point features that it reads, such as ``normal,rgb``; None: those of the data set.

    Example:
        >>> PointNet(40)(torch.rand(2, 128, 3)).shape
        torch.Size([2, 40])
    """

    def __init__(self, num_classes: int, transforms: bool = True, dropout: float = 0.3, features: str | None = None):
        super().__init__()
        self.features, self.dropout = Features.parse(features), dropout
        self.feature_scale = FeatureScale(self.features)
        self.first, self.last = mlp(3 + self.features.width, 64), mlp(64, 128, 1024)
        self.turn_points = TransformNet(3) if transforms else None
        self.turn_feats = TransformNet(64) if transforms else None
        self.head = self.new_head(num_classes)

    def make_head(self, num_classes: int) -> nn.Module:
        return class_head(1024, num_classes, self.dropout)

    def forward(self, xyz: Tensor, feats: Tensor | None = None) -> Float[Tensor, "B C"]:
        return self.head(self.forward_features(xyz, feats).pooled)

    def forward_features(self, xyz: Tensor, feats: Tensor | None = None) -> ModelFeatures:
        """Return the features of all points and their maximum, of clouds ``xyz`` (B, N, 3) with ``feats``."""
        feats = self.feature_scale(self.features.check(xyz, feats))
        turned = xyz if self.turn_points is None else xyz @ self.turn_points(xyz)
        points = self.first(torch.cat([turned, feats], -1))
        points = self.last(points if self.turn_feats is None else points @ self.turn_feats(points))
        return ModelFeatures(None, Tokens(points, xyz), points.amax(1))
