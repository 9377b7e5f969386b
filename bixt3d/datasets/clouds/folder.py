"""Clouds and meshes in a folder of people's own files: a class for each sub-folder, or a list of names."""

from pathlib import Path
from typing import Literal

import torch

from bixt3d.datasets.clouds.cache import check_stored
from bixt3d.datasets.clouds.folder_files import list_folder
from bixt3d.datasets.clouds.folder_reading import Reading, read_folder
from bixt3d.datasets.clouds.source import CloudSource
from bixt3d.datasets.clouds.split import check_split
from bixt3d.types import CloudSet


class CloudFolder(CloudSource):
    """Files of any formats in ``train/CLASS/`` and ``test/CLASS/`` (or ``val/``), in ``CLASS/``, or in ``labels.csv``.

    Points are sampled from meshes uniformly by area. Of a cloud with more points than ``stored_points`` a random subset
    is kept; points of smaller ones repeat. What was read is cached until a file changes.

    Args:
        root: the folder.
        num_points: points of each cloud that the model sees.
        features: columns that the model reads besides positions, such as ``normal,rgb,intensity``.
        val_fraction: share of the training clouds of each class split off for validation (0: none).
        up: the axis that points up.
        stored_points: points kept of each cloud; training may draw from all of them.
        test_fraction: share of the clouds of each class to test on, if there is no folder ``test`` or ``val``.
        seed: seed of that split, and of the choice of points.
        skip_broken: leave out files that cannot be read or lack a feature; else they are an error.
    """

    def __init__(  # noqa: PLR0913 (one argument for each line of a config)
        self,
        root: str = "data/my_clouds",
        num_points: int = 1024,
        features: str = "",
        val_fraction: float = 0.0,
        up: Literal["y", "z"] = "z",
        stored_points: int = 2048,
        test_fraction: float = 0.2,
        seed: int = 0,
        skip_broken: bool = False,
    ):
        super().__init__(num_points, features, val_fraction)
        check_split(test_fraction, seed)
        self.root, self.up, self.stored_points = root, up, stored_points
        self.test_fraction, self.seed, self.skip_broken = test_fraction, seed, skip_broken

    def load(self) -> tuple[CloudSet, CloudSet]:
        """Return the training and the test set, each in the order of the names of the files."""
        check_stored(self.num_points, self.stored_points)
        root = Path(self.root).expanduser()
        listing = list_folder(root, self.test_fraction, self.seed)
        names = listing.class_names
        reading = Reading(self.stored_points, self.features, self.up, self.seed, self.skip_broken)
        clouds = read_folder(root, [entry.path for entry in listing.entries], reading, "clouds")
        notes = (*listing.notes, *clouds.notes)
        of_file = torch.tensor([names.index(entry.label) for entry in listing.entries])
        label, num_train = of_file[clouds.file_index], int((clouds.file_index < listing.num_train).sum())
        train, test = (
            CloudSet(clouds.xyz[its], clouds.feats[its], label[its], names, features=self.features, notes=notes)
            for its in (slice(num_train), slice(num_train, None))
        )
        return train, test
