"""What kernels of points share: points as one block of numbers for each axis, and their exact squared distances."""

from typing import no_type_check

import triton
import triton.language as tl

EXACT = {"enable_fp_fusion": False}
"""How every kernel of points is launched: a multiplication fused with an addition would round a distance otherwise
than the definition, and so choose another point where two are almost equally far."""


@triton.jit
@no_type_check
def load_axes(at, mask, axis_stride, num_axes: tl.constexpr):
    """Return the coordinates of the points at some addresses as a tuple of float32 blocks, one for each axis."""
    axes = ()
    for axis in tl.static_range(num_axes):
        axes = axes + (tl.load(at + axis * axis_stride, mask=mask, other=0.0).to(tl.float32),)
    return axes


@triton.jit
@no_type_check
def squared_distance(a, b, num_axes: tl.constexpr):
    """Add axis by axis, as the definition does: the same bits, if the kernel is launched with EXACT."""
    difference = a[0] - b[0]
    total = difference * difference
    for axis in tl.static_range(1, num_axes):
        difference = a[axis] - b[axis]
        total += difference * difference
    return total
