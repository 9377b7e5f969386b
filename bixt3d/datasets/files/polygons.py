"""Meshes as files have them: faces of any number of corners, checked and split into triangles."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from bixt3d.io.bounds import counted
from bixt3d.types import InputError

FLAT = 1e-6
"""Share of the area of a face up to which triangles may point the other way: rounding."""

MAX_APEXES = 4
"""A fan is tried from so many corners of a face before its ears are cut: all of a quad."""

MAX_STEPS = 2_000_000_000
"""Steps of cutting ears, a few seconds: enough for one face of 30,000 corners."""


class Triangles(NamedTuple):
    """A triangle mesh: vertices in double precision, vertex indices of each triangle, and the face it comes from."""

    vertices: Float[np.ndarray, "V 3"]
    corner_index: Int[np.ndarray, "T 3"]
    face_index: Int[np.ndarray, " T"]

    def corners(self) -> Float[np.ndarray, "T 3 3"]:
        """Return the positions of the corners of each triangle."""
        return self.vertices[self.corner_index]


@dataclass(frozen=True)
class Polygons:
    """The content of a mesh file.

    Args:
        vertices: positions of the vertices.
        sizes: number of corners of each face.
        corner_index: vertex of each corner, face after face.
        columns: features of the vertices, for a file without faces.
        vertex_rgb, face_rgb: colors as they are in the file, if it has any.
        notes: what was guessed, changed or left out, each in a few words.
        by_face: triangles come in the order of their faces.
    """

    vertices: Float[np.ndarray, "V 3"]
    sizes: Int[np.ndarray, " F"]
    corner_index: Int[np.ndarray, " C"]
    columns: Mapping[str, Shaped[np.ndarray, "V _"]] = field(default_factory=dict)
    vertex_rgb: Shaped[np.ndarray, "V 3"] | None = None
    face_rgb: Shaped[np.ndarray, "F 3"] | None = None
    notes: tuple[str, ...] = ()
    by_face: bool = False


def check_indices(mesh: Polygons) -> None:
    """Raise InputError for a face with a corner that is no vertex."""
    wrong = np.flatnonzero((mesh.corner_index < 0) | (mesh.corner_index >= len(mesh.vertices)))
    if len(wrong):
        face = int(np.searchsorted(np.cumsum(mesh.sizes), wrong[0], side="right"))
        raise InputError(
            f"has the vertex {mesh.corner_index[wrong[0]]} in face {face + 1}, but only "
            f"{len(mesh.vertices)} vertices, counted from 0: it is damaged"
        )


def triangles_of(mesh: Polygons) -> tuple[Triangles, tuple[str, ...]]:
    """Split the faces of a mesh into triangles, and return notes on those that were left out or cross themselves.

    Triangles come first, then the first and the second halves of quads, then other polygons, or all ``by_face``. Raises
    InputError for a corner that is no vertex.
    """
    check_indices(mesh)
    if (mesh.sizes == 3).all():
        return Triangles(mesh.vertices, mesh.corner_index.reshape(-1, 3), np.arange(len(mesh.sizes))), ()
    starts = np.cumsum(mesh.sizes) - mesh.sizes
    by_size = np.argsort(mesh.sizes, kind="stable")
    groups = np.split(by_size, np.flatnonzero(np.diff(mesh.sizes[by_size])) + 1) if len(by_size) else []
    small, larger, num_crossed, steps = [], [], 0, MAX_STEPS
    for faces in groups:
        size = int(mesh.sizes[faces[0]])
        if size < 3:
            continue
        corners = mesh.corner_index[starts[faces, None] + np.arange(size)]
        local, crossed_mask = _fan(3)[None], np.zeros(1, bool)
        if size > 3:
            local, crossed_mask, steps = split_polygons(mesh.vertices[corners], steps)
        triangles = np.take_along_axis(corners[:, None], np.broadcast_to(local, (len(faces), *local.shape[1:])), 2)
        num_crossed += int(crossed_mask.sum())
        if size <= 4:
            small += [Triangles(mesh.vertices, part, faces) for part in triangles.transpose(1, 0, 2)]
        else:
            larger.append(Triangles(mesh.vertices, triangles.reshape(-1, 3), np.repeat(faces, size - 2)))
    notes = []
    if num_small := int((mesh.sizes < 3).sum()):
        notes.append(f"{counted(num_small, 'face')} of fewer than three corners left out")
    if num_crossed:
        notes.append(f"{counted(num_crossed, 'face')} with edges that cross each other split as a fan")
    small, larger = ([], small + larger) if mesh.by_face else (small, larger)
    return _join(mesh.vertices, small, larger), tuple(notes)


def _join(vertices: Float[np.ndarray, "V 3"], small: list[Triangles], larger: list[Triangles]) -> Triangles:
    none = Triangles(vertices, np.zeros((0, 3), np.int64), np.zeros(0, np.int64))
    corner_index, face_index = (np.concatenate([part[i] for part in (none, *larger)]) for i in (1, 2))
    order = np.argsort(face_index, kind="stable")
    parts = [none, *small, Triangles(vertices, corner_index[order], face_index[order])]
    return Triangles(vertices, *(np.concatenate([part[i] for part in parts]) for i in (1, 2)))


def split_polygons(
    xyz: Float[np.ndarray, "P K 3"], steps: int = MAX_STEPS
) -> tuple[Int[np.ndarray, "P K_2 3"], Bool[np.ndarray, " P"], int]:
    """Split polygons of K corners each into triangles, seen along their mean normal.

    Returns the indices of the corners of the K - 2 triangles of each polygon: a fan from the first corner from which
    no triangle of it points the other way, or ears; whether edges of the polygon cross each other (then the fan from
    the first corner is kept); and what is left of the ``steps`` that cutting ears may take.
    """
    num, size = xyz.shape[:2]
    local = np.tile(_fan(size), (num, 1, 1))
    with np.errstate(all="ignore"):  # positions that are not finite are refused later
        xyz = xyz - xyz[:, :1]
        across = np.cross(xyz[:, 1:-1], xyz[:, 2:])
        total, normal = np.linalg.norm(across, axis=2).sum(1), across.sum(1)
        length = np.linalg.norm(normal, axis=1)
        crossed_mask = length <= FLAT * total
        crossed_mask &= total > 0
        normal /= length[:, None]
        twisted = _turns(xyz, normal) > 1.5 if size > 4 else np.zeros(num, bool)
        crossed_mask |= twisted
        left = np.flatnonzero(~crossed_mask & ~_is_tiling(xyz, normal))
        for apex in range(1, min(size, MAX_APEXES)):
            order = np.roll(np.arange(size), -apex)
            good = _is_tiling(xyz[left][:, order], normal[left])
            local[left[good]] = order[_fan(size)]
            left = left[~good]
    if len(left):
        local[left], crossed_mask[left], steps = _ears(_flattened(xyz[left], normal[left]), steps)
    return local, crossed_mask, steps


def _fan(size: int) -> Int[np.ndarray, "K_2 3"]:
    if size == 4:
        return np.array([[0, 1, 2], [2, 3, 0]])
    return np.stack([np.zeros(size - 2, np.int64), np.arange(1, size - 1), np.arange(2, size)], axis=1)


def _is_tiling(xyz: Float[np.ndarray, "P K 3"], normal: Float[np.ndarray, "P 3"]) -> Bool[np.ndarray, " P"]:
    """Return whether no triangle of the fan from the first corner points away from the normal."""
    xyz = xyz - xyz[:, :1]
    area = np.einsum("pki,pi->pk", np.cross(xyz[:, 1:-1], xyz[:, 2:]), normal)
    return ~(-area.clip(max=0).sum(1) > FLAT * np.abs(area).sum(1))


def _turns(xyz: Float[np.ndarray, "P K 3"], normal: Float[np.ndarray, "P 3"]) -> Float[np.ndarray, " P"]:
    """Return how many times each polygon turns about the normal: once if no edges cross."""
    edge = np.roll(xyz, -1, axis=1) - xyz
    before = np.roll(edge, 1, axis=1)
    sine = np.einsum("pki,pi->pk", np.cross(before, edge), normal)
    return np.abs(np.arctan2(sine, (before * edge).sum(2)).sum(1)) / (2 * np.pi)


def _flattened(xyz: Float[np.ndarray, "P K 3"], normal: Float[np.ndarray, "P 3"]) -> Float[np.ndarray, "P K 2"]:
    """Return the positions along two axes across the normals, counterclockwise seen from their tips."""
    first = np.cross(normal, np.eye(3)[np.abs(normal).argmin(1)])
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    return np.einsum("pki,pji->pkj", xyz, np.stack([first, np.cross(normal, first)], axis=1))


def _ears(xy: Float[np.ndarray, "P K 2"], steps: int) -> tuple[Int[np.ndarray, "P K_2 3"], Bool[np.ndarray, " P"], int]:
    """Split polygons by cutting ears; those whose edges cross become fans. Raises InputError if it takes too long."""
    from bixt3d.ops.numba.ears import CROSSED, TOO_LONG, cut_ears

    num, size = xy.shape[:2]
    triangles, state = np.tile(_fan(size), (num, 1, 1)), np.zeros(num, np.int64)
    steps = cut_ears(np.ascontiguousarray(xy), triangles, state, steps)
    if steps < 0 or (state == TOO_LONG).any():
        raise InputError(f"has {counted(num, 'concave face')} of {size} corners: export it with triangles")
    triangles[state == CROSSED] = _fan(size)
    return triangles, state == CROSSED, steps
