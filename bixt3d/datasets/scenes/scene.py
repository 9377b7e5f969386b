"""One scene: the voxels that a model reads, and the way back to every original point."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from bixt3d.datasets.files.cloud import Cloud
from bixt3d.datasets.scenes.computed import voxel_features
from bixt3d.datasets.scenes.heights import CELL, heights
from bixt3d.datasets.scenes.strays import STRAY_CELL, stray_points
from bixt3d.ops.voxels import voxel_grid
from bixt3d.types import Features, InputError

RESOLUTION = 1e6
"""Steps per unit of length to which positions are rounded: those of a shifted copy of a scene are then the same."""

MADE = 8
"""The number of this way to make scenes; caches of another one are made again."""

WIDE = 2**17
"""Extent in voxels from which on positions are in double precision: one stray point makes a scene as wide."""


def check_scene(cloud: Cloud, name: str) -> None:
    """Raise InputError for points of a mesh, and for a format with y up. ``name``: of the cloud in the sentence."""
    if cloud.from_mesh:
        raise InputError(f"{name} is a mesh: a scene is a cloud of points")
    if cloud.up == "y":
        raise InputError(f"{name} has y up, as its format defines it: write the scene with z up in another format")


def in_meters(xyz: Float[np.ndarray, "N 3"], meters: tuple[float, float] | None) -> Float[np.ndarray, "N 3"]:
    """Return positions in meters if their unit is known (see `Cloud.meters`); else as they are."""
    if meters in (None, (1.0, 1.0)):
        return xyz
    across, up = meters
    return xyz * (across, across, up)


def cloud_in_meters(cloud: Cloud) -> Cloud:
    """Return a cloud with positions in meters if their unit is known; a note says what was converted."""
    xyz, notes = in_meters(cloud.xyz, cloud.meters), unit_notes(cloud.meters)
    return replace(cloud, xyz=xyz, notes=(*cloud.notes, *notes)) if notes else cloud


def unit_notes(meters: tuple[float, float] | None) -> tuple[str, ...]:
    """Return a note if `in_meters` converts."""
    if meters in (None, (1.0, 1.0)):
        return ()
    across, up = meters
    return (f"x and y, in units of {across:.6g} m, and z, of {up:.6g} m, converted to meters for the model",)


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
    stray = stray_points(position, STRAY_CELL * grid)
    floor = position[:, 2] - heights(position, stray, CELL * grid)
    feats = voxel_features(columns, features, points, voxels, floor, stray, grid, name)
    del points
    labels = torch.from_numpy(label.astype(np.int64, copy=False))
    if not position.amax() > WIDE * grid:
        position, floor = position.float(), floor.float()
    tensors = (position, feats, voxels.majority(labels), floor)
    return Scene(*tensors, voxels.inverse.int(), labels.int(), grid, name)


def from_origin(xyz: Float[np.ndarray, "N 3"], origin: Float[np.ndarray, "3"]) -> Float[np.ndarray, "N 3"]:
    """Return positions from an origin, rounded as `RESOLUTION` says."""
    found = xyz - origin
    found *= RESOLUTION
    np.round(found, out=found)
    found /= RESOLUTION
    return found


def points_by_class(scene: Scene, num_classes: int) -> Int[np.ndarray, " C"]:
    """Return the number of points in the voxels of each class."""
    label = scene.label[scene.inverse.long()]
    return np.bincount(label[label >= 0].numpy(), minlength=num_classes)
