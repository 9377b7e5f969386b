"""Stray points: noise above and below scenes whose z axis points up."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

SHARE, WIDE = 0.02, 4
"""Points near a stray point, as a part of those above, below and beside it, at most; cells beside it on each side."""
STRAY_CELL, STRAY_REACH = 4, WIDE + 1
"""Side of the cells in voxels; cells between a stray point and the points that tell that it is one."""


def stray_points(points: Float[Tensor, "N 3"], cell: float) -> Bool[Tensor, " N"]:
    """Return the mask of points with few others at their height, but many above or below.

    In cubic cells of side ``cell``: those points are stray that have at most `SHARE` of the points of their column and
    those around it, up to `WIDE` cells away, in their own layer of cells and the next ones above and below.
    """
    place = (points / cell).floor().long()
    x, y, z = (place - place.amin(0)).unbind(1)
    width, height = int(y.amax()) + 1 + WIDE, int(z.amax()) + 2
    rows = range(-WIDE, WIDE + 1)
    near = [(row * height + up) * width for row in rows for up in (-1, 0, 1)]
    return _count((x * height + z) * width + y, near) <= SHARE * _count(x * width + y, [row * width for row in rows])


def _count(key: Int[Tensor, " N"], steps: list[int]) -> Int[Tensor, " N"]:
    """Return the number of points in the cells these steps from that of each point and `WIDE` on both sides of each."""
    known, own, count = key.unique(return_inverse=True, return_counts=True)
    before = torch.cat([count.new_zeros(1), count.cumsum(0)])
    total = torch.zeros_like(count)
    for step in steps:
        first, last = known + (step - WIDE), known + (step + WIDE)
        total += before[torch.searchsorted(known, last, right=True)] - before[torch.searchsorted(known, first)]
    return total[own]
