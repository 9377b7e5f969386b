"""One scene: the voxels that a model reads, and the way back to every original point."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from bixt3d.datasets.files.feature_columns import columns_of, select_features
from bixt3d.ops.voxels import voxel_grid
from bixt3d.types import Feature, Features, InputError

RESOLUTION = 1e6
"""Steps per unit of length to which positions are rounded: those of a shifted copy of a scene are then the same."""

HEIGHT = Feature("height", "scalar", 1)
"""The feature that is computed if no column has it: height above the floor (see `heights`)."""

HIGHEST = 256
"""Largest height that models read, in voxels: a few stray points far above would rule batch norm's statistics."""

MADE = 3
"""The number of this way to make scenes; caches of another one are made again."""

WIDE = 2**17
"""Extent in voxels from which on positions are in double precision: one stray point makes a scene as wide."""

CELL, LOW, REACH = 10, 0.05, 3.5
"""Of the floor: side of its cells in voxels, quantile of their heights, cells between a floor and its points."""


@dataclass(frozen=True, eq=False)
class Scene:
    """A scene as a voxel grid.

    Args:
        xyz: mean position of the points in each voxel, from the lowest coordinates of the scene, in its units.
        feats: mean features of each voxel.
        label: most frequent label in each voxel; -1: ignored.
        floor: height of the floor under each voxel (see `heights`).
        inverse: the voxel of each original point.
        point_label: label of each original point; -1: ignored.
        grid: side of a voxel.
    """

    xyz: Float[Tensor, "V 3"]
    feats: Float[Tensor, "V F"]
    label: Int[Tensor, " V"]
    floor: Float[Tensor, " V"]
    inverse: Int[Tensor, " N"]
    point_label: Int[Tensor, " N"]
    grid: float = 1.0
    name: str = "the scene"

    def __len__(self) -> int:
        return len(self.xyz)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by name, as they are cached."""
        return {one.name: value for one in fields(self) if isinstance(value := getattr(self, one.name), Tensor)}

    @cached_property
    def tree(self) -> Any:
        """The k-d tree of the voxels."""
        from scipy.spatial import KDTree

        return KDTree(self.xyz.numpy())

    @cached_property
    def flat_tree(self) -> Any:
        """The k-d tree of the voxels seen from above."""
        from scipy.spatial import KDTree

        return KDTree(self.xyz[:, :2].numpy())


def make_scene(
    xyz: Float[np.ndarray, "N 3"],
    columns: Mapping[str, Shaped[np.ndarray, "N _"]],
    label: Int[np.ndarray, " N"],
    features: Features,
    grid: float,
    name: str = "the scene",
    origin: Float[np.ndarray, "3"] | None = None,
) -> Scene:
    """Return the scene of labelled points: one voxel of side ``grid`` for all points in it.

    ``columns``: features by name, unconverted. ``origin``: a corner of the grid, from which positions are measured; by
    default the lowest coordinates. Raises InputError for a feature that is missing or not finite.
    """
    low = xyz.min(0) if origin is None else origin
    points = torch.from_numpy(from_origin(xyz, low))
    try:
        voxels = voxel_grid(points, grid)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    position = voxels.mean(points)
    floor = position[:, 2] - heights(position, CELL * grid)
    if HEIGHT in features.columns and not columns_of(HEIGHT, columns, name):
        height = (points[:, 2] - floor[voxels.inverse]).clamp(-HIGHEST * grid, HIGHEST * grid)
        columns = {**columns, "height": height[:, None].numpy()}
    del points  # of a large scene: they would be in memory beside its features
    feats = select_features(columns, features, name) if features else np.zeros((len(xyz), 0), np.float32)
    mean = voxels.mean(torch.from_numpy(feats).double())
    for normal in features.slices("normal"):
        mean[:, normal] = torch.nn.functional.normalize(mean[:, normal], dim=1)
    labels = torch.from_numpy(label.astype(np.int64, copy=False))
    if not position.amax() > WIDE * grid:
        position, floor = position.float(), floor.float()
    tensors = (position, mean.float(), voxels.majority(labels), floor)
    return Scene(*tensors, voxels.inverse.int(), labels.int(), grid, name)


def from_origin(xyz: Float[np.ndarray, "N 3"], origin: Float[np.ndarray, "3"]) -> Float[np.ndarray, "N 3"]:
    """Return positions from an origin, rounded as `RESOLUTION` says."""
    found = xyz - origin
    found *= RESOLUTION
    np.round(found, out=found)
    found /= RESOLUTION
    return found


def heights(points: Float[Tensor, "N 3"], cell: float) -> Float[Tensor, " N"]:
    """Return the height of points above the floor, which follows slopes and not objects narrower than two cells.

    The low points of square cells (the `LOW` quantile of their heights; points that many scans have scattered below the
    floor do not count), opened (the lowest of nine cells, then the highest of nine), and interpolated between the
    centers of cells. A floor depends on points up to `REACH` cells away.
    """
    place = points[:, :2] / cell
    index = place.floor().long()
    corner = index.amin(0)
    index -= corner
    width = int(index[:, 1].max()) + 1
    known, own, count = (index[:, 0] * width + index[:, 1]).unique(return_inverse=True, return_counts=True)
    by_height = points[:, 2].argsort(stable=True)
    order = by_height[own[by_height].argsort(stable=True)]
    low = _low(points[order, 2], count, cell)
    near = _near_cells(known, width)
    floor = low[near].amin(1)[near].amax(1)
    beside = place - place.floor() - 0.5  # from the center of the cell
    x, y = beside.sign().long().unbind(1)
    along, across = beside.abs().unbind(1)
    corners = [floor[near[own, 3 * (1 + row) + 1 + column]] for row in (0 * x, x) for column in (0 * y, y)]
    first, second = (torch.lerp(corners[row], corners[row + 1], across) for row in (0, 2))
    return points[:, 2] - torch.lerp(first, second, along)


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


def _near_cells(known: Int[Tensor, " V"], width: int) -> Int[Tensor, "V 9"]:
    """Return the nine cells around each cell, row by row; in place of one without points the cell itself."""
    row, column = known // width, known % width
    near = []
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            wanted = (row + down) * width + column + right
            place = torch.searchsorted(known, wanted).clamp(max=len(known) - 1)
            there = (known[place] == wanted) & (column + right >= 0) & (column + right < width)
            near.append(torch.where(there, place, torch.arange(len(known))))
    return torch.stack(near, 1)
