"""Positions and features as columns of a table, with or without names."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from bixt3d.datasets.files.cloud import has_position
from bixt3d.datasets.files.column_names import find_positions, meters_of_units, unit_of
from bixt3d.datasets.files.precision import coarse_notes, is_rounded
from bixt3d.datasets.transforms.upright import Up
from bixt3d.io.bounds import counted, listed
from bixt3d.types import InputError


class Points(NamedTuple):
    """Positions, features by their names in a file, and ``notes``, ``up``, ``words``, ``meters`` as in `Cloud`."""

    xyz: Float[np.ndarray, "N 3"]
    columns: dict[str, Shaped[np.ndarray, "N _"]]
    notes: tuple[str, ...] = ()
    up: Up | None = None
    words: Mapping[str, tuple[str, ...]] = {}
    meters: tuple[float, float] | None = None


MAX_COLUMNS = 1000
TRIPLES = {
    "normal": (
        ("nx", "ny", "nz"),
        ("normal_x", "normal_y", "normal_z"),
        *((f"{word}0", f"{word}1", f"{word}2") for word in ("normals:", "normal:", "normals_", "normal_")),
    ),
    "rgb": (
        ("red", "green", "blue"),
        ("r", "g", "b"),
        ("diffuse_red", "diffuse_green", "diffuse_blue"),
        ("rf", "gf", "bf"),
        *((f"{word}0", f"{word}1", f"{word}2") for word in ("rgb:", "colors:", "color:", "rgb_", "colors_", "color_")),
    ),
}
"""The usual names, in lower case, of the columns of features of width 3."""


def split_columns(
    table: Shaped[np.ndarray, "N C"], known: Collection[str] = (), places: Sequence[int] | None = None
) -> Points:
    """Return the first three columns as positions, and guess from their values which others are normals and colors.

    Three columns of unit vectors are normals: at least nine of ten rows have a length between 0.98 and 1.02, none is
    longer (ShapeNetPart has a few of length 0). Columns 4 to 6 of integers from 0 to 255, not all below 2, are colors.
    All others (intensity, labels) are named by their position, such as ``column7``, and so are normals and colors that
    are already ``known``. ``places``: their places in the file, if those are others. Raises InputError for fewer than
    three columns, and for numbers or labels of points in the first; see `check_first`.
    """
    if not 3 <= table.shape[1] <= MAX_COLUMNS:
        fault = "but a point takes three: x, y, z" if table.shape[1] < 3 else f"but at most {MAX_COLUMNS} are read"
        raise InputError(f"has {counted(table.shape[1], 'column')}, {fault}")
    given, table, first_of = table, as_numbers(table), {}
    placed = table[has_position(table[:, :3])]  # the other rows may be NaN altogether
    alone = check_first(table)
    colors = placed[:, 3:6]
    may_be_colors = len(colors) and colors.shape[1] == 3 and "rgb" not in known
    if may_be_colors and (colors == colors.round()).all() and colors.min() >= 0 and 2 <= colors.max() <= 255:
        first_of["rgb"] = 3
    for first in range(3, table.shape[1] - 2 if "normal" not in known else 0):
        length = _length(placed[:, first : first + 3])
        if len(placed) and (length < 1.02).all() and (length > 0.98).mean() >= 0.9:
            first_of["normal"] = first
            break
    columns = {name: table[:, first : first + 3] for name, first in first_of.items()}
    taken = [place for first in first_of.values() for place in range(first, first + 3)]
    number = [place + 1 for place in places or range(table.shape[1])]
    others = [place for place in range(3, table.shape[1]) if place not in taken]
    columns |= {f"column{number[i]}": (given if is_rounded(given[:, i]) else table)[:, i : i + 1] for i in others}
    notes = [f"columns {number[first]} to {number[first + 2]} taken for {name}" for name, first in first_of.items()]
    coarse = coarse_notes(placed[:, :3], [given.dtype] * 3)
    return Points(table[:, :3], columns, (*notes, *alone, *coarse))


def check_first(table: Shaped[np.ndarray, "N C"]) -> tuple[str, ...]:
    """Raise InputError for numbers or labels of points in the first column of four or more: they would become x.

    They count the rows, or are integers before three columns that are none. Voxels and points on a grid have integers
    in two of the first columns at least. Returns a note if the integers are all the same: points may lie in a plane.
    """
    first, advice = table[:, 0], "put x, y, z first, or name the columns"
    if table.shape[1] < 4 or not _are_whole(first[np.isfinite(first)]):
        return ()
    if len(table) > 1 and np.array_equal(first, first[0] + np.arange(len(first))) and first[0] in (0, 1):
        raise InputError(f"counts its rows in the first column: {advice}")
    table = table[has_position(table[:, :3])]
    if len(table) < 3 or any(_are_whole(table[:, place]) for place in (1, 2, 3)):
        return ()
    steps = np.diff(table[:, 0])
    if not steps.any():
        return (f"its first column, {table[0, 0]:g} in all points, taken for x",)
    kind = "rising integers" if table[0, 0] >= 0 and (steps > 0).all() else "integers"
    raise InputError(f"has {kind} in the first column, as numbers or labels of points: {advice}")


def _are_whole(values: Shaped[np.ndarray, " N"]) -> bool:
    return bool((values == np.round(values)).all())


def named_columns(columns: Mapping[str, Shaped[np.ndarray, "N ..."]]) -> Points:
    """Return the points of a table with named columns: ``x y z``, and features by name.

    Triples such as ``nx ny nz`` become one feature. Case is ignored. Raises InputError if x, y or z is missing or
    there twice.
    """
    columns = {name: as_rows(values) for name, values in columns.items()}
    places = find_positions(list(columns))
    if places is None:
        raise InputError(f"has no columns x, y, z (it has {listed(name.strip().lower() for name in columns)})")
    axes = [list(columns)[place] for place in places]
    if wide := next((name for name in axes if columns[name].shape[1] > 1), None):
        raise InputError(f"has {columns[wide].shape[1]} numbers for each {wide}")
    axis_columns = [columns.pop(name) for name in axes]
    xyz = as_numbers(np.concatenate(axis_columns, axis=1))
    notes = coarse_notes(xyz, [one.dtype for one in axis_columns])
    by_name: dict[str, list[str]] = {}
    for name in columns:
        by_name.setdefault(name.strip().lower(), []).append(name)
    once = {low: names[0] for low, names in by_name.items() if len(names) == 1}
    found = {}
    for feature, spellings in TRIPLES.items():
        if names := next((names for names in spellings if set(names) <= set(once)), None):
            found[feature] = np.concatenate([columns.pop(once[name]) for name in names], axis=1)
    once = {original: low for low, original in once.items()}
    columns = {once.get(name, name): values for name, values in columns.items()} | found
    return Points(xyz, columns, notes, meters=meters_of_units(list(map(unit_of, axes))))


def _length(vectors: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 1"]:
    with np.errstate(over="ignore"):
        return np.linalg.norm(vectors, axis=1, keepdims=True)


def as_rows(values: Shaped[np.ndarray, "N ..."]) -> Shaped[np.ndarray, "N _"]:
    """Return the numbers of each point as one row, also of no points."""
    return values.reshape(len(values), math.prod(values.shape[1:]))


def as_numbers(array: Shaped[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Return an array in double precision, so that positions far from the origin keep their digits."""
    if array.dtype.kind not in "fiu":
        raise InputError(f"contains no numbers, but {array.dtype}")
    with np.errstate(invalid="ignore"):  # damaged files contain invalid floats
        return array.astype(np.float64)


def each_once(names: Sequence[str]) -> list[str]:
    """Return the names made unique: blanks are appended to duplicates."""
    found: list[str] = []
    for name in names:
        found.append(name + " " * found_times if (found_times := [one.strip() for one in found].count(name)) else name)
    return found
