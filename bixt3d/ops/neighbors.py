"""Farthest point sampling (FPS), k nearest neighbors (kNN), and gathering by index."""

from typing import Any, no_type_check

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from bixt3d.errors import InputError, check_tensors, check_whole
from bixt3d.ops import reference
from bixt3d.ops._backend import PointBackend, choose_point_backend

MANY_DISTANCES = 4096
"""Largest cloud whose exported farthest point sampling stores the distances of all pairs."""

EXPORTED_QUERIES = 256
"""Queries per step of the loop of an exported kNN, if the number of queries is dynamic."""


def gather(values: Shaped[Tensor, "B N ..."], index: Int[Tensor, "B ..."]) -> Shaped[Tensor, "B ..."]:
    """Return ``values[b, index[b, ...]]``: rows of each cloud, in the shape of the index.

    Implemented as an embedding lookup: the fastest on a CPU, with a deterministic backward pass.

    Example:
        >>> gather(torch.tensor([[[5.0], [6.0], [7.0]]]), torch.tensor([[2, 0]]))
        tensor([[[7.],
                 [5.]]])
    """
    check_tensors(values=values, index=index)
    if index.is_floating_point():
        raise InputError(f"index holds whole numbers, not {index.dtype}: give index.long()")
    num_clouds, size = values.shape[:2]
    first = torch.arange(0, num_clouds * size, size, device=values.device).view(-1, *[1] * (index.ndim - 1))
    rows = torch.nn.functional.embedding(index + first, values.reshape(num_clouds * size, -1))
    return rows.view(*index.shape, *values.shape[2:])


@torch.no_grad()
def farthest_points(
    points: Float[Tensor, "B N P"], num_points: int, backend: PointBackend = "auto"
) -> Int[Tensor, "B G"]:
    """Choose points by farthest point sampling (FPS); return their indices.

    Starts with the first point, then repeatedly takes the point farthest from all chosen ones. Deterministic, in
    float32; ties go to the lowest index, except with backend ``cluster``. Raises InputError if a cloud has fewer than
    ``num_points`` points, or, with backend ``numba``, if coordinates are not finite.

    Example:
        >>> line = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [10, 0, 0]]])
        >>> farthest_points(line, 3)
        tensor([[0, 3, 2]])
    """
    _check(points=points)
    check_whole(num_points=num_points)
    if not 1 <= num_points <= points.shape[1]:
        raise InputError(f"asked for {num_points} farthest points of clouds of {points.shape[1]} points")
    points = points.float()
    backend = choose_point_backend(backend, points, cluster_on_cuda=True)
    return {
        "torch": _farthest_points_torch,
        "numba": _farthest_points_numba,
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
    """Find the k nearest neighbors (kNN) of every query; return their indices, closest first.

    If ``index[b, g, k] == n``, then ``points[b, n]`` is the k-th nearest point of ``queries[b, g]``.
    Squared Euclidean distance in float32; ties go to the lower index, except with backend ``cluster``. Distances are
    computed in chunks of at most ``KNN_BYTE_BUDGET`` bytes (see reference.py), or one query of every cloud. Backend
    ``triton`` (CUDA) stores no distances and finds up to 64 neighbors.
    Raises InputError if a cloud has fewer than ``num_neighbors`` points, or, with backend ``numba``, if coordinates are
    not finite.

    Example:
        >>> line = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [3, 0, 0], [10, 0, 0]]])
        >>> knn(line[:, :1], line, 3)
        tensor([[[0, 1, 2]]])
    """
    _check(queries=queries, points=points)
    check_whole(num_neighbors=num_neighbors)
    if not 1 <= num_neighbors <= points.shape[1]:
        raise InputError(f"asked for {num_neighbors} neighbors in clouds of {points.shape[1]} points")
    queries, points = queries.detach().float(), points.detach().float()
    backend = choose_point_backend(backend, points, cluster_on_cuda=False, num_neighbors=num_neighbors)
    return {
        "torch": reference.knn,
        "numba": _knn_numba,
        "cluster": _knn_cluster,
        "triton": _knn_triton,
        "export": _knn_export,
    }[backend](queries, points, num_neighbors)


def _check(**clouds: Any) -> None:
    check_tensors(**clouds)
    for name, points in clouds.items():
        if points.ndim != 3:
            raise InputError(f"{name} are (B, N, P), not {tuple(points.shape)}: give one cloud as {name}[None]")


def _farthest_points_torch(points: Tensor, num_points: int) -> Tensor:
    """Run the reference; under torch.compile as one opaque operator, because tracing would unroll the loop."""
    in_one = torch.compiler.is_compiling()
    return (
        torch.ops.bixt3d.farthest_points_loop(points, num_points)
        if in_one
        else reference.farthest_points(points, num_points)
    )


torch.library.define("bixt3d::farthest_points_loop", "(Tensor points, int num_points) -> Tensor")
torch.library.impl("bixt3d::farthest_points_loop", "CompositeExplicitAutograd", reference.farthest_points)


@torch.library.register_fake("bixt3d::farthest_points_loop")
def _(points: Tensor, num_points: int) -> Tensor:
    return points.new_empty(points.shape[0], num_points, dtype=torch.int64)


def _farthest_points_numba(points: Tensor, num_points: int) -> Tensor:
    from bixt3d.ops.numba import points as kernels

    return kernels.farthest_points(points, num_points)


def _farthest_points_cluster(points: Tensor, num_points: int) -> Tensor:
    import torch_cluster

    num_clouds, size, _ = points.shape
    ratio = (num_points - 0.5) / size  # torch-cluster rounds ratio * size up
    index = torch_cluster.fps(points.flatten(0, 1), _cloud_of_points(points), ratio=ratio, random_start=False)
    return index.view(num_clouds, num_points) - size * torch.arange(num_clouds, device=points.device)[:, None]


def _farthest_points_triton(points: Tensor, num_points: int) -> Tensor:
    from bixt3d.ops.triton import farthest_points as kernels

    return kernels.farthest_points(points, num_points)


# @no_type_check: torch cannot trace loops whose body calls functions with argument checks
@no_type_check
def _farthest_points_export(points, num_points):
    """Farthest point sampling as one loop in the exported graph; a Python loop would be unrolled.

    The time of a step grows with its number of operators, so the distances of small clouds are computed first.
    """
    num_clouds, size, _ = points.shape
    first = torch.arange(num_clouds, device=points.device) * size
    place = torch.arange(num_points, device=points.device)
    are_few = size <= MANY_DISTANCES
    known = _distances_export(points[:, :, None], points[:, None]) if are_few else points

    def is_unfinished(step, last, nearest, index):
        return step < num_points

    def choose_next(step, last, nearest, index):
        row = torch.nn.functional.embedding(last + first, known.flatten(0, 1))
        nearest = torch.minimum(nearest, row if are_few else _distances_export(known, row[:, None]))
        last = nearest.argmax(1)
        return step + 1, last, nearest, torch.where(place == step, last[:, None], index)

    index = points.new_zeros(num_clouds, num_points, dtype=torch.int64)
    nearest = torch.full_like(points[..., 0], torch.inf)
    step = torch.ones((), dtype=torch.int64, device=points.device)
    return torch.while_loop(is_unfinished, choose_next, (step, index[:, 0].clone(), nearest, index))[-1]


@no_type_check
def _knn_export(queries, points, num_neighbors):
    """kNN for all queries at once; if their number is dynamic, in chunks, in one loop of the exported graph."""
    num_clouds, size, _ = queries.shape
    in_onnx = torch.onnx.is_in_onnx_export()  # inside a loop it is False
    if not isinstance(size, torch.SymInt):
        return _knn_in_one_export(queries, points, num_neighbors, in_onnx)
    chunk = torch.arange(EXPORTED_QUERIES, device=queries.device)

    def is_unfinished(first, index):
        return first < size

    def search_next(first, index):
        own = (first + chunk).clamp(max=size - 1)  # pad the last chunk with the last query
        found = _knn_in_one_export(queries[:, own], points, num_neighbors, in_onnx)
        return first + EXPORTED_QUERIES, index.index_copy(1, own, found)

    first = torch.zeros((), dtype=torch.int64, device=queries.device)
    index = torch.zeros(num_clouds, size, num_neighbors, dtype=torch.int64, device=queries.device)
    return torch.while_loop(is_unfinished, search_next, (first, index))[-1]


@no_type_check
def _knn_in_one_export(queries, points, num_neighbors, in_onnx):
    """Order ties by index: with integer keys; in ONNX, which cannot read the bits of floats, TopK does so."""
    distance = _distances_export(queries[:, :, None], points[:, None])
    if in_onnx:
        return distance.topk(num_neighbors, largest=False).indices
    key = (distance.view(torch.int32).long() << 32) | torch.arange(points.shape[1], device=points.device)
    return key.topk(num_neighbors, largest=False).values & 0xFFFFFFFF


@no_type_check
def _distances_export(a, b):
    """Do what `reference.squared_distances` does, without argument checks."""
    squares = [difference * difference for difference in map(torch.sub, a.unbind(-1), b.unbind(-1))]
    return sum(squares[1:], squares[0])


def _knn_numba(queries: Tensor, points: Tensor, num_neighbors: int) -> Tensor:
    from bixt3d.ops.numba import points as kernels

    return kernels.knn(queries, points, num_neighbors)


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
