"""Whether the clouds of a set have a common pose: what rotation in training they need."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

SAME, ALIGNED = 0.93, 0.9
"""Largest ratio of spreads for a common pose, and for a common facing; measured on sets with and without them."""
DRAWS, FEWEST = 4, 3
"""Random turns of each class, and the fewest clouds of a class that is looked at."""


class Poses(NamedTuple):
    """How alike the clouds of a class lie: the spread of their moments, over that of the same clouds turned at random.

    Args:
        own: as they are; about 1 in any pose, below in a common one.
        turned: turned at random about x, y and z alone.
    """

    own: float
    turned: tuple[float, float, float]

    @property
    def rotate(self) -> str:
        """The setting ``augment.rotate`` for such clouds."""
        if self.own > SAME:
            return "so3"
        return self.up if self.own > ALIGNED * self.turned["xyz".index(self.up)] else "none"

    @property
    def up(self) -> str:
        """The axis, y or z, about which a turn changes least: the likelier one to point up."""
        return "y" if self.turned[1] < self.turned[2] else "z"

    def words(self) -> str:
        """Return what was found as text."""
        return {
            "so3": "clouds of a class lie in any pose",
            "none": "clouds of a class lie and face alike; which axis points up cannot be told",
        }.get(self.rotate, f"clouds of a class have {self.up} up, and face anywhere")


def find_poses(classes: Sequence[Sequence[Float[ndarray, "_ 3"]]], seed: int = 0) -> Poses | None:
    """Compare the poses of the clouds of each class, given in the unit sphere; None if no class has three clouds."""
    rng, ratios = np.random.default_rng(seed), []
    for clouds in classes:
        if len(clouds) < FEWEST:
            continue
        anyhow = np.mean([_spread([_turned(xyz, rng) for xyz in clouds]) for _ in range(DRAWS)])
        about = [np.mean([_spread([_turned(xyz, rng, a) for xyz in clouds]) for _ in range(DRAWS)]) for a in range(3)]
        if anyhow > 0:
            ratios.append([_spread(clouds) / anyhow, *(one / anyhow for one in about)])
    if not ratios:
        return None
    own, *turned = np.mean(ratios, axis=0).tolist()
    return Poses(own, tuple(turned))


def _spread(clouds: Sequence[Float[ndarray, "_ 3"]]) -> float:
    """Return the variance, over clouds, of their second moments and of the quantiles of their coordinates."""
    found = []
    for xyz in clouds:
        moments = xyz.T @ xyz
        quantiles = np.quantile(xyz, (0.05, 0.25, 0.5, 0.75, 0.95), axis=0)
        found.append(np.concatenate([moments.ravel() / moments.trace(), 0.5 * quantiles.ravel()]))
    return float(np.stack(found).var(0).sum())


def _turned(xyz: Float[ndarray, "N 3"], rng: np.random.Generator, axis: int | None = None) -> Float[ndarray, "N 3"]:
    """Return a cloud turned at random, about any axis or about one."""
    if axis is None:
        rotation, upper = np.linalg.qr(rng.normal(size=(3, 3)))
        rotation = rotation * np.sign(np.diag(upper))
        return xyz @ (rotation * np.sign(np.linalg.det(rotation)))
    angle, (i, j) = rng.uniform(0, 2 * np.pi), ((1, 2), (2, 0), (0, 1))[axis]
    rotation = np.eye(3)
    rotation[[i, i, j, j], [i, j, i, j]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
    return xyz @ rotation
