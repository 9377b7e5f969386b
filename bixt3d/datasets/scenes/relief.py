"""Random relief under scenes, an augmentation."""

import torch
from jaxtyping import Float
from torch import Tensor

from bixt3d.datasets.scenes.changed_heights import change_heights
from bixt3d.datasets.transforms.draws import Draws
from bixt3d.types import Features

RATE, CONES = 0.3, 8
"""Probability that a crop is changed; cones that are laid under it."""
NARROW = 5.0
"""Smallest radius of a cone, in voxels: half of its width."""


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
    size, xyz = relief * draws.uniform("relief").cpu(), batch["xyz"].cpu()
    changes = {i: size[i] * hills(xyz[i, :, :2], cones[i].view(CONES, 4)) for i in raised.nonzero().flatten().tolist()}
    return change_heights(batch, changes, features, grid)


def hills(places: Float[Tensor, "N 2"], drawn: Float[Tensor, "K 4"]) -> Float[Tensor, " N"]:
    """Return a height from -1 to 1 at each place: the sum of cones around some of the places, cut off.

    ``places``: from the center of the crop. ``drawn``: numbers from 0 to 1 for each cone: place, radius, height, and
    how steep it is below its flat top. Cones are at most as wide as the crop: crops of sparse scans have slopes too.
    """
    center = places[(drawn[:, 0] * len(places)).long().clamp(max=len(places) - 1)]
    widest = places.norm(dim=1).amax().clamp(min=NARROW)
    radius, height, steep = NARROW * (widest / NARROW) ** drawn[:, 1], 2 * drawn[:, 2] - 1, 1 + 3 * drawn[:, 3]
    cones = (steep * (1 - torch.cdist(places, center) / radius)).clamp(0, 1)
    return (height * cones).sum(1).clamp(-1, 1)
