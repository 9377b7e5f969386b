"""``bixt3d data check`` of sets in HDF5: clouds of each class, and the command to train with."""

import shlex
from collections.abc import Sequence
from inspect import signature
from pathlib import Path

from bixt3d.cli.data_clouds import table
from bixt3d.datasets import ModelNetHDF5, PartHDF5
from bixt3d.io.bounds import counted, listed, printable
from bixt3d.types import CloudSet

Source = type[ModelNetHDF5] | type[PartHDF5]
LAYOUTS = ((ModelNetHDF5, ("train_files.txt", "shape_names.txt")), (PartHDF5, ("train_hdf5_file_list.txt",)))
LAYOUTS += ((PartHDF5, ("train.h5", "seg_classes.json")),)
"""The data sets, and the files by which their folders are known."""


def source_of(root: Path) -> Source | None:
    """Return the data set that reads a folder in a layout of HDF5 files; None for any other folder."""
    return next((source for source, files in LAYOUTS if all((root / name).is_file() for name in files)), None)


def check_hdf5(root: Path, source: Source) -> int:
    """Print what a set contains and the command; returns 0, or 2 if it has one class alone.

    Raises InputError for a damaged set.
    """
    sets = source(str(root), num_points=1).load()
    parts = sets[0].parts is not None
    total, size = len(sets[0]) + len(sets[1]), sets[0].xyz.shape[1]
    print(printable(f"{root}: {counted(total, 'cloud')} in HDF5, as {source.__name__} reads them, of {size:,} points"))
    print("\n".join(map(printable, ["", *table(rows_of(sets, "category" if parts else "class"))])))
    if notes := warnings_of(sets):
        print("\n".join(map(printable, ["", "warnings:", *(f"  {note}" for note in notes)])))
    names = sets[0].part_names if parts else sets[0].class_names
    if len(names) < 2:
        print(f"\ncannot train: there is one {'part' if parts else 'class'} alone ({listed(names)})")
        return 2
    task, config = ("partseg", "folder_partseg") if parts else ("cls", "folder_cls")
    default = signature(source).parameters["num_points"].default
    words = ["bixt3d", "train", task, "--cfg", config, "--data", source.__name__, "--data.root", str(root)]
    words += ["--data.num_points", str(size)] if size < default else []
    print(f"\nto train and test (y is taken for up; --data.up z if it is z):\n  {printable(shlex.join(words))}")
    print(f"  bixt3d test {task}")
    return 0


def rows_of(sets: Sequence[CloudSet], kind: str) -> list[list[str]]:
    """Return a row for each class: its name and its numbers of clouds to train and to test on."""
    counts = [one.label.bincount(minlength=len(one.class_names)).tolist() for one in sets]
    rows = zip(sets[0].class_names, *counts, strict=True)
    return [[kind, "train", "test"], *([name, f"{train:,}", f"{test:,}"] for name, train, test in rows)]


def warnings_of(sets: Sequence[CloudSet]) -> list[str]:
    """Return notes on the set, and the classes without a cloud to train or to test on."""
    notes = list(sets[0].notes)
    for split, one in zip(("train", "test"), sets, strict=True):
        found = set(one.label.tolist())
        if absent := [name for place, name in enumerate(one.class_names) if place not in found]:
            notes.append(f"no clouds to {split} on: {listed(absent)}")
    return notes
