"""Positions and features in plain numbers: text files, and arrays as .npy, .npz and HDF5 keep them."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from bixt3d.bounds import check_unpacked, listed, read_plain, shortened
from bixt3d.datasets.feature_columns import feature_name
from bixt3d.datasets.hdf5 import find_dataset, holds_numbers, open_hdf5
from bixt3d.datasets.numpy_files import load_arrays
from bixt3d.types import InputError


class Points(NamedTuple):
    """Positions, features by the names that a file gives them, and what was guessed or left out."""

    xyz: Float[np.ndarray, "N 3"]
    columns: dict[str, Shaped[np.ndarray, "N _"]]
    notes: tuple[str, ...] = ()


XYZ_KEYS = ("data", "xyz", "points", "pos", "arr_0")
LINE_LENGTH, MOST_COLUMNS = 100_000, 1000
TRIPLES = {
    "normal": (("nx", "ny", "nz"), ("normal_x", "normal_y", "normal_z")),
    "rgb": (("red", "green", "blue"), ("r", "g", "b"), ("diffuse_red", "diffuse_green", "diffuse_blue")),
}
"""Features of three columns, and what people call these, in small letters."""


def split_columns(table: Shaped[np.ndarray, "N C"]) -> Points:
    """Return the first three columns as positions, and the others as what their numbers can only be.

    Three columns of unit vectors are normals: nine of ten rows have a length between 0.98 and 1.02, none is longer
    (ShapeNetPart has a few of length 0). Columns 4 to 6 of whole numbers up to 255, not all below 2, are colors. Any
    other (intensity, labels) is named after its place, such as ``column7``. Raises InputError for fewer than three.
    """
    if not 3 <= table.shape[1] <= MOST_COLUMNS:
        fault = "but a point takes three: x, y, z" if table.shape[1] < 3 else f"but at most {MOST_COLUMNS} are read"
        raise InputError(f"has {_count(table.shape[1], 'column')}, {fault}")
    table, first_of = as_numbers(table), {}
    colors = table[:, 3:6]
    if colors.shape[1] == 3 and (colors == colors.round()).all() and colors.min() >= 0 and 2 <= colors.max() <= 255:
        first_of["rgb"] = 3
    for first in range(3, table.shape[1] - 2):
        length = _length(table[:, first : first + 3])
        if (length < 1.02).all() and (length > 0.98).mean() >= 0.9:
            first_of["normal"] = first
            break
    columns = {name: table[:, first : first + 3] for name, first in first_of.items()}
    taken = [place for first in first_of.values() for place in range(first, first + 3)]
    columns |= {f"column{i + 1}": table[:, i : i + 1] for i in range(3, table.shape[1]) if i not in taken}
    notes = [f"columns {first + 1} to {first + 3} taken for {name}" for name, first in first_of.items()]
    return Points(table[:, :3], columns, tuple(notes))


def named_columns(columns: Mapping[str, Shaped[np.ndarray, " N"]]) -> Points:
    """Return the points of a table with named columns: ``x y z``, and features by name; triples become one feature.

    Names are compared in small letters. Raises InputError if x, y or z is missing.
    """
    columns = {name.strip().lower(): values for name, values in columns.items()}
    if not {"x", "y", "z"} <= set(columns):
        raise InputError(f"has no columns x, y, z (it has {listed(columns)})")
    xyz = as_numbers(np.stack([columns.pop(axis) for axis in "xyz"], axis=1))
    found = {}
    for feature, ways in TRIPLES.items():
        if names := next((names for names in ways if set(names) <= set(columns)), None):
            found[feature] = np.stack([columns.pop(name) for name in names], axis=1)
    return Points(xyz, {feature_name(name): values[:, None] for name, values in columns.items()} | found)


def _length(vectors: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 1"]:
    with np.errstate(over="ignore"):
        return np.linalg.norm(vectors, axis=1, keepdims=True)


def as_numbers(array: Shaped[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Return an array in double precision, so that no position far from the origin loses digits."""
    if array.dtype.kind not in "fiu":
        raise InputError(f"holds no numbers, but {array.dtype}")
    with np.errstate(invalid="ignore"):  # broken files hold broken floats
        return array.astype(np.float64)


def split_arrays(arrays: Mapping[str, Shaped[np.ndarray, "..."]]) -> list[Points]:
    """Return the clouds of named arrays: one for ``(N, 3)`` or more columns, S for ``(S, N, 3)`` or more."""
    xyz = next((arrays[key] for key in XYZ_KEYS if key in arrays), None)
    if xyz is None:
        raise InputError(f"has no array named {', '.join(XYZ_KEYS[:-1])} (it has {listed(arrays)})")
    if xyz.dtype.kind not in "fiu":
        raise InputError(f"holds no numbers, but {shortened(str(xyz.dtype))}")
    if xyz.ndim not in (2, 3) or 0 in xyz.shape:
        raise InputError(f"has points of shape {xyz.shape}: write (N, 3), or (S, N, 3) for several clouds")
    clouds = [split_columns(table) for table in (xyz if xyz.ndim == 3 else xyz[None])]
    features = {}
    for key, values in arrays.items():
        values = values[..., None] if values.shape == xyz.shape[:-1] else values
        if key not in XYZ_KEYS and values.dtype.kind in "fiub" and values.shape[:-1] == xyz.shape[:-1]:
            features[feature_name(key)] = values if xyz.ndim == 3 else values[None]
        elif feature_name(key) in TRIPLES:
            raise InputError(f"has points of shape {xyz.shape}, but {key} of shape {values.shape}")
    return [
        Points(positions, guessed | {name: values[place] for name, values in features.items()}, notes)
        for place, (positions, guessed, notes) in enumerate(clouds)
    ]


def read_arrays(path: Path) -> list[Points]:
    """Return the clouds of a .npy or .npz file; nothing pickled is opened."""
    return split_arrays(load_arrays(path))


def read_hdf5(path: Path) -> list[Points]:
    """Return the clouds of an HDF5 file: of its dataset ``data``, and features by the names of the others."""
    with open_hdf5(path) as file:
        found = [find_dataset(file, name) for name in file if name in XYZ_KEYS or holds_numbers(file, name)]
        check_unpacked(sum(8 * one.size for one in found), path.stat().st_size, "has datasets that need")
        arrays = {one.name.lstrip("/"): one[()] for one in found}
        held = list(file)
    return split_arrays(arrays or dict.fromkeys(held, np.zeros(0)))


def read_text(path: Path) -> list[Points]:
    """Return the cloud of a text file: a point in each line, parted by spaces, tabs, commas or semicolons.

    A header is used where it names x, y, z (and nx, ny, nz), else skipped, as are lines that begin with # or //.
    A number alone in the first line, as in .pts, is the number of points.
    """
    raw = read_plain(path)
    if b"\0" in raw:
        raise InputError("is not text: write a point in each line, x y z")
    lines = [line.rstrip(" ,;\t") for line in raw.decode("utf-8-sig", errors="replace").splitlines()]
    if max(map(len, lines), default=0) > LINE_LENGTH:
        raise InputError(f"has a line of more than {LINE_LENGTH} characters: write one point in each line, x y z")
    written = [place for place, line in enumerate(lines) if line and not line.isspace()]
    first = next((number for number, place in enumerate(written) if _is_numeric(lines[place])), None)
    skipped = [lines[place] for place in written[:first]]
    if first is None or sum(not line.lstrip().startswith(("#", "//")) for line in skipped) > 1:
        raise InputError("holds no points: write one in each line, x y z")
    count = None
    if [len(_fields(lines[place])) > 1 for place in written[first : first + 2]] == [False, True]:
        count, first = lines[written[first]].strip(), first + 1
    table = _table(lines, [place for place in written[first:] if not lines[place].lstrip().startswith("#")])
    if count is not None and float(count) != len(table):
        raise InputError(f"says that it holds {count} points, but has {_count(len(table), 'line')} of them")
    return [_by_name(table, skipped[-1] if skipped else "") or split_columns(_without_index(table))]


def _without_index(table: Float[np.ndarray, "N C"]) -> Float[np.ndarray, "N C"]:
    """Return the table. Raises InputError if its first column only counts the rows: x would be their numbers."""
    rows = np.arange(len(table)) + (table[0, 0] if len(table) else 0)
    if table.shape[1] > 3 and len(table) > 1 and rows[0] in (0, 1) and np.array_equal(table[:, 0], rows):
        raise InputError("counts its rows in the first column: name the columns x, y, z in its first line")
    return table


def _by_name(table: Float[np.ndarray, "N C"], header: str) -> Points | None:
    names = [re.sub(r"\s*[\[(].*", "", name.strip("\"'").lower()) for name in _fields(header.lstrip("#/ "))]  # x [m]
    if len(names) != table.shape[1] or len(set(names)) < len(names) or not {"x", "y", "z"} <= set(names):
        return None
    return named_columns(dict(zip(names, table.T, strict=True)))


def _fields(line: str) -> list[str]:
    if ";" in line:  # where decimals may be written with a comma
        return [field.strip() for field in line.replace(",", ".").split(";")]
    return [field.strip() for field in line.split(",")] if "," in line else line.split()


def _is_numeric(line: str) -> bool:
    return all(map(_is_number, _fields(line)))


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _table(lines: Sequence[str], places: Sequence[int]) -> Float[np.ndarray, "N C"]:
    """Return the numbers of the lines at these places."""
    semicolons, commas = ";" in lines[places[0]], "," in lines[places[0]]
    rows = (lines[place].replace(",", ".") if semicolons else lines[place] for place in places)
    try:
        return np.loadtxt(rows, np.float64, delimiter=";" if semicolons else "," if commas else None, ndmin=2)
    except ValueError as error:
        raise InputError(_first_fault(lines, places)) from error


def _first_fault(lines: Sequence[str], places: Sequence[int]) -> str:
    columns = len(_fields(lines[places[0]]))
    for place in places:
        fields = _fields(lines[place])
        if len(fields) != columns:
            return f"has {_count(len(fields), 'column')} in line {place + 1}, but {columns} in line {places[0] + 1}"
        if not all(map(_is_number, fields)):
            wrong = shortened(next(field for field in fields if not _is_number(field)))
            return f"has {wrong!r} in line {place + 1}, not a number"
    return "has a line that cannot be read as numbers"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
