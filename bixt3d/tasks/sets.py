"""The training, validation and test set of a run."""

from collections.abc import Sequence
from dataclasses import dataclass

from bixt3d.datasets import stratified_split
from bixt3d.engine.loop import Examples
from bixt3d.io.bounds import listed
from bixt3d.types import CloudSet


@dataclass
class Sets:
    """The sets of a run; ``val`` is a validation split of the training set, or None."""

    train: Examples
    val: Examples | None
    test: Examples


def split_sets(loaded: tuple[Examples, Examples], val_fraction: float, seed: int) -> Sets:
    """Return the sets of a run; ``val_fraction`` > 0 splits a stratified validation set off the training set."""
    train, test = loaded
    if not val_fraction:
        return Sets(train, None, test)
    train_index, val_index = stratified_split(train.label, val_fraction, seed)
    return Sets(train.subset(train_index), train.subset(val_index), test)


def empty_classes(loaded: Sequence[Examples]) -> list[str]:
    """Return a note for each split that has no clouds of some class."""
    notes = []
    for split, clouds in zip(("training", "test"), loaded, strict=False):
        if isinstance(clouds, CloudSet):
            found = set(clouds.label.unique().tolist())
            absent = [name for number, name in enumerate(clouds.class_names) if number not in found]
            notes += [f"warning: the {split} set has no clouds of {listed(absent)}"] if absent else []
    return notes
