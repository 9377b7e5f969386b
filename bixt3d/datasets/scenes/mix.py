"""Mix of two scenes, an augmentation."""

import torch
from jaxtyping import Bool
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
    mixed = draws.uniform("mixed")[1:] < rate
    previous = {key: value[:-1] for key, value in batch.items()}
    own = {key: value[1:] for key, value in batch.items()}
    inner = _halves(own, near[1:], count - count // 2), _halves(previous, near[:-1], count // 2)
    return own | {
        key: torch.where(_like(mixed, own[key]), torch.cat([inner[0][key], inner[1][key]], 1), own[key])
        for key in ("xyz", "feats", "labels")
    }


def _halves(batch: dict[str, Tensor], near: Tensor, count: int) -> dict[str, Tensor]:
    return select_points(batch, near[:, :count])


def _like(mixed: Bool[Tensor, " B"], values: Tensor) -> Tensor:
    return mixed.view(-1, *[1] * (values.ndim - 1))
