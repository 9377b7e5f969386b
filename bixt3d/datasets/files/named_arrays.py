"""Positions and features from named arrays: .npy, .npz and HDF5."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from bixt3d.datasets.files.columns import TRIPLES, Points, split_columns
from bixt3d.datasets.files.hdf5 import find_dataset, holds_numbers, open_hdf5
from bixt3d.datasets.files.numpy_files import load_arrays
from bixt3d.io.bounds import check_unpacked, listed, shortened
from bixt3d.types import InputError, feature_name

XYZ_KEYS = ("data", "xyz", "points", "pos", "arr_0")


def split_arrays(arrays: Mapping[str, Shaped[np.ndarray, "..."]]) -> list[Points]:
    """Return the clouds of named arrays: one for positions ``(N, 3)``, S for ``(S, N, 3)``, or with more columns."""
    key, unread = _find_positions(arrays)
    xyz = arrays[key]
    if xyz.dtype.kind not in "fiu":
        raise InputError(f"contains no numbers, but {shortened(str(xyz.dtype))}")
    if xyz.ndim not in (2, 3) or 0 in xyz.shape:
        raise InputError(f"has points of shape {xyz.shape}: write (N, 3), or (S, N, 3) for several clouds")
    features = {}
    for name, values in arrays.items():
        values = values[..., None] if values.shape == xyz.shape[:-1] else values
        if name not in XYZ_KEYS and values.dtype.kind in "fiub" and values.shape[:-1] == xyz.shape[:-1]:
            features[name] = values if xyz.ndim == 3 else values[None]
        elif feature_name(name) in TRIPLES:
            raise InputError(f"has points of shape {xyz.shape}, but {name} of shape {values.shape}")
        elif name != key:
            unread.append(name)
    known = set(map(feature_name, features))
    notes = (f"{listed(dict.fromkeys(unread))} not read",) if unread else ()
    clouds = [split_columns(table, known) for table in (xyz if xyz.ndim == 3 else xyz[None])]
    return [
        Points(positions, guessed | {name: values[place] for name, values in features.items()}, own + notes)
        for place, (positions, guessed, own) in enumerate((one.xyz, one.columns, one.notes) for one in clouds)
    ]


def _find_positions(arrays: Mapping[str, Shaped[np.ndarray, "..."]]) -> tuple[str, list[str]]:
    """Return the name of the array of positions, and of unused candidates with another number of points.

    Raises InputError if there is none, or if it is ambiguous.
    """
    found = [key for key in XYZ_KEYS if key in arrays]
    if not found:
        raise InputError(f"has no array named {', '.join(XYZ_KEYS[:-1])} (it has {listed(arrays)})")
    several = [key for key in found if arrays[key].ndim in (2, 3) and arrays[key].shape[-1] >= 3]
    if len(several) < 2:
        return (several or found)[0], []
    clear = [key for key in several if key in ("xyz", "points", "pos")]
    others = [key for key in several if key not in clear]
    if len(clear) != 1 or any(arrays[key].shape[:-1] == arrays[clear[0]].shape[:-1] for key in others):
        raise InputError(f"has {len(several)} arrays that may be positions, {listed(several)}: keep one of them")
    return clear[0], others


def read_arrays(path: Path) -> list[Points]:
    """Return the clouds of a .npy or .npz file. Pickled arrays are refused."""
    return split_arrays(load_arrays(path))


def read_hdf5(path: Path) -> list[Points]:
    """Return the clouds of an HDF5 file: positions ``data`` (or ``xyz``, ``points``, ``pos``) and features by name."""
    with open_hdf5(path) as file:
        found = [find_dataset(file, name) for name in file if name in XYZ_KEYS or holds_numbers(file, name)]
        check_unpacked(sum(8 * one.size for one in found), path.stat().st_size, "has datasets that need")
        arrays = {one.name.lstrip("/"): one[()] for one in found}
        names = list(file)
    return split_arrays(arrays or dict.fromkeys(names, np.zeros(0)))
