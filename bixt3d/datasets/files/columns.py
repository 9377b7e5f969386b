"""Positions and features as columns of a table, with or without names, and text files of them."""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from bixt3d.datasets.files.cloud import has_position
from bixt3d.datasets.transforms.upright import Up
from bixt3d.io.bounds import counted, listed, read_plain, shortened
from bixt3d.types import InputError


class Points(NamedTuple):
    """Positions, features by their names in a file, and ``notes`` and ``up`` as in `Cloud`."""

    xyz: Float[np.ndarray, "N 3"]
    columns: dict[str, Shaped[np.ndarray, "N _"]]
    notes: tuple[str, ...] = ()
    up: Up | None = None


LINE_LENGTH, MOST_COLUMNS = 100_000, 1000
TRIPLES = {
    "normal": (("nx", "ny", "nz"), ("normal_x", "normal_y", "normal_z")),
    "rgb": (("red", "green", "blue"), ("r", "g", "b"), ("diffuse_red", "diffuse_green", "diffuse_blue")),
}
"""The usual names, in lower case, of the columns of features of width 3."""


def split_columns(table: Shaped[np.ndarray, "N C"], known: Collection[str] = ()) -> Points:
    """Return the first three columns as positions, and guess from their values which others are normals and colors.

    Three columns of unit vectors are normals: at least nine of ten rows have a length between 0.98 and 1.02, none is
    longer (ShapeNetPart has a few of length 0). Columns 4 to 6 of integers from 0 to 255, not all below 2, are colors.
    All others (intensity, labels) are named by their position, such as ``column7``, and so are normals and colors that
    are already ``known``. Raises InputError for fewer than three columns.
    """
    if not 3 <= table.shape[1] <= MOST_COLUMNS:
        fault = "but a point takes three: x, y, z" if table.shape[1] < 3 else f"but at most {MOST_COLUMNS} are read"
        raise InputError(f"has {counted(table.shape[1], 'column')}, {fault}")
    table, first_of = as_numbers(table), {}
    placed = table[has_position(table[:, :3])]  # the other rows may be NaN altogether
    colors = placed[:, 3:6]
    may_be_colors = len(colors) and colors.shape[1] == 3 and "rgb" not in known
    if may_be_colors and (colors == colors.round()).all() and colors.min() >= 0 and 2 <= colors.max() <= 255:
        first_of["rgb"] = 3
    for first in range(3, table.shape[1] - 2 if "normal" not in known else 0):
        length = _length(placed[:, first : first + 3])
        if (length < 1.02).all() and (length > 0.98).mean() >= 0.9:
            first_of["normal"] = first
            break
    columns = {name: table[:, first : first + 3] for name, first in first_of.items()}
    taken = [place for first in first_of.values() for place in range(first, first + 3)]
    columns |= {f"column{i + 1}": table[:, i : i + 1] for i in range(3, table.shape[1]) if i not in taken}
    notes = [f"columns {first + 1} to {first + 3} taken for {name}" for name, first in first_of.items()]
    return Points(table[:, :3], columns, tuple(notes))


def named_columns(columns: Mapping[str, Shaped[np.ndarray, "N ..."]]) -> Points:
    """Return the points of a table with named columns: ``x y z``, and features by name.

    Triples such as ``nx ny nz`` become one feature. Case is ignored. Raises InputError if x, y or z is missing or
    there twice.
    """
    columns = {name: values.reshape(len(values), -1) for name, values in columns.items()}
    by_name: dict[str, list[str]] = {}
    for name in columns:
        by_name.setdefault(name.strip().lower(), []).append(name)
    if not {"x", "y", "z"} <= set(by_name):
        raise InputError(f"has no columns x, y, z (it has {listed(by_name)})")
    for axis in "xyz":
        if len(by_name[axis]) > 1 or columns[by_name[axis][0]].shape[1] > 1:
            raise InputError(f"has more than one column for {axis}: {listed(by_name[axis])}")
    xyz = as_numbers(np.concatenate([columns.pop(by_name[axis][0]) for axis in "xyz"], axis=1))
    once = {low: names[0] for low, names in by_name.items() if len(names) == 1 and names[0] in columns}
    found = {}
    for feature, spellings in TRIPLES.items():
        if names := next((names for names in spellings if set(names) <= set(once)), None):
            found[feature] = np.concatenate([columns.pop(once[name]) for name in names], axis=1)
    once = {original: low for low, original in once.items()}
    return Points(xyz, {once.get(name, name): values for name, values in columns.items()} | found)


def _length(vectors: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 1"]:
    with np.errstate(over="ignore"):
        return np.linalg.norm(vectors, axis=1, keepdims=True)


def as_numbers(array: Shaped[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Return an array in double precision, so that positions far from the origin keep their digits."""
    if array.dtype.kind not in "fiu":
        raise InputError(f"contains no numbers, but {array.dtype}")
    with np.errstate(invalid="ignore"):  # damaged files contain invalid floats
        return array.astype(np.float64)


def read_text(path: Path) -> list[Points]:
    """Return the cloud of a text file: one point per line, separated by spaces, tabs, commas or semicolons.

    A header that names x, y, z gives the columns their names; any other is skipped, as are lines that begin with # or
    //. A single number in the first line, as in .pts, is the number of points.
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
        raise InputError("contains no points: write one in each line, x y z")
    count = None
    if [len(_fields(lines[place])) > 1 for place in written[first : first + 2]] == [False, True]:
        count, first = lines[written[first]].strip(), first + 1
    table = _table(lines, [place for place in written[first:] if not lines[place].lstrip().startswith("#")])
    if count is not None and float(count) != len(table):
        raise InputError(f"announces {count} points, but has {counted(len(table), 'line')} of them")
    header = skipped[-1] if skipped else ""
    if named := _by_name(table, header):
        return [named]
    points = split_columns(_without_index(table))
    is_header = not header.lstrip().startswith(("#", "//")) or len(_fields(header.lstrip("#/ "))) == table.shape[1]
    if header and is_header:
        points = points._replace(notes=(*points.notes, f"its header '{shortened(header.strip())}' not used"))
    return [points]


def _without_index(table: Float[np.ndarray, "N C"]) -> Float[np.ndarray, "N C"]:
    """Return the table. Raises InputError if its first column is a row index, which would be taken for x."""
    rows = np.arange(len(table)) + (table[0, 0] if len(table) else 0)
    if table.shape[1] > 3 and len(table) > 1 and rows[0] in (0, 1) and np.array_equal(table[:, 0], rows):
        raise InputError("counts its rows in the first column: name the columns x, y, z in its first line")
    return table


def _by_name(table: Float[np.ndarray, "N C"], header: str) -> Points | None:
    names = [re.sub(r"\s*[\[(].*", "", name.strip("\"'")) for name in _fields(header.lstrip("#/ "))]  # x [m]
    if len(names) != table.shape[1] or not {"x", "y", "z"} <= {name.lower() for name in names}:
        return None
    return named_columns(dict(zip(each_once(names), table.T, strict=True)))


def each_once(names: Sequence[str]) -> list[str]:
    """Return the names made unique: blanks are appended to duplicates."""
    found: list[str] = []
    for name in names:
        found.append(name + " " * found_times if (found_times := [one.strip() for one in found].count(name)) else name)
    return found


def _fields(line: str) -> list[str]:
    if ";" in line:  # then a comma is a decimal comma
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
    """Return the numbers in the lines at these indices."""
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
            return f"has {counted(len(fields), 'column')} in line {place + 1}, but {columns} in line {places[0] + 1}"
        if not all(map(_is_number, fields)):
            wrong = shortened(next(field for field in fields if not _is_number(field)))
            return f"has {wrong!r} in line {place + 1}, not a number"
    return "has a line that cannot be read as numbers"
