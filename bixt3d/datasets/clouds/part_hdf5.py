"""Part segmentation from HDF5 files: your own sets, or ShapeNetPart in PointNet's format (``hdf5_data``)."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bixt3d.datasets.clouds import shapenetpart
from bixt3d.datasets.clouds.cache import fit_layout, shared, stamp
from bixt3d.datasets.clouds.mapped import Tensors
from bixt3d.datasets.clouds.placed import placed_blocks
from bixt3d.datasets.clouds.reading import (
    cache_of_files,
    clouds_layout,
    coarse_positions,
    fill_clouds,
    largest_colors,
    read_file_list,
    read_json,
    read_lines,
    say_missing,
)
from bixt3d.datasets.clouds.source import PartSource
from bixt3d.datasets.download.archives import missing_data
from bixt3d.datasets.files.hdf5 import find_dataset, open_hdf5
from bixt3d.datasets.transforms.normalize import check_each
from bixt3d.io.bounds import check_names
from bixt3d.types import VOID, CloudSet, InputError

SPLITS = ("train", "val", "test")

ClassParts = Mapping[str, tuple[int, ...]]
"""The part ids of each category, which are unique over all categories; a category's position is its label."""


class PartHDF5(PartSource):
    """HDF5 files with part labels and a ``seg_classes.json``, or ShapeNetPart's ``hdf5_data``, which has none.

    ``data/README.md`` describes the layout.

    Args:
        root: folder with ``train.h5``, ``test.h5`` and optionally ``val.h5``, or with ``train_hdf5_file_list.txt``,
            ``test_...``, ``val_...`` and the files they name; each file has ``data``, ``label`` and ``pid``.
        num_points: points of each cloud that the model sees.
        features: HDF5 datasets that the model reads besides positions, such as ``normal,rgb``.
        val_fraction: share of the training clouds of each class split off for validation (0: none).
        include_val: train on the validation clouds too, if there are any, as PointMLP does.
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
        """Return the training and the test set: clouds in the order of the files, points shuffled."""
        train = self._read("train", "val") if self.include_val else self._read("train")
        return train, self._read("test")

    def full_clouds(self) -> Iterator[tuple[Float[Tensor, "N 3"], Float[Tensor, "N F"], Int[Tensor, " N"]]]:
        """Yield xyz, feats and parts of every test cloud with all points, in the order of the file."""
        test = self._read("test")
        for here, order in _orders(*test.parts.shape):
            back = order.argsort(dim=1)
            vectors = (each[here].take_along_dim(back.unsqueeze(2), dim=1) for each in (test.xyz, test.feats))
            yield from zip(*vectors, test.parts[here].gather(1, back), strict=True)

    def _read(self, *splits: str) -> CloudSet:
        root = Path(self.root).expanduser()
        paths = [path for split in splits for path in _files(root, split)]
        class_parts = _read_class_parts(root)
        part_names = _read_part_names(root, class_parts)
        most, notes = largest_colors([path for split in SPLITS for path in _files(root, split)], self.features)
        layout = clouds_layout(paths, self.num_points, self.features)
        layout = {**layout, "parts": (torch.int64, layout["xyz"][1][:2])}

        def fill(tensors: Tensors) -> None:
            fill_clouds(paths, self.features, (len(class_parts), "the set"), most, tensors)
            _fill_parts(paths, tensors, class_parts)
            _shuffle_points(tensors)

        found, more_notes = shared(
            partial(cache_of_files, root, "_".join(("parts", *splits)), paths, self.features),
            layout,
            fill,
            partial(fit_layout, layout, {"label": range(len(class_parts)), "parts": range(VOID, len(part_names))}),
            stamp(paths, str(class_parts), str(most)),
        )
        say_missing(paths, found["missing"])
        sizes = (found["xyz"], found["feats"], found["label"], tuple(class_parts))
        names = (found["parts"], part_names, class_parts)
        return CloudSet(*sizes, *names, self.features, (*notes, *more_notes, *coarse_positions(paths)))


def _files(root: Path, split: str) -> list[Path]:
    listing, single = root / f"{split}_hdf5_file_list.txt", root / f"{split}.h5"
    if listing.is_file():
        return read_file_list(listing)
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
        check_names(list(found), path)
        return {category: tuple(ids) for category, ids in found.items()}
    if not official.is_file():
        raise InputError(f"{path} is missing: it says which parts each category has (see `bixt3d download --layouts`)")
    if [line.split()[0] for line in read_lines(official)] != list(shapenetpart.CLASS_PARTS):
        raise InputError(
            f"{official} does not list the 16 categories of ShapeNetPart: write {path.name}, see "
            "`bixt3d download --layouts`"
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
        check_names(names, path)
        return tuple(names)
    name_of = {
        part: f"{category}/part {place}" for category, ids in class_parts.items() for place, part in enumerate(ids)
    }
    return tuple(name_of[part] for part in range(num_parts))


def _fill_parts(paths: Sequence[Path], tensors: Tensors, class_parts: ClassParts) -> None:
    owner = torch.empty(sum(len(ids) for ids in class_parts.values()), dtype=torch.int64)
    for number, ids in enumerate(class_parts.values()):
        owner[list(ids)] = number
    label, parts, start = tensors["label"], tensors["parts"], 0
    for path in paths:
        with open_hdf5(path) as file:
            pid = find_dataset(file, "pid")
            size = (find_dataset(file, "data").shape[0], parts.shape[1])
            if pid.shape != size or pid.dtype.kind not in "iu":
                raise InputError(f"{path} must contain pid of shape {size} as integers, not {pid.dtype} {pid.shape}")
            for place, block, _ in placed_blocks(pid):
                here = slice(start + place.start, start + place.stop)
                if block.dtype.kind == "u":  # the largest would become negative, and -1 is `VOID`
                    block = np.minimum(block.astype(np.uint64), np.uint64(np.iinfo(np.int64).max))
                parts[here] = torch.from_numpy(block.astype(np.int64))
                known_mask = (parts[here] >= 0) & (parts[here] < len(owner))
                own_mask = owner[parts[here].where(known_mask, 0)] == label[here].unsqueeze(1)
                fault = "has a point whose pid is no part of its category (parts are numbered over all categories)"
                good_mask = (known_mask & own_mask) | (parts[here] == VOID)
                check_each(good_mask.all(dim=1), str(path), fault, place.start)
        start += size[0]


def _shuffle_points(tensors: Tensors) -> None:
    """Shuffle the points of every cloud in place, always in the same way: files may have them sorted."""
    parts = tensors["parts"]
    for here, order in _orders(*parts.shape):
        for vectors in (tensors["xyz"], tensors["feats"]):
            vectors[here] = vectors[here].take_along_dim(order.unsqueeze(2), dim=1)
        parts[here] = parts[here].gather(1, order)


def _orders(num_clouds: int, num_points: int) -> Iterator[tuple[slice, Int[Tensor, "S N"]]]:
    """Yield a few clouds at a time, and the order of their points."""
    generator = torch.Generator().manual_seed(0)
    for start in range(0, num_clouds, 64):
        here = slice(start, min(start + 64, num_clouds))
        yield here, torch.rand(here.stop - start, num_points, generator=generator).argsort(dim=1, stable=True)
