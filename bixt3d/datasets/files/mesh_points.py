"""Points of a mesh: spread over its faces by area, with normals and colors; the vertices where it has no faces."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, Shaped

from bixt3d.datasets.files.cloud import FARTHEST, has_position
from bixt3d.datasets.files.columns import Points
from bixt3d.datasets.files.feature_columns import color_notes, largest_of, unit_color
from bixt3d.datasets.files.polygons import Polygons, triangles_of
from bixt3d.datasets.files.surface import sample_triangles
from bixt3d.types import InputError

EIGHT_BITS = 1e-6
"""Text rounds colors: those of 8 bits are 1/255 of an integer up to this."""


def points_of_polygons(mesh: Polygons, num_points: int) -> tuple[Points, int]:
    """Return points spread over the faces of a mesh, and its number of triangles.

    Without faces: its vertices with all their features, and 0. Raises InputError for positions that are not finite.
    """
    triangles, notes = triangles_of(mesh)
    if not len(triangles.face_index):
        return Points(mesh.vertices, dict(mesh.columns), (*mesh.notes, *notes)), 0
    colors, more = _corner_colors(mesh, triangles.corner_index, triangles.face_index)
    points = sample_corners(triangles.corners(), num_points, colors)
    return points._replace(notes=(*mesh.notes, *notes, *more)), len(triangles.face_index)


def _corner_colors(
    mesh: Polygons, corner_index: Int[np.ndarray, "T 3"], face_index: Int[np.ndarray, " T"]
) -> tuple[Float[np.ndarray, "T 3 3"] | None, Sequence[str]]:
    """Return the colors (0 to 1) of the corners, of the vertices if they have any, else of the faces; and notes."""
    given = mesh.face_rgb if mesh.vertex_rgb is None else mesh.vertex_rgb
    if given is None:
        return None, ()
    both = () if mesh.vertex_rgb is None or mesh.face_rgb is None else ("colors of its faces not read",)
    try:
        values = unit_color(given, "it", most := largest_of(given))
    except InputError:
        return None, (
            *both,
            "colors not read, which are outside 0 to 1, 0 to 255 and 0 to 65535",
        )
    if given.dtype.kind == "f":
        rounded = np.round(255 * values) / 255
        values = rounded if np.abs(values - rounded).max(initial=0) < EIGHT_BITS else values
    colors = np.repeat(values[face_index, None], 3, axis=1) if given is mesh.face_rgb else values[corner_index]
    return colors, (*both, *color_notes(given, most))


def sample_corners(
    corners: Float[np.ndarray, "T 3 3"], num_points: int, colors: Float[np.ndarray, "T 3 3"] | None = None
) -> Points:
    """Sample points from triangles uniformly by area, with the normals of the faces and interpolated colors."""
    check_corners(corners.reshape(-1, 3))
    xyz, normal, triangle, weight = sample_triangles(corners, num_points, np.random.default_rng(0))
    columns: dict[str, Shaped[np.ndarray, "N _"]] = {"normal": normal}
    if colors is not None:
        columns["rgb"] = (weight @ colors[triangle])[:, 0].clip(0, 1)
    return Points(xyz, columns)


def check_corners(xyz: Float[np.ndarray, "N 3"]) -> None:
    """Raise InputError for corners of triangles that have no position, or that all coincide."""
    broken = np.flatnonzero(~has_position(xyz))
    if len(broken):
        raise InputError(
            f"has {len(xyz)} corners, {len(broken)} of which contain NaN, infinity or more than {FARTHEST:g} "
            f"(the first is number {broken[0] + 1}): remove them"
        )
    if (xyz == xyz[0]).all():
        raise InputError(f"has all its {len(xyz)} corners in one place")
