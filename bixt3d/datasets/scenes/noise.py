"""Noise above and below scenes, an augmentation."""

from torch import Tensor

from bixt3d.datasets.scenes.changed_heights import change_heights
from bixt3d.datasets.transforms.draws import Draws
from bixt3d.types import VOID, Features

RATE, FARTHEST = 0.3, 160.0
"""Probability that a crop is changed; how far its points are moved up or down at most, in voxels."""


def scatter_scenes(
    batch: dict[str, Tensor], share: float, features: Features, grid: float, draws: Draws
) -> dict[str, Tensor]:
    """Move some points of some crops up or down as noise, and compute floor, heights and shapes of the crops again.

    The points that are moved lose their label: models learn to label the others in spite of them.

    Args:
        batch: crops; ``xyz`` in voxels, from the floor under the center of the crop; ``labels``.
        share: the largest share of the points of a crop that are moved; uniform from 0.
        features: names of the columns of ``feats``; ``height`` is in units of the scene.
        grid: side of a voxel.
    """
    count = batch["xyz"].shape[1]
    moved = draws.uniform("moved", count) < share * draws.uniform("share", 1)
    moved &= (draws.uniform("scattered") < RATE)[:, None]
    change = (FARTHEST * (2 * draws.uniform("change", count) - 1) * moved).cpu()
    changes = {i: change[i] for i in moved.any(1).nonzero().flatten().tolist()}
    return change_heights(batch, changes, features, grid) | {"labels": batch["labels"].masked_fill(moved, VOID)}
