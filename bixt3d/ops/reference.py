"""Reference implementations of farthest point sampling and kNN. Every other backend must return the same indices."""

import torch
from jaxtyping import Float
from torch import Tensor

KNN_BYTE_BUDGET = 256 * 2**20
"""Largest size of the distances of a chunk of kNN queries, in bytes."""


def squared_distances(a: Float[Tensor, "... P"], b: Float[Tensor, "... P"]) -> Float[Tensor, "..."]:
    """Return squared distances, summed axis by axis: bitwise the same in every backend, for any memory layout."""
    total = torch.zeros((), dtype=a.dtype, device=a.device)
    for axis in range(a.shape[-1]):
        difference = a[..., axis] - b[..., axis]
        total = total + difference * difference
    return total


def farthest_points(points: Tensor, num_points: int) -> Tensor:
    """Farthest point sampling: return indices (B, G). See `bixt3d.farthest_points`."""
    axes = [axis.contiguous() for axis in points.unbind(-1)]
    index = points.new_zeros(len(points), num_points, dtype=torch.int64)
    nearest = torch.full_like(axes[0], torch.inf)
    for step in range(1, num_points):
        last = index[:, step - 1 : step]
        distance = torch.zeros_like(nearest)
        for axis in axes:
            difference = axis - axis.gather(1, last)
            distance += difference * difference
        torch.minimum(nearest, distance, out=nearest)
        index[:, step] = nearest.argmax(1)
    return index


def knn(queries: Tensor, points: Tensor, num_neighbors: int) -> Tensor:
    """k nearest neighbors in chunks of queries: return indices (B, G, K). See `bixt3d.knn`."""
    bytes_per_query = points.shape[0] * points.shape[1] * 24  # one int64 key, its copies and float32 distances
    chunk = max(1, KNN_BYTE_BUDGET // bytes_per_query)
    return torch.cat([knn_in_one(some, points, num_neighbors) for some in queries.split(chunk, dim=1)], 1)


def knn_in_one(queries: Tensor, points: Tensor, num_neighbors: int) -> Tensor:
    """Do what `knn` does, for all queries in one chunk."""
    distance = squared_distances(queries[:, :, None], points[:, None])
    key = _rank_key(distance, torch.arange(points.shape[1], device=points.device))
    return key.topk(num_neighbors, largest=False).values & 0xFFFFFFFF


def _rank_key(distance: Tensor, index: Tensor) -> Tensor:
    """Return integers that sort by distance, then by index: the bits of floats >= 0 sort like the floats."""
    return (distance.view(torch.int32).long() << 32) | index
