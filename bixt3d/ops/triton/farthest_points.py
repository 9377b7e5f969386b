"""Farthest point sampling on a GPU: one launch for all samples if a cloud fits in a program, else one for each sample.

Distances are compared as integers: the bits of floats >= 0 sort like the floats, and a GPU reduces integers of a warp
in one instruction.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.standard import _elementwise_max as _max
from triton.language.standard import _elementwise_min as _min  # tl.min cannot be interpreted if only our kernels are

from bixt3d.ops.triton.distances import EXACT, load_axes, squared_distance

INTERPRETED: bool = triton.knobs.runtime.interpret
"""Whether Triton's interpreter runs these kernels on a CPU: set by TRITON_INTERPRET when this file is imported."""

PROGRAM_NUMBERS = 2**16
"""Maximum count of coordinates and distances of a program: the registers of a multiprocessor. At the maximum ptxas
spills a third of them to the cache; at half of it (8192 points with three axes) nothing spills."""

STEP_BLOCK = 1024
"""Points of a program if a cloud is split over several programs."""

_LAST: tl.constexpr = tl.constexpr(0x7FFFFFFF)


@triton.jit(do_not_specialize=["size", "num_points"])
@no_type_check
def sample_kernel(  # noqa: PLR0913
    points, index, cloud_stride, point_stride, axis_stride, size, num_points,
    num_axes: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Sample one cloud; its points and their distances to the nearest sample stay in registers."""
    points += tl.program_id(0).to(tl.int64) * cloud_stride
    index += tl.program_id(0).to(tl.int64) * num_points
    rows = tl.arange(0, block)
    inside = rows < size
    axes = load_axes(points + rows.to(tl.int64) * point_stride, inside, axis_stride, num_axes)
    nearest = tl.where(inside, float("inf"), -1.0)  # padding is never the farthest
    last = tl.full((), 0, tl.int32)
    tl.store(index, last)
    for step in range(1, num_points):
        sample = load_axes(points + last.to(tl.int64) * point_stride, True, axis_stride, num_axes)
        nearest = tl.minimum(nearest, squared_distance(axes, sample, num_axes))
        bits = nearest.to(tl.int32, bitcast=True)
        last = tl.reduce(tl.where(bits == tl.reduce(bits, 0, _max), rows, _LAST), 0, _min)
        tl.store(index + step, last)


@triton.jit(do_not_specialize=["num_points", "step"])
@no_type_check
def step_kernel(  # noqa: PLR0913
    points, nearest, keys, size, num_points, step,
    num_axes: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Take one sample of clouds (B, P, N): the largest key (bits of the distance, then inverted index for ties)."""
    blocks = (size + block - 1) // block
    cloud = (tl.program_id(0) // blocks).to(tl.int64)
    rows = tl.program_id(0) % blocks * block + tl.arange(0, block)
    inside = rows < size
    points += cloud * size * num_axes
    keys += cloud * num_points + step
    last = _LAST - (tl.load(keys - 1) & _LAST)
    sample = load_axes(points + last, True, size, num_axes)
    distance = squared_distance(load_axes(points + rows, inside, size, num_axes), sample, num_axes)
    at = nearest + cloud * size + rows
    distance = tl.minimum(tl.load(at, mask=inside, other=0.0), distance)
    tl.store(at, distance, mask=inside)
    bits = tl.where(inside, distance, -1.0).to(tl.int32, bitcast=True)
    most = tl.reduce(bits, 0, _max)
    first = tl.reduce(tl.where(bits == most, rows, _LAST), 0, _min)
    tl.atomic_max(keys, (most.to(tl.int64) << 32) | (_LAST - first))


def launch_of(size: int, num_axes: int) -> dict:
    """Return launch options of sample_kernel: eight points per thread, up to 32 warps."""
    block = triton.next_power_of_2(size)
    return {"num_axes": num_axes, "block": block, "num_warps": min(32, max(1, block // 256)), **EXACT}


def step_launch_of(num_axes: int) -> dict:
    """Return launch options of step_kernel."""
    return {"num_axes": num_axes, "block": STEP_BLOCK, "num_warps": 4, **EXACT}


def _sample_in_programs(points: Tensor, num_points: int) -> Tensor:
    """Sample with one program per cloud, which must fit in it."""
    num_clouds, size, num_axes = points.shape
    index = points.new_empty(num_clouds, num_points, dtype=torch.int64)
    launch = launch_of(size, num_axes)
    sample_kernel[(num_clouds,)](points, index, *points.stride(), size, num_points, **launch)
    return index


def _sample_in_steps(points: Tensor, num_points: int) -> Tensor:
    """Sample with one launch per sample, on all multiprocessors."""
    num_clouds, size, num_axes = points.shape
    points = points.float().mT.contiguous()
    nearest = points.new_full((num_clouds, size), torch.inf)
    keys = points.new_zeros(num_clouds, num_points, dtype=torch.int64)  # smaller than every key
    keys[:, 0] = _LAST.value
    grid = (num_clouds * triton.cdiv(size, STEP_BLOCK),)
    for step in range(1, num_points):
        step_kernel[grid](points, nearest, keys, size, num_points, step, **step_launch_of(num_axes))
    return _LAST.value - (keys & _LAST.value)


@torch.library.custom_op("bixt3d::farthest_points", mutates_args=())
def farthest_points(points: Tensor, num_points: int) -> Tensor:
    """Return indices (B, G) of farthest points of clouds (B, N, P): those of the reference in float32."""
    fits = triton.next_power_of_2(points.shape[1]) * (points.shape[2] + 1) <= PROGRAM_NUMBERS
    with torch.cuda.device_of(points):
        return (_sample_in_programs if fits else _sample_in_steps)(points, num_points)


@farthest_points.register_fake
def _(points, num_points):
    return points.new_empty(points.shape[0], num_points, dtype=torch.int64)
