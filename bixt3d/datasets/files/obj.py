"""Reader of Wavefront OBJ files: polygons and points with colors; materials, groups and textures are ignored."""

import re
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, Shaped

from bixt3d.datasets.files.mesh_text import Lines, integers, numbers, read_mesh_text, shown, without_commas
from bixt3d.datasets.files.polygons import Polygons
from bixt3d.io.bounds import listed
from bixt3d.types import InputError

FACES = (b"f", b"fo")
SILENT = (
    b"v vt vn vp p g o s mg usemtl mtllib usemap maplib shadow_obj trace_obj bevel c_interp d_interp lod ctech stech"
).split()
"""Statements that say nothing about the shape, or that are read."""

FREE_FORM = b"cstype deg bmat step curv curv2 surf parm trim hole scrv sp end con bsp bzp cdc cdp res".split()


def read_obj(path: Path) -> Polygons:
    """Return vertices, faces and vertex colors of an OBJ file. Raises InputError for a damaged file."""
    text = read_mesh_text(path)
    if b"\0" in text:
        raise InputError("is not text: it is damaged, or no OBJ file")
    if b"#" in text:
        text = re.sub(rb"#[^\n]*", b"", text)
    lines = Lines(text := _joined(text))
    if not len(lines.where(b"v")):
        lines = Lines(text.lower())  # V and F
    vertices, faces = lines.where(b"v"), lines.where(*FACES)
    if not len(vertices):
        raise InputError("contains no vertices: it is damaged, or no OBJ file")
    notes = _other_notes(np.unique(lines.keys).tolist(), len(faces))
    xyz, rgb, more = _vertices(lines, vertices)
    if len(faces) and faces[-1] == len(lines.keys) - 1:
        _check_last(lines, faces, ends_in_line=not text.endswith(b"\n"))
    sizes = lines.sizes[faces]
    corner_index, is_textured = _corners(lines, faces, vertices)
    columns = {} if rgb is None else {"rgb": rgb}
    normals = lines.where(b"vn")
    if not len(faces) and len(normals) == len(xyz) and (lines.sizes[normals] == 3).all():
        columns["normal"] = numbers(lines.text(normals), 3 * len(xyz)).reshape(-1, 3)
    notes = (*more, *(["its texture not read"] if is_textured else []), *notes)
    return Polygons(xyz, sizes, corner_index, columns, rgb, None, notes, by_face=len(np.unique(sizes)) > 1)


def _joined(text: bytes) -> bytes:
    """Return the text with lines that end with a backslash joined to the next; a blank line remains in its place."""
    if b"\\" not in text:
        return text
    lines, first = text.split(b"\n"), None
    for place, line in enumerate(lines):
        goes_on = line.rstrip().endswith(b"\\")
        piece = line.rstrip()[:-1] if goes_on else line
        if first is None:
            pieces, first = [], place
        pieces.append(piece)
        lines[place] = b""
        if not goes_on:
            lines[first], first = b" ".join(pieces), None
    if first is not None:
        lines[first] = b" ".join(pieces)
    return b"\n".join(lines)


def _other_notes(keys: list[bytes], num_faces: int) -> tuple[str, ...]:
    """Return notes on statements that are not read. Raises InputError if they are all there is, or no statements."""
    others = [key for key in keys if key not in (*SILENT, *FACES)]
    if damaged := [key for key in others if not key[:1].isalpha()]:
        raise InputError(f"has a line that begins with {shown(damaged[0])!r}: it is damaged, or no OBJ file")
    notes: tuple[str, ...] = ()
    if any(key in FREE_FORM for key in others):
        if not num_faces:
            raise InputError("has curves and surfaces, but no faces: export it as a mesh")
        notes += ("its curves and surfaces not read",)
    if b"l" in others:
        notes += ("its lines not read",)
    if unknown := [key.decode(errors="replace") for key in others if key not in (*FREE_FORM, b"l")]:
        notes += (f"its statements {listed(unknown)} not read",)
    return notes


def _vertices(
    lines: Lines, vertices: Int[np.ndarray, " V"]
) -> tuple[Float[np.ndarray, "V 3"], Shaped[np.ndarray, "V 3"] | None, tuple[str, ...]]:
    """Return positions, colors if all vertices have them, and notes."""
    sizes = lines.sizes[vertices]
    if sizes.min() < 3:
        raise InputError(f"has a vertex of fewer than three coordinates in {lines.at(vertices[sizes.argmin()])}")
    text, notes = without_commas(lines.text(vertices))
    flat = numbers(text, int(sizes.sum()))
    starts = np.cumsum(sizes) - sizes
    xyz = flat[starts[:, None] + np.arange(3)]
    if (flat[starts[sizes == 4] + 3] != 1).any():
        notes += ("the weights w of its vertices not read",)
    has_color_mask = np.isin(sizes, (6, 7))
    if has_color_mask.all() and (place := _color_place(flat, starts, int(sizes.min()), int(sizes.max()))):
        return xyz, flat[starts[:, None] + np.arange(place, place + 3)], notes
    if has_color_mask.any():
        notes += ("colors not read, which not all of its vertices have",)
    elif sizes.max() > 4:
        notes += ("the numbers behind the positions of its vertices not read",)
    return xyz, None, notes


def _color_place(flat: np.ndarray, starts: np.ndarray, least: int, most: int) -> int:
    """Return the place of red in each vertex: behind x y z, or x y z w; 0 if it is not clear."""
    if least == most == 6:
        return 3
    if least < most:
        return 0
    return 4 if (flat[starts + 3] == 1).all() else 3


def _corners(
    lines: Lines, faces: Int[np.ndarray, " F"], vertices: Int[np.ndarray, " V"]
) -> tuple[Int[np.ndarray, " C"], bool]:
    """Return the vertex of each corner, counted from 0, and whether corners have texture coordinates.

    Raises InputError for a corner that is no vertex.
    """
    sizes, letters = lines.sizes[faces], np.frombuffer(lines.text(faces), np.uint8)
    is_textured = False
    if (slash := letters == ord("/")).any():
        blank = letters <= 32
        if (slash[1:] & blank[:-1]).any():
            raise InputError("has a face with a corner that begins with a slash: it is damaged")
        place = np.arange(len(letters), dtype=np.int32)
        last_blank, last_slash = (np.maximum.accumulate(np.where(mask, place, -1)) for mask in (blank, slash))
        letters = np.where(last_slash > last_blank, 32, letters).astype(np.uint8)
        is_textured = bool((slash[:-1] & ~slash[1:] & ~blank[1:] & (np.roll(letters, 1)[:-1] > 32)).any())
    index = integers(letters.tobytes(), int(sizes.sum()))
    before = np.searchsorted(vertices, np.repeat(faces, sizes))  # vertices above the face
    found = np.where(index < 0, before + index, index - 1)
    wrong = np.flatnonzero((found < 0) | (found >= len(vertices)))
    if len(wrong):
        face = faces[np.searchsorted(np.cumsum(sizes), wrong[0], side="right")]
        fault = "vertices are counted from 1" if index[wrong[0]] == 0 else f"there are only {len(vertices)} vertices"
        raise InputError(f"has the vertex {index[wrong[0]]} in {lines.at(face)}, but {fault}: it is damaged")
    return found, is_textured


def _check_last(lines: Lines, faces: Int[np.ndarray, " F"], ends_in_line: bool) -> None:
    """Raise InputError if the last line is a face that seems cut: too short, or shorter or of another form than all."""
    last = lines.text(faces[-1:]).split()
    fault = f"ends in the middle of a face, in {lines.at(faces[-1])}: it is damaged"
    if len(last) < 3 and (len(faces) == 1 or lines.sizes[faces[:-1]].max() >= 3):
        raise InputError(fault)
    if ends_in_line and len(faces) > 2:
        others = {word.count(b"/") for word in lines.text(faces[:-1]).split()}
        other_form = len(others) == 1 and {word.count(b"/") for word in last} != others
        if len(last) < lines.sizes[faces[:-1]].min() or other_form or last[-1].endswith(b"/"):
            raise InputError(fault)
