"""Procedural CAD-like objects of 16 categories with labelled parts: a synthetic data set without download.

Each category is a short recipe that draws a random style and proportions, and returns the meshes of each part.
"""

from collections.abc import Iterator
from difflib import get_close_matches

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Int64
from numpy import ndarray
from numpy.random import Generator
from torch import Tensor

from bixt3d.datasets.clouds.source import PartSource
from bixt3d.datasets.files.feature_columns import select_features
from bixt3d.datasets.files.surface import join, rotation, sample_surface
from bixt3d.datasets.shapes.recipe import Recipe
from bixt3d.datasets.shapes.recipes_furniture import bed, chair, lamp, shelf, sofa, stool, table
from bixt3d.datasets.shapes.recipes_handheld import bottle, guitar, hammer, knife, mug, vase
from bixt3d.datasets.shapes.recipes_vehicles import airplane, car, rocket
from bixt3d.types import CloudSet, InputError

RECIPES: dict[str, tuple[Recipe, tuple[str, ...]]] = {
    "airplane": (airplane, ("body", "wing", "tail", "engine")),
    "bed": (bed, ("mattress", "frame", "board", "pillow")),
    "bottle": (bottle, ("body", "neck", "cap")),
    "car": (car, ("body", "cabin", "wheel", "bumper")),
    "chair": (chair, ("seat", "back", "leg", "arm")),
    "guitar": (guitar, ("body", "neck", "head", "bridge")),
    "hammer": (hammer, ("handle", "head", "grip")),
    "knife": (knife, ("blade", "handle", "guard")),
    "lamp": (lamp, ("shade", "pole", "base")),
    "mug": (mug, ("body", "handle", "saucer")),
    "rocket": (rocket, ("body", "nose", "fin", "nozzle", "booster")),
    "shelf": (shelf, ("board", "side", "back", "divider")),
    "sofa": (sofa, ("seat", "back", "arm", "foot")),
    "stool": (stool, ("seat", "leg", "footrest")),
    "table": (table, ("top", "leg", "tray")),
    "vase": (vase, ("body", "handle", "stem", "flower")),
}
CLASS_NAMES = tuple(RECIPES)
PART_NAMES = tuple(f"{category}/{part}" for category, (_, parts) in RECIPES.items() for part in parts)
CLASS_PARTS = {
    category: tuple(PART_NAMES.index(f"{category}/{part}") for part in parts)
    for category, (_, parts) in RECIPES.items()
}


def make_shape(
    category: str, num_points: int, rng: Generator
) -> tuple[Float32[ndarray, "N 3"], Float32[ndarray, "N 3"], Int64[ndarray, " N"]]:
    """Generate an object; return points, outward unit normals, and parts as indices into ``PART_NAMES``.

    The object is upright along y, its front towards +z, up to a few degrees; it is normalized to the unit sphere.
    Raises InputError for an unknown category or if ``num_points`` is not positive.
    """
    if category not in RECIPES:
        near = get_close_matches(category, CLASS_NAMES, 1, cutoff=0) or CLASS_NAMES
        raise InputError(f"there is no category {category!r}: did you mean {near[0]!r} of {', '.join(CLASS_NAMES)}?")
    if num_points < 1:
        raise InputError(f"num_points must be positive, not {num_points}")
    recipe, parts = RECIPES[category]
    solids = recipe(rng)
    stretch = rng.lognormal(0, (0.07, 0.15, 0.07))
    names = [name for name in parts if solids.get(name)]
    meshes = [join(solids[name]).stretched(*stretch) for name in names]
    xyz, normals, index = sample_surface(meshes, num_points, rng)
    pose = rotation("y", rng.uniform(-15, 15)) @ rotation("x", rng.normal(0, 3)) @ rotation("z", rng.normal(0, 3))
    pose = pose * (rng.choice([-1, 1]), 1, 1)  # half of the objects are mirrored, left to right
    xyz, normals = (xyz - xyz.mean(axis=0)) @ pose.T, normals @ pose.T
    xyz /= max(np.linalg.norm(xyz, axis=1).max(), 1e-12)
    part = np.array([CLASS_PARTS[category][parts.index(name)] for name in names], dtype=np.int64)[index]
    return xyz.astype(np.float32), normals.astype(np.float32), part


MATERIALS = {
    "wood": ((0.55, 0.36, 0.20), 0.45),
    "steel": ((0.62, 0.64, 0.67), 0.80),
    "black plastic": ((0.08, 0.08, 0.09), 0.10),
    "white paint": ((0.93, 0.92, 0.90), 0.90),
    "red cloth": ((0.70, 0.12, 0.14), 0.35),
    "blue cloth": ((0.13, 0.24, 0.58), 0.25),
    "green glass": ((0.20, 0.55, 0.35), 0.60),
    "brass": ((0.80, 0.66, 0.26), 0.70),
}
"""Color (red, green, blue from 0 to 1) and laser intensity of each material."""


def paint(part: Int64[ndarray, " N"], rng: Generator) -> tuple[Float32[ndarray, "N 3"], Float32[ndarray, "N 1"]]:
    """Return color and intensity of every point of an object: one random material for each part, plus noise."""
    material = rng.integers(len(MATERIALS), size=len(PART_NAMES))[part]
    values = np.array([(*rgb, intensity) for rgb, intensity in MATERIALS.values()])[material]
    values = np.clip(values + 0.03 * rng.standard_normal(values.shape), 0, 1).astype(np.float32)
    return values[:, :3], values[:, 3:]


class Shapes(PartSource):
    """Procedural objects of 16 categories (airplane to vase) with labelled parts; no download.

    Args:
        train_per_class: objects of each category in the training set.
        test_per_class: objects of each category in the test set.
        seed: seed of the objects.
        num_points: points of each object.
        features: those of ``normal``, ``rgb`` and ``intensity`` that the model reads; the last two by material.
        val_fraction: share of the training clouds of each class split off for validation (0: none).

    Example:
        >>> train, test = Shapes(train_per_class=2, test_per_class=1, num_points=128).load()
        >>> train.xyz.shape, train.class_names[:2]
        (torch.Size([32, 128, 3]), ('airplane', 'bed'))
    """

    def __init__(
        self,
        train_per_class: int = 100,
        test_per_class: int = 25,
        seed: int = 0,
        num_points: int = 1024,
        features: str = "",
        val_fraction: float = 0.0,
    ):
        super().__init__(num_points, features, val_fraction)
        sizes = {"train_per_class": train_per_class, "test_per_class": test_per_class, "num_points": num_points}
        for name, size in sizes.items():
            if size < 1:
                raise InputError(f"{name} must be positive, not {size}")
        if seed < 0:
            raise InputError(f"seed must not be negative, not {seed}")
        self.train_per_class = train_per_class
        self.test_per_class = test_per_class
        self.seed = seed

    def load(self) -> tuple[CloudSet, CloudSet]:
        """Return the training and the test set; an object depends only on the seed, its split, class and index."""
        return self._make(0, self.train_per_class), self._make(1, self.test_per_class)

    def full_clouds(self) -> Iterator[tuple[Float[Tensor, "N 3"], Float[Tensor, "N F"], Int[Tensor, " N"]]]:
        """Yield xyz, feats and parts of every test object, as in the test set of `load`."""
        test = self._make(1, self.test_per_class)
        yield from zip(test.xyz, test.feats, test.parts, strict=True)

    def _make(self, split: int, per_class: int) -> CloudSet:
        seeds = [
            (category, (self.seed, split, label, index))
            for label, category in enumerate(CLASS_NAMES)
            for index in range(per_class)
        ]
        shapes = [make_shape(category, self.num_points, np.random.default_rng(seed)) for category, seed in seeds]
        xyz, normals, parts = (np.stack(arrays) for arrays in zip(*shapes, strict=True))
        columns = {"normal": normals}
        if set(self.features.names) - {"normal"}:  # each from its own random stream
            rngs = (np.random.default_rng([*seed, 1]) for _, seed in seeds)
            painted = zip(*map(paint, parts, rngs), strict=True)
            columns["rgb"], columns["intensity"] = map(np.stack, painted)
        feats = select_features(columns, self.features, "the set of shapes") if self.features else xyz[..., :0]
        return CloudSet(
            xyz=torch.from_numpy(xyz),
            feats=torch.from_numpy(feats),
            label=torch.arange(len(CLASS_NAMES)).repeat_interleave(per_class),
            class_names=CLASS_NAMES,
            parts=torch.from_numpy(parts),
            part_names=PART_NAMES,
            class_parts=CLASS_PARTS,
            features=self.features,
        )
