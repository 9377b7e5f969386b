"""Choosing points: farthest point sampling, k nearest neighbors, and gathering by index."""

import math
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from bixt3d.ops._backend import PointBackend, choose_point_backend
from bixt3d.types import InputError

KNN_BYTE_BUDGET = 256 * 2**20
"""Bytes that kNN may use for distances at a time; queries are split into chunks to keep it."""


def gather(values: Shaped[Tensor, "B N ..."], index: Int[Tensor, "B ..."]) -> Shaped[Tensor, "B ..."]:
    """Return ``values[b, index[b, ...]]``: entries of each cloud's own list, in the shape of the index.

    Written as an embedding look-up, the fastest form on a CPU, and the one whose backward is deterministic.
    """
    num_clouds, size = values.shape[:2]
    first = torch.arange(0, num_clouds * size, size, device=values.device).view(-1, *[1] * (index.ndim - 1))
    rows = torch.nn.functional.embedding(index + first, values.reshape(num_clouds * size, -1))
    return rows.view(*index.shape, *values.shape[2:])


@torch.no_grad()
def farthest_points(
    points: Float[Tensor, "B N P"], num_points: int, backend: PointBackend = "auto"
) -> Int[Tensor, "B G"]:
    """Return indices of points far apart: the first point, then again and again the one farthest from those chosen.

    Deterministic, float32; among points equally far the lowest index is chosen. The backend ``wheel``
    (torch-quickfps) may choose another of points *exactly* equally far; ``triton``, on a GPU, chooses the very same.
    Raises InputError if a cloud has fewer than ``num_points`` points.
    """
    if not 1 <= num_points <= points.shape[1]:
        raise InputError(f"asked for {num_points} farthest points of clouds of {points.shape[1]} points")
    points = points.float()
    backend = choose_point_backend(backend, points, "torch_quickfps", cluster_on_cuda=True)
    return {
        "torch": _farthest_points,
        "wheel": _farthest_points_wheel,
        "cluster": _farthest_points_cluster,
        "triton": _farthest_points_triton,
        "export": _farthest_points_export,
    }[backend](points, num_points)


def knn(
    queries: Float[Tensor, "B G P"],
    points: Float[Tensor, "B N P"],
    num_neighbors: int,
    backend: PointBackend = "auto",
) -> Int[Tensor, "B G K"]:
    """Return the nearest points of every query, closest first.

    If ``index[b, g, k] == n``, then ``points[b, n]`` is the k-th nearest point of ``queries[b, g]``.
    Squared Euclidean distance in float32; ties go to the lower index (torch-cluster may order ties otherwise).
    Uses no more than ``KNN_BYTE_BUDGET`` bytes for distances, or what one query of every cloud takes. The backend
    ``triton``, on a GPU, keeps no distances, and finds up to 64 neighbors.
    Raises InputError if a cloud has fewer than ``num_neighbors`` points, or, from ``wheel``, if coordinates are not
    finite and below 1e18.
    """
    if not 1 <= num_neighbors <= points.shape[1]:
        raise InputError(f"asked for {num_neighbors} neighbors in clouds of {points.shape[1]} points")
    queries, points = queries.detach().float(), points.detach().float()
    backend = choose_point_backend(backend, points, "pykdtree", cluster_on_cuda=False, num_neighbors=num_neighbors)
    return {
        "torch": _knn,
        "wheel": _knn_wheel,
        "cluster": _knn_cluster,
        "triton": _knn_triton,
        "export": _knn_export,
    }[backend](queries, points, num_neighbors)


def squared_distances(a: Float[Tensor, "... P"], b: Float[Tensor, "... P"]) -> Float[Tensor, "..."]:
    """Return squared distances axis by axis: bit for bit the same in every backend, whatever the layout."""
    total = torch.zeros((), dtype=a.dtype, device=a.device)
    for axis in range(a.shape[-1]):
        difference = a[..., axis] - b[..., axis]
        total = total + difference * difference
    return total


def _farthest_points(points: Tensor, num_points: int) -> Tensor:
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


def _farthest_points_wheel(points: Tensor, num_points: int) -> Tensor:
    import torch_quickfps

    height = max(1, round(math.log2(points.shape[1]) / 2 - 2))  # of its tree: about sqrt(N) / 4 leaves were fastest
    return torch_quickfps.sample_idx(points.contiguous(), num_points, h=height, start_idx=0)


def _farthest_points_cluster(points: Tensor, num_points: int) -> Tensor:
    import torch_cluster

    num_clouds, size, _ = points.shape
    ratio = (num_points - 0.5) / size  # torch-cluster rounds ratio * size up
    index = torch_cluster.fps(points.flatten(0, 1), _cloud_of_points(points), ratio=ratio, random_start=False)
    return index.view(num_clouds, num_points) - size * torch.arange(num_clouds, device=points.device)[:, None]


def _farthest_points_triton(points: Tensor, num_points: int) -> Tensor:
    from bixt3d.ops.triton import farthest_points as kernels

    return kernels.farthest_points(points, num_points)


@no_type_check  # torch cannot trace a loop whose body checks its arguments
def _farthest_points_export(points: Tensor, num_points: int) -> Tensor:
    """One loop in the exported graph; unrolled, as an export sees a loop of Python, it would be a graph of its own."""

    def is_unfinished(step, last, nearest, index):
        return step < num_points

    def choose_next(step, last, nearest, index):
        distance = torch.zeros_like(nearest)
        for axis in points.unbind(-1):
            difference = axis - axis.gather(1, last)
            distance = distance + difference * difference
        nearest = torch.minimum(nearest, distance)
        last = nearest.argmax(1, keepdim=True)
        return step + 1, last, nearest, index.scatter(1, step.expand_as(last), last)

    index = points.new_zeros(points.shape[0], num_points, dtype=torch.int64)
    last, nearest = torch.zeros_like(index[:, :1]), torch.full_like(points[..., 0], torch.inf)
    step = torch.ones((), dtype=torch.int64, device=points.device)
    return torch.while_loop(is_unfinished, choose_next, (step, last, nearest, index))[-1]


def _knn(queries: Tensor, points: Tensor, num_neighbors: int) -> Tensor:
    bytes_per_query = points.shape[0] * points.shape[1] * 24  # one int64 key, its copies and float32 distances
    chunk = max(1, KNN_BYTE_BUDGET // bytes_per_query)
    return torch.cat([_knn_chunk(part, points, num_neighbors) for part in queries.split(chunk, dim=1)], 1)


def _knn_chunk(queries: Tensor, points: Tensor, num_neighbors: int) -> Tensor:
    distance = squared_distances(queries[:, :, None], points[:, None])
    key = _rank_key(distance, torch.arange(points.shape[1], device=points.device))
    return key.topk(num_neighbors, largest=False).values & 0xFFFFFFFF


def _rank_key(distance: Tensor, index: Tensor) -> Tensor:
    """Return integers that sort by distance, then by index: bits of a float >= 0 have the order of the float."""
    return (distance.view(torch.int32).long() << 32) | index


def _knn_export(queries: Tensor, points: Tensor, num_neighbors: int) -> Tensor:
    """All in one chunk, for an export does not know how many clouds there will be.

    ONNX cannot look at the bits of a float, but there the order of ties is part of the definition of TopK.
    """
    if not torch.onnx.is_in_onnx_export():
        return _knn_chunk(queries, points, num_neighbors)
    return squared_distances(queries[:, :, None], points[:, None]).topk(num_neighbors, largest=False).indices


def _knn_wheel(queries: Tensor, points: Tensor, num_neighbors: int) -> Tensor:
    """Search by k-d trees, a thread for each cloud; where neighbors are as good as equally far, decide as `torch` does.

    The trees' squared distances are in float32 too, but rounded in another way.
    """
    index = torch.empty(*queries.shape[:2], num_neighbors, dtype=torch.int64)
    threads = torch.get_num_threads()
    limit = partial(_limit_tree_threads, max(1, threads // len(points)))
    with ThreadPoolExecutor(threads, initializer=limit) as pool:
        found = pool.map(_search_tree, queries.numpy(), points.numpy(), index.numpy())
        close, doubtful = (torch.from_numpy(np.stack(part)) for part in zip(*found, strict=True))
    clouds, rows = close.nonzero(as_tuple=True)
    near = index[clouds, rows]
    distance = squared_distances(queries[clouds, rows, None], points[clouds[:, None], near])
    index[clouds, rows] = _rank_key(distance, near).sort(-1).values & 0xFFFFFFFF
    chunk = max(1, KNN_BYTE_BUDGET // (points.shape[1] * (24 + 4 * points.shape[2])))
    for clouds, rows in (pair.unbind(1) for pair in doubtful.nonzero().split(chunk)):
        # not points[clouds], which wakes torch's threads for a few rows: they then wait for work on the cores of others
        some_points = points.index_select(0, clouds)
        index[clouds, rows] = _knn_chunk(queries[clouds, rows, None], some_points, num_neighbors)[:, 0]
    return index


def _limit_tree_threads(threads: int) -> None:
    """Let searches that this thread starts use so many: pykdtree has an OpenMP of its own, which asks nobody."""
    _openmp().limit(limits=threads, user_api="openmp")


@cache
def _openmp() -> object:
    import pykdtree.kdtree  # noqa: F401 (only what is loaded can be limited)
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _search_tree(queries: np.ndarray, points: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Write the nearest points; return for which queries only rounding may order them, and may choose the last.

    Where a squared distance is not finite, trees find nothing and do not say so.
    """
    from pykdtree.kdtree import KDTree

    if not all(np.abs(part).max() < 1e18 for part in (queries, points)):  # false for NaN too
        raise InputError("kNN needs coordinates that are finite and below 1e18")
    num_neighbors = index.shape[1]
    num_candidates = min(num_neighbors + 1, len(points))
    found = KDTree(points).query(queries, num_candidates, sqr_dists=True)
    distance, nearest = (part.reshape(-1, num_candidates) for part in found)
    index[:] = nearest[:, :num_neighbors]
    near_tie = distance[:, 1:] <= distance[:, :-1] * np.float32(1 + 4e-6)
    return near_tie.any(1), near_tie[:, num_neighbors - 1 :].any(1)


def _knn_cluster(queries: Tensor, points: Tensor, num_neighbors: int) -> Tensor:
    import torch_cluster

    num_clouds, size, _ = points.shape
    pairs = torch_cluster.knn(
        points.flatten(0, 1), queries.flatten(0, 1), num_neighbors, _cloud_of_points(points), _cloud_of_points(queries)
    )
    return pairs[1].view(num_clouds, -1, num_neighbors) - size * torch.arange(num_clouds, device=points.device).view(
        -1, 1, 1
    )


def _knn_triton(queries: Tensor, points: Tensor, num_neighbors: int) -> Tensor:
    from bixt3d.ops.triton import knn as kernels

    return kernels.knn(queries, points, num_neighbors)


def _cloud_of_points(points: Tensor) -> Tensor:
    return torch.arange(len(points), device=points.device).repeat_interleave(points.shape[1])
