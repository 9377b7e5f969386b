"""Farthest point sampling (FPS), k nearest neighbors (kNN), and gathering by index."""

from typing import no_type_check

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from bixt3d.ops import reference
from bixt3d.ops._backend import PointBackend, choose_point_backend
from bixt3d.types import InputError


def gather(values: Shaped[Tensor, "B N ..."], index: Int[Tensor, "B ..."]) -> Shaped[Tensor, "B ..."]:
    """Return ``values[b, index[b, ...]]``: rows of each cloud, in the shape of the index.

    Implemented as an embedding lookup: the fastest on a CPU, with a deterministic backward pass.

    Example:
        >>> gather(torch.tensor([[[5.0], [6.0], [7.0]]]), torch.tensor([[2, 0]]))
        tensor([[[7.],
                 [5.]]])
    """
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


def _knn_export(queries: Tensor, points: Tensor, num_neighbors: int) -> Tensor:
    """All in one chunk, for an export does not know how many clouds there will be.

    ONNX cannot look at the bits of a float, but there the order of ties is part of the definition of TopK.
    """
    if not torch.onnx.is_in_onnx_export():
        return reference.knn_in_one(queries, points, num_neighbors)
    return reference.squared_distances(queries[:, :, None], points[:, None]).topk(num_neighbors, largest=False).indices


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
