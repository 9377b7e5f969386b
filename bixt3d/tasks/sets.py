"""The training, validation and test set of a run."""

from dataclasses import dataclass

from bixt3d.datasets import stratified_split
from bixt3d.engine.loop import Examples


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
