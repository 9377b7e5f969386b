"""Blocks: rectangles of a large scene, seen from above, that are labelled one after the other."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, inf, pi, sqrt

import numpy as np
from jaxtyping import Bool, Float

from bixt3d.datasets.scenes.computed import GEOMETRY_CELLS, LOCAL_CELL
from bixt3d.datasets.scenes.eigenfeatures import FARTHEST
from bixt3d.datasets.scenes.heights import CELL, REACH, VALLEY_CELL, VALLEY_REACH
from bixt3d.datasets.scenes.strays import STRAY_CELL, STRAY_REACH

SAMPLE = 200_000
"""Points from which blocks are planned."""
FLOORS = max(REACH * max(CELL, 2 * LOCAL_CELL), VALLEY_REACH * VALLEY_CELL)
FLOOR = ceil(max(FLOORS + STRAY_REACH * STRAY_CELL, 2 * max(GEOMETRY_CELLS), FARTHEST))
"""Least margin in voxels: computed features of a voxel depend on points as far away (see `computed`)."""


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
    A block stays whole if more than half of its points would be in both halves, as they are so narrow: so the blocks of
    a scene that is very dense in one place have more points.

    The margin is how far outside of a block points count for the labels in it: the diameter of a window on flat ground,
    or, where the scan is sparse, of as many points; at most a quarter of the side of a square of ``most`` points, at
    least what computed features need.

    Args:
        xyz: sample of the points, from the lowest coordinates of the scene.
        total: number of points of the scene.
        most: number of points of a block with its margin.
        window: voxels of a window.
        grid: side of a voxel.
    """
    if total <= most:
        return [Block()], 0.0
    least = FLOOR * grid
    covered = len(np.unique(np.floor(xyz[:, :2] / least), axis=0)) * least**2
    radius, side = sqrt(window / pi * max(grid**2, covered / total)), sqrt(covered * most / total)
    margin = max(least, min(2 * radius, side / 4))
    return list(_halves(Block(), xyz, most * len(xyz) / total, margin, grid)), margin


def _halves(block: Block, xyz: Float[np.ndarray, "S 3"], most: float, margin: float, grid: float) -> Iterator[Block]:
    held, own = (xyz[block.holds(xyz, around), :2] for around in (margin, 0.0))
    if len(held) > most:
        axis = int(np.ptp(held, axis=0).argmax())
        first, last = held[:, axis].min() + 1.5 * margin, held[:, axis].max() - 1.5 * margin
        if first >= last:
            yield block
            return
        cut = round(float(np.clip(np.median((own if len(own) else held)[:, axis]), first, last)) / grid) * grid
        low, high = list(block.low), list(block.high)
        low[axis] = high[axis] = cut
        halves = Block(block.low, tuple(high)), Block(tuple(low), block.high)
        if sum(half.holds(xyz, margin).sum() for half in halves) <= 1.5 * len(held):
            for half in halves:
                yield from _halves(half, xyz, most, margin, grid)
            return
    yield block
