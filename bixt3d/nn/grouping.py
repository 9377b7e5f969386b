"""PointMLP's affine grouping (Ma et al. 2022): neighbors seen from their centroid, scaled alike for a whole cloud."""

import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bixt3d.nn.mlp import ChannelNorm, ResidualMLP
from bixt3d.ops import farthest_points, gather, knn
from bixt3d.types import InputError, Tokens


class AffineGroupLinear(nn.Module):
    """A linear layer on ``[scale * (neighbor - mean) / deviation + shift, centroid]`` for every neighbor of a group.

    ``mean`` is the centroid's features (``anchor``) or the mean of the group (``center``); ``deviation`` is one
    unbiased standard deviation per cloud, over all groups, neighbors and channels, in float32 or finer, plus 1e-5.
    The difference is linear, so the layer is applied to the points before they are gathered: the same result for
    about 1/K of the multiplications. With ``xyz_dim`` the positions are grouped along with the features.
    """

    def __init__(self, dim: int, out_dim: int, normalize: Literal["anchor", "center"] = "anchor", xyz_dim: int = 0):
        super().__init__()
        if normalize not in ("anchor", "center"):
            raise InputError(f"unknown normalize '{normalize}': choose anchor or center")
        self.near_dim, self.normalize = dim + xyz_dim, normalize
        self.scale = nn.Parameter(torch.ones(self.near_dim))
        self.shift = nn.Parameter(torch.zeros(self.near_dim))
        self.linear = nn.Linear(self.near_dim + dim, out_dim, bias=False)

    def forward(
        self,
        feats: Float[Tensor, "B N D"],
        pos: Float[Tensor, "B N P"],
        centroid_index: Int[Tensor, "B G"],
        neighbor_index: Int[Tensor, "B G K"],
    ) -> Float[Tensor, "B G K O"]:
        near = torch.cat([feats, pos.to(feats.dtype)], -1) if self.near_dim > feats.shape[-1] else feats
        weight_near, weight_centroid = self.linear.weight.split([self.near_dim, feats.shape[-1]], 1)
        deviation = self._deviation(near, centroid_index, neighbor_index).to(feats.dtype)
        projected = near @ (weight_near * self.scale).T / deviation[:, None, None]
        grouped = gather(projected, neighbor_index)
        mean = gather(projected, centroid_index) if self.normalize == "anchor" else grouped.mean(2)
        from_centroid = gather(feats, centroid_index) @ weight_centroid.T + weight_near @ self.shift
        return grouped + (from_centroid - mean)[:, :, None]

    def _deviation(self, near: Tensor, centroid_index: Tensor, neighbor_index: Tensor) -> Tensor:
        near = near.to(torch.promote_types(near.dtype, torch.float32))
        grouped = gather(near, neighbor_index)
        mean = gather(near, centroid_index)[:, :, None] if self.normalize == "anchor" else grouped.mean(2, keepdim=True)
        offsets = (grouped - mean).flatten(1)
        offsets = offsets - offsets.mean(1, keepdim=True)
        return torch.linalg.vector_norm(offsets, dim=1) / math.sqrt(offsets.shape[1] - 1) + 1e-5  # std is slow on CPUs


class GroupBlock(nn.Module):
    """One stage of PointMLP: group, embed every neighbor, take the maximum of each group, refine the result.

    Args:
        dim: width of the features that come in.
        out_dim: width of the features that go out.
        num_neighbors: neighbors of each centroid, itself included.
        num_groups: how many centroids farthest point sampling chooses; None: every point is one.
        reduce: in place of ``num_groups``, by how much to divide the number of points.
        num_pre: residual blocks on every neighbor.
        num_post: residual blocks on every group.
        ratio: inner width of the residual blocks.
        normalize: see AffineGroupLinear.
        use_xyz: group positions along with features.
    """

    def __init__(  # noqa: PLR0913 (a constructor is the schema of its settings)
        self,
        dim: int,
        out_dim: int,
        num_neighbors: int = 24,
        *,
        num_groups: int | None = None,
        reduce: int = 1,
        num_pre: int = 0,
        num_post: int = 0,
        ratio: float = 1.0,
        normalize: Literal["anchor", "center"] = "anchor",
        use_xyz: bool = False,
    ):
        super().__init__()
        self.num_neighbors, self.num_groups, self.reduce = num_neighbors, num_groups, reduce
        self.group = AffineGroupLinear(dim, out_dim, normalize, xyz_dim=3 * use_xyz)
        self.norm = ChannelNorm(out_dim)
        self.pre = nn.Sequential(*[ResidualMLP(out_dim, ratio) for _ in range(num_pre)])
        self.post = nn.Sequential(*[ResidualMLP(out_dim, ratio) for _ in range(num_post)])

    def forward(self, tokens: Tokens) -> tuple[Tokens, Int[Tensor, "B G"]]:
        """Return the groups, and for each the index of the token that is its centroid."""
        centroid_index, neighbor_index = self._search(tokens)
        feats = self.group(tokens.feats, tokens.pos, centroid_index, neighbor_index)
        feats = self.pre(self.norm(feats).relu_()).amax(2)
        kept = neighbor_index if centroid_index.shape[1] == tokens.pos.shape[1] else None
        return Tokens(self.post(feats), gather(tokens.pos, centroid_index), kept), centroid_index

    def _search(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        num_clouds, size, _ = tokens.pos.shape
        num_groups = self.num_groups or size // self.reduce
        if num_groups == size:
            every = torch.arange(size, device=tokens.pos.device).expand(num_clouds, size)
            known = tokens.neighbor_index
            if known is not None and known.shape[2] >= self.num_neighbors:
                return every, known[:, :, : self.num_neighbors]
            return every, knn(tokens.pos, tokens.pos, self.num_neighbors)
        centroid_index = farthest_points(tokens.pos, num_groups)
        return centroid_index, knn(gather(tokens.pos, centroid_index), tokens.pos, self.num_neighbors)
