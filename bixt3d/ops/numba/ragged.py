"""Farthest points and kNN of clouds of different sizes on a CPU: clouds in parallel, one large cloud by all threads."""

import numpy as np
import torch
from torch import Tensor

from bixt3d.ops.numba.kernels import SEARCH_BLOCK, sample_cloud, search_cloud, split_cloud
from bixt3d.ops.numba.threads import run_in_threads

ROWS = 2048
"""Queries of a cloud that one thread takes at a time."""


def farthest_points(clouds: list[Tensor], counts: list[int]) -> list[Tensor]:
    """Return the indices of ``counts[c]`` farthest points of each cloud."""
    chosen = [torch.zeros(count, dtype=torch.int64) for count in counts]
    there = [place for place, count in enumerate(counts) if count]
    arrays = [np.ascontiguousarray(clouds[place].numpy()) for place in there]
    run_in_threads(sample_cloud, arrays, [chosen[place].numpy() for place in there])
    return chosen


def search(rows: list[Tensor], clouds: list[Tensor], num_neighbors: int, radius: float) -> Tensor:
    """Return the indices (M, K) of the neighbors of all queries in their own clouds, -1 where there are no more."""
    index = np.full((sum(map(len, rows)), num_neighbors), -1, np.int64)
    with np.errstate(over="ignore"):
        farthest = int((np.float32(radius) * np.float32(radius)).view(np.int32))
    there = [place for place, (some, cloud) in enumerate(zip(rows, clouds, strict=True)) if len(some) and len(cloud)]
    trees = run_in_threads(
        split_cloud, [np.ascontiguousarray(clouds[place].numpy()) for place in there], [SEARCH_BLOCK] * len(there)
    )
    starts = np.concatenate([[0], np.cumsum([len(some) for some in rows])])
    jobs = []
    for place, tree in zip(there, trees, strict=True):
        most = min(num_neighbors, len(clouds[place]))
        queries = np.ascontiguousarray(rows[place].numpy())
        for first in range(0, len(queries), ROWS):
            chunk = queries[first : first + ROWS]
            jobs.append((chunk, tree, index[starts[place] + first :][: len(chunk)], most))

    def find(queries: np.ndarray, tree: tuple, found: np.ndarray, most: int) -> None:
        own = np.empty((len(queries), most), np.int64)
        search_cloud(queries, *tree, own, farthest)
        found[:, :most] = own

    if jobs:
        run_in_threads(find, *zip(*jobs, strict=True))
    return torch.from_numpy(index)
