"""Token refinement: what may follow an encoder layer to let tokens talk to their neighbors (paper, section 2.3)."""

from abc import ABC, abstractmethod

from torch import nn

from bixt3d.nn.grouping import GroupBlock
from bixt3d.nn.mlp import init_linear
from bixt3d.ops import gather
from bixt3d.types import Tokens


class Refinement(nn.Module, ABC):
    """Refine the tokens between two layers. Built as ``Refinement(dim, out_dim)`` by the encoder.

    ``reduce``: by how much it divides their number.
    """

    reduce: int = 1

    @abstractmethod
    def forward(self, tokens: Tokens) -> Tokens:
        """Return tokens of the next layer's width: as many, or fewer."""


class GroupRefinement(Refinement):
    """PointMLP's affine grouping around every token ("simple grouping"), or around fewer ("hierarchy").

    The result is added to the centroids' features. The paper does not say whether it has this skip connection, or how
    wide tokens are after a reduction.

    Args:
        dim: width of the tokens.
        out_dim: width of the refined tokens.
        num_neighbors: neighbors of each centroid.
        reduce: by how much to divide the number of tokens (1: as many as before).
        num_pre: residual blocks on every neighbor.
        num_post: residual blocks on every group.
        use_xyz: group positions along with features.
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
    ):
        super().__init__()
        self.reduce = reduce
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.block = GroupBlock(
            dim, out_dim, num_neighbors, reduce=reduce, num_pre=num_pre, num_post=num_post, use_xyz=use_xyz
        )
        self.project = nn.Linear(out_dim, out_dim)
        self.skip = nn.Identity() if dim == out_dim else nn.Linear(dim, out_dim)
        self.project.apply(init_linear)
        self.skip.apply(init_linear)

    def forward(self, tokens: Tokens) -> Tokens:
        groups, centroid_index = self.block(Tokens(self.norm(tokens.feats), tokens.pos, tokens.neighbor_index))
        skipped = self.skip(gather(tokens.feats, centroid_index))
        return Tokens(skipped + self.project(groups.feats), groups.pos, groups.neighbor_index)
