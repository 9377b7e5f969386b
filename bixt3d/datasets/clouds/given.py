"""Clouds from a program's own data sets, such as a `torch.utils.data.Dataset`."""

from typing import Any, Literal

import numpy as np
import torch

from bixt3d.datasets.clouds.cache import check_stored
from bixt3d.datasets.clouds.preparing import prepare_cloud, with_model_features
from bixt3d.datasets.clouds.source import CloudSource
from bixt3d.datasets.clouds.split import check_split, stratified_split
from bixt3d.datasets.files.cloud import Cloud, as_array, standard_cloud
from bixt3d.types import CloudSet, InputError


class GivenClouds(CloudSource):
    """Clouds that a program gives to ``bixt3d.train(..., data=...)``: data sets of samples ``(xyz, feats, label)``.

    A data set has ``__len__`` and ``__getitem__``, as `torch.utils.data.Dataset`. ``xyz``: ``(N, 3)``, any N;
    ``feats``: ``(N, F)`` or None; ``label``: the number of the class. Of the first one, the attribute ``classes`` names
    the classes, ``features`` the columns of ``feats``, such as ``"rgb,intensity"``. All samples are read once.

    Args:
        num_points: points of each cloud that the model sees.
        features: names of the columns of ``feats``.
        val_fraction: share of the training clouds of each class split off for validation (0: none).
        up: the axis that points up.
        stored_points: points kept of each cloud; training may draw from all of them.
        test_fraction: share of the clouds of each class to test on, if a single data set is given.
        seed: seed of that split, and of the choice of points.
    """

    def __init__(
        self,
        num_points: int = 1024,
        features: str = "",
        val_fraction: float = 0.0,
        up: Literal["y", "z"] = "z",
        stored_points: int = 2048,
        test_fraction: float = 0.2,
        seed: int = 0,
    ):
        super().__init__(num_points, features, val_fraction)
        check_split(test_fraction, seed)
        self.up, self.stored_points, self.test_fraction, self.seed = up, stored_points, test_fraction, seed
        self.data: Any = None

    def give(self, data: Any) -> None:
        """Set the data set, or the pair of data sets to train and test on."""
        self.data = data

    def load(self) -> tuple[CloudSet, CloudSet]:
        """Return the training and the test set, in the order of the samples."""
        if self.data is None:
            raise InputError(
                "the clouds of this run were given by a Python program: name a data set, such as --data CloudFolder "
                "--data.root FOLDER"
            )
        check_stored(self.num_points, self.stored_points)
        train, test = as_pair(self.data)
        names = getattr(train, "classes", None)
        loaded = [
            self._read(one, what) for one, what in ((train, "the data"), (test, "the test data")) if one is not None
        ]
        most = max(int(label.max()) for *_, label in loaded)
        names = tuple(f"class {number}" for number in range(most + 1)) if names is None else tuple(map(str, names))
        if most >= len(names):
            raise InputError(f"a sample has the label {most}, but there are {len(names)} classes")
        if test is None:
            train_index, test_index = stratified_split(loaded[0][2], self.test_fraction, self.seed)
            loaded = [tuple(part[index] for part in loaded[0]) for index in (train_index, test_index)]
        note = f"{self.test_fraction:.0%} of each class, drawn with seed {self.seed}, are the test set"
        notes = (note,) if test is None else ()
        train, test = (CloudSet(*clouds, names, features=self.features, notes=notes) for clouds in loaded)
        return train, test

    def _read(self, data: Any, what: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        xyz, feats, labels = [], [], []
        for number in range(len(data)):
            name = f"sample {number} of {what}"
            cloud, label = self._cloud(data[number], name)
            all_xyz, index, own = prepare_cloud(cloud, self.features, self.stored_points, self.up, self.up, self.seed)
            xyz.append(all_xyz[0, index])
            feats.append(own[0])
            labels.append(label)
        if not xyz:
            raise InputError(f"{what}: there is no sample")
        return torch.stack(xyz), torch.stack(feats), torch.tensor(labels)

    def _cloud(self, sample: Any, name: str) -> tuple[Cloud, int]:
        """Return the cloud and the label of a sample. Raises InputError if it has others than xyz, feats and label."""
        if not isinstance(sample, tuple | list) or len(sample) != 3:
            raise InputError(f"{name} should be (xyz, feats, label), not {type(sample).__name__}")
        label = as_array(sample[2], name).reshape(-1)
        if label.size != 1 or label.dtype.kind not in "iu" or label[0] < 0:
            raise InputError(f"{name} should have the number of a class, from 0, as its label")
        columns = {}
        if sample[1] is not None and (feats := np.atleast_2d(as_array(sample[1], name))).shape[-1]:
            if feats.shape[-1] != self.features.width:
                raise InputError(
                    f"{name} has feats of {feats.shape[-1]} columns, but the features ({self.features or 'none'}) take "
                    f"{self.features.width}: name them in the attribute `features` of the data set"
                )
            slices = zip(self.features.names, self.features.slices(), strict=True)
            columns = {feature: feats[:, place] for feature, place in slices}
        cloud = standard_cloud(Cloud(as_array(sample[0], name), columns, name))
        return with_model_features(cloud, self.features), int(label[0])


def as_pair(data: Any) -> tuple[Any, Any]:
    """Return the data sets to train and test on; the second is None if one alone is given."""
    train, test = (
        data if isinstance(data, tuple | list) and len(data) == 2 and not _is_sample(data[0]) else (data, None)
    )
    for one in (train, test):
        if one is not None and not (hasattr(one, "__len__") and hasattr(one, "__getitem__")):
            raise InputError(f"data should be a data set with __len__ and __getitem__, not {type(one).__name__}")
    return train, test


def _is_sample(value: Any) -> bool:
    """Return whether a list of two is a data set of two samples, not a pair of data sets."""
    return isinstance(value, tuple | list) and len(value) == 3 and not isinstance(value[0], tuple | list)
