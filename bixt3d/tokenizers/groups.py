"""Groups of points as tokens: PointMLP's affine grouping once, right after the points were embedded."""

from jaxtyping import Float
from torch import Tensor

from bixt3d.nn.grouping import GroupBlock
from bixt3d.nn.mlp import ChannelNorm
from bixt3d.tokenizers.points import PointTokenizer, Tokenizer
from bixt3d.types import Pyramid


class GroupTokenizer(Tokenizer):
    """Embed every point, then describe the neighborhood of every point, or of a few chosen by farthest point sampling.

    Args:
        dim: width of the tokens.
        points: how single points are embedded, and how wide.
        num_neighbors: neighbors of each centroid.
        num_groups: number of tokens; None: every point is the centroid of one.
        num_pre: residual blocks on every neighbor.
        num_post: residual blocks on every group.
        use_xyz: group positions along with features.
    """

    def __init__(
        self,
        dim: int,
        points: PointTokenizer,
        num_neighbors: int = 24,
        num_groups: int | None = None,
        num_pre: int = 1,
        num_post: int = 1,
        use_xyz: bool = False,
    ):
        super().__init__()
        self.dim, self.points, self.norm = dim, points, ChannelNorm(points.dim)
        self.group = GroupBlock(
            points.dim,
            dim,
            num_neighbors,
            num_groups=num_groups,
            num_pre=num_pre,
            num_post=num_post,
            use_xyz=use_xyz,
        )

    def forward(self, xyz: Float[Tensor, "B N 3"], feats: Float[Tensor, "B N F"]) -> Pyramid:
        (points,) = self.points(xyz, feats)
        groups, _ = self.group(type(points)(self.norm(points.feats), points.pos))
        return points, groups
