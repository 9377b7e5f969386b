"""OFF: every way to write counts, vertices and faces that Geomview's format allows, and ModelNet's own."""

import io

import numpy as np
import pytest
import trimesh
from mesh_cases import AREA, MIXED, QUADS, TRIANGLES, VERTICES, area_of, read, rows

from bixt3d.datasets.files.off import read_off
from bixt3d.datasets.files.reader import read_file
from bixt3d.types import InputError


def sized(faces: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    return [(len(face), *face) for face in faces]


V, F, Q, M = rows(VERTICES), rows(sized(TRIANGLES)), rows(sized(QUADS)), rows(sized(MIXED))
BOX = f"OFF\n8 12 0\n{V}{F}"
COLORED = "".join(line + " 255 0 0 255\n" for line in V.splitlines())
NORMAL = "".join(line + " 0 0 1\n" for line in V.splitlines())
BEHIND = "1 line behind its last face not read"


@pytest.mark.parametrize(
    ("text", "notes"),
    [
        (BOX, ()),
        (BOX.replace("OFF\n", "OFF"), ()),
        (BOX.replace("OFF\n", "OFF "), ()),
        (BOX.replace("OFF", "off"), ()),
        (BOX.replace("8 12 0", "8 12"), ()),
        (BOX.replace("8 12 0", "8\n12\n0"), ()),
        (BOX.replace("\n", "\r\n"), ()),
        (BOX.replace("\n", "\r"), ()),
        ("\ufeff" + BOX, ()),
        ("# a\n\n" + BOX.replace("\n", " # 1 2 3\n#\n\n"), ()),
        (BOX.replace("OFF\n", "OFF # W\u00fcrfel\n").encode("latin-1"), ()),
        (f"OFF\n8 6 12\n{V}{Q}", ()),
        (f"OFF\n8 {len(MIXED)} 0\n{V}{M}", ()),
        (f"OFF\n8 12 0\n{V}" + F.replace(" ", "\n"), ()),
        (f"OFF\n8 {len(MIXED)} 0\n{V}" + M.replace(" ", " \n "), ()),
        ("OFF\n8 12 0\n" + V.replace("\n", " ") + "\n" + F, ()),
        (BOX.replace("\n", " "), ()),
        (BOX.replace(" ", "\n").replace("OFF\n", "OFF "), ()),
        (f"COFF\n8 12 0\n{COLORED}{F}", ()),
        (f"NOFF\n8 12 0\n{NORMAL}{F}", ()),
        ("CNOFF\n8 12 0\n" + NORMAL.replace("1\n", "1 9 9 9 255\n") + F, ()),
        ("STOFF\n8 12 0\n" + V.replace("\n", " 0.5 0.5\n") + F, ()),
        ("4OFF\n8 12 0\n" + rows(np.hstack([2 * VERTICES, np.full((8, 1), 2)])) + F, ("positions divided by their",)),
        ("OFF\n8 12 0\n" + COLORED + F, ("the 4 numbers behind the positions of its vertices not read",)),
        (f"OFF\n8 12 0\n{V}" + F.replace("\n", " 7\n"), ("the numbers behind the corners of its faces not read",)),
        (BOX + "the end\n", (BEHIND,)),
        (BOX.replace("6", "6,0").replace("OFF\n8 12", "OFF\n8 12"), ("decimal commas read as points",)),
        (BOX.replace(" 12 ", " 13 ") + "2 0 1\n", ()),
    ],
)
def test_a_box_is_read_however_it_is_written(tmp_path, text, notes):
    mesh = read(tmp_path / "a.off", text)
    assert area_of(mesh) == AREA
    assert np.array_equal(mesh.vertices, VERTICES)
    assert len(mesh.notes) == len(notes) and all(map(str.startswith, mesh.notes, notes))


def test_colors_of_vertices_and_faces_are_read(tmp_path):
    assert read(tmp_path / "a.off", f"COFF\n8 12 0\n{COLORED}{F}").vertex_rgb.tolist() == [[255, 0, 0]] * 8
    faces = F.replace("\n", " 0.5 0 1\n")
    assert read(tmp_path / "a.off", f"OFF\n8 12 0\n{V}{faces}").face_rgb.tolist() == [[0.5, 0, 1]] * 12
    (cloud,) = read_file(tmp_path / "a.off", 100)
    assert np.allclose(cloud.columns["rgb"], [0.5, 0, 1])


def test_points_without_faces_are_a_cloud_with_normals_and_colors(tmp_path):
    (tmp_path / "a.off").write_text(f"OFF\n8 0 0\n{V}")
    (cloud,) = read_file(tmp_path / "a.off")
    assert np.array_equal(cloud.xyz, VERTICES) and not cloud.from_mesh and not cloud.notes
    (tmp_path / "a.off").write_text("CNOFF\n8 0 0\n" + NORMAL.replace("1\n", "1 9 8 7 255\n"))
    (cloud,) = read_file(tmp_path / "a.off")
    assert cloud.columns["normal"].tolist() == [[0, 0, 1]] * 8 and cloud.columns["rgb"].tolist() == [[9, 8, 7]] * 8


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (BOX[:-8], "ends before its 8 vertices and 12 faces"),
        (BOX[:60], "ends before its 8 vertices and 12 faces"),
        (BOX[:-2], "ends before its 8 vertices and 12 faces"),
        (BOX.replace("8 12", "8 11").replace("\n", " "), "or it has others"),
        (BOX.replace("8 12", "-8 12"), "does not say how many vertices"),
        ("OFF\n", "does not say how many vertices"),
        (BOX.replace("8 12", "8 x"), "has 'x', not an integer"),
        (BOX.replace("2 4 6", "2 4 x"), "has 'x', not a number"),
        (BOX.replace("2 4 6", "2 4 6.1.2"), "has '6.1.2', not a number"),
        (BOX.replace("3 0 1 3", "3 0 1 8"), "has the vertex 8 in face 1, but only 8 vertices"),
        (BOX.replace("3 0 1 3", "3 0 1 -1"), "has the vertex -1 in face 1"),
        (BOX.replace("3 0 1 3", "3 0 1 2.5"), "no whole number"),
        (BOX.replace("OFF", "OFF BINARY"), "is a binary OFF file"),
        (BOX.replace("OFF", "nOFF"), "has points of any dimension"),
        (BOX.replace("OFF", "ply"), "does not begin with OFF"),
        ("OFF\n1000000000 1000000000 0\n" + V, "ends before its 1000000000 vertices"),
    ],
)
def test_what_is_cut_or_damaged_is_refused(tmp_path, text, sentence):
    with pytest.raises(InputError, match=sentence):
        area_of(read(tmp_path / "a.off", text))


@pytest.mark.parametrize("faces", [TRIANGLES, QUADS, MIXED])
def test_triangles_are_those_of_trimesh_and_of_earlier_versions_to_the_bit(tmp_path, faces):
    text = f"OFF\n8 {len(faces)} 0\n{V}{rows(sized(faces))}"
    from bixt3d.datasets.files.polygons import triangles_of

    mesh = read(tmp_path / "a.off", text)
    expected = trimesh.load_mesh(io.BytesIO(text.encode()), "off", process=False)
    assert np.array_equal(triangles_of(mesh)[0].corner_index, expected.faces)
    fans = [(face[0], *face[i : i + 2]) for face in faces for i in range(1, len(face) - 1)]
    assert read_off(tmp_path / "a.off").corner_index.tolist() == [list(fan) for fan in fans]
