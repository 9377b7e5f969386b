"""PointNet++ (Qi et al. 2017), single-scale grouping: classification, and segmentation of parts and scenes."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bixt3d.models.baselines.pointnet import class_head, mlp
from bixt3d.models.classifier import CloudClassifier
from bixt3d.models.features import ModelFeatures
from bixt3d.models.segmenter import CloudSegmenter
from bixt3d.nn.feature_scale import FeatureScale
from bixt3d.ops import farthest_points, gather, interpolate, knn
from bixt3d.ops._backend import without_autocast
from bixt3d.types import Features, InputError, Tokens


class SetAbstraction(nn.Module):
    """Farthest points, the neighbors within a radius of each, an MLP on every neighbor, and the maximum over them.

    Of more than ``num_neighbors`` points within the radius the nearest are taken (the authors' code takes the first in
    order); if there are fewer, the centroid is repeated.

    Args:
        dim: width of the points.
        dims: widths of the MLP.
        groups: number of centroids; below 1: share of the points.
        radius: largest distance of a neighbor.
        num_neighbors: neighbors of each centroid, itself included.
    """

    def __init__(self, dim: int, dims: Sequence[int], groups: int | float, radius: int | float, num_neighbors: int):
        super().__init__()
        if not (groups > 0 and radius > 0 and num_neighbors > 0):
            raise InputError(
                f"groups, radii and num_neighbors must be positive, not {groups}, {radius}, {num_neighbors}"
            )
        self.groups, self.radius, self.num_neighbors = groups, radius, num_neighbors
        self.mlp = mlp(dim + 3, *dims)

    def forward(self, points: Tokens) -> Tokens:
        """Return the groups of points (B, N, D)."""
        size = points.pos.shape[1]
        groups = max(1, int(size * self.groups)) if self.groups < 1 else int(self.groups)
        pos = gather(points.pos, farthest_points(points.pos, groups))
        index = knn(pos, points.pos, min(self.num_neighbors, size))
        with without_autocast(pos):
            offset = gather(points.pos, index) - pos[:, :, None]
            far_mask = offset.square().sum(-1) > self.radius**2
        index = torch.where(far_mask, index[..., :1], index)
        offset = torch.where(far_mask[..., None], 0.0, offset)
        neighbors = torch.cat([offset.to(points.feats.dtype), gather(points.feats, index)], -1)
        return Tokens(self.mlp(neighbors).amax(2), pos)


class _Encoder(nn.Module):
    """Stages of set abstraction."""

    def __init__(
        self,
        dim: int,
        dims: Sequence[Sequence[int]],
        groups: Sequence[int | float],
        radii: Sequence[int | float],
        num_neighbors: Sequence[int],
    ):
        super().__init__()
        if not len(dims) == len(groups) == len(radii) == len(num_neighbors):
            raise InputError("dims, groups, radii and num_neighbors need one entry per stage")
        self.stages, self.level_dims = nn.ModuleList(), [dim]
        for entry in zip(dims, groups, radii, num_neighbors, strict=True):
            self.stages.append(SetAbstraction(self.level_dims[-1], *entry))
            self.level_dims.append(entry[0][-1])

    def forward(self, points: Tokens) -> list[Tokens]:
        levels = [points]
        for stage in self.stages:
            levels.append(stage(levels[-1]))
        return levels


class PointNet2(CloudClassifier):
    """PointNet++ classifier with single-scale grouping.

    Args:
        num_classes: number of classes; 0: `forward` returns the pooled features (B, D).
        dims: for each stage, the widths of its MLP; the last entry is the MLP before the maximum over all groups.
        groups: for each stage, the number of centroids.
        radii: for each stage, the largest distance of a neighbor.
        num_neighbors: for each stage, the neighbors of each centroid.
        dropout: dropout rate after the hidden layers of the head.
        features: point features that it reads, such as ``normal,rgb``; None: those of the data set.

    Example:
        >>> PointNet2(40, groups=(32, 8))(torch.rand(2, 128, 3)).shape
        torch.Size([2, 40])
    """

    def __init__(  # noqa: PLR0913 (a constructor is the schema of its settings)
        self,
        num_classes: int,
        dims: Sequence[Sequence[int]] = ((64, 64, 128), (128, 128, 256), (256, 512, 1024)),
        groups: Sequence[int | float] = (512, 128),
        radii: Sequence[int | float] = (0.2, 0.4),
        num_neighbors: Sequence[int] = (32, 64),
        dropout: float = 0.4,
        features: str | None = None,
    ):
        super().__init__()
        self.features, self.dropout, self.dim = Features.parse(features), dropout, dims[-1][-1]
        self.feature_scale = FeatureScale(self.features)
        self.encoder = _Encoder(self.features.width, dims[:-1], groups, radii, num_neighbors)
        self.last = mlp(self.encoder.level_dims[-1] + 3, *dims[-1])
        self.head = self.new_head(num_classes)

    def make_head(self, num_classes: int) -> nn.Module:
        return class_head(self.dim, num_classes, self.dropout)

    def forward(self, xyz: Tensor, feats: Tensor | None = None) -> Float[Tensor, "B C"]:
        return self.head(self.forward_features(xyz, feats).pooled)

    def forward_features(self, xyz: Tensor, feats: Tensor | None = None) -> ModelFeatures:
        """Return the groups of the last stage and their maximum, of clouds ``xyz`` (B, N, 3) with ``feats``."""
        feats = self.feature_scale(self.features.check(xyz, feats))
        *_, groups = self.encoder(Tokens(feats, xyz))
        tokens = Tokens(self.last(torch.cat([groups.pos, groups.feats], -1)), groups.pos)
        return ModelFeatures(None, tokens, tokens.feats.amax(1))


class PointNet2Segmenter(CloudSegmenter):
    """PointNet++ segmenter with single-scale grouping: feature propagation from the coarsest level to every point.

    Args:
        num_parts: number of parts, over all categories; 0: `forward` returns features of every point (B, N, D).
        num_categories: number of categories.
        dims: for each stage, the widths of its MLP.
        groups: for each stage, the number of centroids; below 1: share of the points.
        radii: for each stage, the largest distance of a neighbor.
        num_neighbors: for each stage, the neighbors of each centroid.
        up_dims: widths of the MLPs on the way back, from the coarsest level to the finest.
        global_dims: widths of an MLP before the maximum over the coarsest level, which joins it; None: none.
        use_category: whether the model reads the category of each cloud.
        dropout: dropout rate before the last linear layer.
        features: point features that it reads, such as ``normal,rgb``; None: those of the data set.
    """

    def __init__(  # noqa: PLR0913 (a constructor is the schema of its settings)
        self,
        num_parts: int,
        num_categories: int,
        dims: Sequence[Sequence[int]] = ((64, 64, 128), (128, 128, 256)),
        groups: Sequence[int | float] = (512, 128),
        radii: Sequence[int | float] = (0.2, 0.4),
        num_neighbors: Sequence[int] = (32, 64),
        *,
        up_dims: Sequence[Sequence[int]] = ((256, 128), (128, 128, 128)),
        global_dims: Sequence[int] | None = (256, 512, 1024),
        use_category: bool = True,
        dropout: float = 0.5,
        features: str | None = None,
    ):
        super().__init__()
        self.features, self.reads_category, self.num_categories = Features.parse(features), use_category, num_categories
        self.feature_scale = FeatureScale(self.features)
        self.encoder = _Encoder(3 + self.features.width, dims, groups, radii, num_neighbors)
        levels = list(self.encoder.level_dims)
        if len(up_dims) != len(dims):
            raise InputError(f"up_dims needs one entry for each of {len(dims)} stages, not {len(up_dims)}")
        self.whole = mlp(levels[-1] + 3, *global_dims) if global_dims else None
        self.join = mlp(levels[-1] + global_dims[-1], levels[-1]) if global_dims else None
        levels[0] += num_categories if use_category else 0
        self.up, dim = nn.ModuleList(), levels[-1]
        for skip, widths in zip(levels[-2::-1], up_dims, strict=True):
            self.up.append(mlp(dim + skip, *widths))
            dim = widths[-1]
        self.before_head, self.dim = nn.Sequential(*mlp(dim, 128), nn.Dropout(dropout)), 128
        self.head = self.new_head(num_parts)

    def make_head(self, num_classes: int) -> nn.Module:
        return nn.Linear(self.dim, num_classes)

    def forward(
        self, xyz: Tensor, feats: Tensor | None = None, category: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B N C"]:
        levels = self._levels(xyz, self.check(xyz, feats, category))
        feats = levels[-1].feats
        if self.whole is not None:
            most = self.whole(torch.cat([levels[-1].pos, feats], -1)).amax(1, keepdim=True)
            feats = self.join(torch.cat([feats, most.expand(-1, feats.shape[1], -1)], -1))
        pos = levels[-1].pos
        for layer, fine in zip(self.up, levels[-2::-1], strict=True):
            skip = fine.feats
            if fine is levels[0] and self.reads_category:
                one_hot = nn.functional.one_hot(category, self.num_categories).to(skip.dtype)
                skip = torch.cat([skip, one_hot[:, None].expand(-1, skip.shape[1], -1)], -1)
            feats, pos = layer(torch.cat([skip, interpolate(fine.pos, pos, feats)], -1)), fine.pos
        return self.head(self.before_head(feats))

    def forward_features(
        self, xyz: Tensor, feats: Tensor | None = None, category: Int[Tensor, " B"] | None = None
    ) -> ModelFeatures:
        """Return the groups of the last stage and their mean; ``category`` is ignored."""
        *_, tokens = self._levels(xyz, self.features.check(xyz, feats))
        return ModelFeatures(None, tokens, tokens.feats.mean(1))

    def _levels(self, xyz: Tensor, feats: Tensor) -> list[Tokens]:
        return self.encoder(Tokens(torch.cat([xyz, self.feature_scale(feats)], -1), xyz))


class PointwiseSegmenter(CloudSegmenter):
    """The floor: an MLP on the coordinates and features of each point alone, without neighbors.

    Args:
        num_parts, num_categories: see `PointNet2Segmenter`.
        dims: widths of the MLP.
        features: point features that it reads, such as ``normal,rgb``; None: those of the data set.
    """

    reads_category = False

    def __init__(
        self, num_parts: int, num_categories: int, dims: Sequence[int] = (64, 128, 128), features: str | None = None
    ):
        super().__init__()
        self.features, self.dim = Features.parse(features), dims[-1]
        self.feature_scale = FeatureScale(self.features)
        self.mlp = mlp(3 + self.features.width, *dims)
        self.head = self.new_head(num_parts)

    def make_head(self, num_classes: int) -> nn.Module:
        return nn.Linear(self.dim, num_classes)

    def forward(
        self, xyz: Tensor, feats: Tensor | None = None, category: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B N C"]:
        feats = self.feature_scale(self.check(xyz, feats, category))
        return self.head(self.mlp(torch.cat([xyz, feats], -1)))
