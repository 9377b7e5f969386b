"""`fps`, `knn`, `knn_graph`, `radius`, `radius_graph` and `nearest` for PyTorch Geometric, without a compiler.

They have the signatures and results of torch-cluster, and run where neither torch-cluster nor pyg-lib is installed:
from wheels alone, on a CPU with Numba kernels. Points are compared in float32; neighbors come closest first, ties by
index, where torch-cluster leaves the order open. If more points are within a radius than `max_num_neighbors`, these are
the nearest, where torch-cluster takes any, and up to one more without loops. `use_in_pyg` lets torch_geometric's own
modules call them.

Example:
    >>> import torch
    >>> from bixt3d.pyg import fps, radius
    >>> pos, batch = torch.rand(1000, 3), torch.arange(1000) // 500
    >>> index = fps(pos, batch, ratio=0.1, random_start=False)
    >>> row, col = radius(pos, pos[index], 0.2, batch, batch[index], max_num_neighbors=64)
"""

import sys
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from bixt3d.errors import check_whole
from bixt3d.ops.ragged import bounds_of, ragged_farthest_points, ragged_knn, ragged_pairs
from bixt3d.types import InputError

Flow = Literal["source_to_target", "target_to_source"]


def fps(
    x: Tensor,
    batch: Tensor | None = None,
    ratio: float | Tensor = 0.5,
    random_start: bool = True,
    batch_size: int | None = None,
) -> Tensor:
    """Choose ceil(ratio * points) points of each cloud by farthest point sampling; return their indices (G,).

    ``batch``: the cloud of each point, sorted. ``random_start``: begin each cloud at a random point, not at its first.
    """
    bounds = bounds_of(batch, len(x), batch_size)
    sizes = [end - start for start, end in zip(bounds, bounds[1:], strict=False)]
    ratios = [float(ratio)] * len(sizes) if not isinstance(ratio, Tensor) or ratio.ndim == 0 else ratio.tolist()
    if len(ratios) != len(sizes) or not all(0 < one <= 1 for one in ratios):
        raise InputError(f"ratio must be above 0 and at most 1, one number or one for each of {len(sizes)} clouds")
    # in float32, as torch-cluster rounds
    counts = np.ceil(np.float32(sizes) * np.float32(ratios)).astype(int).tolist()
    first = [int(torch.randint(size, ())) if size else 0 for size in sizes] if random_start else None
    return ragged_farthest_points(x, counts, batch, first)


def knn(
    x: Tensor,
    y: Tensor,
    k: int,
    batch_x: Tensor | None = None,
    batch_y: Tensor | None = None,
    cosine: bool = False,
    num_workers: int = 1,
    batch_size: int | None = None,
) -> Tensor:
    """Find for each point of y its k nearest points of x in the same cloud.

    Returns (2, E): row 0 indexes y, row 1 indexes x. A cloud with fewer than k points gives all of them.
    """
    _check_number(k=k)
    if cosine:
        x, y = (torch.nn.functional.normalize(one.detach().float(), dim=-1) for one in (x, y))
    return ragged_pairs(y, x, k, batch_y, batch_x)


def radius(  # noqa: PLR0913 (as torch-cluster)
    x: Tensor,
    y: Tensor,
    r: float,
    batch_x: Tensor | None = None,
    batch_y: Tensor | None = None,
    max_num_neighbors: int = 32,
    num_workers: int = 1,
    batch_size: int | None = None,
    ignore_same_index: bool = False,
) -> Tensor:
    """Find for each point of y the points of x nearer than r in the same cloud, the nearest if there are more.

    Returns (2, E) as `knn`.
    """
    _check_number(max_num_neighbors=max_num_neighbors)
    pairs = ragged_pairs(y, x, max_num_neighbors + ignore_same_index, batch_y, batch_x, r)
    return _without_loops(pairs, max_num_neighbors) if ignore_same_index else pairs


def knn_graph(
    x: Tensor,
    k: int,
    batch: Tensor | None = None,
    loop: bool = False,
    flow: Flow = "source_to_target",
    cosine: bool = False,
    num_workers: int = 1,
    batch_size: int | None = None,
) -> Tensor:
    """Return the edges (2, E) from each point's k nearest neighbors to the point, without itself unless ``loop``."""
    _check_number(k=k)
    pairs = knn(x, x, k if loop else k + 1, batch, batch, cosine)
    return _edges(pairs if loop else _without_loops(pairs, k), flow)


def radius_graph(
    x: Tensor,
    r: float,
    batch: Tensor | None = None,
    loop: bool = False,
    max_num_neighbors: int = 32,
    flow: Flow = "source_to_target",
    num_workers: int = 1,
    batch_size: int | None = None,
) -> Tensor:
    """Return the edges (2, E) from each point's neighbors nearer than r to the point, without itself unless ``loop``.

    A point has at most ``max_num_neighbors``, the nearest; torch-cluster finds up to one more, unless ``loop``.
    """
    return _edges(radius(x, x, r, batch, batch, max_num_neighbors, ignore_same_index=not loop), flow)


def nearest(x: Tensor, y: Tensor, batch_x: Tensor | None = None, batch_y: Tensor | None = None) -> Tensor:
    """Return for each point of x the index of its nearest point of y in the same cloud, (N,)."""
    found = ragged_knn(x, y, 1, batch_x, batch_y)[:, 0]
    if bool((found < 0).any()):
        raise InputError("a cloud has points in x, but none in y")
    return found


def _check_number(**number: Any) -> None:
    """Raise InputError unless a number of neighbors is whole and at least 0."""
    check_whole(**number)
    for name, value in number.items():
        if value < 0:
            raise InputError(f"{name} is at least 0, not {value}")


def _without_loops(pairs: Tensor, most: int) -> Tensor:
    """Return the pairs of different points, at most ``most`` of each row."""
    pairs = pairs[:, pairs[0] != pairs[1]]
    counts = torch.bincount(pairs[0]) if pairs.numel() else pairs[0]
    rank = torch.arange(pairs.shape[1], device=pairs.device) - (counts.cumsum(0) - counts)[pairs[0]]
    return pairs[:, rank < most]


def _edges(pairs: Tensor, flow: Flow) -> Tensor:
    if flow not in ("source_to_target", "target_to_source"):
        raise InputError(f"flow is source_to_target or target_to_source, not {flow!r}")
    return pairs.flip(0) if flow == "source_to_target" else pairs


def use_in_pyg() -> None:
    """Let torch_geometric call these functions wherever it would call pyg-lib, which PyPI does not have."""
    import torch_geometric.nn

    ours = {one.__name__: one for one in (fps, knn, knn_graph, radius, radius_graph, nearest)}
    theirs = {name: getattr(torch_geometric.nn, name) for name in ours}
    for module in [one for name, one in sys.modules.items() if name.startswith("torch_geometric")]:
        for name, function in theirs.items():
            if vars(module).get(name) is function:
                setattr(module, name, ours[name])
