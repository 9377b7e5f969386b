"""Blocks: rectangles of a large scene, seen from above, that are labelled one after the other."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, pi, sqrt

import numpy as np
from jaxtyping import Bool, Float

from bixt3d.datasets.scenes.computed import LOCAL_CELL
from bixt3d.datasets.scenes.heights import CELL, REACH

SAMPLE = 200_000
"""Points from which blocks are planned."""
FLOOR = int(REACH * max(CELL, 2 * LOCAL_CELL))
"""Least margin in voxels: heights in a voxel depend on points as far away (see `heights` and `local_floors`)."""


@dataclass(frozen=True)
class Block:
    """A rectangle: lowest (included) and highest (excluded) x and y, infinite at the border of the scene."""

    low: tuple[float, float] = (-inf, -inf)
    high: tuple[float, float] = (inf, inf)

    def holds(self, xyz: Float[np.ndarray, "N 3"], margin: float = 0.0) -> Bool[np.ndarray, " N"]:
        """Return the mask of points in the rectangle, or at most ``margin`` outside of it."""
        found = np.ones(len(xyz), bool)
        for axis in range(2):
            if self.low[axis] > -inf:
                found &= xyz[:, axis] >= self.low[axis] - margin
            if self.high[axis] < inf:
                found &= xyz[:, axis] < self.high[axis] + margin
        return found


def sample_index(total: int) -> np.ndarray:
    """Return the indices of the points from which blocks are planned: a fixed random sample, in order."""
    if total <= SAMPLE:
        return np.arange(total)
    return np.unique(np.random.default_rng(0).integers(0, total, SAMPLE))


def plan_blocks(
    xyz: Float[np.ndarray, "S 3"], total: int, most: int, window: int, grid: float
) -> tuple[list[Block], float]:
    """Return blocks of at most ``most`` points each with their margin, as a sample of the scene tells; and the margin.

    A block with more is halved along its longer side, between two columns of voxels, so that no voxel is in two blocks.
    Blocks whose halves would be narrower than the margin stay whole.

    The margin is how far outside of a block points count for the labels in it: the radius of a window on flat ground,
    at most an eighth of the side of a block, at least what `heights` needs.

    Args:
        xyz: sample of the points, from the lowest coordinates of the scene.
        total: number of points of the scene.
        most: number of points of a block.
        window: voxels of a window.
        grid: side of a voxel.
    """
    if total <= most:
        return [Block()], 0.0
    side = sqrt(float(np.prod(np.ptp(xyz[:, :2], axis=0))) * most / total)
    margin = max(FLOOR * grid, min(sqrt(window / pi) * grid, side / 8))
    return list(_halves(Block(), xyz, most * len(xyz) / total, margin, grid)), margin


def _halves(block: Block, xyz: Float[np.ndarray, "S 3"], most: float, margin: float, grid: float) -> Iterator[Block]:
    xy = xyz[block.holds(xyz), :2]
    if len(xy) and block.holds(xyz, margin).sum() > most:
        axis = int(np.ptp(xy, axis=0).argmax())
        cut = round(float(np.median(xy[:, axis])) / grid) * grid
        if min(cut - xy[:, axis].min(), xy[:, axis].max() - cut) > margin:
            low, high = list(block.low), list(block.high)
            low[axis] = high[axis] = cut
            for half in (Block(block.low, tuple(high)), Block(tuple(low), block.high)):
                yield from _halves(half, xyz, most, margin, grid)
            return
    yield block
