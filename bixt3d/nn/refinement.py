"""Token refinement after an encoder layer: exchange of features between neighboring tokens (paper, section 2.3)."""

from abc import ABC, abstractmethod

from torch import nn

from bixt3d.nn.grouping import GroupBlock
from bixt3d.nn.mlp import init_linear
from bixt3d.ops import gather
from bixt3d.types import Tokens


class Refinement(nn.Module, ABC):
    """Base class: refine the tokens between two encoder layers. The encoder calls ``Refinement(dim, out_dim)``.

    The class attribute ``reduce`` is the factor by which it divides the number of tokens.
    """

    reduce: int = 1

    @abstractmethod
    def forward(self, tokens: Tokens) -> Tokens:
        """Return tokens of width ``out_dim``, 1 / ``reduce`` as many."""


class GroupRefinement(Refinement):
    """PointMLP's affine grouping around every token ("simple grouping"), or around a subset ("hierarchy").

    The result is added to the centroids' features (skip connection). The paper does not specify this skip connection,
    nor the width of the tokens after a reduction.

    Args:
        dim: width of the tokens.
        out_dim: width of the refined tokens.
        num_neighbors: neighbors of each centroid; in evaluation all tokens of a cloud that has fewer, as a small scene
            in a coarse grid. Training refuses such clouds.
        reduce: factor by which to divide the number of tokens (1: keep all).
        num_pre: residual blocks on every neighbor.
        num_post: residual blocks on every group.
        use_xyz: group positions along with features.
        radius: length by which offsets of neighbors are divided, and their features are left as they are; 0: both are
            divided by their deviation in each cloud. For scenes, whose scale is known, and where a few stray points
            would rule the deviation.
    """

    def __init__(
        self,
        dim: int,
        out_dim: int,
        num_neighbors: int = 24,
        reduce: int = 1,
        num_pre: int = 0,
        num_post: int = 1,
        use_xyz: bool = False,
        radius: float = 0.0,
    ):
        super().__init__()
        self.reduce = reduce
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        blocks = {"num_pre": num_pre, "num_post": num_post, "radius": radius}
        self.block = GroupBlock(dim, out_dim, num_neighbors, reduce=reduce, **blocks, use_xyz=use_xyz, clamp=True)
        self.project = nn.Linear(out_dim, out_dim)
        self.skip = nn.Identity() if dim == out_dim else nn.Linear(dim, out_dim)
        self.project.apply(init_linear)
        self.skip.apply(init_linear)

    def forward(self, tokens: Tokens) -> Tokens:
        groups, centroid_index = self.block(Tokens(self.norm(tokens.feats), tokens.pos, tokens.neighbor_index))
        skipped = self.skip(gather(tokens.feats, centroid_index))
        return Tokens(skipped + self.project(groups.feats), groups.pos, groups.neighbor_index)
