"""Shared by the Triton kernels of points: loading points axis by axis, and exact squared distances."""

from typing import no_type_check

import triton
import triton.language as tl

EXACT = {"enable_fp_fusion": False}
"""Launch option of every kernel of points. Fused multiply-adds would round distances differently from the reference and
choose another point where two are almost equally far."""


@triton.jit
@no_type_check
def load_axes(at, mask, axis_stride, num_axes: tl.constexpr):
    """Load points as a tuple of float32 blocks, one for each axis."""
    axes = ()
    for axis in tl.static_range(num_axes):
        axes = axes + (tl.load(at + axis * axis_stride, mask=mask, other=0.0).to(tl.float32),)
    return axes


@triton.jit
@no_type_check
def squared_distance(a, b, num_axes: tl.constexpr):
    """Sum axis by axis, as the reference: bitwise equal if the kernel is launched with EXACT."""
    difference = a[0] - b[0]
    total = difference * difference
    for axis in tl.static_range(1, num_axes):
        difference = a[axis] - b[axis]
        total += difference * difference
    return total
