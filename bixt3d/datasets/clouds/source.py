"""Base classes of all data sets of clouds. The arguments of the constructor are the settings under ``data``."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

from bixt3d.types import CloudSet, Features, InputError


class CloudSource(ABC):
    """Base class of data sets of clouds for classification: derive from it and define `load`.

    A config names the class as ``data.class_path``. The class attribute ``up`` is the axis that points up.

    Args:
        num_points: points of each cloud that the model sees.
        features: names of the features that the model reads besides positions, such as ``normal,rgb``.
        val_fraction: share of the training clouds of each class split off for validation (0: none).
    """

    up: Literal["y", "z"] = "y"

    def __init__(self, num_points: int = 1024, features: str = "", val_fraction: float = 0.0):
        self.num_points = num_points
        self.features = Features.parse(features)
        self.val_fraction = val_fraction

    @abstractmethod
    def load(self) -> tuple[CloudSet, CloudSet]:
        """Return the training and the test set, every cloud centred on its mean and scaled to the unit sphere.

        Clouds have at least ``num_points`` points, in random order: evaluation uses the first ``num_points``.
        ``feats`` are the ``features`` of the constructor.
        Raises InputError if the data are missing or damaged, or lack one of these features.
        """


class PartSource(CloudSource):
    """Base class of data sets for part segmentation: every point has a part label.

    Parts are numbered over all categories, as in ShapeNetPart. The arguments are those of `CloudSource`.
    """

    @abstractmethod
    def full_clouds(self) -> Iterator[tuple[Float[Tensor, "N 3"], Float[Tensor, "N F"], Int[Tensor, " N"]]]:
        """Yield xyz, feats and parts of every test shape with all its points, in their original order.

        The shapes come in the order of the test set, normalized as by `load`.
        """


def only_normals(features: Features, where: str) -> bool:
    """Return whether a set that only has normals is to give them. Raises InputError for other features."""
    if features not in (Features(), Features.parse("normal")):
        raise InputError(f"{where} has only normals: set --data.features normal, or leave it out, not '{features}'")
    return bool(features)
