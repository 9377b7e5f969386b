"""Base classes of data sets of scenes."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import numpy as np

from bixt3d.datasets.scenes.crops import CropSize, Draw, SceneSet, Shape, sizes_of_crops
from bixt3d.datasets.scenes.scene import Scene, make_scene
from bixt3d.types import Features, InputError


class SceneSource(ABC):
    """Base class of data sets of scenes: derive from it and define `load`.

    Args:
        grid: side of a voxel, in the units of the scenes: the model reads one token for all points of a voxel.
        num_points: voxels of a crop, the sample of training. Two numbers, such as ``[4096, 16384]``: each batch has
            crops of one size (4096, 8192 or 16384), and fewer of the larger ones, so that it has as many voxels.
        crops: crops of an epoch.
        shape: ``sphere``: a crop is the nearest voxels of its center (rooms); ``cylinder``: the nearest seen from
            above (aerial scans).
        balance: probability that the center of a crop is drawn by class, all classes alike, not among all voxels.
        features: features that the model reads besides positions, such as ``rgb,height``; ``height`` is computed:
            above the floor (see `heights`).
    """

    up: Literal["z"] = "z"
    draw: Draw = "voxels"
    val_fraction = 0.0

    def __init__(
        self,
        grid: float = 0.05,
        num_points: CropSize = 4096,
        crops: int = 1000,
        shape: Shape = "sphere",
        balance: float = 0.0,
        features: str = "",
    ):
        for name, value in {"grid": grid, "crops": crops}.items():
            if not value > 0:
                raise InputError(f"data.{name} must be positive, not {value}")
        if not 0 <= balance <= 1:
            raise InputError(f"data.balance must be between 0 and 1, not {balance}")
        self.grid, self.num_points, self.crops, self.shape, self.balance = grid, num_points, crops, shape, balance
        self.features, self.crop_sizes = Features.parse(features), sizes_of_crops(num_points)

    @abstractmethod
    def load(self) -> tuple[SceneSet, SceneSet]:
        """Return the training and the test set. Raises InputError if the data are missing or damaged."""

    def as_set(
        self,
        scenes: Sequence[Scene],
        class_names: tuple[str, ...],
        notes: tuple[str, ...] = (),
        codes: tuple[int, ...] | None = None,
    ) -> SceneSet:
        """Return the set of these scenes with the settings of the source."""
        settings = (self.features, self.num_points, self.crops, self.shape, self.balance)
        return SceneSet(scenes, class_names, *settings, notes, codes, self.draw)


class ProceduralScenes(SceneSource):
    """Base class of generated scenes: derive from it, set ``class_names``, and define `make`.

    A scene depends only on the seed, its split and its index. ``codes``: LAS classification of each class, or None.

    Args:
        train_scenes: scenes in the training set.
        test_scenes: scenes in the test set.
        seed: seed of the scenes.
        grid, num_points, crops, shape, balance, features: see `SceneSource`.
    """

    class_names: tuple[str, ...]
    codes: tuple[int, ...] | None = None

    def __init__(  # noqa: PLR0913 (one argument for each line of a config)
        self,
        train_scenes: int = 24,
        test_scenes: int = 8,
        seed: int = 0,
        grid: float = 0.05,
        num_points: CropSize = 4096,
        crops: int = 1000,
        shape: Shape = "sphere",
        balance: float = 0.0,
        features: str = "",
    ):
        super().__init__(grid, num_points, crops, shape, balance, features)
        if min(train_scenes, test_scenes) < 1 or seed < 0:
            raise InputError("train_scenes and test_scenes must be positive, and seed not negative")
        self.train_scenes, self.test_scenes, self.seed = train_scenes, test_scenes, seed

    @abstractmethod
    def make(self, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
        """Return the points of a scene (N, 3), its columns by name, and the class of each point."""

    def load(self) -> tuple[SceneSet, SceneSet]:
        """Return the training and the test set."""
        train, test = (
            tuple(self._scene(split, index) for index in range(number))
            for split, number in enumerate((self.train_scenes, self.test_scenes))
        )
        return tuple(self.as_set(scenes, self.class_names, codes=self.codes) for scenes in (train, test))

    def _scene(self, split: int, index: int) -> Scene:
        made = self.make(np.random.default_rng((self.seed, split, index)))
        return make_scene(*made, self.features, self.grid, f"{('train', 'test')[split]} scene {index}")
