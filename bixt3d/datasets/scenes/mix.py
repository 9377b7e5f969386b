"""Mix of two scenes, an augmentation."""

import torch
from torch import Tensor

from bixt3d.datasets.transforms.augment import select_points
from bixt3d.datasets.transforms.draws import Draws


def mix_scenes(batch: dict[str, Tensor], rate: float, draws: Draws) -> dict[str, Tensor]:
    """Lay the middle of a crop over the middle of the previous crop of the batch, so that context is less certain.

    As Mix3D (Nekrasov et al. 2021), but with the number of points and the density of one crop: each gives the half of
    its points that is nearest to its axis. The first crop, which has no previous one, is left out. A crop is mixed with
    probability ``rate``.
    """
    count = batch["xyz"].shape[1]
    near = batch["xyz"][..., :2].square().sum(2).argsort(1)
    own, previous = ({key: value[part] for key, value in batch.items()} for part in (slice(1, None), slice(-1)))
    middle = select_points(own, near[1:, : count - count // 2])
    other = select_points(previous, near[:-1, : count // 2])
    mixed = (draws.uniform("mixed")[1:] < rate)[:, None]
    points = {key: torch.cat([middle[key], other[key]], 1) for key in ("xyz", "feats", "labels")}
    masks = {"xyz": mixed[..., None], "feats": mixed[..., None], "labels": mixed}
    return own | {key: torch.where(masks[key], value, own[key]) for key, value in points.items()}
