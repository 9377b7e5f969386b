"""The training, validation and test set of a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from bixt3d.datasets import stratified_split
from bixt3d.engine.loop import Examples
from bixt3d.io.bounds import listed
from bixt3d.types import CloudSet, InputError


@dataclass
class Sets:
    """The sets of a run; ``val`` is a validation split of the training set, or None."""

    train: Examples
    val: Examples | None
    test: Examples


def load_sets(task: Any, run: Any) -> tuple[Examples, Examples]:
    """Return the training and test set of a run.

    Raises InputError if they cannot be read; if their folder is missing, it names the option for another one.
    """
    try:
        return task.load(run)
    except InputError as error:
        root = getattr(run.data, "root", None)
        if not root or Path(root).expanduser().exists() or "--data.root" in str(error):
            raise
        raise InputError(f"{error}; if the data are in another folder: --data.root FOLDER") from error


def split_sets(loaded: tuple[Examples, Examples], val_fraction: float, seed: int) -> Sets:
    """Return the sets of a run; ``val_fraction`` > 0 splits a stratified validation set off the training set."""
    train, test = loaded
    if not val_fraction:
        return Sets(train, None, test)
    train_index, val_index = stratified_split(train.label, val_fraction, seed)
    others = ChosenClouds(train, train_index) if isinstance(train, CloudSet) else train.subset(train_index)
    return Sets(others, train.subset(val_index), test)


class ChosenClouds(CloudSet):
    """Some clouds of a set, which are not copied: a set may take half of the memory, or be mapped from disk.

    ``xyz``, ``feats`` and ``parts`` are copies, made when they are asked for.
    """

    def __init__(self, clouds: CloudSet, index: Int[Tensor, " B"]):
        values = {"clouds": clouds, "index": index, "label": clouds.label[index]}
        shared = ("class_names", "part_names", "class_parts", "features", "notes")
        for name, value in (values | {name: getattr(clouds, name) for name in shared}).items():
            object.__setattr__(self, name, value)  # the base class is frozen

    xyz = property(lambda self: self.clouds.xyz[self.index])
    feats = property(lambda self: self.clouds.feats[self.index])
    parts = property(lambda self: None if self.clouds.parts is None else self.clouds.parts[self.index])

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: Int[Tensor, " B"]) -> dict[str, Tensor]:
        return self.clouds[self.index[index]]

    def subset(self, index: Int[Tensor, " B"]) -> CloudSet:
        return self.clouds.subset(self.index[index])

    def to(self, device: torch.device | str) -> "ChosenClouds":
        return ChosenClouds(self.clouds.to(device), self.index.to(device))


def empty_classes(loaded: Sequence[Examples]) -> list[str]:
    """Return a note for each split that has no clouds of some class."""
    notes = []
    for split, clouds in zip(("training", "test"), loaded, strict=False):
        if isinstance(clouds, CloudSet):
            found = set(clouds.label.unique().tolist())
            absent = [name for number, name in enumerate(clouds.class_names) if number not in found]
            notes += [f"warning: the {split} set has no clouds of {listed(absent)}"] if absent else []
    return notes
