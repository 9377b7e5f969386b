"""Moments and maxima over neighbors on a GPU: neighbors are read in place, only the results are written."""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.standard import _sum_combine as _sum  # tl.sum cannot be interpreted if only our kernels are

INTERPRETED: bool = triton.knobs.runtime.interpret
"""Whether Triton's interpreter runs these kernels on a CPU: set by TRITON_INTERPRET when this file is imported."""

BLOCK_GROUPS, BLOCK_CHANNELS = 8, 64
"""Groups and channels of a program. Programs of a cloud run one after another, so its points are in the L2 cache."""


@triton.jit(do_not_specialize=["num_points", "num_groups", "num_neighbors"])
@no_type_check
def largest_kernel(  # noqa: PLR0913
    values, neighbor_index, largest, winner, num_points, num_groups, num_neighbors, width,
    work_type: tl.constexpr, block_g: tl.constexpr, block_d: tl.constexpr,
):  # fmt: skip
    """Write the maxima of a block of groups and channels, and the first neighbors that have them.

    NaN counts as the largest value, as in torch.
    """
    blocks = (num_groups + block_g - 1) // block_g
    cloud = (tl.program_id(0) // blocks).to(tl.int64)
    groups = tl.program_id(0) % blocks * block_g + tl.arange(0, block_g)
    channels = tl.program_id(1) * block_d + tl.arange(0, block_d)
    is_group = groups < num_groups
    inside = is_group[:, None] & (channels < width)[None, :]
    values += cloud * num_points * width + channels[None, :]
    neighbor_index += (cloud * num_groups + groups) * num_neighbors
    neighbor = tl.load(neighbor_index, mask=is_group, other=0)
    best = tl.load(values + neighbor[:, None] * width, mask=inside, other=0.0).to(work_type)
    whose = tl.broadcast_to(neighbor.to(tl.int32)[:, None], (block_g, block_d))
    for k in range(1, num_neighbors):
        neighbor = tl.load(neighbor_index + k, mask=is_group, other=0)
        new = tl.load(values + neighbor[:, None] * width, mask=inside, other=0.0).to(work_type)
        is_larger = (new > best) | (new != new)
        best = tl.where(is_larger, new, best)
        whose = tl.where(is_larger, neighbor.to(tl.int32)[:, None], whose)
    at = (cloud * num_groups + groups)[:, None] * width + channels[None, :]
    tl.store(largest + at, best, mask=inside)
    tl.store(winner + at, whose, mask=inside)


@triton.jit(do_not_specialize=["num_points", "num_groups", "num_neighbors"])
@no_type_check
def moments_kernel(  # noqa: PLR0913
    values, neighbor_index, offsets, sums, squares, num_points, num_groups, num_neighbors, width,
    work_type: tl.constexpr, block_g: tl.constexpr, block_d: tl.constexpr,
):  # fmt: skip
    """Sum a block of groups and channels: ``value + offset`` in ``work_type``, sums in float64."""
    blocks = (num_groups + block_g - 1) // block_g
    cloud = (tl.program_id(0) // blocks).to(tl.int64)
    groups = tl.program_id(0) % blocks * block_g + tl.arange(0, block_g)
    channels = tl.program_id(1) * block_d + tl.arange(0, block_d)
    is_group = groups < num_groups
    inside = is_group[:, None] & (channels < width)[None, :]
    values += cloud * num_points * width + channels[None, :]
    neighbor_index += (cloud * num_groups + groups) * num_neighbors
    at = (cloud * num_groups + groups)[:, None] * width + channels[None, :]
    offset = tl.load(offsets + at, mask=inside, other=0.0).to(work_type)
    total = tl.full((block_g, block_d), 0.0, tl.float64)
    total_squares = tl.full((block_g, block_d), 0.0, tl.float64)
    for k in range(num_neighbors):
        neighbor = tl.load(neighbor_index + k, mask=is_group, other=0)
        value = tl.load(values + neighbor[:, None] * width, mask=inside, other=0.0).to(work_type)
        value = (value + offset).to(tl.float64)
        total += value
        total_squares += value * value
    at = tl.program_id(0).to(tl.int64) * width + channels
    tl.store(sums + at, tl.reduce(total, 0, _sum), mask=channels < width)
    tl.store(squares + at, tl.reduce(total_squares, 0, _sum), mask=channels < width)


def launch_of(dtype: torch.dtype) -> dict:
    """Return launch options: computation in float64 for float64 values, else in float32."""
    work_type = tl.float64 if dtype == torch.float64 else tl.float32
    return {"work_type": work_type, "block_g": BLOCK_GROUPS, "block_d": BLOCK_CHANNELS, "num_warps": 4}


def _launch(kernel, values: Tensor, neighbor_index: Tensor, *others: Tensor) -> None:
    """Launch a kernel with one program for each block of groups and channels."""
    num_clouds, num_points, width = values.shape
    sizes = num_points, *neighbor_index.shape[1:], width
    grid = (num_clouds * _num_blocks(neighbor_index), triton.cdiv(width, BLOCK_CHANNELS))
    with torch.cuda.device_of(values):
        kernel[grid](values.contiguous(), neighbor_index.contiguous(), *others, *sizes, **launch_of(values.dtype))


def _num_blocks(neighbor_index: Tensor) -> int:
    """Return the number of blocks of groups of a cloud."""
    return triton.cdiv(neighbor_index.shape[1], BLOCK_GROUPS)


@torch.library.custom_op("bixt3d::neighbor_max", mutates_args=())
def neighbor_max(values: Tensor, neighbor_index: Tensor) -> tuple[Tensor, Tensor]:
    """Return the maximum over neighbors (B, G, D), and the index of the point that has it, as int32."""
    largest, winner = _empty_maxima(values, neighbor_index)
    _launch(largest_kernel, values, neighbor_index, largest, winner)
    return largest, winner


@neighbor_max.register_fake
def _empty_maxima(values, neighbor_index):
    largest = values.new_empty(*neighbor_index.shape[:2], values.shape[2])
    return largest, torch.empty_like(largest, dtype=torch.int32)


@torch.library.custom_op("bixt3d::neighbor_moments", mutates_args=())
def neighbor_moments(values: Tensor, offsets: Tensor, neighbor_index: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sums (B, D) of ``value + offset`` over all (group, neighbor) pairs, and of its squares."""
    shape = (len(values), _num_blocks(neighbor_index), values.shape[2])
    sums, squares = (values.new_empty(shape, dtype=torch.float64) for _ in range(2))
    _launch(moments_kernel, values, neighbor_index, offsets.contiguous(), sums, squares)
    return sums.sum(1), squares.sum(1)


@neighbor_moments.register_fake
def _(values, offsets, neighbor_index):
    return tuple(values.new_empty(len(values), values.shape[2], dtype=torch.float64) for _ in range(2))
