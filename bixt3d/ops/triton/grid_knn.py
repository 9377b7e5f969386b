"""k nearest neighbors of large clouds on a GPU, by a grid of cells: exact, and each query looks at few points.

Points are sorted by cloud and cell, z last: the 27 cells around a query are nine runs of points. If the k-th neighbor
found is closer than the border of these cells, no other point can be a neighbor. Queries for which it is not are
searched again in cells of twice the size, until the 27 cells are the whole grid.
"""

import math
from typing import NamedTuple, no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.standard import _elementwise_max as _max
from triton.language.standard import _elementwise_min as _min  # tl.min cannot be interpreted if only our kernels are

from bixt3d.ops.triton.distances import EXACT, load_axes, squared_distance

INTERPRETED: bool = triton.knobs.runtime.interpret
"""Whether Triton's interpreter runs these kernels on a CPU: set by TRITON_INTERPRET when this file is imported."""

BLOCK_QUERIES, BLOCK_POINTS = 2, 64
"""Queries of a program, and points of a run that it takes at a time."""

CHUNK = 2**20
"""Queries of a launch: their runs take 144 bytes each."""

MOST_CELLS = 2**20
"""The most cells along an axis: their borders are then right to a billionth of a cell."""

MOST_KEYS = 2**62
"""The most cells of all clouds together."""

_FAR: tl.constexpr = tl.constexpr(0x7FFFFFFF)  # larger than the bits of any distance, infinity included


class Grid(NamedTuple):
    """Points sorted by cell. ``key``: the number of each one's cell; ``order``: its index; ``points``: (3, N).

    ``low`` is a corner of the grid and ``high`` in its opposite cell, whose place is ``last``.
    """

    size: float
    low: Tensor
    high: Tensor
    last: Tensor
    shape: list[int]
    key: Tensor
    order: Tensor
    points: Tensor


@triton.jit(do_not_specialize=["num_queries", "size", "num_neighbors", "reach"])
@no_type_check
def grid_kernel(  # noqa: PLR0913
    queries, points, order, rows, starts, ends, index, farthest, num_queries, size, num_neighbors, reach,
    block_q: tl.constexpr, block_n: tl.constexpr, block_k: tl.constexpr,
):  # fmt: skip
    """Find the neighbors of a block of queries (M, 3) in nine runs of sorted points (3, N).

    Keys are the bits of the distance, then the index. ``reach``: the bits of the largest distance; ``farthest``: those
    of the last neighbor's.
    """
    own = tl.program_id(0).to(tl.int64) * block_q + tl.arange(0, block_q)
    is_query = own < num_queries
    row = tl.load(rows + own, mask=is_query, other=0)
    query = load_axes(queries + row[:, None] * 3, is_query[:, None], 1, 3)
    slots = tl.arange(0, block_k)[None, :].to(tl.int64)
    in_list = (slots < num_neighbors) & (own >= 0)[:, None]
    far = tl.full((), _FAR, tl.int64) << 32
    keys = tl.where(in_list, far + slots, -1)  # padding is never the farthest
    most = tl.where(is_query, tl.reduce(keys, 1, _max), -1)  # nothing is closer to padding
    for run in range(9):
        first = tl.load(starts + own * 9 + run, mask=is_query, other=0)
        last = tl.load(ends + own * 9 + run, mask=is_query, other=0)
        while tl.reduce((first < last).to(tl.int32), 0, _max) > 0:
            columns = first[:, None] + tl.arange(0, block_n)[None, :]
            inside = columns < last[:, None]
            point = load_axes(points + columns, inside, size, 3)
            bits = squared_distance(query, point, 3).to(tl.int32, bitcast=True)
            new = (bits.to(tl.int64) << 32) | tl.load(order + columns, mask=inside, other=0)
            new = tl.where(inside & (bits <= reach), new, far + block_k)
            least = tl.reduce(new, 1, _min)
            while tl.reduce((least < most).to(tl.int32), 0, _max) > 0:
                replaced = (keys == most[:, None]) & (least < most)[:, None]
                keys = tl.where(replaced, least[:, None], keys)
                most = tl.where(is_query, tl.reduce(keys, 1, _max), -1)
                new = tl.where(new == least[:, None], far + block_k, new)
                least = tl.reduce(new, 1, _min)
            first += block_n
    tl.store(farthest + own, (most >> 32).to(tl.int32), mask=is_query)
    keys = tl.where(in_list, keys, far + block_k)
    for rank in range(num_neighbors):
        closest = tl.reduce(keys, 1, _min)
        found = tl.where(closest >= far, -1, closest & 0xFFFFFFFF)
        tl.store(index + row * num_neighbors + rank, found, mask=is_query)
        keys = tl.where(keys == closest[:, None], far + block_k, keys)


def launch_of(num_neighbors: int) -> dict:
    """Return launch options of grid_kernel: one warp, whose lanes run along the list."""
    block_k = max(32, triton.next_power_of_2(num_neighbors))
    return {"block_q": BLOCK_QUERIES, "block_n": BLOCK_POINTS, "block_k": block_k, "num_warps": 1, **EXACT}


def can_search(queries: Tensor, points: Tensor) -> bool:
    """Return whether points have up to three axes and are finite; not while a CUDA graph is captured."""
    if points.shape[-1] > 3 or (points.is_cuda and torch.cuda.is_current_stream_capturing()):
        return False
    return bool(queries.isfinite().all() & points.isfinite().all())


def knn(queries: Tensor, points: Tensor, num_neighbors: int) -> Tensor:
    """Return indices (B, G, K) of the points (B, N, P) nearest to queries (B, G, P), P at most 3: the reference's."""
    (num_clouds, num_queries, _), size = queries.shape, points.shape[1]
    clouds = torch.arange(num_clouds, device=points.device)
    of_queries, of_points = clouds.repeat_interleave(num_queries), clouds.repeat_interleave(size)
    index = search(queries.flatten(0, 1), points.flatten(0, 1), num_neighbors, of_queries, of_points)
    return index.view(num_clouds, num_queries, num_neighbors) - size * clouds[:, None, None]


def search(
    queries: Tensor,
    points: Tensor,
    num_neighbors: int,
    of_queries: Tensor | None = None,
    of_points: Tensor | None = None,
    reach: float = math.inf,
) -> Tensor:
    """Return indices (M, K) of the points (N, P) nearest to queries (M, P), P at most 3; -1 where there are no more.

    ``of_queries``, ``of_points``: the cloud of each, in which its neighbors are; ``reach``: the largest squared
    distance of these. Coordinates must be finite. The host waits for each round.
    """
    index = points.new_full((len(queries), num_neighbors), -1, dtype=torch.int64)
    if not (len(points) and len(queries)):
        return index
    queries, points = (
        torch.nn.functional.pad(one.float(), (0, 3 - one.shape[1])).contiguous() for one in (queries, points)
    )
    of_queries, of_points = (
        torch.zeros(len(one), dtype=torch.int64, device=points.device) if clouds is None else clouds.long()
        for one, clouds in ((queries, of_queries), (points, of_points))
    )
    farthest = torch.tensor(reach, dtype=torch.float32)
    num_clouds = 1 + int(torch.maximum(of_points.max(), of_queries.max()))
    grid, rows = (
        _first_grid(points, of_points, num_neighbors, num_clouds),
        torch.arange(len(queries), device=points.device),
    )
    while len(rows):
        rows = torch.cat([_search(queries, of_queries, some, grid, index, farthest) for some in rows.split(CHUNK)])
        if len(rows):
            grid = _make_grid(points, of_points, grid.low, grid.high, 2 * grid.size)
    return index


def _first_grid(points: Tensor, of_points: Tensor, num_neighbors: int, num_clouds: int) -> Grid:
    """Return a grid whose cells have less than twice as many points as neighbors are asked for, on average over points.

    Cells are halved until they do: most of a cloud may be in a small part of its box. Of sizes that differ little the
    largest is taken: equal points share a cell of any size.
    """
    sample = points[:: max(1, len(points) // 4096)].double().sort(0).values
    tail = len(sample) // 100
    low, high = sample[tail], sample[-1 - tail]  # points beyond, which may be far away, lie in the outer cells
    share = min(1.0, num_neighbors / (2 * len(points)))
    size = float((high - low).max()) * share ** (1 / 3) or 1.0
    grid, tried = _make_grid(points, of_points, low, high, size), {}
    while True:
        count = grid.key.unique_consecutive(return_counts=True)[1].double()
        tried[grid.size] = float(count.square().sum()) / len(points)
        cells = 8 * num_clouds * math.prod(grid.shape)
        is_full = 2 * max(grid.shape) > MOST_CELLS or cells > MOST_KEYS or len(tried) > 30
        if tried[grid.size] <= 2 * num_neighbors or is_full:
            break
        grid = _make_grid(points, of_points, low, high, grid.size / 2)
    enough = max(2 * num_neighbors, 1.25 * min(tried.values()))
    size = next(size for size, filled in tried.items() if filled <= enough)
    return grid if size == grid.size else _make_grid(points, of_points, low, high, size)


def _make_grid(points: Tensor, of_points: Tensor, low: Tensor, high: Tensor, size: float) -> Grid:
    last = ((high - low) / size).floor()
    cells = _cells(points, low, last, size)[1]
    shape = [int(most) + 1 for most in last.tolist()]
    key, order = _keys(of_points, cells.unbind(1), shape).sort(stable=True)
    return Grid(size, low, high, last, shape, key, order, points[order].T.contiguous())


def _cells(points: Tensor, low: Tensor, last: Tensor, size: float) -> tuple[Tensor, Tensor]:
    """Return where points are, in cells, and the cell of each; outer cells have all that is beyond."""
    place = (points - low) / size
    return place, place.floor().clamp(min=0).minimum(last).long()


def _keys(clouds: Tensor, cells: tuple[Tensor, ...], shape: list[int]) -> Tensor:
    return ((clouds * shape[0] + cells[0]) * shape[1] + cells[1]) * shape[2] + cells[2]


def _search(queries: Tensor, of_queries: Tensor, rows: Tensor, grid: Grid, index: Tensor, reach: Tensor) -> Tensor:
    """Write the neighbors of some queries found in the 27 cells around each; return the rows that need larger cells."""
    place, cells = _cells(queries[rows], grid.low, grid.last, grid.size)
    order = _keys(of_queries[rows], cells.unbind(1), grid.shape).argsort()  # queries of a program share their points
    rows, place, cells = rows[order], place[order], cells[order]
    low, high = (cells - 1).clamp(min=0), torch.minimum(cells + 1, grid.last.long())
    before = torch.where(low > 0, place - low, math.inf)
    after = torch.where(high < grid.last, high + 1 - place, math.inf)
    border = ((torch.minimum(before, after).amin(1) - 1e-9).clamp(min=0) * grid.size).square() * (1 - 1e-6)
    starts, ends = _runs(of_queries[rows], cells, low, high, grid)
    farthest = torch.empty(len(rows), dtype=torch.int32, device=rows.device)
    with torch.cuda.device_of(rows):
        grid_kernel[(triton.cdiv(len(rows), BLOCK_QUERIES),)](
            queries, grid.points, grid.order, rows, starts, ends, index, farthest, len(rows), len(grid.order),
            index.shape[1], int(reach.view(torch.int32)), **launch_of(index.shape[1]),
        )  # fmt: skip
    # float32 rounds distances by less than a millionth, tiny ones by less than 1e-44; NaN: there were fewer neighbors
    is_done = (
        (farthest.view(torch.float32).double() + 1e-44 < border) | border.isinf() | (float(reach) + 1e-44 < border)
    )
    return rows[~is_done]


def _runs(of_queries: Tensor, cells: Tensor, low: Tensor, high: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Return where the nine runs of points around each query start and end, (M, 9) each; outside of the grid empty."""
    step = torch.arange(-1, 2, device=cells.device)
    x, y = (cells[:, :1] + step.repeat_interleave(3)), (cells[:, 1:2] + step.repeat(3))
    is_inside = (x >= 0) & (x < grid.shape[0]) & (y >= 0) & (y < grid.shape[1])
    first, last = (_keys(of_queries[:, None], (x, y, one[:, 2:]), grid.shape) for one in (low, high))
    starts, ends = torch.searchsorted(grid.key, first), torch.searchsorted(grid.key, last, right=True)
    return starts, torch.where(is_inside, ends, starts)
