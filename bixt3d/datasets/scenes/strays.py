"""Stray points: noise above and below scenes whose z axis points up."""

from itertools import product

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

SHARE = 0.03
"""Points near a stray point, as a part of those above, below and beside it, at most."""
STRAY_CELL, STRAY_REACH = 10, 2
"""Side of the cells in voxels; cells between a stray point and the points that tell that it is one."""


def stray_points(points: Float[Tensor, "N 3"], cell: float) -> Bool[Tensor, " N"]:
    """Return the mask of points with few others near them, but many above or below.

    Near: in the cubic cell of side ``cell`` of a point and the 26 cells around it. Those are stray that have near at
    most `SHARE` of the points in the cell's column and the eight columns around it.
    """
    place = (points / cell).floor().long()
    place -= place.amin(0) - 1
    width, height = (int(most) + 2 for most in place[:, 1:].amax(0))
    column = place[:, 0] * width + place[:, 1]
    beside = [across * width + along for across, along in product((-1, 0, 1), repeat=2)]
    near = [step * height + up for step in beside for up in (-1, 0, 1)]
    return _count(column * height + place[:, 2], near) <= SHARE * _count(column, beside)


def _count(key: Int[Tensor, " N"], steps: list[int]) -> Int[Tensor, " N"]:
    """Return the number of points in the cells that are these steps away from that of each point, by their numbers."""
    known, own, count = key.unique(return_inverse=True, return_counts=True)
    total = torch.zeros_like(count)
    for step in steps:
        found = torch.searchsorted(known, known + step).clamp(max=len(known) - 1)
        total += torch.where(known[found] == known + step, count[found], 0)
    return total[own]
