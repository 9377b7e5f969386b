"""The examples that a run trains, selects and tests with."""

from dataclasses import dataclass

from bixt3d.datasets import stratified_split
from bixt3d.engine.loop import Examples


@dataclass
class Sets:
    """The examples of a run; ``val`` is carved out of the training set, or None."""

    train: Examples
    val: Examples | None
    test: Examples


def split_sets(loaded: tuple[Examples, Examples], val_fraction: float, seed: int) -> Sets:
    """Return the sets of a run, with a stratified validation set where one is asked for."""
    train, test = loaded
    if not val_fraction:
        return Sets(train, None, test)
    train_index, val_index = stratified_split(train.label, val_fraction, seed)
    return Sets(train.subset(train_index), train.subset(val_index), test)
