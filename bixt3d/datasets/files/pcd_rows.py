"""The rows of an ascii PCD file, as programs and people write them."""

import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Shaped

from bixt3d.datasets.files.precision import is_rounded
from bixt3d.io.bounds import counted, shortened
from bixt3d.types import InputError

_WINDOWS_NAN = re.compile(r"[+-]?(?:nan\([^)\s]*\)|1\.#(?:qnan|snan|ind|nan)\w*)", re.IGNORECASE)
_WINDOWS_INF = re.compile(r"([+-]?)1\.#inf\w*", re.IGNORECASE)


def read_rows(
    text: str, layout: np.dtype, num_points: int | None
) -> tuple[Sequence[Shaped[np.ndarray, "N _"]], tuple[str, ...]]:
    """Return the columns of the rows, and notes. Blank lines and comments are skipped, decimal commas understood.

    Raises InputError for too few rows, and for a row with another number of values than the fields take.
    """
    text = _WINDOWS_INF.sub(r"\1inf", _WINDOWS_NAN.sub("nan", text)) if "#" in text or "(" in text else text
    rows = [row for line in text.splitlines() if (row := line.partition("#")[0]).strip()]
    num_values = sum(layout[name].shape[0] for name in layout.names)
    if 2 * num_values > len(text) + 1:  # a number takes a digit and a blank at least
        raise ValueError("a point takes more numbers than there are")
    if rows and "," in rows[0]:
        decimal = len(rows[0].split()) == num_values and not re.search(r",\s", rows[0])
        rows = [row.replace(",", "." if decimal else " ") for row in rows]
    notes = ()
    if num_points is not None:
        if len(rows) < num_points:
            raise InputError(f"announces {num_points} points, but it ends after {len(rows)}")
        notes = (f"{counted(len(rows) - num_points, 'row')} behind its points not read",) * (len(rows) > num_points)
        rows = rows[:num_points]
    if wrong := next((row for row in rows if len(row.split()) != num_values), None):
        raise InputError(
            f"has the row {shortened(wrong.strip())!r}, but its fields take {counted(num_values, 'number')}"
        )
    return _columns(rows, layout), notes


def _columns(rows: Sequence[str], layout: np.dtype) -> list[Shaped[np.ndarray, "N _"]]:
    try:
        return list(np.loadtxt(rows, layout, comments=None, ndmin=1, unpack=True))
    except (ValueError, OverflowError):  # integers written as 12.0, or beyond their type
        table = np.loadtxt(rows, np.float64, comments=None, ndmin=2)
    columns, first = [], 0
    for name in layout.names:
        field, (count,) = layout[name].subdtype
        values = table[:, first : first + count]
        if field.kind in "iu" and is_rounded(values):
            values = _integers(rows, field, range(first, first + count), values)
        first += count
        with np.errstate(invalid="ignore", over="ignore"):
            converted = values.astype(field)
        columns.append(converted if field.kind == "f" or np.array_equal(converted, values) else values)
    return columns


def _integers(
    rows: Sequence[str], field: np.dtype, places: Sequence[int], rounded: Float[np.ndarray, "N W"]
) -> Shaped[np.ndarray, "N W"]:
    """Return a field of integers with all digits; as ``rounded`` if its values are written otherwise."""
    try:
        return np.loadtxt(rows, field, comments=None, ndmin=2, usecols=places)
    except (ValueError, OverflowError):
        return rounded
