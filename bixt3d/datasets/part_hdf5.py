"""Clouds with parts in HDF5 files: sets of one's own, or ShapeNetPart as PointNet's authors gave it away."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bixt3d.datasets import shapenetpart
from bixt3d.datasets.archives import missing_data
from bixt3d.datasets.normalize import check_each
from bixt3d.datasets.reading import read_arrays, read_clouds, read_json, read_lines
from bixt3d.datasets.source import PartSource, part_set
from bixt3d.types import CloudSet, InputError

ClassParts = Mapping[str, tuple[int, ...]]
"""The global part ids of each category; the place of a category is its label."""


class PartHDF5(PartSource):
    """A folder of HDF5 files with parts and a ``seg_classes.json``, or ShapeNetPart's ``hdf5_data``, which has none.

    Args:
        root: folder with ``train.h5``, ``test.h5`` and perhaps ``val.h5``, or with ``train_hdf5_file_list.txt`` and
            so on and the files they name; each holds ``data``, ``label`` and ``pid`` (see data/README.md).
        num_points: points of each cloud that the model sees.
        features: datasets of the files to give to the model beside positions, such as ``normal,rgb``.
        val_fraction: share of the training clouds of each class set aside to select on (0: none).
        include_val: train on the validation clouds too, where there are some, as PointMLP does.
        up: the axis that points up (y in hdf5_data).
    """

    def __init__(
        self,
        root: str = "data/hdf5_data",
        num_points: int = 2048,
        features: str = "",
        val_fraction: float = 0.0,
        include_val: bool = True,
        up: Literal["y", "z"] = "y",
    ):
        super().__init__(num_points, features, val_fraction)
        self.root, self.include_val, self.up = root, include_val, up

    def load(self) -> tuple[CloudSet, CloudSet]:
        """Return the training and the test set, clouds in the order of the files, their points in a random one."""
        train = self._read("train", "val") if self.include_val else self._read("train")
        return _mix_points(train), _mix_points(self._read("test"))

    def full_clouds(self) -> Iterator[tuple[Float[Tensor, "N 3"], Float[Tensor, "N F"], Int[Tensor, " N"]]]:
        """Yield xyz, feats and parts of every test cloud with all points, in the order of the file."""
        test = self._read("test")
        yield from zip(test.xyz, test.feats, test.parts, strict=True)

    def _read(self, *splits: str) -> CloudSet:
        root = Path(self.root).expanduser()
        paths = [path for split in splits for path in _files(root, split)]
        class_parts = _read_class_parts(root)
        part_names = _read_part_names(root, class_parts)
        pieces = read_clouds(paths, self.num_points, self.features, len(class_parts), "the set")
        parts = [_read_parts(path, *piece, class_parts) for path, piece in zip(paths, pieces, strict=True)]
        points, label = (torch.cat(column) for column in zip(*pieces, strict=True))
        return part_set(points, torch.cat(parts), label, part_names, class_parts, self.features)


def _files(root: Path, split: str) -> list[Path]:
    listing, single = root / f"{split}_hdf5_file_list.txt", root / f"{split}.h5"
    if listing.is_file():  # it may give the paths on its author's disk
        return [root / PurePosixPath(line).name for line in read_lines(listing)]
    if single.is_file():
        return [single]
    if split == "val":
        return []
    raise missing_data(root, f"{single.name} or {listing.name}", "shapenetpart_hdf5", "shapes_partseg")


def _read_class_parts(root: Path) -> ClassParts:
    path, official = root / "seg_classes.json", root / "all_object_categories.txt"
    if path.is_file():
        found = read_json(path)
        if not _numbers_every_part(found):
            raise InputError(
                f"{path} must give every category the list of its parts, such as "
                '{"Cup": [0, 1], "Table": [2, 3]}: each number from 0 on once'
            )
        return {category: tuple(ids) for category, ids in found.items()}
    if not official.is_file():
        raise InputError(f"{path} is missing: it says which parts each category has (see data/README.md)")
    if [line.split()[0] for line in read_lines(official)] != list(shapenetpart.CLASS_PARTS):
        raise InputError(
            f"{official} does not list the 16 categories of ShapeNetPart: write {path.name} (see data/README.md)"
        )
    return shapenetpart.CLASS_PARTS


def _numbers_every_part(found: Any) -> bool:
    if not isinstance(found, dict) or not all(isinstance(ids, list) and ids for ids in found.values()):
        return False
    numbers = [number for ids in found.values() for number in ids]
    return bool(numbers) and all(type(number) is int for number in numbers) and set(numbers) == set(range(len(numbers)))


def _read_part_names(root: Path, class_parts: ClassParts) -> tuple[str, ...]:
    if class_parts is shapenetpart.CLASS_PARTS:
        return shapenetpart.PART_NAMES
    path, num_parts = root / "part_names.json", sum(len(ids) for ids in class_parts.values())
    if path.is_file():
        names = read_json(path)
        if not isinstance(names, list) or len(names) != num_parts or not all(isinstance(name, str) for name in names):
            raise InputError(f"{path} must be a list of {num_parts} names, one for each part of seg_classes.json")
        return tuple(names)
    name_of = {
        part: f"{category}/part {place}" for category, ids in class_parts.items() for place, part in enumerate(ids)
    }
    return tuple(name_of[part] for part in range(num_parts))


def _read_parts(
    path: Path, points: Float[Tensor, "S N P"], label: Int[Tensor, " S"], class_parts: ClassParts
) -> Int[Tensor, "S N"]:
    pid = read_arrays(path, ["pid"])["pid"]
    if pid.shape != points.shape[:2] or pid.dtype.kind not in "iu":
        size = tuple(points.shape[:2])
        raise InputError(f"{path} must hold pid of shape {size} as integers, not {pid.dtype} {pid.shape}")
    parts = torch.from_numpy(pid.astype(np.int64))
    owner = torch.empty(sum(len(ids) for ids in class_parts.values()), dtype=torch.int64)
    for number, ids in enumerate(class_parts.values()):
        owner[list(ids)] = number
    known_mask = (parts >= 0) & (parts < len(owner))
    own_mask = owner[parts.where(known_mask, 0)] == label.unsqueeze(1)
    fault = "has a point whose pid is no part of its category (parts are numbered over all categories)"
    check_each((known_mask & own_mask).all(dim=1), str(path), fault)
    return parts


def _mix_points(clouds: CloudSet) -> CloudSet:
    """Return the clouds with their points in a random order, always the same one, for files promise none."""
    keys = torch.rand(clouds.xyz.shape[:2], generator=torch.Generator().manual_seed(0))
    order = keys.argsort(dim=1, stable=True)
    xyz, feats = (vectors.take_along_dim(order.unsqueeze(2), dim=1) for vectors in (clouds.xyz, clouds.feats))
    return replace(clouds, xyz=xyz, feats=feats, parts=clouds.parts.gather(1, order))
