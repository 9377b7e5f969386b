"""Reader of OFF meshes, which tolerates the faulty headers of ModelNet."""

from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from bixt3d.io.bounds import read_plain


class Triangles(NamedTuple):
    """A triangle mesh: vertices in double precision, vertex indices of each triangle, and the face it comes from."""

    vertices: Float[np.ndarray, "V 3"]
    corner_index: Int[np.ndarray, "T 3"]
    face_index: Int[np.ndarray, " T"]

    def corners(self) -> Float[np.ndarray, "T 3 3"]:
        """Return the positions of the corners of each triangle."""
        return self.vertices[self.corner_index]


def read_off(path: Path) -> Triangles:
    """Return the mesh of an OFF file; its first line may contain the counts too, as in ``OFF490 518 0``.

    Polygons are split into triangle fans. Raises ValueError for a damaged file.
    """
    lines = [line.strip() for line in read_plain(path).decode(errors="replace").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines or not lines[0].startswith("OFF"):
        raise ValueError("it does not begin with OFF")
    if lines[0] != "OFF":  # "OFF6586 5534 0" on one line
        lines[:1] = ["OFF", lines[0][3:]]
    num_vertices, num_faces = (int(count) for count in "".join(lines[1:2]).split()[:2])
    end = 2 + num_vertices + num_faces
    if min(num_vertices, num_faces) < 1 or len(lines) < end:
        raise ValueError(f"it ends before its {num_vertices} vertices and {num_faces} faces")
    vertices = np.loadtxt(lines[2 : 2 + num_vertices], comments=None, ndmin=2)
    if vertices.shape[1] < 3 or not np.isfinite(vertices).all():
        raise ValueError("a vertex takes three finite coordinates")
    corner_index, face_index = _triangles(lines[2 + num_vertices : end])
    if not 0 <= corner_index.min() <= corner_index.max() < num_vertices:
        raise ValueError("a face has a corner that is none of its vertices")
    return Triangles(vertices[:, :3].copy(), corner_index, face_index)


def _triangles(lines: list[str]) -> tuple[Int[np.ndarray, "T 3"], Int[np.ndarray, " T"]]:
    """Return the vertex indices of the triangles of all faces, and the index of the face of each."""
    if all(line.startswith("3 ") for line in lines):  # the usual case, which is much faster
        return np.loadtxt(lines, np.int64, comments=None, usecols=(1, 2, 3), ndmin=2), np.arange(len(lines))
    faces = [[int(word) for word in line.split()] for line in lines]
    if any(count < 3 or len(face) < count for count, *face in faces):
        raise ValueError("a face has fewer corners than announced, or fewer than three")
    triangles = [
        (number, face[0], *pair) for number, (count, *face) in enumerate(faces) for pair in pairwise(face[1:count])
    ]
    table = np.array(triangles)
    return table[:, 1:], table[:, 0]
