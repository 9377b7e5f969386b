"""A box of known area in every way that a mesh file can say it, and what was read of a file."""

from pathlib import Path

import numpy as np

from bixt3d.datasets.files.polygons import Polygons, triangles_of
from bixt3d.datasets.files.reader import MESHES

VERTICES = np.array([[x, y, z] for x in (0.0, 2) for y in (0.0, 4) for z in (0.0, 6)])
QUADS = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
"""The sides of a box of 2 x 4 x 6."""

TRIANGLES = [three for a, b, c, d in QUADS for three in ((a, b, c), (c, d, a))]
MIXED = [*QUADS[:3], *TRIANGLES[6:]]
AREA = 88.0


def area_of(mesh: Polygons) -> float:
    """Return the total area of the triangles that a mesh is split into."""
    first, second, third = triangles_of(mesh)[0].corners().transpose(1, 0, 2)
    return float(np.linalg.norm(np.cross(second - first, third - first), axis=1).sum() / 2)


def read(path: Path, content: str | bytes) -> Polygons:
    """Return the content of a mesh file."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return MESHES[path.suffix](path)


def rows(table: object, before: str = "") -> str:
    """Return rows of numbers as lines."""
    return "".join(before + " ".join(f"{value:g}" for value in row) + "\n" for row in np.asarray(table, object))
