"""Which of several named arrays are the positions: by their names, then by their shapes."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from bixt3d.datasets.files.column_names import find_positions
from bixt3d.datasets.files.columns import TRIPLES
from bixt3d.datasets.files.fields import VECTORS
from bixt3d.io.bounds import listed
from bixt3d.types import InputError, feature_name

XYZ_KEYS = ("data", "xyz", "points", "pos", "arr_0")
OTHER_KEYS = (*VECTORS, "pc", "pcd", "pts", "pointcloud", "point_cloud", "cloud", "vertices", "verts", "scan")
"""The usual names of positions, in lower case: those of training sets, and others."""
POSITIONS = {"x", "y", "z", *XYZ_KEYS, *OTHER_KEYS}

CLEAR, CLEAREST, GENERAL = ("xyz", "points", "pos"), ("xyz", "pos"), ("data", "arr_0")
"""Names that count before others, those that count before others of as many points, and names of anything."""

Arrays = Mapping[str, Shaped[np.ndarray, "..."]]


class Positions(NamedTuple):
    """The array of positions, the other arrays, the names of those that are not read, and notes."""

    xyz: Shaped[np.ndarray, "..."]
    others: dict[str, Shaped[np.ndarray, "..."]]
    unread: list[str]
    notes: tuple[str, ...] = ()


def take_positions(arrays: Arrays) -> Positions:
    """Return the positions of named arrays: ``x y z``, an array of a usual name, axes of other names, or a single one.

    Case is ignored. Raises InputError if there are none, or if they are ambiguous.
    """
    if axes := _axes(arrays):
        return _stacked(arrays, axes)
    usual = [name for key in dict.fromkeys((*XYZ_KEYS, *OTHER_KEYS)) for name in arrays if _lower(name) == key]
    named = [name for name in usual if _may_be_points(arrays[name])]
    unknown = [name for name, values in arrays.items() if name not in usual and _may_be_points(values)]
    unknown = [name for name in unknown if feature_name(name) not in TRIPLES]
    axes = _surveyed(arrays, is_sure=not named and not unknown)
    rivals = [name for name in named if axes and _rows(arrays[name]) == (len(arrays[axes[0]]),)]
    if axes and rivals == named and {*map(_lower, named)} <= {*GENERAL}:
        if rivals:
            raise _ambiguous([*axes, *rivals])
        return _stacked(arrays, axes)
    if len(named) > 1:
        return _chosen(arrays, named)
    if len(unknown) > 1 and not named:
        raise _ambiguous(unknown)
    wrong = [name for name in usual if _lower(name) in XYZ_KEYS or arrays[name].ndim > 1]
    found = named or unknown or wrong
    if not found:
        raise InputError(f"has no array named {', '.join(XYZ_KEYS[:-1])} (it has {listed(arrays)})")
    return Positions(arrays[found[0]], {name: values for name, values in arrays.items() if name != found[0]}, [])


def _chosen(arrays: Arrays, named: Sequence[str]) -> Positions:
    """Return the positions of several arrays with usual names. Raises InputError if they are ambiguous."""
    clear = [name for name in named if _lower(name) in CLEAR]
    own = [name for name in named if _lower(name) not in GENERAL]
    key = (clear or own or named)[0]
    general = [name for name in named if name not in own and not clear]
    sets = [name for name in general if arrays[name].ndim == 3 and arrays[key].shape == (len(arrays[name]), 3)]
    if sets:  # a position of each cloud, not of each point
        key, general = sets[0], [name for name in general if name not in sets[:1]]
    rivals = [name for name in named if name in (*clear, *general) or _rows(arrays[name]) == _rows(arrays[key])]
    rivals.remove(key)
    is_sure = _lower(key) in CLEAREST and 3 in arrays[key].shape[-2:]
    if rivals and not (is_sure and not {*map(_lower, rivals)} & {*XYZ_KEYS}):
        raise _ambiguous(named)
    unread = [name for name in named if name != key and name not in rivals]
    others = {name: values for name, values in arrays.items() if name != key and name not in unread}
    notes = (f"{key} taken for positions, not {listed(rivals)}",) if rivals else ()
    return Positions(arrays[key], others, unread, notes)


def _ambiguous(names: Sequence[str]) -> InputError:
    return InputError(f"has {len(names)} arrays that may be positions, {listed(names)}: keep one of them")


def _axes(arrays: Mapping[str, Any]) -> list[str] | None:
    """Return the names of the arrays x, y and z, which are of one shape. Raises InputError if one is there twice."""
    found = []
    for shape in {values.shape for name, values in arrays.items() if _lower(name) == "x" and values.ndim}:
        names = [name for name, values in arrays.items() if values.shape == shape and _lower(name) in ("x", "y", "z")]
        found += names if {*map(_lower, names)} == {"x", "y", "z"} else []
    for axis in "xyz":
        if len(own := [name for name in found if _lower(name) == axis]) > 1:
            raise InputError(f"has more than one array for {axis}: {listed(own)}")
    return sorted(found, key=_lower) or None


def _surveyed(arrays: Mapping[str, Any], is_sure: bool) -> list[str] | None:
    """Return the names of axes as surveyors and other programs call them, such as ``easting northing elevation``.

    ``is_sure``: nothing else may be positions. Then, InputError is raised for degrees, and axes that are there twice.
    """
    columns = [
        name for name, values in arrays.items() if values.ndim and values.size == len(values) and not values.dtype.names
    ]
    for size in dict.fromkeys(len(arrays[name]) for name in columns):
        names = [name for name in columns if len(arrays[name]) == size]
        try:
            places = find_positions(names)
        except InputError:
            if is_sure:
                raise
            places = None
        if places:
            return [names[place] for place in places]
    return None


def _stacked(arrays: Arrays, axes: Sequence[str]) -> Positions:
    """Return the positions of three arrays. Raises InputError for others of the same points in an array ``xyz``."""
    shape = arrays[axes[0]].shape
    xyz = np.stack([np.ravel(arrays[name]) for name in axes], 1)
    others = {name: values for name, values in arrays.items() if name not in axes}
    again = [name for name, values in others.items() if _lower(name) == "xyz" and values.shape == xyz.shape]
    if any(not np.array_equal(others[name], xyz, equal_nan=True) for name in again):
        raise _ambiguous([*axes, *again])
    others = {name: values.reshape(-1) if values.shape == shape else values for name, values in others.items()}
    return Positions(xyz, {name: values for name, values in others.items() if name not in again}, again)


def holds_points(arrays: Mapping[str, Any]) -> bool:
    """Return whether named arrays, or datasets, may contain positions: under a usual name, or of a usual shape."""
    lower = set(map(_lower, arrays))
    if {"x", "y", "z"} <= lower or lower & set(XYZ_KEYS) or any(map(_may_be_points, arrays.values())):
        return True
    return _surveyed(arrays, is_sure=False) is not None


def _may_be_points(values: Any) -> bool:
    if values.dtype.names or values.ndim == 2:
        return bool(values.dtype.names) or values.shape[1] >= 3
    return values.ndim in (3, 4) and max(values.shape[-2:]) >= 3


def _rows(values: Any) -> tuple[int, ...]:
    return values.shape if values.dtype.names else values.shape[:-1]


def _lower(name: str) -> str:
    return name.strip().lower()
