"""Faces of any number of corners: the area of the triangles is that of the polygon, in any position in space."""

import numpy as np
import pytest
from mesh_cases import area_of

from bixt3d.datasets.files.polygons import Polygons, triangles_of
from bixt3d.types import InputError

SHAPES = {
    "arrow": [(0, 0), (4, 0), (1, 1), (0, 4)],
    "pentagon with a notch": [(0, 0), (4, 0), (4, 4), (2, 1), (0, 4)],
    "U": [(0, 0), (5, 0), (5, 4), (4, 4), (4, 1), (1, 1), (1, 4), (0, 4)],
    "comb": [*((x, 9 - 8 * (x % 2)) for x in range(9)), (8, 0), (0, 0)],
    "square with a hole": [(0, 0), (9, 0), (9, 9), (0, 9), (0, 0), (3, 3), (3, 6), (6, 6), (6, 3), (3, 3)],
    "corners on an edge": [(0, 0), (1, 0), (2, 0), (4, 0), (4, 4), (2, 4), (0, 4)],
    "corners twice": [(0, 0), (4, 0), (4, 0), (2, 1), (4, 4), (0, 4), (0, 0)],
    "spiral": [
        (np.cos(t) * (t + k), np.sin(t) * (t + k))
        for k, turns in ((2, 1), (1, -1))
        for t in np.linspace(0, 9, 60)[::turns]
    ],
}
IN_SPACE = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]


def one_face(shape: list[tuple[float, float]], offset: object = 0.0) -> Polygons:
    flat = np.array(shape, float)
    return Polygons(flat @ IN_SPACE[:2] + offset, np.array([len(flat)]), np.arange(len(flat)))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("step", [1, -1])
def test_a_polygon_has_the_area_of_its_triangles_from_every_first_corner(shape, step):
    x, y = np.array(shape, float).T
    signed = (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2
    for first in range(0, len(shape), 1 + len(shape) // 12):
        mesh = one_face((shape[first:] + shape[:first])[::step], [5e5, 5.4e6, 100])
        triangles, notes = triangles_of(mesh)
        assert triangles.corner_index.shape == (len(shape) - 2, 3) and not notes
        assert area_of(mesh) == pytest.approx(abs(signed), rel=1e-6)
        normals = np.cross(*np.diff(triangles.corners(), axis=1).transpose(1, 0, 2))
        assert (normals @ np.cross(*IN_SPACE[:2]) * step * signed >= -1e-6).all()  # all on one side


@pytest.mark.parametrize(
    "shape",
    [
        [(0, 0), (1, 1), (1, 0), (0, 1)],
        [(np.cos(4 * np.pi * i / 5), np.sin(4 * np.pi * i / 5)) for i in range(5)],
        [(0, 0), (2, 0), (2, 2), (0, 2)] * 2,
        [(0, 0), (4, 0), (4, 4), (3, 4), (3, -1), (2, -1), (2, 4), (0, 4)],
    ],
    ids=["bow tie", "pentagram", "twice around", "across an edge"],
)
def test_a_polygon_that_crosses_itself_is_noted(shape):
    assert triangles_of(one_face(shape))[1] == ("1 face with edges that cross each other split as a fan",)


def test_polygons_of_several_sizes_keep_their_faces():
    shapes = [SHAPES["arrow"], SHAPES["U"], SHAPES["arrow"][:3], SHAPES["arrow"][:2], SHAPES["arrow"]]
    vertices = np.concatenate([np.array([(*corner, 10 * face) for corner in s]) for face, s in enumerate(shapes)])
    sizes = np.array([len(s) for s in shapes])
    mesh = Polygons(vertices.astype(float), sizes, np.arange(len(vertices)))
    triangles, notes = triangles_of(mesh)
    assert (triangles.corners()[:, :, 2] == 10 * triangles.face_index[:, None]).all()
    assert np.bincount(triangles.face_index, minlength=5).tolist() == [2, 6, 1, 0, 2]
    assert notes == ("1 face of fewer than three corners left out",)


def test_a_corner_that_is_no_vertex_is_named_with_its_face():
    for wrong in (-1, 4):
        mesh = Polygons(np.eye(4, 3), np.array([3, 3]), np.array([0, 1, 2, 0, wrong, 2]))
        with pytest.raises(InputError, match=f"has the vertex {wrong} in face 2, but only 4 vertices, counted from 0"):
            triangles_of(mesh)


def test_a_concave_face_that_would_take_minutes_is_refused():
    with pytest.raises(InputError, match="has 1 concave face of 100000 corners: export it with triangles"):
        triangles_of(one_face([(x, 9 - 8 * (x % 2)) for x in range(99_998)] + [(99_998, -1), (0, -1)]))
