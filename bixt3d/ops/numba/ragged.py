"""Farthest points and kNN of clouds of different sizes on a CPU: clouds in parallel, one large cloud by all threads."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from bixt3d.ops.numba.kernels import list_neighbors, search_cloud
from bixt3d.ops.numba.threads import run_in_threads
from bixt3d.ops.numba.tree import SEARCH_BLOCK, sample_by_tree, split_cloud

Tree = tuple[np.ndarray, ...]
"""What `split_cloud` returns."""

ROWS = 2048
"""Queries of a cloud that one thread takes at a time."""


def farthest_points(clouds: list[Tensor], counts: list[int]) -> list[Tensor]:
    """Return the indices of ``counts[c]`` farthest points of each cloud."""
    chosen = [torch.zeros(count, dtype=torch.int64) for count in counts]
    there = [place for place, count in enumerate(counts) if count]
    arrays = [np.ascontiguousarray(clouds[place].numpy()) for place in there]
    run_in_threads(sample_by_tree, arrays, [chosen[place].numpy() for place in there])
    return chosen


def search(rows: list[Tensor], clouds: list[Tensor], num_neighbors: int, reach: float) -> Tensor:
    """Return the indices (M, K) of the neighbors of all queries in their own clouds, -1 where there are no more.

    Indices count the points of all clouds, one after another. ``reach``: the largest squared distance of a neighbor.
    """
    index = np.empty((sum(map(len, rows)), num_neighbors), np.int64)
    is_alone = np.repeat([len(cloud) == 0 for cloud in clouds], [len(some) for some in rows])
    index[is_alone] = -1

    def find(tree: Tree, queries: np.ndarray, row: int, start: int) -> None:
        search_cloud(queries, *tree, index[row : row + len(queries)], _bits(reach), start)

    _run(find, rows, clouds)
    return torch.from_numpy(index)


def search_pairs(rows: list[Tensor], clouds: list[Tensor], most: int, reach: float) -> Tensor:
    """Return the pairs (2, E) of queries and their neighbors that `search` finds, without a table."""

    def find(tree: Tree, queries: np.ndarray, row: int, start: int) -> np.ndarray:
        counts, index = list_neighbors(queries, *tree, most, _bits(reach), start)
        return np.stack([np.repeat(np.arange(row, row + len(queries)), counts), index])

    return torch.from_numpy(np.concatenate([np.empty((2, 0), np.int64), *_run(find, rows, clouds)], axis=1))


def _bits(reach: float) -> int:
    return int(np.float32(reach).view(np.int32))


def _run(find: Callable, rows: list[Tensor], clouds: list[Tensor]) -> list:
    """Call ``find(tree, queries, row, start)`` for up to ROWS queries of a cloud; return the results in this order.

    ``row``: the index of the first query; ``start``: that of the cloud's first point.
    """
    searched, jobs, row, start = [], [], 0, 0
    for some, cloud in zip(rows, clouds, strict=True):
        if len(some) and len(cloud):
            queries = np.ascontiguousarray(some.numpy())
            jobs += [(len(searched), queries[i : i + ROWS], row + i, start) for i in range(0, len(queries), ROWS)]
            searched.append(np.ascontiguousarray(cloud.numpy()))
        row, start = row + len(some), start + len(cloud)
    trees = run_in_threads(lambda cloud: split_cloud(cloud, SEARCH_BLOCK), searched)
    return run_in_threads(lambda tree, *job: find(trees[tree], *job), *zip(*jobs, strict=True)) if jobs else []
