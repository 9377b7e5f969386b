"""PointMLP's geometric affine module (Ma et al. 2022): neighbors relative to their centroid, normalized per cloud."""

import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bixt3d.nn.batch_norm import are_constant
from bixt3d.nn.mlp import ChannelsLastBatchNorm, ResidualMLP
from bixt3d.ops import farthest_points, gather, knn, neighbor_max, neighbor_moments, neighbor_sum
from bixt3d.ops._backend import PointBackend, dtype_of_products, is_traced, without_autocast
from bixt3d.types import InputError, Tokens


class AffineGroupLinear(nn.Module):
    """Apply a linear layer to ``[scale * (neighbor - mean) / deviation + shift, centroid]`` of every neighbor.

    ``deviation`` is one unbiased standard deviation per cloud, over all groups, neighbors and channels, in float32 or
    float64, plus 1e-5. With ``radius`` only positions are normalized, by that length, as in PointNeXt (Qian et al.
    2022): for scenes, where a few stray points far away would rule the deviation. The layer is applied to the points
    before they are gathered: the same result, because the difference is linear, with about 1/K of the multiplications.

    Args:
        dim: width of the features of a point.
        out_dim: width of the result.
        normalize: ``mean`` is the centroid's features (``anchor``) or the mean of the group (``center``).
        xyz_dim: number of coordinates to group together with the features (0: features only).
        radius: a length that replaces ``deviation``; 0: none.

    The attribute ``backend`` may be set: see `bixt3d.neighbor_moments`.
    """

    def __init__(
        self,
        dim: int,
        out_dim: int,
        normalize: Literal["anchor", "center"] = "anchor",
        xyz_dim: int = 0,
        radius: float = 0.0,
    ):
        super().__init__()
        if not 0 <= radius < math.inf:
            raise InputError(f"the radius of groups must be finite and not negative, but is {radius}")
        if radius and not xyz_dim:
            raise InputError("a radius divides positions: it needs use_xyz: true")
        if normalize not in ("anchor", "center"):
            raise InputError(f"unknown normalize '{normalize}': choose anchor or center")
        self.near_dim, self.normalize, self.radius = dim + xyz_dim, normalize, radius
        self.backend: PointBackend = "auto"
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
        points, centroids = self.parts(feats, pos, centroid_index, neighbor_index)
        return (gather(points, neighbor_index) + centroids[:, :, None]).to(dtype_of_products(feats))

    def parts(
        self,
        feats: Float[Tensor, "B N D"],
        pos: Float[Tensor, "B N P"],
        centroid_index: Int[Tensor, "B G"],
        neighbor_index: Int[Tensor, "B G K"],
        sign: Float[Tensor, " O"] | None = None,
    ) -> tuple[Float[Tensor, "B N O"], Float[Tensor, "B G O"]]:
        """Return the two terms of the result: one for each point and one for each group.

        The layer's result for neighbor k of group g is ``points[b, neighbor_index[b, g, k]] + centroids[b, g]``. Both
        terms are float32 or float64: where neighbors are nearly equal, they are much larger than their sum.
        ``sign``: factor for every channel of both terms.
        """
        pos = pos / self.radius if self.radius else pos
        near = torch.cat([feats, pos.to(feats.dtype)], -1) if self.near_dim > feats.shape[-1] else feats
        near = near.to(torch.promote_types(near.dtype, torch.float32))
        size = torch.linalg.vector_norm(near.detach(), dim=(1, 2)) / near[0].numel() ** 0.5
        near = near - near.detach().mean(1, keepdim=True)  # only differences matter: keep their precision
        weight = self.linear.weight if sign is None else self.linear.weight * sign[:, None]
        weight_near, weight_centroid = weight.split([self.near_dim, feats.shape[-1]], 1)
        centroids = gather(feats, centroid_index) @ weight_centroid.T
        with without_autocast(feats):  # terms are large compared to their differences: do not round them
            scaled = (weight_near * self.scale).T.to(near.dtype)
            if not self.radius:
                scaled = scaled / self._deviation(near, size, centroid_index, neighbor_index)[:, None, None]
            points = near @ scaled
            centroids = centroids + weight_near @ self.shift
        return points, centroids - self._means(points, centroid_index, neighbor_index)

    def _means(
        self, near: Float[Tensor, "B N D"], centroid_index: Int[Tensor, "B G"], neighbor_index: Int[Tensor, "B G K"]
    ) -> Float[Tensor, "B G D"]:
        """Return what is subtracted from the neighbors of a group: before or after the layer, which is linear."""
        if self.normalize == "anchor":
            return gather(near, centroid_index)
        return neighbor_sum(near, neighbor_index) / neighbor_index.shape[2]

    def _deviation(
        self,
        near: Float[Tensor, "B N D"],
        size: Float[Tensor, " B"],
        centroid_index: Int[Tensor, "B G"],
        neighbor_index: Int[Tensor, "B G K"],
    ) -> Float[Tensor, " B"]:
        """Return the standard deviation of ``near[neighbor] - mean`` for each cloud, without storing the differences.

        ``size``: root mean square of the values. Infinity where all neighbors equal their means up to rounding: then
        the differences become 0. Divided by 1e-5, their gradients would grow in every block and overflow float32.
        """
        means = self._means(near, centroid_index, neighbor_index)
        sums, squares = (moment.sum(1) for moment in neighbor_moments(near, -means, neighbor_index, self.backend))
        count = neighbor_index[0].numel() * near.shape[2]
        variance = (squares - sums.square() / count) / (count - 1)
        rounding = (8 * torch.finfo(near.dtype).eps * size).clamp(min=1e-7)
        deviation = (variance.clamp(min=1e-14).sqrt() + 1e-5).to(near.dtype)
        return torch.where(variance > rounding.square(), deviation, torch.inf)


class GroupBlock(nn.Module):
    """One stage of PointMLP: group, embed every neighbor, max pooling over each group, residual blocks.

    Centroids are chosen by farthest point sampling, neighbors are the k nearest points.

    Args:
        dim: width of the input features.
        out_dim: width of the output features.
        num_neighbors: k nearest neighbors of each centroid, the centroid included.
        num_groups: number of centroids; None: see ``reduce``.
        reduce: factor by which to divide the number of points, without ``num_groups`` (1: every point is a centroid).
        train_groups: number of groups used in a training step, a random subset for each cloud (PatchDropout, Liu et al.
            2022); None: all.
        num_pre: residual blocks on every neighbor.
        num_post: residual blocks on every group.
        ratio: hidden width of the residual blocks, as a multiple of ``out_dim``.
        normalize: see AffineGroupLinear.
        use_xyz: group coordinates together with features.
        radius: see AffineGroupLinear.
        clamp: in evaluation, take all points of a cloud that has fewer than ``num_neighbors``, and at least one group.
            Without it, and in training, such a cloud is refused.

    The attribute ``backend`` may be set: see `bixt3d.farthest_points`, `bixt3d.knn` and `bixt3d.neighbor_max`.
    """

    def __init__(  # noqa: PLR0913 (a constructor is the schema of its settings)
        self,
        dim: int,
        out_dim: int,
        num_neighbors: int = 24,
        *,
        num_groups: int | None = None,
        reduce: int = 1,
        train_groups: int | None = None,
        num_pre: int = 0,
        num_post: int = 0,
        ratio: float = 1.0,
        normalize: Literal["anchor", "center"] = "anchor",
        use_xyz: bool = False,
        radius: float = 0.0,
        clamp: bool = False,
    ):
        super().__init__()
        if train_groups is not None and not 1 <= train_groups <= (num_groups or train_groups):
            raise InputError(f"train_groups must be between 1 and num_groups ({num_groups}), not {train_groups}")
        self.num_neighbors, self.num_groups, self.reduce = num_neighbors, num_groups, reduce
        self.train_groups, self.clamp = train_groups, clamp
        self.backend: PointBackend = "auto"
        self.group = AffineGroupLinear(dim, out_dim, normalize, 3 if use_xyz else 0, radius)
        self.norm = ChannelsLastBatchNorm(out_dim)
        self.pre = nn.Sequential(*[ResidualMLP(out_dim, ratio) for _ in range(num_pre)])
        self.post = nn.Sequential(*[ResidualMLP(out_dim, ratio) for _ in range(num_post)])

    def forward(self, tokens: Tokens) -> tuple[Tokens, Int[Tensor, "B G"]]:
        """Return the groups as tokens, and the index of the token that is the centroid of each."""
        centroid_index, neighbor_index = self._search(tokens)
        where = (tokens.feats, tokens.pos, centroid_index, neighbor_index)
        if self.pre or (is_traced(tokens.feats) and not torch.compiler.is_exporting()):
            grouped = self.group(*where)
            rows = self.norm(grouped.flatten(0, 2))
            for block in self.pre:
                rows = block.before_relu(rows.relu_())
            # ReLU is monotonic: applied after the maximum, on fewer values. max: the backward of amax is slow on CPUs
            feats = rows.view_as(grouped).max(2).values.relu()
        else:
            feats = self._largest(*where)
        kept = neighbor_index if centroid_index.shape[1] == tokens.pos.shape[1] else None
        return Tokens(self.post(feats), gather(tokens.pos, centroid_index), kept), centroid_index

    def _largest(
        self,
        feats: Float[Tensor, "B N D"],
        pos: Float[Tensor, "B N P"],
        centroid_index: Int[Tensor, "B G"],
        neighbor_index: Int[Tensor, "B G K"],
    ) -> Float[Tensor, "B G O"]:
        """Return the maximum over the neighbors of ``relu(norm(group(...)))``, without storing it for every neighbor.

        Batch norm and ReLU are monotonic once channels with a negative weight are multiplied by -1: the maximum can
        come first. The batch statistics are computed from sums over points. Autocast is disabled here.
        """
        weight = self.norm.weight
        with without_autocast(weight):
            sign = torch.where(weight < 0, -1.0, 1.0).to(weight.dtype)
            where = (feats.to(weight.dtype), pos, centroid_index, neighbor_index)
            points, centroids = self.group.parts(*where, sign)
            if self.training:
                moments = neighbor_moments(points, centroids, neighbor_index, self.backend)
                of_batch = (moment.sum(0) for moment in moments)
                sums, squares, size = self.norm.sum_over_processes(*of_batch, neighbor_index.numel())
                mean = sums / size
                variance = (squares / size - mean.square()).clamp(min=0)
                constant_mask = are_constant(mean, variance)
                mean, variance = mean.to(points.dtype), variance.to(points.dtype)
                self.norm.update_running_statistics(mean * sign, variance, size)
            else:
                mean, variance = self.norm.running_mean * sign, self.norm.running_var
                constant_mask = torch.zeros_like(mean, dtype=torch.bool)
            largest = neighbor_max(points, neighbor_index, self.backend) + centroids
            factor = weight.abs() * (variance + self.norm.eps).rsqrt().masked_fill(constant_mask, 0)
            return torch.relu((largest - mean) * factor + self.norm.bias).to(weight.dtype)

    def _search(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        num_clouds, size, _ = tokens.pos.shape
        num_groups, num_neighbors = self.num_groups or size // self.reduce, self.num_neighbors
        if self.clamp and not self.training and size < max(num_neighbors, self.reduce):
            num_groups, num_neighbors = max(1, num_groups), min(num_neighbors, size)
        if num_groups == size:
            centroid_index = torch.arange(size, device=tokens.pos.device).expand(num_clouds, size)
        else:
            centroid_index = farthest_points(tokens.pos, num_groups, self.backend)
        if self.training and self.train_groups:
            order = torch.rand(centroid_index.shape, device=centroid_index.device).argsort(1)
            centroid_index = centroid_index.gather(1, order[:, : self.train_groups].sort(1).values)
        known, is_every = tokens.neighbor_index, centroid_index.shape[1] == size
        if is_every and known is not None and known.shape[2] >= num_neighbors:
            return centroid_index, known[:, :, :num_neighbors]
        centroids = tokens.pos if is_every else gather(tokens.pos, centroid_index)
        return centroid_index, knn(centroids, tokens.pos, num_neighbors, self.backend)
