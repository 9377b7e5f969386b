"""Type of a recipe: a function that draws a random style and proportions of an object and returns its meshes."""

from collections.abc import Callable

from numpy.random import Generator

from bixt3d.datasets.files.surface import Mesh

Solids = dict[str, list[Mesh]]
"""The meshes of each part by its name; a part that the object does not have is missing or empty."""

Recipe = Callable[[Generator], Solids]
"""Returns an object upright along y, its front towards +z, of any size and position."""


def optional(rng: Generator, chance: float, meshes: list[Mesh]) -> list[Mesh]:
    """Return the meshes with probability ``chance``, else none."""
    return meshes if maybe(rng, chance) else []


def maybe(rng: Generator, chance: float) -> bool:
    """Return True with probability ``chance``."""
    return bool(rng.random() < chance)
