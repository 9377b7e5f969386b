"""Sums and maxima over neighbors, without a copy of every point for every group that it belongs to.

A point is a neighbor of many groups: gathering (B, G, K, D) first costs K times the memory of the result, forward and
again backward. Here only the results are kept, and the gradients find their way back through the inverted index.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding, embedding_bag

from bixt3d.ops._backend import is_traced
from bixt3d.ops.neighbors import gather

CACHED = 2**20
"""Values that neighbor_max gathers at a time on a CPU: they stay in its cache."""


def neighbor_sum(values: Float[Tensor, "B N D"], neighbor_index: Int[Tensor, "B G K"]) -> Float[Tensor, "B G D"]:
    """Return ``sum over k of values[b, neighbor_index[b, g, k]]``."""
    if is_traced(values):
        return gather(values, neighbor_index).sum(2)
    return _NeighborSum.apply(values, neighbor_index)


def neighbor_squares(values: Float[Tensor, "B N D"], neighbor_index: Int[Tensor, "B G K"]) -> Float[Tensor, "B D"]:
    """Return ``sum over g and k of values[b, neighbor_index[b, g, k]] ** 2``, in float64.

    For variances, which are small differences of such sums. In float32 on mps, which has no float64.
    """
    if is_traced(values):
        return gather(values, neighbor_index).double().square().sum((1, 2))
    return _WeightedSquares.apply(values, _count(neighbor_index, values.shape[1]))


def neighbor_max(values: Float[Tensor, "B N D"], neighbor_index: Int[Tensor, "B G K"]) -> Float[Tensor, "B G D"]:
    """Return ``max over k of values[b, neighbor_index[b, g, k]]``; the first of equal ones gets the gradient."""
    if is_traced(values):
        return gather(values, neighbor_index).amax(2)
    return _NeighborMax.apply(values, neighbor_index)


def _count(neighbor_index: Tensor, num_points: int) -> Tensor:
    """Return of how many groups every point is a neighbor (B, N); one that is twice in a group counts twice."""
    rows = _rows(neighbor_index, num_points).flatten()
    counts = torch.zeros(len(neighbor_index) * num_points, dtype=torch.int64, device=rows.device)
    return counts.index_add_(0, rows, torch.ones_like(rows)).view(-1, num_points)


class _NeighborSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, neighbor_index: Tensor) -> Tensor:
        ctx.save_for_backward(neighbor_index)
        ctx.num_points = values.shape[1]
        rows = _rows(neighbor_index, values.shape[1])
        sums = embedding_bag(rows.flatten(0, 1), values.flatten(0, 1), mode="sum")
        return sums.view(*neighbor_index.shape[:2], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """A point gets the gradients of all groups that it is in, in the order of the groups: deterministic."""
        (neighbor_index,) = ctx.saved_tensors
        num_clouds, _, num_neighbors = neighbor_index.shape
        rows = _rows(neighbor_index, ctx.num_points).flatten()
        groups = rows.argsort(stable=True) // num_neighbors
        ends = _count(neighbor_index, ctx.num_points).flatten().cumsum(0)
        first = torch.cat([ends.new_zeros(1), ends[:-1]])
        sums = embedding_bag(groups, grad.flatten(0, 1).contiguous(), first, mode="sum")
        return sums.view(num_clouds, ctx.num_points, -1), None


class _NeighborMax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, neighbor_index: Tensor) -> Tensor:
        num_clouds, num_groups, num_neighbors = neighbor_index.shape
        table = values.flatten(0, 1)
        rows = _rows(neighbor_index, values.shape[1]).flatten(0, 1)
        chunk = len(rows) if values.is_cuda else max(1, CACHED // (num_neighbors * values.shape[2]))
        parts = [_max_and_row(table, some) for some in rows.split(chunk)]
        largest, row = (torch.cat(part) for part in zip(*parts, strict=True))
        ctx.save_for_backward(row)
        ctx.shape = values.shape
        return largest.view(num_clouds, num_groups, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (row,) = ctx.saved_tensors
        num_clouds, num_points, width = ctx.shape
        grads = grad.new_zeros(num_clouds * num_points, width)
        return grads.scatter_add_(0, row, grad.flatten(0, 1)).view(ctx.shape), None


class _WeightedSquares(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(values, weights)
        fine = torch.float32 if values.device.type == "mps" else torch.float64
        some = values.device.type == "cpu" and len(values) > 1  # a cloud at a time, for its copy stays in the cache
        parts = zip(values.split(1), weights.split(1), strict=True) if some else [(values, weights)]
        sums = [weight.to(fine)[:, None] @ value.to(fine).square() for value, weight in parts]
        return torch.cat(sums).squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        values, weights = ctx.saved_tensors
        return (values * weights.to(values.dtype)[:, :, None]).mul_((2 * grad).to(values.dtype)[:, None]), None


def _max_and_row(table: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest entry of these rows of a table in every column, and the row it stands in.

    Neighbors come first in memory, and their places are compared as bytes: on a CPU faster than ``max``.
    """
    num_neighbors = rows.shape[1]
    neighbors = embedding(rows.T.contiguous(), table)
    largest = neighbors.amax(0)
    small = torch.uint8 if num_neighbors < 256 else torch.int32
    from_last = torch.arange(num_neighbors, 0, -1, dtype=small, device=rows.device)[:, None, None]
    place = num_neighbors - ((neighbors == largest).view(torch.uint8) * from_last).amax(0).long()
    return largest, rows.gather(1, place.clamp_(max=num_neighbors - 1))  # NaN equals nothing


def _rows(neighbor_index: Tensor, num_points: int) -> Tensor:
    """Return the index into the rows of all clouds, one after the other."""
    num_clouds = len(neighbor_index)
    return neighbor_index + torch.arange(num_clouds, device=neighbor_index.device)[:, None, None] * num_points
