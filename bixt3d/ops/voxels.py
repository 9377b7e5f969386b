"""Voxel grid: group the points of a cloud by cubes of space, pool their values, and find them again."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from bixt3d.types import InputError

MAX_CELLS = 2**62
"""The most cells that the grid of a cloud may have: their numbers must fit into 64 bits."""


@dataclass(frozen=True)
class VoxelGrid:
    """The occupied voxels of clouds, cloud by cloud, in the order of their coordinates (x first, then y, then z).

    Args:
        inverse: the voxel of each point.
        order: the points sorted by voxel; within a voxel in their own order.
        start: where the points of each voxel start in ``order``.
        count: number of points in each voxel.
    """

    inverse: Int[Tensor, " N"]
    order: Int[Tensor, " N"]
    start: Int[Tensor, " V"]
    count: Int[Tensor, " V"]

    def __len__(self) -> int:
        return len(self.count)

    def first(self, values: Shaped[Tensor, "N ..."]) -> Shaped[Tensor, "V ..."]:
        """Return the values of the first point in each voxel."""
        return values[self.order[self.start]]

    def mean(self, values: Float[Tensor, "N ..."]) -> Float[Tensor, "V ..."]:
        """Return the mean of the values in each voxel."""
        sums = values.new_zeros(len(self), *values.shape[1:]).index_add_(0, self.inverse, values)
        return sums / self.count.view(-1, *[1] * (values.ndim - 1))

    def max(self, values: Shaped[Tensor, "N ..."]) -> Shaped[Tensor, "V ..."]:
        """Return the largest value in each voxel; equal ones share its gradient."""
        index = self.inverse.view(-1, *[1] * (values.ndim - 1)).expand_as(values)
        return values.new_zeros(len(self), *values.shape[1:]).scatter_reduce(
            0, index, values, "amax", include_self=False
        )

    def unpool(self, values: Shaped[Tensor, "V ..."]) -> Shaped[Tensor, "N ..."]:
        """Return for each point the values of its voxel."""
        return values[self.inverse]

    def majority(self, labels: Int[Tensor, " N"]) -> Int[Tensor, " V"]:
        """Return the most frequent label in each voxel, of ties the lowest; negative labels count only if alone."""
        lowest = int(labels.min()) if len(labels) else 0
        span = int(labels.max()) - lowest + 1 if len(labels) else 1
        if span == 1:
            return labels.new_full((len(self),), lowest)
        pairs, count = (self.inverse * span + (labels - lowest)).unique(return_counts=True)
        voxel, label = pairs // span, pairs % span + lowest
        # sort by voxel, then known before unknown, then count: the best of each voxel comes first
        rank = torch.where(label >= 0, count, count - len(labels) - 1)
        by_rank = rank.argsort(descending=True, stable=True)
        order = by_rank[voxel[by_rank].argsort(stable=True)]
        found = voxel[order]
        first = torch.ones_like(found, dtype=torch.bool)
        first[1:] = found[1:] != found[:-1]
        return label[order[first]].to(labels.dtype)


def voxel_grid(points: Float[Tensor, "N 3"], size: float, batch: Int[Tensor, " N"] | None = None) -> VoxelGrid:
    """Group points by the cubes of side ``size`` that they lie in; the origin is a corner of the grid.

    ``batch``: the cloud of each point, from 0 on, as PyG has it; clouds share no voxel, and ``grid.first(batch)`` is
    the cloud of each voxel. Sorts once, in linear memory. Raises InputError for a size that is not positive, for no
    points, for coordinates that are not finite, and for a grid of more than 2^62 cells.

    Example:
        >>> grid = voxel_grid(torch.tensor([[0.1, 0, 0], [5.0, 0, 0], [0.2, 0, 0]]), 1.0)
        >>> grid.inverse, grid.count
        (tensor([0, 1, 0]), tensor([2, 1]))
    """
    if not size > 0:
        raise InputError(f"the side of a voxel must be positive, not {size}")
    if not len(points):
        raise InputError("a voxel grid needs at least one point")
    if not points.isfinite().all():
        raise InputError("points must have finite coordinates: some are NaN or infinite")
    if batch is not None and int(batch.min()) < 0:
        raise InputError("batch must be from 0 on")
    key, order = _cell_numbers(points, size, batch).sort(stable=True)
    _, inverse, count = key.unique_consecutive(return_inverse=True, return_counts=True)
    back = torch.empty_like(order)
    back[order] = inverse
    return VoxelGrid(back, order, count.cumsum(0) - count, count)


def _cell_numbers(points: Float[Tensor, "N 3"], size: float, batch: Int[Tensor, " N"] | None) -> Int[Tensor, " N"]:
    """Return the number of the cell of each point, in the order of clouds and coordinates."""
    cells = (points / size).floor_()
    cells -= cells.amin(0)
    sizes = [int(most) + 1 for most in cells.amax(0).tolist()]
    num_clouds = 1 if batch is None else int(batch.max()) + 1
    if num_clouds * sizes[0] * sizes[1] * sizes[2] > MAX_CELLS:
        raise InputError(f"a grid of voxels of side {size:g} would have {' x '.join(map(str, sizes))} cells: too many")
    x, y, z = (cells[:, axis].long() for axis in range(3))
    x = x if batch is None else batch * sizes[0] + x
    return (x * sizes[1] + y) * sizes[2] + z
