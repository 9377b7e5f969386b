"""Reader of STL meshes, binary and text."""

import re
from pathlib import Path

import numpy as np

from bixt3d.datasets.files.mesh_text import Lines, numbers, plain_text, without_commas
from bixt3d.datasets.files.polygons import Polygons
from bixt3d.datasets.files.precision import coarse_notes
from bixt3d.io.bounds import counted, read_plain
from bixt3d.types import InputError

HEAD = 84
"""Bytes before the triangles of a binary file: 80 of any content, and their number."""

FACET = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attributes", "<u2")])
UNKNOWN = (0, 0xFFFFFFFF)
"""Numbers of triangles that writers leave which do not know it yet when they begin."""


def read_stl(path: Path) -> Polygons:
    """Return the triangles of an STL file. Raises InputError for a damaged one."""
    raw = read_plain(path)
    announced = int.from_bytes(raw[HEAD - 4 : HEAD], "little")
    is_binary = len(raw) >= HEAD and len(raw) == HEAD + FACET.itemsize * announced
    if not is_binary and b"\0" not in (text := plain_text(raw)) and re.search(rb"(?i)\bfacet\b|^\s*solid\b", text):
        return _read_text(text)
    return _read_binary(raw, announced)


def _read_binary(raw: bytes, announced: int) -> Polygons:
    stored, more = divmod(len(raw) - HEAD, FACET.itemsize)
    if stored < 0:
        raise InputError("is no STL file, or it is damaged: it ends in its header")
    notes: tuple[str, ...] = ()
    if announced in UNKNOWN or (announced < stored and not more):
        if more:
            raise InputError(f"ends in the middle of triangle {stored + 1}: it is damaged")
        notes += (f"its header says {counted(announced, 'triangle')}, its length {stored}: {stored} read",)
    elif announced > stored:
        raise InputError(f"announces {announced} triangles, but it ends after {stored}")
    else:
        extra = len(raw) - HEAD - FACET.itemsize * announced
        stored, notes = announced, (f"{counted(extra, 'byte')} behind its last triangle not read",) if extra else ()
    facets = np.frombuffer(raw, FACET, stored, HEAD)
    if facets["attributes"].any():
        notes += ("the attribute bytes of its triangles not read",)
    with np.errstate(invalid="ignore"):  # damaged files contain invalid floats
        corners = facets["corners"].astype(np.float64)
    notes += coarse_notes(corners.reshape(-1, 3), [np.dtype(np.float32)] * 3)
    return _polygons(corners, notes)


def _read_text(text: bytes) -> Polygons:
    lines = Lines(text.lower())
    facets = lines.where(b"facet", b"vertex", b"endfacet")
    count, more = divmod(len(facets), 5)
    pattern = np.array([b"facet", b"vertex", b"vertex", b"vertex", b"endfacet"])
    if more or (lines.keys[facets].reshape(-1, 5) != pattern).any():
        raise InputError("has a facet that is no triangle, or it ends in the middle of one: it is damaged")
    ends = lines.where(b"endsolid")
    if not len(ends) or (count and ends[-1] < facets[-1]):
        raise InputError("ends before its endsolid: it is damaged")
    vertices = lines.where(b"vertex")
    if len(wrong := vertices[lines.sizes[vertices] != 3]):
        raise InputError(f"has a vertex without three coordinates in {lines.at(wrong[0])}")
    found, notes = without_commas(lines.text(vertices))
    return _polygons(numbers(found, 9 * count).reshape(-1, 3, 3), notes)


def _polygons(corners: np.ndarray, notes: tuple[str, ...]) -> Polygons:
    if not len(corners):
        raise InputError("contains no triangles")
    sizes = np.full(len(corners), 3)
    return Polygons(corners.reshape(-1, 3), sizes, np.arange(3 * len(corners)), notes=notes)
