"""Scenes whose points change their heights."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bixt3d.datasets.scenes.computed import (
    EIGENFEATURES,
    GEOMETRY,
    HEIGHT,
    HIGHEST,
    LOCAL_CELL,
    LOCAL_HEIGHT,
    LOCAL_HIGHEST,
    LOG_HEIGHT,
    VALLEY_HIGHEST,
    compress,
    decompress,
    voxel_geometry,
)
from bixt3d.datasets.scenes.eigenfeatures import eigenfeatures
from bixt3d.datasets.scenes.heights import CELL, VALLEY_CELL, heights, local_floors, valley_heights
from bixt3d.datasets.scenes.strays import STRAY_CELL, stray_points
from bixt3d.types import Features


def change_heights(
    batch: dict[str, Tensor], changes: dict[int, Float[Tensor, " N"]], features: Features, grid: float
) -> dict[str, Tensor]:
    """Move the points of some crops up and down, and compute floor, heights and shapes again.

    Args:
        batch: crops; ``xyz`` in voxels, from the floor under the center of the crop.
        changes: for some of the crops, by their place in the batch: what is added to the height of each point.
        features: names of the columns of ``feats``; ``height`` is in units of the scene.
        grid: side of a voxel.
    """
    xyz, feats = batch["xyz"].cpu().clone(), batch["feats"].cpu().clone()
    for i, change in changes.items():
        points, before = xyz[i], xyz[i].clone()
        points[:, 2] += change
        stray, stray_before = (stray_points(one, float(STRAY_CELL)) for one in (points, before))
        above = heights(points, stray, float(CELL))
        center = points[:, :2].square().sum(1).argmin()
        points[:, 2] -= points[center, 2] - above[center]
        if HEIGHT in features.columns:
            read, flat = features.take(feats[i], HEIGHT.name), heights(before, stray_before, float(CELL))
            read[:, 0] += grid * (above.clamp(-HIGHEST, HIGHEST) - flat.clamp(-HIGHEST, HIGHEST))
        if LOG_HEIGHT in features.columns:
            read = features.take(feats[i], LOG_HEIGHT.name)
            flat = _valley(before, stray_before).clamp(-VALLEY_HIGHEST, VALLEY_HIGHEST)
            moved = _valley(points, stray) - flat
            valley = compress(decompress(read[:, 1], 1.0) + moved, 1.0, VALLEY_HIGHEST)
            read.copy_(torch.stack([compress(above, 1.0), valley], 1))
        if LOCAL_HEIGHT in features.columns:
            read = features.take(feats[i], LOCAL_HEIGHT.name)
            flat = _local_heights(before, stray_before).clamp(-LOCAL_HIGHEST, LOCAL_HIGHEST)
            moved = _local_heights(points, stray) - flat
            read.copy_(compress(decompress(read, 1.0) + moved, 1.0))
        if set(GEOMETRY) & set(features.columns):
            after, flat = voxel_geometry(points, 1.0), voxel_geometry(before, 1.0)
            for feature in set(GEOMETRY) & set(features.columns):
                read = features.take(feats[i], feature.name)
                read.copy_((read + after[feature] - flat[feature]).clamp(0, 1))
        if EIGENFEATURES in features.columns:
            distinct, own = points.unique(dim=0, return_inverse=True)  # small scenes are repeated
            features.take(feats[i], EIGENFEATURES.name).copy_(eigenfeatures(distinct, 1.0)[own])
    xyz[..., 2].clamp_(-HIGHEST, HIGHEST)
    return batch | {"xyz": xyz.to(batch["xyz"].device), "feats": feats.to(batch["feats"].device)}


def _valley(points: Float[Tensor, "N 3"], stray: Bool[Tensor, " N"]) -> Float[Tensor, " N"]:
    return valley_heights(points, stray, float(VALLEY_CELL))


def _local_heights(points: Float[Tensor, "N 3"], stray: Bool[Tensor, " N"]) -> Float[Tensor, "N 2"]:
    floors = local_floors(points, points[:, 2], stray, float(LOCAL_CELL))
    return points[:, 2:] - torch.stack(floors, 1)
