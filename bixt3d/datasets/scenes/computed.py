"""Features that are computed from the positions of a scene."""

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from bixt3d.datasets.files.cloud import Cloud
from bixt3d.datasets.files.feature_columns import LEAVE_OUT, columns_of, missing_features, select_features
from bixt3d.datasets.scenes.eigenfeatures import eigenfeatures
from bixt3d.datasets.scenes.geometry import geometric_features
from bixt3d.datasets.scenes.heights import VALLEY_CELL, local_floors, valley_heights
from bixt3d.io.bounds import listed
from bixt3d.ops.voxels import VoxelGrid
from bixt3d.types import Feature, Features, InputError

HEIGHT = Feature("height", "scalar", 1)
LOG_HEIGHT = Feature("log_height", "scalar", 2)
LOCAL_HEIGHT = Feature("local_height", "scalar", 2)
GEOMETRY = tuple(Feature(name, "scalar", 2) for name in ("linearity", "planarity", "scattering", "verticality"))
EIGENFEATURES = Feature("eigenfeatures", "scalar", 10)
COMPUTED = (HEIGHT, LOG_HEIGHT, LOCAL_HEIGHT, *GEOMETRY, EIGENFEATURES)
"""The features that are computed if no column has them.

``height``: above the floor (see `heights`). ``log_height:2``: the same, cut off at 6 voxels, and the height above the
lowest ground around (see `valley_heights`), cut off at 60; each as sign * log(1 + |height| / (voxel / 5)).
``local_height:2``: above the lowest points nearby, in cells of 4 and of 8 voxels (see `local_floors`), as the first.
``linearity:2``, ``planarity:2``, ``scattering:2``, ``verticality:2``: how much what lies nearby is a line, a plane or a
volume, and how steep it is; in 27 cells with sides of 1 and of 3 voxels (see `geometric_features`).
``eigenfeatures:10``: the same of the 8 and of the 64 nearest voxels, and how rough it is (see `eigenfeatures`).
"""

HIGHEST = 256
"""Largest height that models read, in voxels: a few stray points far above would rule batch norm's statistics."""

LOCAL_CELL, FINEST, LOCAL_HIGHEST, VALLEY_HIGHEST = 4, 0.2, 6.0, 60.0
"""Of logarithmic heights, in voxels: side of local cells, the unit within the logarithm, the largest heights."""

GEOMETRY_CELLS = (1, 3)
"""Of the geometric features: sides of the cells in voxels."""


def voxel_features(
    columns: Mapping[str, Shaped[np.ndarray, "N _"]],
    features: Features,
    points: Float[Tensor, "N 3"],
    voxels: VoxelGrid,
    floor: Float[Tensor, " V"],
    stray: Bool[Tensor, " V"],
    grid: float,
    name: str,
) -> Float[Tensor, "V F"]:
    """Return the features of voxels: the mean of the columns of their points; computed where no column has them.

    Raises InputError for a feature that is missing or not finite, and for one that would be computed, but has another
    width or kind.
    """
    missing = [one for one in features.columns if not _own_columns(one, columns, name)]
    for one in COMPUTED:
        if others := [other for other in missing if other.name == one.name and other != one]:
            raise InputError(f"{name} has no {others[0].name}: write {one}, which is computed, not {others[0]}")
    if fault := missing_features([one for one in missing if one not in COMPUTED], columns, name):
        raise InputError(f"{name} {fault}; {LEAVE_OUT}")
    found = _compute([one for one in COMPUTED if one in missing], points, voxels, floor, stray, grid)
    for one in features.columns:
        if one not in found:
            found[one] = _mean(torch.from_numpy(select_features(columns, Features((one,)), name)), voxels)
        if one.kind == "normal":
            found[one] = torch.nn.functional.normalize(found[one], dim=1)
    return torch.cat([points.new_zeros(len(voxels), 0), *(found[one] for one in features.columns)], 1).float()


def _compute(
    wanted: Collection[Feature],
    points: Float[Tensor, "N 3"],
    voxels: VoxelGrid,
    floor: Float[Tensor, " V"],
    stray: Bool[Tensor, " V"],
    grid: float,
) -> dict[Feature, Float[Tensor, "V _"]]:
    found, position = {}, voxels.mean(points)
    if HEIGHT in wanted:
        above = points[:, 2] - floor[voxels.inverse]
        found[HEIGHT] = _mean(above.clamp(-HIGHEST * grid, HIGHEST * grid)[:, None], voxels)
    if LOG_HEIGHT in wanted:
        valley = valley_heights(position, stray, VALLEY_CELL * grid)
        logs = compress(position[:, 2] - floor, grid), compress(valley, grid, VALLEY_HIGHEST)
        found[LOG_HEIGHT] = torch.stack(logs, 1)
    if LOCAL_HEIGHT in wanted:
        lowest = -voxels.max(-points[:, 2])
        floors = local_floors(position, lowest, stray, LOCAL_CELL * grid)
        heights = [_mean(compress(points[:, 2] - low[voxels.inverse], grid)[:, None], voxels) for low in floors]
        found[LOCAL_HEIGHT] = torch.cat(heights, 1)
    if EIGENFEATURES in wanted:
        found[EIGENFEATURES] = eigenfeatures(position, grid)
    shapes = voxel_geometry(position, grid) if set(GEOMETRY) & set(wanted) else {}
    return found | {one: values for one, values in shapes.items() if one in wanted}


def _mean(values: Float[Tensor, "N W"], voxels: VoxelGrid) -> Float[Tensor, "V W"]:
    """Return the mean of values in each voxel, in double precision; the values are float32, as models read them."""
    return voxels.mean(values.float().double())


def voxel_geometry(points: Float[Tensor, "N 3"], grid: float) -> dict[Feature, Float[Tensor, "N 2"]]:
    """Return the geometric features of voxels, by their positions."""
    scales = [geometric_features(points, cell * grid) for cell in GEOMETRY_CELLS]
    return dict(zip(GEOMETRY, torch.stack(scales, 2).unbind(1), strict=True))


def note_columns(cloud: Cloud, features: Features) -> Cloud:
    """Return the cloud with notes of the features that are computed if no column has them, and that it has.

    Columns of the same name, but of another width, such as PDAL's ``Planarity``, are not taken.
    """
    notes = list(cloud.notes)
    named = [one for one in COMPUTED if one in features.columns and columns_of(one, cloud.columns, cloud.name)]
    own = [one.name for one in named if _own_columns(one, cloud.columns, cloud.name)]
    others = [one.name for one in named if one.name not in own]
    notes += [f"{listed(own)} taken from the file, not computed"] if own else []
    notes += [f"{listed(others)} computed, as the columns of the file have another width"] if others else []
    return replace(cloud, notes=tuple(notes))


def _own_columns(feature: Feature, columns: Mapping[str, Shaped[np.ndarray, "N _"]], name: str) -> list[str]:
    """Return the columns of a feature; none if it can be computed and they have another width."""
    found = columns_of(feature, columns, name)
    other_width = sum(columns[one].shape[1] for one in found) != feature.width
    return [] if feature in COMPUTED and other_width else found


def compress(height: Float[Tensor, "*N"], grid: float, highest: float = LOCAL_HIGHEST) -> Float[Tensor, "*N"]:
    """Return heights on a logarithmic scale: small ones spread, those above ``highest`` voxels cut off."""
    voxels = height.abs().clamp(max=highest * grid) / grid
    return height.sign() * (voxels / FINEST).log1p()


def decompress(read: Float[Tensor, "*N"], grid: float) -> Float[Tensor, "*N"]:
    """Return the heights that `compress` turned into these, as far as they were not cut off."""
    return read.sign() * read.abs().expm1() * FINEST * grid
