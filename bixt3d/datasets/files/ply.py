"""Reader of PLY files: meshes with faces of any number of corners or strips of triangles, and clouds."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Int, Shaped

from bixt3d.datasets.files.columns import TRIPLES, named_columns
from bixt3d.datasets.files.mesh_text import without_mark
from bixt3d.datasets.files.ply_header import read_header
from bixt3d.datasets.files.ply_rows import Columns, Lists, Rows, read_rows
from bixt3d.datasets.files.polygons import Polygons
from bixt3d.io.bounds import listed, printable, read_plain, shortened
from bixt3d.types import InputError

FACES, STRIPS = ("face", "faces"), ("tristrips", "tristrip")
CORNERS = ("vertex_indices", "vertex_index", "vertex_indexes", "vertex_ids", "indices")
READ_WITH_FACES = ("rgb", "normal", "alpha", "a", "diffuse_alpha")
"""Features of the vertices of a mesh that no note reports as unread; normals are computed from the faces."""


def read_ply(path: Path) -> Polygons:
    """Return vertices, faces and colors of a PLY file, and all features of the vertices if it has no faces.

    Raises InputError for a damaged file.
    """
    raw = without_mark(read_plain(path))
    rows, notes = read_rows(raw, read_header(raw))
    vertex = _vertex_place(rows)
    if not rows[vertex][0].count:
        raise InputError("has no vertices")
    points, lists = _points(rows[vertex][1])
    sizes, corners, face_rgb = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], []
    for place, (element, columns) in enumerate(rows):
        name = element.name.lower()
        index = next((columns[one] for one in columns if one.lower() in CORNERS), None)
        if place == vertex or not element.count:
            continue
        if name not in (*FACES, *STRIPS) or not isinstance(index, Lists):
            notes += (f"its elements '{printable(shortened(element.name))}' not read",)
            continue
        own = Lists(_whole(index.values), index.sizes)
        own = own if name in FACES else _strip_triangles(own)
        sizes.append(own.sizes)
        corners.append(own.values)
        rgb, unread = _face_columns(columns)
        face_rgb.append(rgb if name in FACES else None)
        notes += (f"{listed(unread)} of its faces not read",) if unread else ()
    all_colored = face_rgb and all(rgb is not None for rgb in face_rgb)
    unread = [*(name for name in points.columns if name not in READ_WITH_FACES), *lists]
    if any(map(len, sizes)):
        notes += (f"{listed(unread)} of its vertices not read",) if unread else ()
    elif lists:
        notes += (f"the lists {listed(lists)} of its points not read",)
    rgb = points.columns.get("rgb")
    vertex_rgb = rgb if rgb is not None and rgb.shape[1] == 3 else None
    found = np.concatenate(face_rgb) if all_colored else None
    notes += points.notes
    return Polygons(
        points.xyz, np.concatenate(sizes), np.concatenate(corners), points.columns, vertex_rgb, found, notes
    )


def _vertex_place(rows: Rows) -> int:
    """Return the place of the element of the vertices: the one of that name, or the only one with x, y and z."""
    named = [place for place, (element, _) in enumerate(rows) if element.name.lower() == "vertex"]
    with_xyz = [place for place, (_, columns) in enumerate(rows) if {"x", "y", "z"} <= {one.lower() for one in columns}]
    if not named and len(with_xyz) != 1:
        raise InputError(f"has no vertices, but the elements {listed(element.name for element, _ in rows)}")
    return (named or with_xyz)[0]


def _points(columns: Columns):
    """Return the vertices with their features, lists of one length among them, and the names of the other lists."""
    single, lists = {}, []
    for name, values in columns.items():
        if not isinstance(values, Lists):
            single[name] = values
        elif len(values.sizes) and values.sizes[0] and (values.sizes == values.sizes[0]).all():
            single[name] = values.values.reshape(len(values.sizes), -1)
        else:
            lists.append(name)
    return named_columns(single), lists


def _face_columns(columns: Mapping[str, np.ndarray | Lists]) -> tuple[Shaped[np.ndarray, "F 3"] | None, list[str]]:
    """Return the colors of faces, and the names of their other properties but the corners."""
    by_name = {name.lower(): name for name, values in columns.items() if not isinstance(values, Lists)}
    triple = next((names for names in TRIPLES["rgb"] if set(names) <= set(by_name)), ())
    used = {by_name[name] for name in (*triple, "alpha") if name in by_name}
    rgb = np.stack([columns[by_name[name]] for name in triple], axis=1) if triple else None
    return rgb, [name for name in columns if name not in used and name.lower() not in CORNERS]


def _whole(values: Shaped[np.ndarray, " C"]) -> Int[np.ndarray, " C"]:
    if values.dtype.kind != "f":
        return (
            np.where(values == np.iinfo(values.dtype).max, -1, values.astype(np.int64))
            if values.dtype.kind == "u"
            else values.astype(np.int64)
        )
    if not (np.abs(values) < 2**53).all() or (values != np.round(values)).any():
        raise InputError("has a face with a corner that is no whole number: it is damaged")
    return values.astype(np.int64)


def _strip_triangles(strips: Lists) -> Lists:
    """Return the triangles of strips, in which -1 ends a strip; every second triangle is turned around."""
    values = np.insert(strips.values, np.cumsum(strips.sizes), -1)
    place = np.arange(len(values))
    begin = np.maximum.accumulate(np.where(values == -1, place + 1, 0))
    first, second, third = values[:-2], values[1:-1], values[2:]
    is_odd = ((place - begin)[:-2] % 2).astype(bool)
    triangles = np.stack([np.where(is_odd, second, first), np.where(is_odd, first, second), third], axis=1)
    has_area = (first != second) & (second != third) & (third != first)
    inside = (first != -1) & (second != -1) & (third != -1)
    triangles = triangles[inside & has_area]
    return Lists(triangles.reshape(-1), np.full(len(triangles), 3))
