"""Sums, moments and maxima over neighbors, without storing the features of every neighbor of every group.

A point is a neighbor of many groups: gathering (B, G, K, D) would take K times the memory of the result, in the forward
and in the backward pass. Here only the results are stored. The kernels of Numba (CPU) and Triton (CUDA) read neighbors
in place; the torch backend sums gradients through the inverted index.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag

from bixt3d.ops._backend import PointBackend, choose_neighborhood_backend, is_traced
from bixt3d.ops.neighbors import gather


def neighbor_sum(values: Float[Tensor, "B N D"], neighbor_index: Int[Tensor, "B G K"]) -> Float[Tensor, "B G D"]:
    """Sum over neighbors: return ``sum over k of values[b, neighbor_index[b, g, k]]``."""
    if is_traced(values):
        return gather(values, neighbor_index).sum(2)
    return _NeighborSum.apply(values, neighbor_index)


def neighbor_moments(
    values: Float[Tensor, "B N D"],
    offsets: Float[Tensor, "B G D"],
    neighbor_index: Int[Tensor, "B G K"],
    backend: PointBackend = "auto",
) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
    """Return sums over g and k of ``values[b, neighbor_index[b, g, k]] + offsets[b, g]``, and of its squares.

    In float64, because a variance is a small difference of such sums; in float32 on mps, which has no float64.
    """
    if torch.compiler.is_exporting():  # sum over neighbors in float32 first: half the memory traffic
        seen = gather(values, neighbor_index) + offsets[:, :, None]
        return _to_float64(seen.sum(2)).sum(1), _to_float64((seen * seen).sum(2)).sum(1)
    if is_traced(values):
        seen = _to_float64(gather(values, neighbor_index) + offsets[:, :, None])
        return seen.sum((1, 2)), seen.square().sum((1, 2))
    return _NeighborMoments.apply(values, offsets, neighbor_index, choose_neighborhood_backend(backend, values))


def neighbor_max(
    values: Float[Tensor, "B N D"], neighbor_index: Int[Tensor, "B G K"], backend: PointBackend = "auto"
) -> Float[Tensor, "B G D"]:
    """Max pooling over neighbors: return ``max over k of values[b, neighbor_index[b, g, k]]``.

    Of equal values the first gets the gradient. The torch backend gathers all neighbors temporarily.
    """
    if is_traced(values):
        return gather(values, neighbor_index).amax(2)
    return _NeighborMax.apply(values, neighbor_index, choose_neighborhood_backend(backend, values))


class _NeighborSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, neighbor_index: Tensor) -> Tensor:
        ctx.save_for_backward(neighbor_index)
        ctx.num_points = values.shape[1]
        return _sum_of_neighbors(values, neighbor_index)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (neighbor_index,) = ctx.saved_tensors
        return _sum_of_groups(grad, neighbor_index, ctx.num_points), None


class _NeighborMoments(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, offsets: Tensor, neighbor_index: Tensor, backend: str) -> tuple:
        ctx.save_for_backward(values, offsets, neighbor_index)
        ctx.backend = backend
        return _MOMENTS[backend](values, offsets, neighbor_index)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, sums_grad: Tensor, squares_grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Each (group, neighbor) pair adds ``sums_grad + 2 * (value + offset) * squares_grad`` to both gradients."""
        values, offsets, neighbor_index = ctx.saved_tensors
        first, second = sums_grad.to(values.dtype), (2 * squares_grad).to(values.dtype)
        if ctx.backend == "numba":
            from bixt3d.ops.numba.neighborhoods import neighbor_moments_backward

            return *neighbor_moments_backward(first, second, values, offsets, neighbor_index), None, None
        first, second, num_neighbors = first[:, None], second[:, None], neighbor_index.shape[2]
        counts = _count(neighbor_index, values.shape[1]).to(values.dtype)[:, :, None]
        of_groups = _sum_of_groups(offsets, neighbor_index, values.shape[1])
        values_grad = counts * (first + second * values) + second * of_groups
        summed = _sum_of_neighbors(values, neighbor_index)
        return values_grad, num_neighbors * (first + second * offsets) + second * summed, None, None


class _NeighborMax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, neighbor_index: Tensor, backend: str) -> Tensor:
        ctx.num_points, ctx.backend = values.shape[1], backend
        largest, winner = _LARGEST[backend](values, neighbor_index)
        ctx.save_for_backward(winner)
        return largest

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (winner,) = ctx.saved_tensors
        if ctx.backend == "numba":
            from bixt3d.ops.numba.neighborhoods import neighbor_max_backward

            return neighbor_max_backward(grad, winner, ctx.num_points), None, None
        grads = grad.new_zeros(len(grad), ctx.num_points, grad.shape[2])
        return grads.scatter_add_(1, winner.long(), grad), None, None


def _moments(values: Tensor, offsets: Tensor, neighbor_index: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the moments from counts, sums over neighbors and squares, all in float64."""
    values, offsets, num_neighbors = _to_float64(values), _to_float64(offsets), neighbor_index.shape[2]
    counts = _count(neighbor_index, values.shape[1]).to(values.dtype)[:, None]
    summed = _sum_of_neighbors(values, neighbor_index)
    squares = (counts @ values.square()).squeeze(1) + (offsets * (num_neighbors * offsets + 2 * summed)).sum(1)
    return (summed + num_neighbors * offsets).sum(1), squares


def _moments_numba(values: Tensor, offsets: Tensor, neighbor_index: Tensor) -> tuple[Tensor, Tensor]:
    from bixt3d.ops.numba.neighborhoods import neighbor_moments

    return neighbor_moments(values, offsets, neighbor_index)


def _moments_triton(values: Tensor, offsets: Tensor, neighbor_index: Tensor) -> tuple[Tensor, Tensor]:
    from bixt3d.ops.triton.neighborhoods import neighbor_moments

    return neighbor_moments(values, offsets, neighbor_index)


def _largest(values: Tensor, neighbor_index: Tensor) -> tuple[Tensor, Tensor]:
    """Return the maximum over neighbors in each channel, and the index of the (first) point that has it."""
    largest, place = gather(values, neighbor_index).max(2)
    return largest, neighbor_index.gather(2, place)


def _largest_numba(values: Tensor, neighbor_index: Tensor) -> tuple[Tensor, Tensor]:
    from bixt3d.ops.numba.neighborhoods import neighbor_max

    return neighbor_max(values, neighbor_index)


def _largest_triton(values: Tensor, neighbor_index: Tensor) -> tuple[Tensor, Tensor]:
    from bixt3d.ops.triton.neighborhoods import neighbor_max

    return neighbor_max(values, neighbor_index)


_MOMENTS = {"torch": _moments, "numba": _moments_numba, "triton": _moments_triton}
_LARGEST = {"torch": _largest, "numba": _largest_numba, "triton": _largest_triton}


def _sum_of_neighbors(values: Tensor, neighbor_index: Tensor) -> Tensor:
    """Return the sum over the neighbors of each group (B, G, D)."""
    rows = _rows(neighbor_index, values.shape[1])
    sums = embedding_bag(rows.flatten(0, 1), values.flatten(0, 1), mode="sum")
    return sums.view(*neighbor_index.shape[:2], -1)


def _sum_of_groups(groups: Tensor, neighbor_index: Tensor, num_points: int) -> Tensor:
    """Return, for each point, the sum over the groups that contain it (B, N, D), in a deterministic order."""
    num_clouds, _, num_neighbors = neighbor_index.shape
    rows = _rows(neighbor_index, num_points).flatten()
    order = rows.argsort(stable=True) // num_neighbors
    ends = _count(neighbor_index, num_points).flatten().cumsum(0)
    first = torch.cat([ends.new_zeros(1), ends[:-1]])
    sums = embedding_bag(order, groups.flatten(0, 1).contiguous(), first, mode="sum")
    return sums.view(num_clouds, num_points, -1)


def _count(neighbor_index: Tensor, num_points: int) -> Tensor:
    """Return how often each point is a neighbor (B, N)."""
    rows = _rows(neighbor_index, num_points).flatten()
    counts = torch.zeros(len(neighbor_index) * num_points, dtype=torch.int64, device=rows.device)
    return counts.index_add_(0, rows, torch.ones_like(rows)).view(-1, num_points)


def _rows(neighbor_index: Tensor, num_points: int) -> Tensor:
    """Return the index into the concatenated rows of all clouds."""
    num_clouds = len(neighbor_index)
    return neighbor_index + torch.arange(num_clouds, device=neighbor_index.device)[:, None, None] * num_points


def _to_float64(values: Tensor) -> Tensor:
    """Return the values in float64 where the device supports it."""
    return values.float() if values.device.type == "mps" else values.double()
