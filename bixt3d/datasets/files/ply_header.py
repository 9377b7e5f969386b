"""The header of a PLY file: elements and their properties."""

import re
from dataclasses import dataclass

import numpy as np

from bixt3d.datasets.files.columns import MAX_COLUMNS, each_once
from bixt3d.datasets.files.mesh_text import plain_text, shown
from bixt3d.io.bounds import printable
from bixt3d.types import InputError

KINDS = {"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"}
KINDS |= {"float": "f4", "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4"}
KINDS |= {"uint32": "u4", "float32": "f4", "float64": "f8", "int64": "i8", "uint64": "u8", "long": "i8", "ulong": "u8"}
ORDERS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}
HEADER_BYTES = 1 << 20


@dataclass(frozen=True)
class Property:
    """A property of an element: its dtype, and that of the number of values if it is a list."""

    name: str
    dtype: np.dtype
    count_dtype: np.dtype | None = None


@dataclass(frozen=True)
class Element:
    """An element: ``count`` rows of these properties."""

    name: str
    count: int
    properties: tuple[Property, ...]


@dataclass(frozen=True)
class Header:
    """What a header says, and its number of bytes."""

    is_text: bool
    elements: tuple[Element, ...]
    size: int


def read_header(raw: bytes) -> Header:
    """Return the header of a PLY file, whose lines end with LF, CR LF or CR. Raises InputError for anything else."""
    begin = re.match(rb"\s*ply[ \t]*(\r\n|\r|\n)", raw[:1000], re.IGNORECASE)
    if not begin:
        raise InputError("is not a PLY file: it does not begin with 'ply'")
    line_end = rb"\r" if begin[1] == b"\r" else rb"\r\n|\r|\n"  # a line feed behind CR alone is binary data
    end = re.search(rb"[\r\n][ \t]*end_header[ \t]*(?:" + line_end + rb"|$)", raw[:HEADER_BYTES])
    if not end:
        raise InputError("has a header without end_header: it is damaged")
    order, elements = "", []
    for line in plain_text(raw[begin.end() : end.start()]).split(b"\n"):
        words = line.decode("utf-8", errors="replace").split()
        try:
            order = _read_line(words, order, elements)
        except (ValueError, LookupError) as error:
            raise InputError(f"has the line {shown(line)!r} in its header: it is damaged") from error
    if not order:
        raise InputError("does not say its format (ascii or binary) in its header: it is damaged")
    return Header(order == "=", tuple(_element(*one) for one in elements), end.end())


def _read_line(words: list[str], order: str, elements: list[tuple[str, int, list[Property]]]) -> str:
    """Add what a line says to the elements; return the byte order. Raises ValueError or LookupError."""
    match words:
        case [] | ["comment" | "obj_info", *_]:
            pass
        case ["format", name, *_]:
            return ORDERS[name.lower()]
        case ["element", name, count, *_]:
            elements.append((name, int(count), []))
        case ["property", "list", count_kind, kind, name, *more]:
            counts = np.dtype(order + KINDS[count_kind.lower()])
            if counts.kind == "f":
                raise ValueError
            elements[-1][2].append(Property(" ".join((name, *more)), np.dtype(order + KINDS[kind.lower()]), counts))
        case ["property", kind, name, *more]:
            elements[-1][2].append(Property(" ".join((name, *more)), np.dtype(order + KINDS[kind.lower()])))
        case _:
            raise ValueError
    return order


def _element(name: str, count: int, properties: list[Property]) -> Element:
    if count < 0:
        raise InputError("declares a negative size: write it again")
    if len(properties) > MAX_COLUMNS:
        raise InputError(f"has {len(properties)} properties in '{printable(name)}', but at most {MAX_COLUMNS} are read")
    names = each_once([one.name for one in properties])
    unique = (Property(new, old.dtype, old.count_dtype) for new, old in zip(names, properties, strict=True))
    return Element(name, count, tuple(unique))
