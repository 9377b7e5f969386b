"""The door through which every point data set comes in: a class whose constructor is its schema."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

from bixt3d.types import CloudSet, Features, InputError


class CloudSource(ABC):
    """A data set of clouds, as the ``data`` part of a config names it. ``up`` is the axis of its clouds that points up.

    Args:
        num_points: points of each cloud that the model sees.
        features: what to give to the model beside positions, by name, such as ``normal,rgb``.
        val_fraction: share of the training clouds of each class set aside to select on (0: none).
    """

    up: Literal["y", "z"] = "y"

    def __init__(self, num_points: int = 1024, features: str = "", val_fraction: float = 0.0):
        self.num_points = num_points
        self.features = Features.parse(features)
        self.val_fraction = val_fraction

    @abstractmethod
    def load(self) -> tuple[CloudSet, CloudSet]:
        """Return the training and the test set, every cloud centred on its mean and scaled into the unit sphere.

        Clouds hold at least ``num_points`` points; those of a cloud are in an order such that its first points are a
        uniform sample of it. ``feats`` hold the ``features`` asked for.
        Raises InputError if the data are missing or broken, or have not these features.
        """


class PartSource(CloudSource):
    """A data set whose points know the part of the object they lie on; parts are numbered over all categories."""

    @abstractmethod
    def full_clouds(self) -> Iterator[tuple[Float[Tensor, "N 3"], Float[Tensor, "N F"], Int[Tensor, " N"]]]:
        """Yield xyz, feats and parts of every test shape with all its original points, in their original order.

        The shapes come in the order of the test set and are normalized as `load` does.
        """


def only_normals(features: Features, where: str) -> bool:
    """Return whether normals are asked for, of a set that has nothing else. Raises InputError for other features."""
    if features not in (Features(), Features.parse("normal")):
        raise InputError(f"{where} holds normals alone: set --data.features normal, or leave it out, not '{features}'")
    return bool(features)
