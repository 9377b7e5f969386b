"""One token per group of points: point embedding, then one affine grouping of PointMLP."""

from dataclasses import replace

from torch import Tensor

from bixt3d.nn.grouping import GroupBlock
from bixt3d.nn.mlp import ChannelsLastBatchNorm
from bixt3d.ops._backend import without_autocast
from bixt3d.tokenizers.outliers import move_outliers
from bixt3d.tokenizers.points import PointTokenizer, Tokenizer
from bixt3d.types import InputError, Pyramid


class GroupTokenizer(Tokenizer):
    """Embed every point, then pool the neighbors of every point, or of centroids chosen by farthest point sampling.

    A sinusoidal positional encoding of its centroid, through a linear layer, is added to every token.

    Args:
        dim: width of the tokens.
        points: embeds single points; its ``dim`` is their width.
        num_neighbors: k nearest neighbors of each centroid, the centroid included.
        num_groups: number of tokens; None: one token per point.
        train_groups: number of tokens used in a training step, a random subset for each cloud; None: all.
        num_pre: residual blocks on every neighbor.
        num_post: residual blocks on every group.
        ratio: hidden width of the residual blocks, as a multiple of ``dim``.
        use_xyz: group coordinates together with features.
        outliers: statistical outlier removal: a point whose mean distance to its 8 nearest neighbors is more than this
            multiple of the median of its cloud, such as 2, is replaced by the nearest of them that is no outlier.
            Farthest point sampling would choose nearly all outliers as centroids. 0: off.

    Example:
        >>> tokenizer = GroupTokenizer(dim=32, points=PointTokenizer(dim=8), num_groups=16)
        >>> [level.feats.shape[1:] for level in tokenizer(torch.rand(2, 128, 3), torch.empty(2, 128, 0))]
        [torch.Size([128, 8]), torch.Size([16, 32])]
    """

    def __init__(  # noqa: PLR0913 (a constructor is the schema of its settings)
        self,
        dim: int,
        points: PointTokenizer,
        num_neighbors: int = 24,
        num_groups: int | None = None,
        train_groups: int | None = None,
        num_pre: int = 1,
        num_post: int = 1,
        ratio: float = 1.0,
        use_xyz: bool = False,
        outliers: float = 0.0,
    ):
        super().__init__()
        if not (outliers == 0 or outliers > 1):
            raise InputError(f"outliers is 0 or a multiple of the median distance, more than 1, not {outliers}")
        self.outliers = outliers
        self.dim, self.level_dims = dim, [points.dim, dim]
        self.points, self.norm, self.features = points, ChannelsLastBatchNorm(points.dim), points.features
        like_points = {"num_features": points.num_features, "temperature": points.temperature, "scale": points.scale}
        self.position = PointTokenizer(dim, **like_points)
        self.group = GroupBlock(
            points.dim,
            dim,
            num_neighbors,
            num_groups=num_groups,
            train_groups=train_groups,
            num_pre=num_pre,
            num_post=num_post,
            ratio=ratio,
            use_xyz=use_xyz,
        )

    def forward(self, xyz: Tensor, feats: Tensor | None = None) -> Pyramid:
        if self.outliers:
            xyz, feats = move_outliers(xyz, feats, self.outliers)
        with without_autocast(xyz):  # groups are differences of neighbors
            (points,) = self.points(xyz, feats)
            normed = replace(points, feats=self.norm(points.feats))
        groups, _ = self.group(normed)
        (positions,) = self.position(groups.pos)
        return points, replace(groups, feats=groups.feats + positions.feats)
