"""Part segmentation from a folder of people's own files, with a label for each point in a column."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bixt3d.datasets.clouds.cache import check_stored
from bixt3d.datasets.clouds.folder_files import Listing, list_folder
from bixt3d.datasets.clouds.folder_reading import ReadClouds, Reading, read_clouds, read_folder
from bixt3d.datasets.clouds.point_labels import NO_LABEL, label_order, label_words, mixed_notes
from bixt3d.datasets.clouds.preparing import prepare_cloud, up_axis, with_model_features
from bixt3d.datasets.clouds.source import PartSource
from bixt3d.datasets.clouds.split import check_split
from bixt3d.datasets.files.cloud import Cloud
from bixt3d.io.bounds import counted, listed
from bixt3d.types import VOID, CloudSet, InputError

WHOLE = "object"
"""The category of clouds that lie in no category folder."""


class PartFolder(PartSource):
    """Files with a label for each point, in ``train/`` and ``test/`` (or ``val/``), or without a split.

    Sub-folders, ``train/CATEGORY/``, are categories; without any, all clouds are of one. The labels are a column of the
    files, of whole numbers or words; each category has the parts whose labels occur in it. Points may be without a
    label (an empty cell, NaN): no loss and no score.

    Args:
        root: the folder.
        num_points: points of each cloud that the model sees.
        features: columns that the model reads besides positions, such as ``normal,rgb,intensity``.
        val_fraction: share of the training clouds of each category split off for validation (0: none).
        up: the axis that points up.
        label: the column of the labels; by default found by its name: label, part, class, classification ...
        ignore: labels of points without a known part, such as ``0`` or ``0,unlabelled``: no loss and no score.
        stored_points: points kept of each cloud; training may draw from all of them.
        test_fraction: share of the clouds of each category to test on, if there is no folder ``test`` or ``val``.
        seed: seed of that split, and of the choice of points.
        skip_broken: leave out files that cannot be read or lack a feature; else they are an error.
    """

    def __init__(  # noqa: PLR0913 (one argument for each line of a config)
        self,
        root: str = "data/my_parts",
        num_points: int = 2048,
        features: str = "",
        val_fraction: float = 0.0,
        up: Literal["y", "z"] = "z",
        label: str = "",
        ignore: int | str = "",
        stored_points: int = 4096,
        test_fraction: float = 0.2,
        seed: int = 0,
        skip_broken: bool = False,
    ):
        super().__init__(num_points, features, val_fraction)
        check_split(test_fraction, seed)
        self.root, self.up, self.label, self.stored_points = root, up, label, stored_points
        self.ignore = {word.strip() for word in str(ignore).split(",") if word.strip()}
        self.test_fraction, self.seed, self.skip_broken = test_fraction, seed, skip_broken

    def load(self) -> tuple[CloudSet, CloudSet]:
        """Return the training and the test set, each in the order of the names of the files."""
        check_stored(self.num_points, self.stored_points)
        listing, clouds = self._read()
        names, label = _categories(listing, clouds.file_index)
        table, class_parts, part_names = number_parts(clouds, label, names, self.ignore)
        parts = table[label[:, None], clouds.code.long()]
        notes, kept = [*listing.notes, *clouds.notes], (parts != VOID).any(1)
        if unused := sorted(self.ignore - set(clouds.words)):
            notes.append(f"no point has the label {listed(unused)}, which is to be ignored")
        notes += mixed_notes(set(clouds.words) - self.ignore)
        ignored = torch.tensor([word in self.ignore for word in clouds.words])
        if void := float(ignored[clouds.code.long()].float().mean()):
            notes.append(f"{void:.1%} of the points have a label that is ignored")
        if lost := int((~kept).sum()):
            notes.append(f"{counted(lost, 'cloud')} left out: no point has a label that is not ignored")
        sizes, num_train = (part_names, class_parts, self.features, tuple(notes)), listing.num_train
        train, test = (
            CloudSet(clouds.xyz[its], clouds.feats[its], label[its], names, parts[its], *sizes)
            for its in _two_slices(clouds.file_index < num_train, kept)
        )
        return train, test

    def full_clouds(self) -> Iterator[tuple[Float[Tensor, "N 3"], Float[Tensor, "N F"], Int[Tensor, " N"]]]:
        """Yield xyz, feats and parts of every test cloud with all points of its file, in the order of the test set."""
        listing, known = self._read()
        names, label = _categories(listing, known.file_index)
        table, _, _ = number_parts(known, label, names, self.ignore)
        kept = (table[label[:, None], known.code.long()] != VOID).any(1).tolist()
        first = int((known.file_index < listing.num_train).sum())
        for place in known.file_index[first:].unique().tolist():
            entry = listing.entries[place]
            parts = table[names.index(entry.label or WHOLE)].tolist()
            part_of = dict(zip(known.words, parts, strict=True))
            for cloud in read_clouds(entry.path, self.stored_points):
                if kept[first]:
                    yield self._full(cloud, part_of)
                first += 1

    def _full(
        self, cloud: Cloud, part_of: Mapping[str, int]
    ) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N F"], Int[Tensor, " N"]]:
        """Return xyz, feats and parts of a whole cloud; labels that were not among the points drawn are `VOID`."""
        _, words, codes = label_words(cloud, self.label)
        parts = torch.tensor([part_of.get(word, VOID) for word in words])[torch.from_numpy(codes)]
        cloud = with_model_features(cloud, self.features)
        up = up_axis(cloud, self.up)
        xyz, index, feats = prepare_cloud(cloud, self.features, len(cloud), up, self.up)
        return xyz[0], torch.empty_like(feats[0]).index_copy_(0, index, feats[0]), parts

    def _read(self) -> tuple[Listing, ReadClouds]:
        root = Path(self.root).expanduser()
        listing = list_folder(root, self.test_fraction, self.seed, need_classes=False)
        choice = (self.up, self.seed, self.skip_broken, True, self.label)
        reading = Reading(self.stored_points, self.features, *choice)
        return listing, read_folder(root, [entry.path for entry in listing.entries], reading, "parts")


def _categories(listing: Listing, file_index: Int[Tensor, " S"]) -> tuple[tuple[str, ...], Int[Tensor, " S"]]:
    """Return the names of the categories, and the category of each cloud."""
    of_files = [entry.label or WHOLE for entry in listing.entries]
    names = tuple(sorted(set(of_files)))
    return names, torch.tensor([names.index(name) for name in of_files])[file_index]


def _two_slices(train_mask: Bool[Tensor, " S"], kept: Bool[Tensor, " S"]) -> list[slice | Tensor]:
    """Return the clouds of the training and of the test set: slices, which copy nothing, if all are kept."""
    number = int(train_mask.sum())
    if bool(kept.all()):
        return [slice(number), slice(number, None)]
    return [(mask & kept).nonzero().squeeze(1) for mask in (train_mask, ~train_mask)]


def number_parts(
    clouds: ReadClouds, label: Int[Tensor, " S"], names: Sequence[str], ignore: set[str]
) -> tuple[Int[Tensor, "C W"], Mapping[str, tuple[int, ...]], tuple[str, ...]]:
    """Number the parts over all categories: those whose labels occur in each, numbers before words, in order.

    Returns the part of each category and label (`VOID`: ignored, none, or `NO_LABEL`), the parts of each category, and
    their names.
    """
    table, ignore = torch.full((len(names), len(clouds.words)), VOID), ignore | {NO_LABEL}
    class_parts, part_names = {}, []
    for category, name in enumerate(names):
        found = clouds.code[label == category].unique().long().tolist()
        own = sorted(
            (code for code in found if clouds.words[code] not in ignore), key=lambda c: label_order(clouds.words[c])
        )
        if not own:
            raise InputError(f"no point of {name} has a label that is not ignored")
        table[category, own] = torch.arange(len(own)) + len(part_names)
        class_parts[name] = tuple(range(len(part_names), len(part_names) + len(own)))
        words = [clouds.words[code] for code in own]
        part_names += words if len(names) == 1 else [f"{name}/{word}" for word in words]
    return table, class_parts, tuple(part_names)
