"""Heights above the ground in scenes whose z axis points up."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

CELL, LOW, REACH = 10, 0.05, 3.5
"""Of the floor: side of its cells in voxels, quantile of their heights, cells between a floor and its points."""
VALLEY_CELL, VALLEY_REACH = 14, 2.5
"""Of the lowest ground around points: side of its cells in voxels, cells between it and its points."""


@dataclass(frozen=True, eq=False)
class Cells:
    """Points in square cells, seen from above.

    Args:
        own: the cell of each point.
        kept: the points that count: those that are not stray, and in cells of stray points alone all.
        count: number of points that count in each cell.
        near: the nine cells around each cell, row by row; in place of one without points, or with stray points alone,
            the cell itself.
        beside: where each point lies from the center of its cell, in sides of a cell.
    """

    own: Int[Tensor, " N"]
    kept: Bool[Tensor, " N"]
    count: Int[Tensor, " V"]
    near: Int[Tensor, "V 9"]
    beside: Float[Tensor, "N 2"]

    def lowest(self, height: Float[Tensor, " N"]) -> Float[Tensor, " V"]:
        """Return the lowest height in each cell."""
        low = height.new_zeros(len(self.count))
        return low.scatter_reduce(0, self.own[self.kept], height[self.kept], "amin", include_self=False)

    def opened(self, floor: Float[Tensor, " V"]) -> Float[Tensor, " V"]:
        """Return the floor without what is narrower than two cells: the lowest of nine cells, then the highest."""
        return floor[self.near].amin(1)[self.near].amax(1)

    def at_points(self, floor: Float[Tensor, " V"]) -> Float[Tensor, " N"]:
        """Return the floor at each point, interpolated between the centers of cells."""
        x, y = self.beside.sign().long().unbind(1)
        along, across = self.beside.abs().unbind(1)
        corners = [
            floor[self.near[self.own, 3 * (1 + row) + 1 + column]] for row in (0 * x, x) for column in (0 * y, y)
        ]
        first, second = (torch.lerp(corners[row], corners[row + 1], across) for row in (0, 2))
        return torch.lerp(first, second, along)


def cells_of(points: Float[Tensor, "N 3"], stray: Bool[Tensor, " N"], cell: float) -> Cells:
    """Return the cells of side ``cell`` of points, some of them stray."""
    place = points[:, :2] / cell
    index = place.floor().long()
    beside = place - place.floor() - 0.5
    index -= index.amin(0)
    width = int(index[:, 1].max()) + 1
    known, own = (index[:, 0] * width + index[:, 1]).unique(return_inverse=True)
    alone = torch.bincount(own[~stray], minlength=len(known)) == 0
    kept = ~stray | alone[own]
    return Cells(own, kept, torch.bincount(own[kept]), _near_cells(known, width, alone), beside)


def heights(points: Float[Tensor, "N 3"], stray: Bool[Tensor, " N"], cell: float) -> Float[Tensor, " N"]:
    """Return the height of points above the floor, which follows slopes and not objects narrower than two cells.

    The low points of square cells (see `_low_points`), opened, and interpolated between the centers of cells. Stray
    points do not count (see `stray_points`). A floor depends on points up to `REACH` cells away.
    """
    cells = cells_of(points, stray, cell)
    return points[:, 2] - cells.at_points(cells.opened(_low_points(points, cells, cell)))


def valley_heights(points: Float[Tensor, "N 3"], stray: Bool[Tensor, " N"], cell: float) -> Float[Tensor, " N"]:
    """Return the height of points above the lowest ground around them, which does not follow slopes.

    The lowest of the low points (see `_low_points`) of nine square cells, interpolated between the centers of cells. Of
    cells with few points, whose lowest may be a stray one, only if all nine have few: then that of a point's own. It
    depends on points up to `VALLEY_REACH` cells away.
    """
    cells = cells_of(points, stray, cell)
    low = _low_points(points, cells, cell)
    valley = low.masked_fill(cells.count * LOW < 1, torch.inf)[cells.near].amin(1)
    return points[:, 2] - cells.at_points(torch.where(valley.isinf(), low, valley))


def local_floors(
    points: Float[Tensor, "N 3"], lowest: Float[Tensor, " N"], stray: Bool[Tensor, " N"], cell: float
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """Return the height of the lowest points near each point: in cells of side ``cell``, and of twice that, opened.

    Both are interpolated between the centers of cells. ``lowest``: height of the lowest point that each one stands for.
    """
    floors = []
    for side, opens in ((cell, False), (2 * cell, True)):
        cells = cells_of(points, stray, side)
        floor = cells.lowest(lowest)
        floors.append(cells.at_points(cells.opened(floor) if opens else floor))
    return tuple(floors)


def _low_points(points: Float[Tensor, "N 3"], cells: Cells, thick: float) -> Float[Tensor, " V"]:
    """Return the height of the low points of each cell: the `LOW` quantile.

    Points that many scans have scattered below the ground do not count, see `_low`.
    """
    height, own = points[cells.kept, 2], cells.own[cells.kept]
    by_height = height.argsort(stable=True)
    order = by_height[own[by_height].argsort(stable=True)]
    return _low(height[order], cells.count, thick)


def _low(height: Float[Tensor, " N"], count: Int[Tensor, " V"], thick: float) -> Float[Tensor, " V"]:
    """Return the `LOW` quantile of the heights of each cell, above the points that are no layer.

    A layer is the share `LOW` of the points within ``thick``; if there is none, all points count.
    ``height``: of the points, cell by cell, sorted in each; ``count``: points of each cell.
    """
    start, more = count.cumsum(0) - count, ((count - 1) * LOW).long()
    cell = torch.arange(len(count)).repeat_interleave(count)
    top = torch.arange(len(height)) + more[cell]
    inside = top < (start + count)[cell]
    layer = torch.where(inside & (height[top.clamp(max=len(height) - 1)] - height <= thick))[0]
    first = start.scatter_reduce(0, cell[layer], layer, "amin", include_self=False)
    return height[first + more]


def _near_cells(known: Int[Tensor, " V"], width: int, alone: Bool[Tensor, " V"]) -> Int[Tensor, "V 9"]:
    """Return the nine cells around each cell, row by row; the cell itself in place of one not known, or ``alone``."""
    row, column = known // width, known % width
    near = []
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            wanted = (row + down) * width + column + right
            place = torch.searchsorted(known, wanted).clamp(max=len(known) - 1)
            there = (known[place] == wanted) & ~alone[place] & (column + right >= 0) & (column + right < width)
            near.append(torch.where(there, place, torch.arange(len(known))))
    return torch.stack(near, 1)
