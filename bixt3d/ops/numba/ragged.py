"""Farthest points and kNN of clouds of different sizes on a CPU: clouds in parallel, one large cloud by all threads."""

import numpy as np
import torch
from torch import Tensor

from bixt3d.ops.numba.kernels import search_cloud
from bixt3d.ops.numba.threads import run_in_threads
from bixt3d.ops.numba.tree import SEARCH_BLOCK, sample_by_tree, split_cloud

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
    searched, jobs, row, start, farthest = [], [], 0, 0, int(np.float32(reach).view(np.int32))
    for some, cloud in zip(rows, clouds, strict=True):
        found = index[row : row + len(some)]
        if len(some) and len(cloud):
            queries = np.ascontiguousarray(some.numpy())
            for first in range(0, len(queries), ROWS):
                jobs.append((len(searched), queries[first : first + ROWS], found[first : first + ROWS], start))
            searched.append(np.ascontiguousarray(cloud.numpy()))
        found[len(found) if len(cloud) else 0 :] = -1
        row, start = row + len(some), start + len(cloud)
    trees = run_in_threads(lambda cloud: split_cloud(cloud, SEARCH_BLOCK), searched)

    def find(tree: int, queries: np.ndarray, found: np.ndarray, start: int) -> None:
        search_cloud(queries, *trees[tree], found, farthest, start)

    if jobs:
        run_in_threads(find, *zip(*jobs, strict=True))
    return torch.from_numpy(index)
