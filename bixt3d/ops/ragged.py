"""Farthest points and neighbors of clouds of different sizes, given one after another, as PyG batches them.

``batch``: the cloud of each point, in ascending order; None: one cloud. Computes in float32, per cloud as
`farthest_points` and `knn` do, with the same result.
"""

import math

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from bixt3d.ops._backend import choose_point_backend, is_installed
from bixt3d.ops.neighbors import farthest_points, knn
from bixt3d.ops.reference import squared_distances
from bixt3d.types import InputError

MANY_NEIGHBORS = 512
"""Up to so many neighbors of a query are found in one table of all queries; more take less time without, measured."""

TABLE = 2**22
"""Numbers in a table of more neighbors than that, in pure torch: queries are searched in parts."""

Batch = Tensor | None
"""The cloud of each point (N,), in ascending order, or None."""


def bounds_of(batch: Batch, number: int, num_clouds: int | None = None) -> list[int]:
    """Return where each cloud starts, and the number of points at the end. Raises InputError for a wrong batch."""
    if batch is None:
        return [0, number]
    if batch.shape != (number,) or batch.is_floating_point():
        raise InputError(f"batch has the cloud of each of the {number} points, not shape {tuple(batch.shape)}")
    clouds = batch.cpu().numpy()  # torch's threads would busy-wait on cores that the kernels need
    if number and (clouds[0] < 0 or (clouds[1:] < clouds[:-1]).any()):
        raise InputError("batch must be sorted, from 0 on")
    num_clouds = max(num_clouds or 0, int(clouds[-1]) + 1 if number else 0)
    return np.searchsorted(clouds, np.arange(num_clouds + 1)).tolist()


def check_points(points: Tensor, what: str = "points") -> Tensor:
    """Return points (N, P) in float32. Raises InputError for another shape, and for numbers that are not finite."""
    points = points.detach()
    points = points[:, None] if points.ndim == 1 else points
    if points.ndim != 2:
        raise InputError(f"{what} have the shape (N, P), not {tuple(points.shape)}")
    points = points.float()
    if not (np.isfinite(points.numpy()) if points.device.type == "cpu" else points.isfinite()).all():
        raise InputError("points must have finite coordinates: some are NaN or infinite")
    return points


def ragged_farthest_points(
    points: Tensor, counts: list[int], batch: Batch = None, first: list[int] | None = None
) -> Int[Tensor, " G"]:
    """Choose ``counts[c]`` of the points (N, P) of each cloud by farthest point sampling; return their indices.

    ``first``: the first point of each cloud; by default its first in order.
    """
    points = check_points(points)
    bounds = bounds_of(batch, len(points), len(counts))
    clouds = [points[start:end] for start, end in zip(bounds, bounds[1:], strict=False)]
    for place, begin in enumerate(first or []):
        if begin:  # the chosen first point goes to the front
            clouds[place] = torch.cat([clouds[place][begin : begin + 1], clouds[place]])
    if points.device.type == "cpu" and is_installed("numba"):
        from bixt3d.ops.numba.ragged import farthest_points as sample

        chosen = sample(clouds, counts)
    else:
        chosen = [
            farthest_points(cloud[None], count)[0] if count else cloud.new_zeros(0, dtype=torch.int64)
            for cloud, count in zip(clouds, counts, strict=True)
        ]
    for place, begin in enumerate(first or []):
        if begin:
            chosen[place] = torch.where(chosen[place] == 0, begin, chosen[place] - 1)
    none = torch.zeros(0, dtype=torch.int64, device=points.device)  # there may be no cloud
    return torch.cat([none, *(index + start for index, start in zip(chosen, bounds, strict=False))])


def ragged_pairs(
    queries: Tensor,
    points: Tensor,
    num_neighbors: int,
    batch_queries: Batch = None,
    batch_points: Batch = None,
    radius: float = math.inf,
) -> Int[Tensor, "2 E"]:
    """Return the pairs of queries and points that `ragged_knn` finds; ``num_neighbors`` may mean all of them."""
    if num_neighbors <= MANY_NEIGHBORS:
        return _pairs(ragged_knn(queries, points, num_neighbors, batch_queries, batch_points, radius))
    rows, clouds = _split(queries, points, batch_queries, batch_points)
    most, reach = min(num_neighbors, max(map(len, clouds))), squared_reach(radius)
    if points.device.type == "cpu" and is_installed("numba"):
        from bixt3d.ops.numba.ragged import search_pairs

        return search_pairs(rows, clouds, most, reach)
    pairs, row, start = [torch.zeros(2, 0, dtype=torch.int64, device=points.device)], 0, 0
    for some, cloud in zip(rows, clouds, strict=True):
        for part in some.split(max(1, TABLE // max(1, min(most, len(cloud))))):
            found = _pairs(_search(part, cloud, min(most, len(cloud)), reach))
            pairs.append(found + torch.tensor([[row], [start]], device=points.device))
            row += len(part)
        start += len(cloud)
    return torch.cat(pairs, 1)


def ragged_knn(
    queries: Tensor,
    points: Tensor,
    num_neighbors: int,
    batch_queries: Batch = None,
    batch_points: Batch = None,
    radius: float = math.inf,
) -> Int[Tensor, "M K"]:
    """Find the nearest points (N, P) of every query (M, P) in its own cloud, closest first; -1: there are no more.

    ``radius``: neighbors are nearer than that, as in torch-cluster.
    """
    rows, clouds = _split(queries, points, batch_queries, batch_points)
    reach = squared_reach(radius)
    if points.device.type == "cpu" and is_installed("numba"):
        from bixt3d.ops.numba.ragged import search

        return search(rows, clouds, num_neighbors, reach)
    can_search = num_neighbors > 0 and clouds[0].shape[1] <= 3
    if can_search and choose_point_backend("auto", clouds[0][None], False, num_neighbors) == "triton":
        from bixt3d.ops.triton import grid_knn

        return grid_knn.search(torch.cat(rows), torch.cat(clouds), num_neighbors, batch_queries, batch_points, reach)
    found, start = [], 0
    for some, cloud in zip(rows, clouds, strict=True):
        index = _search(some, cloud, num_neighbors, reach)
        found.append(torch.where(index < 0, -1, index + start))
        start += len(cloud)
    return torch.cat(found)


def _split(queries: Tensor, points: Tensor, batch_queries: Batch, batch_points: Batch) -> tuple[list[Tensor], ...]:
    """Return the queries and the points of each cloud, in float32. Raises InputError if they are wrong."""
    queries, points = check_points(queries, "queries"), check_points(points)
    if queries.shape[1] != points.shape[1]:
        raise InputError(f"queries have {queries.shape[1]} axes, but points {points.shape[1]}")
    number = 1 + max(
        [int(batch[-1]) for batch in (batch_queries, batch_points) if batch is not None and len(batch)], default=0
    )
    for name, batch in (("queries", batch_queries), ("points", batch_points)):
        if batch is None and number > 1:
            raise InputError(f"there are {number} clouds, but no batch vector says which of them the {name} are of")
    parts = (queries, batch_queries), (points, batch_points)
    ends = [bounds_of(batch, len(part), number) for part, batch in parts]
    return tuple(
        [part[a:b] for a, b in zip(at, at[1:], strict=False)] for (part, _), at in zip(parts, ends, strict=True)
    )


def _search(queries: Tensor, points: Tensor, num_neighbors: int, reach: float) -> Tensor:
    """Return the indices (M, K) of the neighbors of queries in one cloud, -1 where there are no more."""
    found = queries.new_full((len(queries), num_neighbors), -1, dtype=torch.int64)
    most = min(num_neighbors, len(points))
    if not (most and len(queries)):
        return found
    index = knn(queries[None], points[None], most)[0]
    near = squared_distances(queries[:, None], points[index]) <= reach
    found[:, :most] = torch.where(near, index, -1)
    return found


def squared_reach(radius: float) -> float:
    """Return the largest squared distance in float32 of neighbors that are nearer than a radius, which may be inf.

    Raises InputError if it is NaN.
    """
    if math.isnan(radius):
        raise InputError("the radius is a number, not NaN")
    with np.errstate(over="ignore"):
        square = np.float32(radius * radius)
    return float(square if np.isinf(square) else np.nextafter(square, np.float32(-1)))


def _pairs(found: Tensor) -> Tensor:
    """Return the pairs (2, E) of rows and what was found for them (M, K), without -1."""
    if found.device.type != "cpu":
        row, place = (found >= 0).nonzero(as_tuple=True)
        return torch.stack([row, found[row, place]])
    # by numpy: torch's threads would wait for each other
    pairs = np.empty((2, *found.shape), np.int64)
    pairs[0], pairs[1] = np.arange(len(found))[:, None], found.numpy()
    pairs, is_found = pairs.reshape(2, -1), pairs[1].ravel() >= 0
    return torch.from_numpy(pairs if is_found.all() else pairs[:, is_found])
