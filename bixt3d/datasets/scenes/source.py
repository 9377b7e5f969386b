"""Base class of data sets of scenes."""

from abc import ABC, abstractmethod
from typing import Literal

from bixt3d.datasets.scenes.crops import SceneSet, Shape
from bixt3d.types import Features, InputError


class SceneSource(ABC):
    """Base class of data sets of scenes: derive from it and define `load`.

    Args:
        grid: side of a voxel, in the units of the scenes: the model reads one token for all points of a voxel.
        num_points: voxels of a crop, the sample of training.
        crops: crops of an epoch.
        shape: ``sphere``: a crop is the nearest voxels of its center (rooms); ``cylinder``: the nearest seen from
            above (aerial scans).
        balance: probability that the center of a crop is drawn by class, all classes alike, not among all voxels.
        features: features that the model reads besides positions, such as ``rgb,height``; ``height`` is computed:
            above the lowest points near by.
    """

    up: Literal["z"] = "z"
    val_fraction = 0.0

    def __init__(
        self,
        grid: float = 0.05,
        num_points: int = 4096,
        crops: int = 1000,
        shape: Shape = "sphere",
        balance: float = 0.0,
        features: str = "",
    ):
        for name, value in {"grid": grid, "num_points": num_points, "crops": crops}.items():
            if not value > 0:
                raise InputError(f"data.{name} must be positive, not {value}")
        if not 0 <= balance <= 1:
            raise InputError(f"data.balance must be between 0 and 1, not {balance}")
        self.grid, self.num_points, self.crops, self.shape, self.balance = grid, num_points, crops, shape, balance
        self.features = Features.parse(features)

    @abstractmethod
    def load(self) -> tuple[SceneSet, SceneSet]:
        """Return the training and the test set. Raises InputError if the data are missing or damaged."""

    def as_set(
        self,
        scenes: list,
        class_names: tuple[str, ...],
        notes: tuple[str, ...] = (),
        codes: tuple[int, ...] | None = None,
    ) -> SceneSet:
        """Return the set of these scenes with the settings of the source."""
        settings = (self.features, self.num_points, self.crops, self.shape, self.balance)
        return SceneSet(tuple(scenes), class_names, *settings, notes, codes)
