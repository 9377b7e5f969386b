"""Reader of OFF files (Geomview's object file format), which tolerates the faulty headers of ModelNet."""

import re
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from bixt3d.datasets.files.mesh_text import integers, numbers, read_mesh_text, shown, without_commas
from bixt3d.datasets.files.polygons import Polygons, Triangles, triangles_of
from bixt3d.io.bounds import counted
from bixt3d.types import InputError

HEADER = re.compile(rb"\s*(ST)?(C)?(N)?(4)?(n)?OFF[ \t]*(BINARY)?")


class _Layout(NamedTuple):
    """Which numbers follow the position of a vertex, as the letters before OFF say."""

    has_normal: bool
    has_color: bool
    has_texture: bool
    is_homogeneous: bool

    def widths(self) -> list[int]:
        """Return the possible numbers of columns: colors have an alpha, or not."""
        fixed = 3 + 3 * self.has_normal + 2 * self.has_texture + self.is_homogeneous
        return [fixed + 4, fixed + 3] if self.has_color else [fixed]


def read_off(path: Path) -> Triangles:
    """Return the mesh of an OFF file, its polygons split into triangles that begin with the first corner of a fan.

    Triangles come in the order of their faces. Raises InputError for a damaged file, and for one without faces.
    """
    try:
        mesh = read_off_polygons(path)
        vertices, corner_index, face_index = triangles_of(replace(mesh, by_face=True))[0]
    except InputError as error:
        raise InputError(f"it {error}") from error
    if not np.isfinite(mesh.vertices).all():
        raise InputError("a vertex takes three finite coordinates")
    if not len(face_index):
        raise InputError("it has no faces")
    first = mesh.corner_index[np.cumsum(mesh.sizes) - mesh.sizes][face_index]
    turned = (mesh.sizes[face_index] > 3) & (corner_index[:, 2] == first)
    corner_index[turned] = np.roll(corner_index[turned], 1, axis=1)
    return Triangles(vertices, corner_index, face_index)


def read_off_polygons(path: Path) -> Polygons:
    """Return vertices, faces and colors of an OFF file; its first line may contain the counts, as in ``OFF490 518 0``.

    Vertices and faces may be spread over lines. Raises InputError for a damaged file.
    """
    text, notes = without_commas(re.sub(rb"#[^\n]*", b"", read_mesh_text(path)))
    head = HEADER.match(text) or HEADER.match(text.upper())
    if not head:
        raise InputError("does not begin with OFF")
    if head[6]:
        raise InputError("is a binary OFF file: save it as text, or as PLY")
    if head[5]:
        raise InputError("has points of any dimension (nOFF): save it with three coordinates")
    layout = _Layout(bool(head[3]), bool(head[2]), bool(head[1]), bool(head[4]))
    counts, lines = _counts([line for line in text[head.end() :].split(b"\n") if line and not line.isspace()])
    sizes = [len(line.split()) for line in lines[: sum(counts)]]
    table = _vertices_by_line(lines, sizes, counts)
    if table is not None and (faces := _faces_by_line(lines[counts[0] : sum(counts)], sizes[counts[0] :])):
        extra = len(lines) - sum(counts)
        notes += (f"{counted(extra, 'line')} behind its last face not read",) if extra else ()
    else:
        table, faces = _free_form(lines, counts, layout)
    return _polygons(table, faces, layout, notes)


class _Faces(NamedTuple):
    sizes: np.ndarray
    corner_index: np.ndarray
    colors: np.ndarray | None = None
    notes: tuple[str, ...] = ()


def _counts(lines: list[bytes]) -> tuple[tuple[int, int], list[bytes]]:
    """Return the numbers of vertices and faces, and the lines behind them; the number of edges may be missing."""
    words = lines[0].split() if lines else []
    if len(words) == 1:  # one count in each line
        words, lines = [word for line in lines[:3] for word in line.split()], lines[2:]
    if len(words) > 3:  # all in one line
        lines = [lines[0], b" ".join(words[3:]), *lines[1:]]
    found = integers(b" ".join(words[:3]), min(len(words), 3))
    if len(found) < 2 or found.min() < 0:
        raise InputError("does not say how many vertices and faces it has")
    return (int(found[0]), int(found[1])), lines[1:]


def _vertices_by_line(lines: list[bytes], sizes: list[int], counts: tuple[int, int]) -> np.ndarray | None:
    """Return the numbers of the vertices if each has a line of its own, all of one length; else None."""
    if len(sizes) < sum(counts) or len(set(sizes[: counts[0]])) != 1 or sizes[0] < 3:
        return None
    return numbers(b"\n".join(lines[: counts[0]]), counts[0] * sizes[0]).reshape(counts[0], -1)


def _faces_by_line(lines: list[bytes], lengths: list[int]) -> _Faces | None:
    """Return the faces if each has a line of its own, with or without a color behind; else None."""
    starts = np.cumsum([0, *lengths[:-1]])
    if not lines:
        return _Faces(np.zeros(0, np.int64), np.zeros(0, np.int64))
    flat = numbers(b"\n".join(lines), sum(lengths))
    sizes, more = flat[starts], np.array(lengths) - 1 - flat[starts]
    if not ((sizes >= 0) & (sizes == np.round(sizes)) & (more >= 0)).all():
        return None
    sizes, more = sizes.astype(np.int64), more.astype(np.int64)
    index = np.arange(sizes.sum()) + np.repeat(starts + 1 - (np.cumsum(sizes) - sizes), sizes)
    corner_index = _whole(flat[index])
    if not more.any():
        return _Faces(sizes, corner_index)
    if more.min() < 3 or more.max() > 4:
        return _Faces(sizes, corner_index, None, ("the numbers behind the corners of its faces not read",))
    return _Faces(sizes, corner_index, flat[(starts + 1 + sizes)[:, None] + np.arange(3)])


def _whole(values: Float[np.ndarray, " N"]) -> np.ndarray:
    if not (np.abs(values) < 2**53).all() or (values != np.round(values)).any():
        raise InputError("has a face with a corner that is no whole number")
    return values.astype(np.int64)


def _free_form(lines: list[bytes], counts: tuple[int, int], layout: _Layout) -> tuple[np.ndarray, _Faces]:
    """Return vertices and faces that are spread over lines: all numbers of the file, and no others."""
    words = b"\n".join(lines).split()
    fault = f"ends before its {counts[0]} vertices and {counts[1]} faces"
    if len(words) < 3 * counts[0] + counts[1]:
        raise InputError(fault)
    flat = numbers(b"\n".join(words), len(words))
    for width in layout.widths():
        place, starts = counts[0] * width, []
        while len(starts) < counts[1] and place < len(flat) and flat[place] >= 0:
            starts.append(place + 1)
            place += 1 + int(min(flat[place], len(flat)))
        if len(starts) == counts[1] and place == len(flat):
            sizes = _whole(flat[np.array(starts, np.int64) - 1])
            index = np.arange(sizes.sum()) + np.repeat(np.array(starts) - (np.cumsum(sizes) - sizes), sizes)
            return flat[: counts[0] * width].reshape(-1, width), _Faces(sizes, _whole(flat[index.astype(np.int64)]))
    raise InputError(f"{fault}, or it has others: near {shown(lines[-1])!r}")


def _polygons(table: np.ndarray, faces: _Faces, layout: _Layout, notes: tuple[str, ...]) -> Polygons:
    if table.shape[1] < min(layout.widths()):
        layout, notes = (
            _Layout(False, False, False, False),
            (*notes, "normals or colors that its header announces missing"),
        )
    vertices, place, columns = table[:, :3], 3, {}
    if layout.is_homogeneous:
        with np.errstate(all="ignore"):
            vertices, place = vertices / table[:, 3:4], 4
        notes += ("positions divided by their fourth coordinate",)
    if layout.has_normal:
        columns["normal"], place = table[:, place : place + 3], place + 3
    rest = table.shape[1] - place - 2 * layout.has_texture
    rgb = table[:, place : place + 3] if layout.has_color and rest >= 3 else None
    if rgb is not None:
        columns["rgb"] = rgb
    elif rest > 0:
        notes += (f"the {counted(rest, 'number')} behind the positions of its vertices not read",)
    return Polygons(vertices.copy(), *faces[:2], columns, rgb, faces.colors, (*notes, *faces.notes))
