"""The labels of the points of a cloud: a column of whole numbers or words."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Int

from bixt3d.datasets.files.cloud import Cloud
from bixt3d.io.bounds import listed, printable, shortened
from bixt3d.types import InputError

NAMES = ("label", "labels", "part", "parts", "part_label", "pid", "seg", "segment", "segmentation", "semantic")
NAMES += ("semantic_label", "class", "classes", "classification", "class_id", "category", "annotation")
"""Usual names of a column of labels, the likelier first; CloudCompare writes ``scalar_`` before them."""
MAX_LABELS = 1000
"""Largest number of different labels in a cloud."""


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

    ``column``: its name; "": found by name, or the last unnamed column if it has whole numbers. Raises InputError if
    there is none, or if it has other values than words and whole numbers.
    """
    name = _column_of(cloud, column)
    values = np.asarray(cloud.columns[name])
    if values.ndim == 2 and values.shape[1] != 1:
        raise InputError(f"{cloud.name} has {name} of width {values.shape[1]}: a label takes one column")
    values = values.reshape(-1)
    if name in cloud.words:
        if np.isnan(values).any():
            raise InputError(f"{cloud.name} has points without a word in {name}")
        values = np.array(cloud.words[name])[values.astype(np.int64)]
    if values.dtype.kind == "f" and not _are_whole(values):
        raise InputError(f"{cloud.name} has {name} with values that are no whole numbers: are these labels?")
    values = values.astype(np.int64) if values.dtype.kind in "fiub" else values.astype(str)
    words, codes = np.unique(values, return_inverse=True)
    if len(words) > MAX_LABELS:
        raise InputError(f"{cloud.name} has {len(words)} different values of {name}: are these labels?")
    words = [shortened(printable(word).strip()) for word in words]
    if not all(words):
        raise InputError(f"{cloud.name} has points without a word in {name}")
    return name, words, codes.reshape(-1).astype(np.int64)


def _column_of(cloud: Cloud, column: str) -> str:
    if column:
        found = [name for name in cloud.columns if name.strip().lower() == column.strip().lower()]
        if not found:
            raise InputError(f"{cloud.name} has no column {column} (it has {listed(cloud.columns)})")
        return found[0]
    if found := find_label(cloud.columns):
        return found
    unnamed = [name for name in cloud.columns if name.startswith("column") and name[6:].isdigit()]
    if unnamed and _are_whole(np.asarray(cloud.columns[unnamed[-1]])):
        return unnamed[-1]
    raise InputError(
        f"{cloud.name} has no column of labels (it has {listed(cloud.columns)}): name it by --data.label NAME"
    )


def _are_whole(values: np.ndarray) -> bool:
    if values.dtype.kind != "f":
        return True
    return bool(np.isfinite(values).all() and (values == values.round()).all() and np.abs(values).max(initial=0) < 1e9)


def label_order(word: str) -> tuple[bool, int, str]:
    """Return the key to sort labels by: numbers by value, then words."""
    is_number = word.lstrip("-").isdecimal()
    return (not is_number, int(word) if is_number else 0, word)
