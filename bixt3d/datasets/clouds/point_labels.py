"""The labels of the points of a cloud: a column of whole numbers or words."""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int

from bixt3d.datasets.files.cloud import Cloud
from bixt3d.datasets.files.column_names import is_unnamed
from bixt3d.datasets.files.precision import EXACT
from bixt3d.io.bounds import listed, printable
from bixt3d.types import InputError

NAMES = ("label", "labels", "part", "parts", "part_label", "pid", "seg", "segment", "segmentation", "semantic")
NAMES += ("semantic_label", "class", "classes", "classification", "class_id", "category", "annotation")
"""Usual names of a column of labels, the likelier first; CloudCompare writes ``scalar_`` before them."""
NO_LABEL = ""
"""The label, as text, of points that have none: an empty cell or NaN. No loss and no score counts them."""
MAX_LABELS = 1000
"""Largest number of different labels in a cloud."""
MAX_INTEGER = np.iinfo(np.int64).max
"""Largest label: greater ones are most likely negative numbers that were stored without a sign."""


def find_label(names: Iterable[str]) -> str | None:
    """Return the column of the labels by its name; None if there is none."""
    return next(iter(label_columns(names)), None)


def label_columns(names: Iterable[str]) -> list[str]:
    """Return the columns that may be the labels by their names, the likelier first."""
    by_lower = {}
    for name in names:
        by_lower.setdefault(name.strip().lower().removeprefix("scalar_"), name)
    return [by_lower[name] for name in NAMES if name in by_lower]


def label_words(cloud: Cloud, column: str = "") -> tuple[str, list[str], Int[np.ndarray, " N"]]:
    """Return the column of the labels, the different labels as text, and for each point the index of its label.

    ``column``: its name; "": found by name, or the last unnamed column if it has whole numbers. Points without a label
    (NaN, no word) have the label `NO_LABEL`. Raises InputError if there is no column of labels, or if it has other
    values than words and whole numbers.
    """
    name = _column_of(cloud, column)
    values = np.asarray(cloud.columns[name])
    if values.ndim == 2 and values.shape[1] != 1:
        raise InputError(f"{cloud.name} has {name} of width {values.shape[1]}: a label takes one column")
    found, codes = np.unique(values.reshape(-1), return_inverse=True)  # all NaN are one
    if not _are_whole(found):
        raise InputError(f"{cloud.name} has {name} with values that are no whole numbers: are these labels?")
    if found.dtype.kind == "f" and np.nanmax(np.abs(found), initial=0) >= EXACT:
        raise InputError(f"{cloud.name} has {name} with floats beyond 2^53, which round integers: are these labels?")
    if len(found) > MAX_LABELS:
        raise InputError(f"{cloud.name} has {len(found)} different values of {name}: are these labels?")
    if found.dtype.kind == "u" and found.max(initial=0) > MAX_INTEGER:
        raise InputError(f"{cloud.name} has {name} with values above {MAX_INTEGER}: are these labels?")
    words = [_word(value, cloud.words.get(name)) for value in found.tolist()]
    return name, words, codes.reshape(-1).astype(np.int64)


def _word(value: int | float | str, words: Sequence[str] | None) -> str:
    """Return a value of the column of the labels as text; ``words``: those that its numbers are indices of."""
    if value != value:  # NaN
        return NO_LABEL
    text = value if isinstance(value, str) else str(int(value)) if words is None else words[int(value)]
    return printable(text).strip()


def count_gaps(words: Sequence[str], codes: Int[np.ndarray, " N"]) -> int:
    """Return the number of points without a label; the arguments are results of `label_words`."""
    return int((np.array(words) == NO_LABEL)[codes].sum())


def gap_notes(number: int, total: int) -> list[str]:
    """Return a note on the points without a label, of ``total`` points; none if all have one."""
    verb = "has" if number == 1 else "have"
    return [f"{number:,} of {total:,} points {verb} no label: not counted in loss and scores"] if number else []


def mixed_notes(labels: Iterable[str]) -> list[str]:
    """Return a note if some of the labels of a set are numbers and others words: they may mean the same."""
    ordered = sorted(set(labels) - {NO_LABEL}, key=label_order)
    words = [word for word in ordered if label_order(word)[0]]
    numbers = ordered[: len(ordered) - len(words)]
    if not words or not numbers:
        return []
    both = f"some labels are numbers ({listed(numbers, 5)}) and others words ({listed(words, 5)})"
    return [f"{both}: each is a class of its own"]


def _column_of(cloud: Cloud, column: str) -> str:
    if column:
        found = [name for name in cloud.columns if name.strip().lower() == column.strip().lower()]
        if not found:
            raise InputError(f"{cloud.name} has no column {column} (it has {listed(cloud.columns)})")
        return found[0]
    if found := find_label(cloud.columns):
        return found
    unnamed = [name for name in cloud.columns if is_unnamed(name)]
    if unnamed and _are_whole(last := np.asarray(cloud.columns[unnamed[-1]])) and (last == last).any():
        return unnamed[-1]
    raise InputError(
        f"{cloud.name} has no column of labels (it has {listed(cloud.columns)}): name it by --label NAME, in training "
        "by --data.label NAME"
    )


def _are_whole(values: np.ndarray) -> bool:
    """Return whether the values are words or whole numbers, whatever NaN there are."""
    if values.dtype.kind != "f":
        return True
    own = values[~np.isnan(values)]
    return bool((own == own.round()).all() and np.isfinite(own).all())


def label_order(word: str) -> tuple[bool, int, str]:
    """Return the key to sort labels by: numbers by value, then words."""
    is_number = word.lstrip("-").isdecimal()
    return (not is_number, int(word) if is_number else 0, word)
