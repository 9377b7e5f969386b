"""Data frames that pandas wrote into HDF5: its fixed layout, with columns of one type in a block, and their names."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Shaped

from bixt3d.datasets.files.column_names import find_positions
from bixt3d.datasets.files.columns import MAX_COLUMNS
from bixt3d.datasets.files.hdf5 import find_text, is_own
from bixt3d.io.bounds import listed
from bixt3d.types import InputError

_LAYOUT = re.compile(r"(axis|block)\d+(_items|_values)?")


def is_frame(group: Any) -> bool:
    """Return whether a group is a data frame in the fixed layout of pandas."""
    return all(is_own(group, name) for name in ("block0_items", "block0_values"))


def has_positions(group: Any) -> bool:
    """Return whether the columns of a data frame have the names of positions, or numbers for names."""
    names = [name for block in _blocks(group).values() for name in block]
    return all(map(str.isdecimal, names)) or find_positions(names) is not None


def frame_columns(
    group: Any, arrays: Mapping[str, Shaped[np.ndarray, "..."]]
) -> tuple[dict[str, Shaped[np.ndarray, "..."]], list[str]]:
    """Return the columns of a data frame, and the names of what is not read.

    They are one array of records, as of a compound dataset, or a table if their names are numbers. ``arrays``: the
    datasets of the group that contain numbers. Raises InputError for a damaged frame.
    """
    columns, unread = _columns(group, arrays)
    unread += [name for name in group if not _LAYOUT.fullmatch(name) and not is_own(group, name, only_groups=True)]
    index = arrays.get("axis1")
    if index is None or not np.array_equal(index, np.arange(len(index))):
        unread.append("its index")
    if not columns or all(map(str.isdecimal, columns)):
        return {"data": np.stack([columns[name] for name in sorted(columns, key=int)], 1)} if columns else {}, unread
    table = np.zeros(len(next(iter(columns.values()))), [(name, values.dtype) for name, values in columns.items()])
    for name, values in columns.items():
        table[name] = values
    return {"data": table}, unread


def _columns(
    group: Any, arrays: Mapping[str, Shaped[np.ndarray, "..."]]
) -> tuple[dict[str, Shaped[np.ndarray, " N"]], list[str]]:
    """Return the columns of numbers of all blocks, and the names of those of words and times."""
    columns: dict[str, Shaped[np.ndarray, " N"]] = {}
    unread, lengths = [], set()
    for block, names in _blocks(group).items():
        values = arrays.get(block)
        if values is None or "time" in str(group[block].attrs.get("value_type", "")):  # datetime64, timedelta64
            unread += names
            continue
        if "shape" in group[block].attrs:  # that of an empty frame, which HDF5 cannot store
            values = np.zeros((0, len(names)), values.dtype)
        values = values[:, None] if values.ndim == 1 else values
        lengths.add(len(values))
        if values.ndim != 2 or values.shape[1] != len(names) or len(lengths) > 1:
            raise InputError(f"has a data frame of pandas with {len(names)} names for values of shape {values.shape}")
        if len({*names, *columns}) < len(names) + len(columns):
            raise InputError(f"has a data frame of pandas with a name twice: {listed([*columns, *names])}")
        columns |= dict(zip(names, values.T, strict=True))
    return columns, unread


def check_table(name: str, dataset: Any) -> None:
    """Raise InputError for a table of pandas (``format='table'``) whose names of x, y, z only pickle can read."""
    fields = {field.lower() for field in dataset.dtype.names or ()}
    if any(field.startswith("values_block_") for field in fields) and not {"x", "y", "z"} <= fields:
        raise InputError(
            f"has the table {name!r} of pandas, which does not say the names of its columns in plain text: write it by "
            "to_hdf(..., format='fixed') or to_csv"
        )


def _blocks(group: Any) -> dict[str, list[str]]:
    """Return the names of the datasets of the blocks of a data frame, and the names of the columns in each."""
    found = {}
    for name in sorted(group):
        if re.fullmatch(r"block\d+_items", name):
            words = find_text(group, name, MAX_COLUMNS)
            found[name.replace("_items", "_values")] = [word or "unnamed" for word in words]
    if missing := [name for name in found if name not in group]:
        raise InputError(f"has a data frame of pandas without its {listed(missing)}")
    return found
