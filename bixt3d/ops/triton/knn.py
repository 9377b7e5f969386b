"""k nearest neighbors on a GPU: brute force over all points of a cloud, without a matrix of distances.

Large clouds are searched by a grid of cells (see grid_knn.py). A program is one warp. It loops over blocks of points
for a few queries, each with an unsorted list of the k nearest so far. While a block has a point that is closer than the
farthest in the list, the closest such point replaces the farthest. Points come in the order of their indices, so ties
go to the lower index.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.standard import _elementwise_max as _max
from triton.language.standard import _elementwise_min as _min  # tl.min cannot be interpreted if only our kernels are

from bixt3d.ops.triton import grid_knn
from bixt3d.ops.triton.distances import EXACT, load_axes, squared_distance

INTERPRETED: bool = triton.knobs.runtime.interpret
"""Whether Triton's interpreter runs these kernels on a CPU: set by TRITON_INTERPRET when this file is imported."""

BLOCK_QUERIES, BLOCK_POINTS = 4, 128
"""Queries of a program, and points of a block. More queries share the loads of points, but wait for the slowest update
of a list."""

GRID_POINTS = 2**16
"""Points of a cloud from which it is searched by a grid of cells; not measured on a GPU."""

_FAR: tl.constexpr = tl.constexpr(0x7FFFFFFF)  # larger than the bits of any distance, infinity included


@triton.jit(do_not_specialize=["points_stride", "num_queries", "size", "num_neighbors"])
@no_type_check
def nearest_kernel(  # noqa: PLR0913
    queries, points, index, cloud_stride, query_stride, axis_stride, points_stride, num_queries, size, num_neighbors,
    num_axes: tl.constexpr, block_q: tl.constexpr, block_n: tl.constexpr, block_k: tl.constexpr,
):  # fmt: skip
    """Find the neighbors of a block of queries among clouds (B, P, N).

    Strides of points are not specialized for divisibility: with vectorized loads the points of a query would be spread
    over some lanes of the warp only, and their minimum would take more than one instruction.
    """
    blocks = (num_queries + block_q - 1) // block_q
    cloud = (tl.program_id(0) // blocks).to(tl.int64)
    rows = (tl.program_id(0) % blocks * block_q + tl.arange(0, block_q)).to(tl.int64)
    is_query = rows < num_queries
    at = queries + cloud * cloud_stride + rows[:, None] * query_stride
    query = load_axes(at, is_query[:, None], axis_stride, num_axes)
    points += cloud * points_stride

    slots = tl.arange(0, block_k)[None, :]
    in_list = (slots < num_neighbors) & (rows >= 0)[:, None]
    bits = tl.where(in_list, _FAR, -1)  # of the distances in the list; padding is never the farthest
    found = tl.where(in_list, slots, _FAR)
    most = tl.where(is_query, _FAR, -1)  # nothing is closer to padding
    last = tl.where(is_query, num_neighbors - 1, -1)
    for first in range(0, size, block_n):
        columns = (first + tl.arange(0, block_n))[None, :]
        point = load_axes(points + columns, columns < size, size, num_axes)
        new_bits = squared_distance(query, point, num_axes).to(tl.int32, bitcast=True)
        new_bits = tl.where(columns < size, new_bits, _FAR)
        least = tl.reduce(new_bits, 1, _min)
        while tl.reduce((least < most).to(tl.int32), 0, _max) > 0:
            closest = tl.reduce(tl.where(new_bits == least[:, None], columns, _FAR), 1, _min)
            replaced = (bits == most[:, None]) & (found == last[:, None]) & (least < most)[:, None]
            bits = tl.where(replaced, least[:, None], bits)
            found = tl.where(replaced, closest[:, None], found)
            most = tl.where(is_query, tl.reduce(bits, 1, _max), -1)
            last = tl.reduce(tl.where(bits == most[:, None], found, -1), 1, _max)
            new_bits = tl.where(columns == closest[:, None], _FAR, new_bits)
            least = tl.reduce(new_bits, 1, _min)

    bits = tl.where(in_list, bits, _FAR)
    ordered = found
    for rank in range(num_neighbors):
        closest = tl.reduce(tl.where(bits == tl.reduce(bits, 1, _min)[:, None], found, _FAR), 1, _min)[:, None]
        ordered = tl.where(slots == rank, closest, ordered)
        bits = tl.where(found == closest, _FAR, bits)
    at = index + (cloud * num_queries + rows)[:, None] * num_neighbors + slots
    tl.store(at, ordered, mask=in_list & is_query[:, None])


def launch_of(num_axes: int, num_neighbors: int) -> dict:
    """Return launch options of nearest_kernel. Lanes of the warp run along the list, which has at least 32 slots."""
    blocks = {"block_q": BLOCK_QUERIES, "block_n": BLOCK_POINTS}
    block_k = max(32, triton.next_power_of_2(num_neighbors))
    return {"num_axes": num_axes, **blocks, "block_k": block_k, "num_warps": 1, **EXACT}


@torch.library.custom_op("bixt3d::knn", mutates_args=())
def knn(queries: Tensor, points: Tensor, num_neighbors: int) -> Tensor:
    """Return indices (B, G, K) of the points (B, N, P) nearest to queries (B, G, P): those of the reference."""
    (num_clouds, num_queries, num_axes), size = queries.shape, points.shape[1]
    if size >= GRID_POINTS and grid_knn.can_search(queries, points):
        return grid_knn.knn(queries, points, num_neighbors)
    points = points.float().mT.contiguous()
    index = points.new_empty(num_clouds, num_queries, num_neighbors, dtype=torch.int64)
    grid = (num_clouds * triton.cdiv(num_queries, BLOCK_QUERIES),)
    with torch.cuda.device_of(points):
        nearest_kernel[grid](
            queries, points, index, *queries.stride(), size * num_axes, num_queries, size, num_neighbors,
            **launch_of(num_axes, num_neighbors),
        )  # fmt: skip
    return index


@knn.register_fake
def _(queries, points, num_neighbors):
    return points.new_empty(*queries.shape[:2], num_neighbors, dtype=torch.int64)
