"""OBJ: every form of a face, and the white space, marks and comments of many exporters."""

import io

import numpy as np
import pytest
import trimesh
from mesh_cases import AREA, MIXED, QUADS, TRIANGLES, VERTICES, area_of, read, rows

from bixt3d.datasets.files.polygons import triangles_of
from bixt3d.datasets.files.reader import read_file
from bixt3d.types import InputError

V = rows(VERTICES, "v ")


def faces(polygons: list[tuple[int, ...]], *forms: str, first: int = 1) -> str:
    """Return faces whose corners take these forms in turn."""
    forms = forms or ("{}",)
    lines = [" ".join(forms[i % len(forms)].format(c + first) for i, c in enumerate(face)) for face in polygons]
    return "".join(f"f {line}\n" for line in lines)


F = faces(TRIANGLES)
BOX = V + F
OTHERS = "vt 0 0\nvn 0 0 1\n"
TEXTURE = "its texture not read"


@pytest.mark.parametrize(
    ("text", "notes"),
    [
        (BOX, ()),
        (V + faces(QUADS), ()),
        (V + faces(MIXED), ()),
        (V + OTHERS + faces(MIXED, "{}/1"), (TEXTURE,)),
        (V + OTHERS + faces(MIXED, "{}//1"), ()),
        (V + OTHERS + faces(MIXED, "{}/1/1"), (TEXTURE,)),
        (V + OTHERS + faces(MIXED, "{}", "{}/1", "{}//1"), (TEXTURE,)),
        (V + OTHERS + faces(TRIANGLES, "{}/1/1", "{}"), (TEXTURE,)),
        (V + OTHERS + faces(TRIANGLES, "{}//"), ()),
        (V + faces(TRIANGLES, first=-8), ()),
        (V + OTHERS + faces(MIXED, "{}/-1/-1", first=-8), (TEXTURE,)),
        (V + V + faces(QUADS[:3], first=-8) + faces(QUADS[3:], first=9), ()),
        (BOX.replace("f ", "f\t").replace("v ", "v\t\t "), ()),
        (BOX.replace("f ", "   f  ").replace("v ", "\tv "), ()),
        (BOX.replace("\n", "  \n\n"), ()),
        (BOX.replace("\n", "\r\n"), ()),
        (BOX.replace("\n", "\r"), ()),
        ("\ufeff" + BOX, ()),
        (BOX.encode("utf-16"), ()),
        (BOX.upper(), ()),
        (BOX.replace("\n", " # 1 2 3 \\\n"), ()),
        ("# W\u00fcrfel\\\n".encode("latin-1") + BOX.encode(), ()),
        (BOX.replace("f ", "f \\\n").replace("v 2 ", "v 2 \\ \n"), ()),
        (BOX[:-1], ()),
        (BOX + "\n\n# the end", ()),
        ("mtllib a.mtl\no box\n" + V + "g a\ns 1\nusemtl red\n" + F, ()),
        (F + V, ()),
        (rows(np.hstack([VERTICES, np.ones((8, 1))]), "v ") + F, ()),
        (rows(np.hstack([VERTICES, np.full((8, 1), 2)]), "v ") + F, ("the weights w of its vertices not read",)),
        (rows(np.hstack([VERTICES, np.ones((8, 2))]), "v ") + F, ("the numbers behind the positions of its vertices",)),
        (BOX.replace("v 0 0 0\n", "v 0 0 0 1 1 1\n"), ("colors not read, which not all of its vertices have",)),
        (BOX.replace("f 1", "l 1 2\nf 1", 1), ("its lines not read",)),
        (BOX.replace("f 1", "p 1 2\nf 1", 1), ()),
        (BOX + "cstype bezier\ndeg 3\ncurv 0 1 1 2 3 4\nend\n", ("its curves and surfaces not read",)),
        (BOX + "colour 1\n", ("its statements colour not read",)),
        (V + "f 1 2\nf 3\n" + F, ()),
        (BOX.replace("4", "4,0").replace("f 4,0", "f 4"), None),
        (BOX.replace("v 2 4 6", "v 2.0D0 4D+00 6d0"), ()),
    ],
)
def test_a_box_is_read_however_it_is_written(tmp_path, text, notes):
    if notes is None:
        text, notes = V.replace("4", "4,0") + F, ("decimal commas read as points",)
    mesh = read(tmp_path / "a.obj", text)
    assert area_of(mesh) == AREA
    assert np.array_equal(mesh.vertices[:8], VERTICES)
    assert len(mesh.notes) == len(notes) and all(map(str.startswith, mesh.notes, notes))


def test_negative_indices_count_from_the_vertices_above_their_face(tmp_path):
    second = rows(VERTICES + [10, 0, 0], "v ")
    mesh = read(tmp_path / "a.obj", V + faces(QUADS, first=-8) + second + faces(QUADS, first=-8))
    assert area_of(mesh) == 2 * AREA
    assert set(mesh.corner_index[:24]) == set(range(8)) and set(mesh.corner_index[24:]) == set(range(8, 16))


def test_a_concave_face_keeps_its_area(tmp_path):
    notch = "v 0 0 0\nv 4 0 0\nv 4 4 0\nv 2 1 0\nv 0 4 0\n"
    for first in range(5):
        order = np.roll(np.arange(1, 6), first)
        assert area_of(read(tmp_path / "a.obj", f"{notch}f {' '.join(map(str, order))}\n")) == pytest.approx(10)


def test_faces_of_one_or_two_corners_are_left_out_and_noted(tmp_path):
    (tmp_path / "a.obj").write_text(V + "f 1 2\nf 3\n" + F)
    assert read_file(tmp_path / "a.obj", 10)[0].notes == ("2 faces of fewer than three corners left out",)


def test_a_face_of_one_corner_for_each_vertex_is_a_cloud(tmp_path):
    (tmp_path / "a.obj").write_text(V + "".join(f"f {place}\n" for place in range(1, 9)))
    (cloud,) = read_file(tmp_path / "a.obj")
    assert np.array_equal(cloud.xyz, VERTICES) and cloud.notes == ("8 faces of fewer than three corners left out",)


@pytest.mark.parametrize(("most", "width"), [(1, 6), (255, 6), (1, 7)])
def test_points_alone_are_a_cloud_with_colors_and_normals(tmp_path, most, width):
    rgb = most * np.linspace(0, 1, 24).reshape(8, 3)
    table = np.hstack([VERTICES, np.ones((8, width - 6)), rgb])
    points = "".join("v " + " ".join(map(repr, row)) + "\nvn 0 1 0\n" for row in table.tolist())
    for more in ("", "p 1 2 3 4 5 6 7 8\n", "p -1\n"):
        (tmp_path / "a.obj").write_text(points + more)
        (cloud,) = read_file(tmp_path / "a.obj")
        assert np.array_equal(cloud.xyz, VERTICES) and not cloud.from_mesh and not cloud.notes
        assert np.array_equal(cloud.columns["rgb"], rgb) and cloud.columns["normal"].tolist() == [[0, 1, 0]] * 8


@pytest.mark.parametrize("most", [1, 255])
def test_colors_of_vertices_reach_the_points_of_a_mesh(tmp_path, most):
    (tmp_path / "a.obj").write_text(rows(np.hstack([VERTICES, np.tile([most, 0, most], (8, 1))]), "v ") + F)
    assert np.allclose(read_file(tmp_path / "a.obj", 50)[0].columns["rgb"], [1, 0, 1])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            BOX.replace("f 1 2 4", "f 0 2 4"),
            r"has the vertex 0 in line 9 \('f 0 2 4'\), but vertices are counted from 1",
        ),
        (BOX.replace("f 1 2 4", "f 9 2 4"), "has the vertex 9 in line 9 .* only 8 vertices"),
        (BOX.replace("f 1 2 4", "f -9 2 4"), "has the vertex -9 in line 9"),
        (BOX.replace("f 1 2 4", "f 99999999999999999999 2 4"), "has the vertex"),
        (BOX.replace("f 1 2 4", "f 1.5 2 4"), "has '1.5', not an integer"),
        (BOX.replace("f 1 2 4", "f 1 / 2 4"), "begins with a slash"),
        (BOX + "f 1 2", r"ends in the middle of a face, in line 21 \('f 1 2'\)"),
        (BOX + "f 1 2\n", "ends in the middle of a face"),
        (BOX + "f", "ends in the middle of a face"),
        (V + faces(QUADS) + "f 1 2 3", "ends in the middle of a face"),
        (V + OTHERS + faces(QUADS, "{}/1/1") + "f 1/1/1 2/1/1 3/1/1 4/1", "ends in the middle of a face"),
        (V + OTHERS + faces(QUADS, "{}/1/1") + "f 1/1/1 2/1/1 3/1/1 4/1/", "ends in the middle of a face"),
        (BOX.replace("v 2 4 6", "v 2 4"), r"fewer than three coordinates in line 8 \('v 2 4'\)"),
        (BOX.replace("v 2 4 6", "v 2 4 x"), "has 'x', not a number"),
        (BOX.replace("v 2 4 6", "v 2 4 6.0.1"), "has '6.0.1', not a number"),
        (BOX.replace("f 1 2 4", "f 1 2\n4"), "has a line that begins with '4'"),
        (V + "cstype bezier\nsurf 0 1 0 1 1 2 3 4\nend\n", "has curves and surfaces, but no faces"),
        ("f 1 2 3\n", "contains no vertices"),
        (BOX + "\0", "is not text"),
    ],
)
def test_what_is_cut_or_damaged_is_refused(tmp_path, text, sentence):
    with pytest.raises(InputError, match=sentence):
        area_of(read(tmp_path / "a.obj", text))


@pytest.mark.parametrize("form", ["{}", "{}/1", "{}//1", "{}/1/1"])
@pytest.mark.parametrize("polygons", [TRIANGLES, QUADS, MIXED])
def test_triangles_are_those_of_trimesh_to_the_bit(tmp_path, polygons, form):
    text = V + OTHERS + faces(polygons, form)
    expected = trimesh.load_mesh(io.BytesIO(text.encode()), "obj", process=False).triangles
    assert np.array_equal(triangles_of(read(tmp_path / "a.obj", text))[0].corners(), expected)
