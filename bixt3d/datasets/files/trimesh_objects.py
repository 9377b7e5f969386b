"""Points of the objects of trimesh: meshes, scenes and point clouds."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from bixt3d.datasets.files.columns import Points
from bixt3d.datasets.files.mesh_points import sample_corners
from bixt3d.io.bounds import listed

READ_OF_VERTICES = ("x", "y", "z", "nx", "ny", "nz", "red", "green", "blue", "alpha", "color", "normal", "uv")
"""Vertex properties of a mesh that no note reports as unread; normals are computed from the faces."""


def points_of_scene(mesh: Any, num_points: int) -> tuple[Points, bool]:
    """Return the points of a mesh, scene or point cloud of trimesh, and whether it has faces. Raises InputError."""
    pieces = [piece for piece in (mesh.dump() if hasattr(mesh, "dump") else [mesh]) if not hasattr(piece, "entities")]
    meshes = [piece for piece in pieces if len(getattr(piece, "faces", ()))]
    if meshes:
        corners = np.concatenate([np.asarray(piece.vertices, np.float64)[piece.faces] for piece in meshes])
        colors, notes = colors_of(meshes)
        return sample_corners(corners, num_points, colors)._replace(notes=notes), True
    vertices = np.concatenate([np.zeros((0, 3)), *(np.asarray(piece.vertices, np.float64) for piece in pieces)])
    colors = [np.asarray(getattr(piece, "colors", ()))[:, :3] for piece in pieces if len(getattr(piece, "colors", ()))]
    has_colors = len(vertices) and sum(map(len, colors)) == len(vertices)
    return Points(vertices, {"rgb": np.concatenate(colors)} if has_colors else {}), False


def colors_of(meshes: Sequence[Any]) -> tuple[Float[np.ndarray, "T 3 3"] | None, tuple[str, ...]]:
    """Return the colors (0 to 1) of the triangle corners if all meshes have colors, and notes on what is not read."""
    colors = []
    for mesh in meshes:
        if mesh.visual.kind == "vertex":
            colors.append(np.asarray(mesh.visual.vertex_colors)[mesh.faces][..., :3] / 255)
        elif mesh.visual.kind == "face":
            colors.append(np.repeat(np.asarray(mesh.visual.face_colors)[:, None, :3] / 255, 3, axis=1))
    textured = any(mesh.visual.kind == "texture" for mesh in meshes)
    notes = ("its texture not read",) if textured else ()
    if unread := dict.fromkeys(name for mesh in meshes for name in _values_of(mesh)):
        notes += (f"{listed(unread)} of its vertices not read",)
    if len(colors) == len(meshes):
        return np.concatenate(colors), notes
    if colors:
        notes += ("colors not read, which not all of its pieces have",)
    return None, notes


def _values_of(mesh: Any) -> list[str]:
    """Return the names of the vertex properties of a mesh besides positions, normals and colors."""
    vertex = mesh.metadata.get("_ply_raw", {}).get("vertex", {})
    return [name for name in (*mesh.vertex_attributes, *vertex.get("properties", ())) if name not in READ_OF_VERTICES]
