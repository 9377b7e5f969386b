"""Tilt of scenes, an augmentation."""

import math

import torch
from torch import Tensor

from bixt3d.datasets.scenes.scene import CELL, HEIGHT, HIGHEST, heights
from bixt3d.datasets.transforms.draws import Draws
from bixt3d.types import Features


def tilt_scenes(
    batch: dict[str, Tensor], slope: float, features: Features, grid: float, draws: Draws
) -> dict[str, Tensor]:
    """Shear crops along z, so that flat ground becomes a slope, and compute floor and heights again.

    The direction is uniform; the gradient is ``slope`` (1: 45 degrees) times the square of a uniform number.

    Args:
        batch: crops; ``xyz`` in voxels, from the floor under the center of the crop.
        features: names of the columns of ``feats``; ``height`` is in units of the scene.
        grid: side of a voxel.
    """
    angle, size = draws.uniform("tilt", 2).cpu().unbind(1)
    gradient = (slope * size.square() * torch.stack([(2 * math.pi * angle).cos(), (2 * math.pi * angle).sin()])).T
    xyz, feats = batch["xyz"].cpu().clone(), batch["feats"].cpu().clone()
    xyz[..., 2] += (xyz[..., :2] * gradient[:, None]).sum(2)
    for points, columns in zip(xyz, feats, strict=True):
        above = heights(points, float(CELL))
        center = points[:, :2].square().sum(1).argmin()
        points[:, 2] -= points[center, 2] - above[center]
        if HEIGHT in features.columns:
            features.take(columns, HEIGHT.name)[:, 0] = grid * above.clamp(-HIGHEST, HIGHEST)
    xyz[..., 2].clamp_(-HIGHEST, HIGHEST)
    return batch | {"xyz": xyz.to(batch["xyz"].device), "feats": feats.to(batch["feats"].device)}
