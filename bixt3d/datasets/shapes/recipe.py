"""What a recipe of a procedural object is: a function that draws a style and proportions and returns solids."""

from collections.abc import Callable

from numpy.random import Generator

from bixt3d.datasets.files.surface import Mesh

Solids = dict[str, list[Mesh]]
"""The meshes of each part; a part that this object has not is absent or empty."""

Recipe = Callable[[Generator], Solids]
"""Draws an object: upright along y, its front towards +z, in any size and place."""


def optional(rng: Generator, chance: float, meshes: list[Mesh]) -> list[Mesh]:
    """Return these meshes with the given chance, else none; what they are made of is drawn in any case."""
    return meshes if maybe(rng, chance) else []


def maybe(rng: Generator, chance: float) -> bool:
    """Return True with the given chance."""
    return bool(rng.random() < chance)
