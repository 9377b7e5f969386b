"""Reader of clouds from HDF5 files of any layout: datasets, tables (compound datasets), and groups of these."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bixt3d.datasets.files.array_positions import XYZ_KEYS, Arrays, holds_points
from bixt3d.datasets.files.columns import Points
from bixt3d.datasets.files.hdf5 import find_dataset, holds_numbers, is_own, open_hdf5, word_column
from bixt3d.datasets.files.hdf5_frames import check_table, frame_columns, has_positions, is_frame
from bixt3d.datasets.files.hdf5_scales import read_scaled
from bixt3d.datasets.files.named_arrays import split_arrays
from bixt3d.io.bounds import check_unpacked, listed
from bixt3d.types import InputError

MAX_GROUPS = 1000


def read_hdf5(path: Path) -> list[Points]:
    """Return the clouds of an HDF5 file: positions ``data`` (or ``xyz``, ``points``, ...) and features by name.

    If there are no positions in the file itself, each of its groups with positions is a cloud. A word for each point,
    such as the name of its class, is read as in `split_arrays`.
    """
    with open_hdf5(path) as file:
        names, found = list(file), {"": _datasets(file)}
        if not _holds_points(file, found[""]):
            if is_own(file, "data", only_groups=True) and not is_frame(file["data"]):
                inside = listed(file["data"])
                raise InputError(f"has 'data' as a group (of {inside}): write its datasets into the file itself")
            groups = {name: _datasets(group) for name, group in _groups(file, "", set())}
            frames = {name: datasets for name, datasets in groups.items() if is_frame(file[name])}
            groups = {name: datasets for name, datasets in groups.items() if _holds_points(file[name], datasets)}
            found = groups or frames or found
        needed = sum(max(8, one.dtype.itemsize) * one.size for datasets in found.values() for one in datasets.values())
        check_unpacked(needed, path.stat().st_size, "has datasets that need")
        loaded = {name: _load(file[name or "/"], datasets) for name, datasets in found.items()}
    if "" in loaded:
        arrays, notes = loaded[""]
        clouds = split_arrays(arrays or dict.fromkeys(names, np.zeros(0)))
        return [one._replace(notes=one.notes + notes) for one in clouds]
    return _of_groups(loaded)


def _holds_points(group: Any, datasets: Mapping[str, Any]) -> bool:
    return has_positions(group) if is_frame(group) else holds_points(datasets)


def _load(group: Any, datasets: Mapping[str, Any]) -> tuple[Arrays, tuple[str, ...]]:
    """Return the arrays of a group, and notes on what was applied to them, and what was not read."""
    if is_frame(group):
        arrays, unread = frame_columns(group, {name: one[()] for name, one in datasets.items()})
        return arrays, (f"{listed(unread)} not read",) if unread else ()
    arrays, names_of = {}, {}
    for name, dataset in datasets.items():
        check_table(name, dataset)
        arrays[name], applied = read_scaled(name, dataset)
        for one in applied:
            names_of.setdefault(one, []).append(name)
    arrays |= _word_columns(group, arrays)
    notes = [f"{listed(names)}: {one}" for one, names in names_of.items()]
    return arrays, (*notes, *_unread(group, arrays))


def _of_groups(loaded: Mapping[str, tuple[Arrays, tuple[str, ...]]]) -> list[Points]:
    clouds = []
    for name, (arrays, notes) in loaded.items():
        try:
            found = split_arrays(arrays)
        except InputError as error:
            raise InputError(f"has the group {name!r}, which {error}") from error
        clouds += [one._replace(notes=(*one.notes, *notes, f"from its group {name}")) for one in found]
    return clouds


def _groups(group: Any, name: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """Yield the groups in a group with their paths, each once. Raises InputError for too many."""
    import h5py

    for one in group:
        if not is_own(group, one, only_groups=True):
            continue
        inner, path = group[one], f"{name}/{one}"
        address = h5py.h5o.get_info(inner.id).addr
        if address in seen:  # groups may contain themselves
            continue
        seen.add(address)
        if len(seen) > MAX_GROUPS or path.count("/") > 20:
            raise InputError(f"has more than {MAX_GROUPS} groups, or nests them too deeply: write its points into one")
        yield path, inner
        yield from _groups(inner, path, seen)


def _datasets(group: Any) -> dict[str, Any]:
    """Return the datasets of numbers and records of a group. Raises InputError for positions that are anything else."""
    wanted = [
        name
        for name in group
        if holds_numbers(group, name) or (name in XYZ_KEYS and not is_own(group, name, only_groups=True))
    ]
    return {name: find_dataset(group, name, records=True) for name in wanted}


def _word_columns(group: Any, numbers: Arrays) -> Arrays:
    """Return the datasets of a group that have a word for each row of one of its arrays of numbers."""
    sizes = {len(values) for values in numbers.values() if values.ndim}
    words = {name: word_column(group, name, sizes) for name in group if name not in numbers and name not in XYZ_KEYS}
    return {name: column for name, column in words.items() if column is not None}


def _unread(group: Any, read: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a note with the names in a group that are neither read nor groups, such as links."""
    names = [name for name in group if name not in read and not is_own(group, name, only_groups=True)]
    return (f"{listed(names)} not read",) if names else ()
