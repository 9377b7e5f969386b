"""Farthest point sampling and kNN on a CPU with Numba kernels: one thread per cloud."""

import numpy as np
import torch
from torch import Tensor

from bixt3d.ops.numba.kernels import search_cloud
from bixt3d.ops.numba.threads import run_in_threads
from bixt3d.ops.numba.tree import SEARCH_BLOCK, sample_by_tree, split_cloud
from bixt3d.types import InputError

# not custom_op: its first call imports torch's compiler, which takes a second
torch.library.define("bixt3d::farthest_points_cpu", "(Tensor points, int num_points) -> Tensor")
torch.library.define("bixt3d::knn_cpu", "(Tensor queries, Tensor points, int num_neighbors) -> Tensor")


@torch.library.impl("bixt3d::farthest_points_cpu", "CPU")
def _farthest_points(points: Tensor, num_points: int) -> Tensor:
    """Return indices (B, G) of farthest points of clouds (B, N, P): those of the reference in float32.

    Raises InputError if coordinates are not finite.
    """
    clouds = _finite_array(points)
    index = torch.empty(len(points), num_points, dtype=torch.int64)
    run_in_threads(sample_by_tree, clouds, index.numpy())
    return index


@torch.library.register_fake("bixt3d::farthest_points_cpu")
def _(points, num_points):
    return points.new_empty(points.shape[0], num_points, dtype=torch.int64)


@torch.library.impl("bixt3d::knn_cpu", "CPU")
def _knn(queries: Tensor, points: Tensor, num_neighbors: int) -> Tensor:
    """Return indices (B, G, K) of the points (B, N, P) nearest to queries (B, G, P): those of the reference in float32.

    If there are fewer clouds than threads, the queries of a cloud are split. Raises InputError if coordinates are not
    finite.
    """
    rows, clouds = _finite_array(queries), _finite_array(points)
    index = torch.empty(*queries.shape[:2], num_neighbors, dtype=torch.int64)
    splits = max(1, torch.get_num_threads() // max(1, len(clouds)))
    trees = run_in_threads(lambda cloud: split_cloud(cloud, SEARCH_BLOCK), clouds)
    run_in_threads(
        lambda tree, rows, found: search_cloud(rows, *tree, found),
        [tree for tree in trees for _ in range(splits)],
        [some for cloud in rows for some in np.array_split(cloud, splits)],
        [some for cloud in index.numpy() for some in np.array_split(cloud, splits)],
    )
    return index


@torch.library.register_fake("bixt3d::knn_cpu")
def _(queries, points, num_neighbors):
    return points.new_empty(*queries.shape[:2], num_neighbors, dtype=torch.int64)


farthest_points, knn = torch.ops.bixt3d.farthest_points_cpu, torch.ops.bixt3d.knn_cpu


def _finite_array(points: Tensor) -> np.ndarray:
    """Return a contiguous array, copied by numpy: torch's threads would busy-wait on cores that the kernels need."""
    array = np.ascontiguousarray(points.detach().numpy())
    if not np.isfinite(array).all():
        raise InputError("points must have finite coordinates: some are NaN or infinite")
    return array
