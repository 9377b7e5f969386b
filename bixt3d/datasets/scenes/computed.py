"""Features that are computed from the positions of a scene."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from bixt3d.datasets.files.cloud import Cloud
from bixt3d.datasets.files.feature_columns import columns_of
from bixt3d.datasets.scenes.heights import local_floors
from bixt3d.io.bounds import listed
from bixt3d.ops.voxels import VoxelGrid
from bixt3d.types import Feature, Features, InputError

HEIGHT = Feature("height", "scalar", 1)
LOCAL_HEIGHT = Feature("local_height", "scalar", 2)
DENSITY = Feature("density", "scalar", 1)
COMPUTED = (HEIGHT, LOCAL_HEIGHT, DENSITY)
"""The features that are computed if no column has them.

``height``: above the floor (see `heights`). ``local_height:2``: above the lowest points nearby, in cells of 4 and of 8
voxels (see `local_floors`), as sign * log(1 + |height| / (voxel / 5)). ``density``: log of the number of points in the
voxel.
"""

HIGHEST = 256
"""Largest height that models read, in voxels: a few stray points far above would rule batch norm's statistics."""

LOCAL_CELL, FINEST, LOCAL_HIGHEST = 4, 0.2, 6.0
"""Of local heights, in voxels: side of the cells, the unit within the logarithm, the largest."""


def with_computed(
    columns: Mapping[str, Shaped[np.ndarray, "N _"]],
    features: Features,
    points: Float[Tensor, "N 3"],
    voxels: VoxelGrid,
    floor: Float[Tensor, " V"],
    grid: float,
    name: str,
) -> Mapping[str, Shaped[np.ndarray, "N _"]]:
    """Return the columns of a scene's points with those of the features that are computed and that no column has.

    Raises InputError for such a feature of another width or kind.
    """
    missing = [one for one in features.columns if not columns_of(one, columns, name)]
    for one in COMPUTED:
        if others := [other for other in missing if other.name == one.name and other != one]:
            raise InputError(f"{name} has no {others[0].name}: write {one}, which is computed, not {others[0]}")
    wanted = [one for one in COMPUTED if one in missing]
    found = {}
    if HEIGHT in wanted:
        found["height"] = (points[:, 2] - floor[voxels.inverse]).clamp(-HIGHEST * grid, HIGHEST * grid)[:, None]
    if LOCAL_HEIGHT in wanted:
        lowest = -voxels.max(-points[:, 2])
        floors = local_floors(voxels.mean(points), lowest, LOCAL_CELL * grid)
        above = [compress(points[:, 2] - low[voxels.inverse], grid) for low in floors]
        found["local_height"] = torch.stack(above, 1)
    if DENSITY in wanted:
        found["density"] = voxels.count.double().log()[voxels.inverse][:, None]
    return {**columns, **{feature: values.numpy() for feature, values in found.items()}}


def note_columns(cloud: Cloud, features: Features) -> Cloud:
    """Return the cloud with a note of the features that would be computed if it had no column of that name."""
    own = [one.name for one in COMPUTED if one in features.columns and columns_of(one, cloud.columns, cloud.name)]
    note = f"{listed(own)} taken from the file, not computed"
    return replace(cloud, notes=(*cloud.notes, note)) if own else cloud


def compress(height: Float[Tensor, "*N"], grid: float) -> Float[Tensor, "*N"]:
    """Return local heights as models read them: small ones spread, large ones cut off."""
    voxels = height.abs().clamp(max=LOCAL_HIGHEST * grid) / grid
    return height.sign() * (voxels / FINEST).log1p()


def decompress(read: Float[Tensor, "*N"], grid: float) -> Float[Tensor, "*N"]:
    """Return the local heights that `compress` turned into these, as far as they were not cut off."""
    return read.sign() * read.abs().expm1() * FINEST * grid
