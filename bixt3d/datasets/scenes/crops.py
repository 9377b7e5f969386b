"""A set of scenes, of which training sees crops: the crops of a batch have equal size."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count
from math import ceil
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bixt3d.datasets.scenes.computed import HIGHEST
from bixt3d.datasets.scenes.scene import Scene, points_by_class
from bixt3d.datasets.scenes.stored import StoredScenes
from bixt3d.datasets.transforms.feature_augment import fill_values
from bixt3d.types import NO_FEATURES, Features, InputError

Shape = Literal["sphere", "cylinder"]
Draw = Literal["voxels", "points", "scenes"]
CropSize = int | tuple[int, int]
"""Voxels of a crop: one number, or the smallest and the largest, see `sizes_of_crops`."""
MOST_FEATS = 50_000_000
"""Largest number of voxels whose features are looked at together, plus one for each scene."""
MANY_SCENES = 1000
"""Scenes that represent a set which is larger than that: each is read from disk to look at its features."""


@dataclass(frozen=True)
class SceneSet:
    """Scenes; its samples are crops: the nearest voxels of a random center.

    Args:
        scenes: the scenes.
        class_names: names of the classes.
        features: names and kinds of the columns of ``feats``.
        num_points: voxels of a crop; of two numbers, every batch draws a size, see `draw_size`.
        crops: crops of an epoch.
        shape: ``sphere``: the nearest voxels; ``cylinder``: the nearest seen from above.
        balance: probability that the center of a crop is drawn by class, all classes alike, not among all voxels.
        notes: what was found, changed or left out.
        codes: LAS classification of each class, if the labels were such.
        draw: what scenes are drawn by: their number of ``voxels``, or of ``points`` that have a class; ``scenes``: all
            alike.
        device: device of the batches.
    """

    scenes: Sequence[Scene]
    class_names: tuple[str, ...]
    features: Features = NO_FEATURES
    num_points: CropSize = 4096
    crops: int = 1000
    shape: Shape = "sphere"
    balance: float = 0.0
    notes: tuple[str, ...] = ()
    codes: tuple[int, ...] | None = None
    draw: Draw = "voxels"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __len__(self) -> int:
        return self.crops

    @cached_property
    def crop_sizes(self) -> tuple[int, ...]:
        """The sizes of crops, smallest first."""
        return sizes_of_crops(self.num_points)

    @cached_property
    def counts(self) -> Int[np.ndarray, "S C"]:
        """The number of voxels of each class in each scene."""
        if isinstance(self.scenes, StoredScenes):
            return self.scenes.counts
        number = len(self.class_names)
        return np.stack([np.bincount(one.label[one.label >= 0].numpy(), minlength=number) for one in self.scenes])

    @cached_property
    def point_counts(self) -> Int[np.ndarray, "S C"]:
        """The number of points in the voxels of each class in each scene."""
        if isinstance(self.scenes, StoredScenes):
            return self.scenes.point_counts
        return np.stack([points_by_class(one, len(self.class_names)) for one in self.scenes])

    @cached_property
    def weights(self) -> Float[np.ndarray, "S C"]:
        """How often each scene is drawn for each class, in proportion."""
        if self.draw == "scenes":
            return self.counts / np.maximum(self.counts.sum(1, keepdims=True), 1)
        return (self.point_counts if self.draw == "points" else self.counts).astype(float)

    @cached_property
    def sizes(self) -> Int[np.ndarray, " S"]:
        """The number of voxels of each scene."""
        if isinstance(self.scenes, StoredScenes):
            return self.scenes.sizes
        return np.array([len(scene) for scene in self.scenes])

    @property
    def feats(self) -> Float[Tensor, "V F"]:
        """The features of all voxels; of a set of more than `MOST_FEATS`, those of voxels spread over its scenes."""
        skip = min(ceil(self.sizes.sum() / MOST_FEATS), ceil(len(self.scenes) / MANY_SCENES))
        sizes = self.sizes[::skip]
        step = ceil(sizes.sum() / MOST_FEATS)
        found = torch.empty(int((-(-sizes // step)).sum()), self.features.width)
        first = 0
        for place in range(0, len(self.scenes), skip):  # one by one: more files than these cannot stay mapped
            feats = self.scenes[place].feats[::step]
            found[first : first + len(feats)] = feats
            first += len(feats)
        return found

    @cached_property
    def fill(self) -> Float[Tensor, " F"]:
        """The value of each column that stands for a missing feature (see `fill_values`), on the device of batches."""
        return fill_values(self.feats, self.features).to(self.device)

    def subset(self, index: Int[Tensor, " B"]) -> "SceneSet":
        """Return a set whose scenes are the crops at these indices."""
        crops = [self.crop(self.draw_center(0, i), self.crop_sizes[-1]) for i in index.tolist()]
        return replace(self, scenes=tuple(crops), crops=len(crops))

    def to(self, device: torch.device | str) -> "SceneSet":
        """Return the same set with its batches on another device."""
        return replace(self, device=torch.device(device))

    def batches(self, indices: Iterable[Int[Tensor, " _"]], seed: int | None = None) -> Iterator[dict[str, Tensor]]:
        """Yield a batch of crops for each index tensor.

        A crop depends on the seed and its index alone, its size on the seed and the number of the batch.
        """
        for number, index in enumerate(indices):
            size = self.draw_size(seed or 0, number)
            crops = [self.crop(self.draw_center(seed or 0, i), size) for i in index.tolist()]
            batch = {"xyz": torch.stack([one.xyz for one in crops]), "feats": torch.stack([one.feats for one in crops])}
            batch["labels"] = torch.stack([one.label for one in crops])
            yield {name: tensor.to(self.device) for name, tensor in batch.items()} | {"index": index.to(self.device)}

    def draw_center(self, seed: int, index: int) -> tuple[int, int]:
        """Return a scene, drawn as ``draw`` says, and one of its voxels."""
        rng = np.random.default_rng((seed, index))
        by_class = self.weights
        if rng.random() < self.balance:
            label = int(rng.choice(np.flatnonzero(self.counts.sum(0))))
            share = by_class[:, label]
            place = int(rng.choice(len(self.scenes), p=share / share.sum()))
            return place, int(rng.choice(np.flatnonzero(self.scenes[place].label.numpy() == label)))
        share = self.sizes if self.draw == "voxels" or not by_class.any() else by_class.sum(1)
        place = int(rng.choice(len(share), p=share / share.sum()))
        return place, int(rng.integers(self.sizes[place]))

    def draw_size(self, seed: int, number: int) -> int:
        """Return the voxels of each crop in a batch, by its number; the sizes take turns, in random order."""
        turn, place = divmod(number, len(self.crop_sizes))
        return int(np.random.default_rng((seed, turn, 1)).permutation(self.crop_sizes)[place])

    def with_fewer_crops(
        self, plan: Sequence[Sequence[Int[Tensor, " _"]]], seed: int, uncounted: int = 0
    ) -> list[list[Int[Tensor, " _"]]]:
        """Return the batches of each step with as many voxels as they would have in the smallest crops, or one crop.

        They are moved to the CPU, where crops are made, before the first step: afterwards the host would wait for the
        device. ``uncounted``: crops at the start of each batch that are left out of it later.
        """
        numbers = count()

        def fewer(index: Int[Tensor, " _"]) -> Int[Tensor, " _"]:
            voxels = (len(index) - uncounted) * self.crop_sizes[0]
            return index[: uncounted + max(1, voxels // self.draw_size(seed, next(numbers)))].cpu()

        return [[fewer(index) for index in step] for step in plan]

    def crop(self, center: tuple[int, int], size: int) -> Scene:
        """Return ``size`` voxels around a voxel, repeated if the scene has fewer, as the model reads them."""
        scene = self.scenes[center[0]]
        index = np.resize(nearest_voxels(scene, center[1], size, self.shape), size)
        label = scene.label[index]
        return Scene(
            local_positions(scene, index, center[1]),
            scene.feats[index],
            label,
            ((scene.floor[index] - scene.floor[center[1]]) / scene.grid).float(),
            torch.arange(len(index), dtype=torch.int32),
            label.int(),
            name=scene.name,
        )


def sizes_of_crops(num_points: CropSize) -> tuple[int, ...]:
    """Return the sizes of crops: a number; of two numbers, the first, doubled until it is the second.

    Raises InputError for other numbers.
    """
    first, last = (num_points, num_points) if isinstance(num_points, int) else num_points
    if first < 1:
        raise InputError(f"data.num_points must be positive, not {first}")
    sizes = [first]
    while sizes[-1] < last:
        sizes.append(2 * sizes[-1])
    if sizes[-1] != last:
        raise InputError(
            f"the second number of data.num_points must be {first}, {2 * first}, {4 * first} ..., not {last}"
        )
    return tuple(sizes)


def las_codes(words: Sequence[Sequence[str]]) -> tuple[int, ...] | None:
    """Return the LAS classification of each class: the first of its labels; None if some are no numbers from 0 to 255.

    ``words``: the labels of each class.
    """
    are_codes = all(of and all(word.isdecimal() and int(word) < 256 for word in of) for of in words)
    return tuple(int(of[0]) for of in words) if are_codes else None


def nearest_voxels(scene: Scene, center: int, count: int, shape: Shape) -> Int[np.ndarray, " M"]:
    """Return the nearest voxels of one voxel, nearest first; all of them if there are not more than ``count``.

    The voxel itself is always among them.
    """
    tree = scene.tree if shape == "sphere" else scene.flat_tree
    found = np.atleast_1d(tree.query(tree.data[center], min(count, len(scene)))[1])
    if center not in found:  # more than ``count`` voxels lie exactly there, seen from above: a mast
        found = np.append(center, found[:-1])
    return found


def local_positions(scene: Scene, index: Int[np.ndarray, " M"], center: int) -> Float[Tensor, "M 3"]:
    """Return positions as models read them, in voxels: from the center of a window, and from the floor under it."""
    origin = scene.xyz[center].clone()
    origin[2] = scene.floor[center]
    local = ((scene.xyz[index] - origin) / scene.grid).float()
    local[:, 2].clamp_(-HIGHEST, HIGHEST)
    return local
