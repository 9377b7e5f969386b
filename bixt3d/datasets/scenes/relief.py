"""Random relief under scenes, an augmentation."""

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
from bixt3d.datasets.transforms.draws import Draws
from bixt3d.types import Features

RATE, CONES = 0.3, 8
"""Probability that a crop is changed; cones that are laid under it."""
NARROW, WIDE = 5.0, 40.0
"""Smallest and largest radius of a cone, in voxels."""


def raise_scenes(
    batch: dict[str, Tensor], relief: float, features: Features, grid: float, draws: Draws
) -> dict[str, Tensor]:
    """Lay some crops over random hills, hollows and cliffs, and compute floor, heights and shapes again.

    Args:
        batch: crops; ``xyz`` in voxels, from the floor under the center of the crop.
        relief: largest height of the hills and depth of the hollows, in voxels; uniform from 0.
        features: names of the columns of ``feats``; ``height`` is in units of the scene.
        grid: side of a voxel.
    """
    raised, cones = draws.uniform("raised").cpu() < RATE, draws.uniform("cones", 4 * CONES).cpu()
    size = relief * draws.uniform("relief").cpu()
    xyz, feats = batch["xyz"].cpu().clone(), batch["feats"].cpu().clone()
    for i in raised.nonzero().flatten().tolist():
        points, before = xyz[i], xyz[i].clone()
        stray = stray_points(points, float(STRAY_CELL))
        points[:, 2] += size[i] * hills(points[:, :2], cones[i].view(CONES, 4))
        above = heights(points, stray, float(CELL))
        center = points[:, :2].square().sum(1).argmin()
        points[:, 2] -= points[center, 2] - above[center]
        if HEIGHT in features.columns:
            features.take(feats[i], HEIGHT.name)[:, 0] = grid * above.clamp(-HIGHEST, HIGHEST)
        if LOG_HEIGHT in features.columns:
            read = features.take(feats[i], LOG_HEIGHT.name)
            change = _valley(points, stray) - _valley(before, stray).clamp(-VALLEY_HIGHEST, VALLEY_HIGHEST)
            valley = compress(decompress(read[:, 1], 1.0) + change, 1.0, VALLEY_HIGHEST)
            read.copy_(torch.stack([compress(above, 1.0), valley], 1))
        if LOCAL_HEIGHT in features.columns:
            read = features.take(feats[i], LOCAL_HEIGHT.name)
            change = _local_heights(points, stray) - _local_heights(before, stray).clamp(-LOCAL_HIGHEST, LOCAL_HIGHEST)
            read.copy_(compress(decompress(read, 1.0) + change, 1.0))
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


def hills(places: Float[Tensor, "N 2"], drawn: Float[Tensor, "K 4"]) -> Float[Tensor, " N"]:
    """Return a height from -1 to 1 at each place: the sum of cones around some of the places, cut off.

    ``drawn``: numbers from 0 to 1 for each cone: place, radius, height, and how steep it is below its flat top.
    """
    center = places[(drawn[:, 0] * len(places)).long().clamp(max=len(places) - 1)]
    radius, height, steep = NARROW * (WIDE / NARROW) ** drawn[:, 1], 2 * drawn[:, 2] - 1, 1 + 3 * drawn[:, 3]
    cones = (steep * (1 - torch.cdist(places, center) / radius)).clamp(0, 1)
    return (height * cones).sum(1).clamp(-1, 1)
