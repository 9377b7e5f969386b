"""Corruptions of clouds for robustness tests: seven kinds in five levels of severity.

They follow ModelNet-C (Ren, Pan and Liu 2022, "Benchmarking and Analyzing Point Cloud Classification under
Corruptions"), whose numbers of points, for clouds of 1024, are shares of a cloud here. Random numbers depend only on
the name of the corruption, its level and the index of each cloud in the set.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from bixt3d.datasets.transforms.augment import rotate, rotation_matrices, scale_normals, select_points, take_points
from bixt3d.datasets.transforms.draws import Draws
from bixt3d.datasets.transforms.normalize import normalize_clouds
from bixt3d.types import CloudSet, Features, InputError

Clouds = dict[str, Tensor]
"""``xyz`` (S, N, 3) in the unit sphere and ``feats`` (S, N, F)."""

LEVELS = (1, 2, 3, 4, 5)
"""Levels of severity."""
MAX_CLUSTERS = 7


def corrupt(clouds: CloudSet, name: str, level: int, num_points: int) -> CloudSet:
    """Corrupt the first ``num_points`` points of every cloud, by the corruption of a name and level.

    Clouds have ``num_points`` points again: a random subset if the corruption adds points, repeated points if it
    removes some. Raises InputError for an unknown name or level.

    Example:
        >>> _, test = Shapes(test_per_class=1, num_points=128).load()
        >>> corrupt(test, "jitter", level=3, num_points=64).xyz.shape
        torch.Size([16, 64, 3])
    """
    if name not in CORRUPTIONS or level not in LEVELS:
        raise InputError(
            f"there is no corruption '{name}' of level {level}: {', '.join(CORRUPTIONS)}, in levels 1 to 5"
        )
    draws = Draws(torch.arange(len(clouds)), "corruption", name, level)
    points = take_points({"xyz": clouds.xyz.cpu(), "feats": clouds.feats.cpu()}, num_points)
    points = _resize(CORRUPTIONS[name](points, level, draws, clouds.features), num_points, draws)
    device = clouds.xyz.device
    return replace(clouds, xyz=points["xyz"].to(device), feats=points["feats"].to(device), parts=None)


def _scale(clouds: Clouds, level: int, draws: Draws, features: Features) -> Clouds:
    """Scale each axis by up to 1.6 to 2.0, or down by as much; normalize to the unit sphere again."""
    most = 1.5 + 0.1 * level
    factors = 1 / most + (most - 1 / most) * draws.uniform("scale", 1, 3)
    feats = features.apply(clouds["feats"], "normal", lambda normals: scale_normals(normals, factors))
    return {"xyz": normalize_clouds(clouds["xyz"] * factors), "feats": feats}


def _jitter(clouds: Clouds, level: int, draws: Draws, features: Features) -> Clouds:
    """Add Gaussian noise of standard deviation 0.01 to 0.05 to every coordinate."""
    return clouds | {"xyz": clouds["xyz"] + 0.01 * level * draws.normal("jitter", *clouds["xyz"].shape[1:])}


def _rotate(clouds: Clouds, level: int, draws: Draws, features: Features) -> Clouds:
    """Rotate about each axis, one after the other, by up to 6 to 30 degrees."""
    for axis in range(3):
        half = (2 * draws.uniform(f"rotate {axis}") - 1) * math.radians(3 * level)
        quaternions = torch.zeros(len(half), 4)
        quaternions[:, 0], quaternions[:, 1 + axis] = half.cos(), half.sin()
        turns = rotation_matrices(quaternions)
        turn = partial(rotate, turns)
        clouds = {"xyz": turn(clouds["xyz"]), "feats": features.apply(clouds["feats"], "normal", turn)}
    return clouds


def _drop_global(clouds: Clouds, level: int, draws: Draws, features: Features) -> Clouds:
    """Drop a random quarter to three quarters of the points."""
    num_points = clouds["xyz"].shape[1]
    kept = max(1, num_points * (7 - level) // 8)
    return select_points(clouds, draws.uniform("drop", num_points).argsort(dim=1, stable=True)[:, :kept])


def _drop_local(clouds: Clouds, level: int, draws: Draws, features: Features) -> Clouds:
    """Drop one to seven regions, 100 to 500 of 1024 points in total."""
    xyz = clouds["xyz"]
    num_clouds, num_points, _ = xyz.shape
    missing = num_points * 100 * level // 1024
    _, sizes = _clusters(missing, draws)
    left = torch.ones(num_clouds, num_points, dtype=torch.bool)
    for place, size in enumerate(sizes.unbind(1)):
        middle = (draws.uniform(f"middle {place}", num_points) * left).argmax(1)
        distance = (xyz - xyz[torch.arange(num_clouds), middle][:, None]).square().sum(2).where(left, torch.inf)
        left &= distance.argsort(dim=1, stable=True).argsort(1) >= size[:, None]
    return select_points(clouds, left.int().argsort(dim=1, descending=True, stable=True)[:, : num_points - missing])


def _add_global(clouds: Clouds, level: int, draws: Draws, features: Features) -> Clouds:
    """Add 10 to 50 points to 1024, uniform in the unit sphere; each gets the feats of a random point."""
    num_points = clouds["xyz"].shape[1]
    count = max(1, num_points * 10 * level // 1024)
    direction = functional.normalize(draws.normal("direction", count, 3), dim=2)
    added = direction * draws.uniform("radius", count, 1) ** (1 / 3)
    return _add(clouds, added, (draws.uniform("like", count) * num_points).long())


def _add_local(clouds: Clouds, level: int, draws: Draws, features: Features) -> Clouds:
    """Add 100 to 500 points to 1024, in clusters about one to seven points, whose feats they get."""
    num_points = clouds["xyz"].shape[1]
    which, _ = _clusters(num_points * 100 * level // 1024, draws)
    middles = (draws.uniform("middles", MAX_CLUSTERS) * num_points).long().gather(1, which)
    spread = (0.075 + 0.05 * draws.uniform("spread", MAX_CLUSTERS)).gather(1, which)
    noise = draws.normal("noise", which.shape[1], 3) * spread[:, :, None]
    added = select_points(clouds, middles)["xyz"] + noise
    return _add(clouds, added / added.norm(dim=2, keepdim=True).clamp_min(1), middles)


CORRUPTIONS: Mapping[str, Callable[[Clouds, int, Draws, Features], Clouds]] = {
    "scale": _scale,
    "jitter": _jitter,
    "rotate": _rotate,
    "drop_global": _drop_global,
    "drop_local": _drop_local,
    "add_global": _add_global,
    "add_local": _add_local,
}
"""The corruptions by name."""


def _clusters(total: int, draws: Draws) -> tuple[Int[Tensor, "S total"], Int[Tensor, "S clusters"]]:
    """Assign ``total`` points of each cloud to one to seven clusters; return the cluster of each, and the sizes."""
    number = 1 + (draws.uniform("number", 1) * MAX_CLUSTERS).long()
    which = (draws.uniform("which", total) * number).long()
    sizes = torch.zeros(len(which), MAX_CLUSTERS, dtype=torch.int64)
    return which, sizes.scatter_add_(1, which, torch.ones_like(which))


def _add(clouds: Clouds, added: Float[Tensor, "S M 3"], like_index: Int[Tensor, "S M"]) -> Clouds:
    feats = select_points(clouds, like_index)["feats"]
    return {"xyz": torch.cat([clouds["xyz"], added], 1), "feats": torch.cat([clouds["feats"], feats], 1)}


def _resize(clouds: Clouds, num_points: int, draws: Draws) -> Clouds:
    """Return clouds of ``num_points`` points: a random subset, or all of them and random repetitions."""
    size = clouds["xyz"].shape[1]
    if size == num_points:
        return clouds
    index = draws.uniform("choice", size).argsort(dim=1, stable=True)[:, :num_points]
    again = (draws.uniform("again", num_points - index.shape[1]) * size).long()
    return select_points(clouds, torch.cat([index, again], 1))
