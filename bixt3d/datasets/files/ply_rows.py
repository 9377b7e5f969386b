"""The rows of the elements of a PLY file, binary or text, with lists of any lengths."""

import struct
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from bixt3d.datasets.files.mesh_text import numbers, plain_text, without_commas
from bixt3d.datasets.files.ply_header import Element, Header, Property
from bixt3d.datasets.files.precision import rounded_notes
from bixt3d.io.bounds import counted, printable, shortened
from bixt3d.types import InputError


class Lists(NamedTuple):
    """A list property: the values of all rows, and the number of values in each row."""

    values: Shaped[np.ndarray, " C"]
    sizes: Int[np.ndarray, " N"]


Columns = dict[str, np.ndarray | Lists]
Rows = list[tuple[Element, Columns]]


def read_rows(raw: bytes, header: Header) -> tuple[Rows, tuple[str, ...]]:
    """Return the columns of every element, and notes. Raises InputError for rows that are missing or do not fit."""
    elements = [element for element in header.elements if element.properties]
    if header.is_text:
        return _text_rows(raw[header.size :], elements)
    body, place, rows = _Bytes(raw), header.size, []
    for element in elements:
        columns, place = _fixed_rows(raw, place, element) or _free_rows(body, place, element)
        rows.append((element, columns))
    extra = len(raw) - place
    return rows, (f"{counted(extra, 'byte')} behind its last element not read",) if extra else ()


def _fixed_rows(raw: bytes, place: int, element: Element) -> tuple[Columns, int] | None:
    """Return the columns of binary rows whose lists are all as long as in the first row, and their end; else None."""
    if not element.count:
        return {one.name: _empty(one) for one in element.properties}, place
    dtype = _first_dtype(raw, place, element)
    if dtype is None or place + element.count * dtype.itemsize > len(raw):
        return None
    rows = np.frombuffer(raw, dtype, element.count, place)
    columns: Columns = {}
    for number, one in enumerate(element.properties):
        values = rows[f"{number}"]
        if one.count_dtype is not None:
            sizes = rows[f"size{number}"].astype(np.int64)
            if (sizes != values.shape[1]).any():
                return None
            values = Lists(values.reshape(-1), sizes)
        columns[one.name] = values
    return columns, place + element.count * dtype.itemsize


def _empty(one: Property) -> np.ndarray | Lists:
    values = np.zeros(0, one.dtype)
    return values if one.count_dtype is None else Lists(values, np.zeros(0, np.int64))


def _first_dtype(raw: bytes, place: int, element: Element) -> np.dtype | None:
    """Return the dtype of the first row; None if it is longer than the file."""
    fields = []
    for number, one in enumerate(element.properties):
        length = ()
        if one.count_dtype is not None:
            if place + one.count_dtype.itemsize > len(raw):
                return None
            length = (int(np.frombuffer(raw, one.count_dtype, 1, place)[0]),)
            if not 0 <= length[0] * one.dtype.itemsize <= len(raw):
                return None
            fields.append((f"size{number}", one.count_dtype))
            place += one.count_dtype.itemsize
        fields.append((f"{number}", one.dtype, length))
        place += one.dtype.itemsize * (length[0] if length else 1)
    return np.dtype(fields)


class _Body(ABC):
    """Numbers in a text, or bytes: the units that rows are counted in."""

    units: Shaped[np.ndarray, " U"]

    @abstractmethod
    def width(self, dtype: np.dtype) -> int:
        """Return the number of units of a value."""

    @abstractmethod
    def values(self, places: Int[np.ndarray, " N"], dtype: np.dtype) -> Shaped[np.ndarray, " N"]:
        """Return the values that begin at these units."""

    @abstractmethod
    def reader(self, dtype: np.dtype) -> Callable[[int], int]:
        """Return the function that reads one integer."""


class _Bytes(_Body):
    def __init__(self, raw: bytes):
        self.raw, self.units = raw, np.frombuffer(raw, np.uint8)

    def width(self, dtype: np.dtype) -> int:
        return dtype.itemsize

    def values(self, places: Int[np.ndarray, " N"], dtype: np.dtype) -> Shaped[np.ndarray, " N"]:
        return self.units[places[:, None] + np.arange(dtype.itemsize)].view(dtype)[:, 0]

    def reader(self, dtype: np.dtype) -> Callable[[int], int]:
        if dtype == np.uint8:
            return self.raw.__getitem__
        form = struct.Struct({"<": "<", ">": ">"}.get(dtype.str[0], "=") + dtype.char)
        return lambda place: form.unpack_from(self.raw, place)[0]


class _Numbers(_Body):
    def __init__(self, units: Float[np.ndarray, " U"]):
        self.units = units

    def width(self, dtype: np.dtype) -> int:
        return 1

    def values(self, places: Int[np.ndarray, " N"], dtype: np.dtype) -> Shaped[np.ndarray, " N"]:
        found = self.units[places]
        if dtype.kind == "f":
            with np.errstate(over="ignore"):
                return found.astype(dtype)
        bounds = np.iinfo(dtype)
        fits = (found == np.round(found)) & (found >= bounds.min) & (found < float(bounds.max) + 1)
        return found.astype(dtype) if fits.all() else found

    def reader(self, dtype: np.dtype) -> Callable[[int], int]:
        return lambda place: int(self.units[place])


def _free_rows(body: _Body, place: int, element: Element) -> tuple[Columns, int]:
    """Return the columns of rows that follow one another, whatever their lists, and their end."""
    steps, skip = [], 0
    for one in element.properties:
        if one.count_dtype is None:
            skip += body.width(one.dtype)
        else:
            width = body.width(one.count_dtype)
            steps.append((skip, body.reader(one.count_dtype), width, body.width(one.dtype)))
            skip = 0
    starts: list[int] = []
    try:
        for _ in range(element.count):
            starts.append(place)
            for before, read, width, item in steps:
                size = read(place + before)
                if size < 0:
                    raise ValueError
                place += before + width + size * item
            place += skip
            if place > len(body.units):
                raise IndexError
        return _columns(body, np.array(starts, np.int64), element)[0], place
    except (IndexError, ValueError, OverflowError, struct.error) as error:
        name = f"'{printable(shortened(element.name))}'"
        raise InputError(
            f"announces {element.count} rows of {name}, but it ends or is damaged in row {len(starts)}"
        ) from error


def _columns(body: _Body, starts: Int[np.ndarray, " N"], element: Element) -> tuple[Columns, Int[np.ndarray, " N"]]:
    """Return the columns of rows that begin at these units, and where each row ends. Raises IndexError."""
    columns: Columns = {}
    for one in element.properties:
        if one.count_dtype is None:
            columns[one.name] = body.values(starts, one.dtype)
            starts = starts + body.width(one.dtype)
            continue
        sizes, width = body.values(starts, one.count_dtype), body.width(one.dtype)
        if sizes.dtype.kind == "f" or (len(sizes) and not 0 <= sizes.min() <= sizes.max() <= len(body.units)):
            raise IndexError
        sizes = sizes.astype(np.int64)
        if sizes.sum() > len(body.units):
            raise IndexError
        starts = starts + body.width(one.count_dtype)
        index = np.repeat(starts - width * (np.cumsum(sizes) - sizes), sizes) + width * np.arange(sizes.sum())
        columns[one.name] = Lists(body.values(index, one.dtype), sizes)
        starts = starts + width * sizes
    return columns, starts


def _text_rows(text: bytes, elements: list[Element]) -> tuple[Rows, tuple[str, ...]]:
    """Return the rows of a text: one in each line, or else all its numbers one after the other."""
    text, notes = without_commas(plain_text(text))
    lines = [line for line in text.split(b"\n") if line and not line.isspace()]
    total = sum(element.count for element in elements)
    sizes = [len(line.split()) for line in lines]
    rows = _rows_by_line(lines[:total], sizes[:total], elements) if len(lines) >= total else None
    if rows is not None:
        extra = len(lines) - total
        notes += (f"{counted(extra, 'line')} behind its last row not read",) if extra else ()
    else:
        body, place, rows = _Numbers(numbers(text, sum(sizes))), 0, []
        for element in elements:
            columns, place = _free_rows(body, place, element)
            rows.append((element, columns))
        if place < len(body.units):
            raise InputError(f"has {len(body.units) - place} numbers more than its header announces: it is damaged")
    return rows, (*notes, *_kind_notes(rows))


def _rows_by_line(lines: list[bytes], sizes: list[int], elements: list[Element]) -> Rows | None:
    """Return the rows if each line has the numbers of one row; else None."""
    body, rows, first = _Numbers(numbers(b"\n".join(lines), sum(sizes))), [], 0
    starts = np.cumsum([0, *sizes])
    for element in elements:
        last = first + element.count
        try:
            columns, ends = _columns(body, starts[first:last], element)
        except IndexError:
            return None
        if not np.array_equal(ends, starts[first + 1 : last + 1]):
            return None
        rows.append((element, columns))
        first = last
    return rows


def _kind_notes(rows: Rows) -> tuple[str, ...]:
    """Return notes on integer properties of a text that have other numbers, or rounded ones."""
    long = {
        one.name: columns[one.name]
        for element, columns in rows
        for one in element.properties
        if one.dtype.kind in "iu" and isinstance(columns[one.name], np.ndarray)
    }
    return rounded_notes(long) + tuple(
        f"{printable(shortened(one.name))} declared as {one.dtype}, but it has other numbers"
        for element, columns in rows
        for one in element.properties
        if one.dtype.kind in "iu" and isinstance(columns[one.name], np.ndarray) and columns[one.name].dtype.kind == "f"
    )
