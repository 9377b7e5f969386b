"""STL: binary and text, with the headers and names that writers leave."""

import io
import struct

import numpy as np
import pytest
import trimesh
from mesh_cases import AREA, TRIANGLES, VERTICES, area_of, read

from bixt3d.datasets.files.reader import read_file
from bixt3d.types import InputError

CORNERS = VERTICES[TRIANGLES]


def binary(count: int = 12, head: bytes = b"", attributes: int = 0) -> bytes:
    rows = [struct.pack("<12fH", 0, 0, 1, *corners.ravel(), attributes) for corners in CORNERS]
    return head.ljust(80) + struct.pack("<I", count) + b"".join(rows)


def text(name: str = "box", end: str = "\n") -> str:
    facets = [
        f" facet normal 0 0 1\n  outer loop\n{lines}  endloop\n endfacet\n"
        for lines in ("".join("   vertex {:g} {:g} {:g}\n".format(*xyz) for xyz in corners) for corners in CORNERS)
    ]
    return f"solid {name}\n{''.join(facets)}endsolid {name}\n".replace("\n", end)


@pytest.mark.parametrize(
    ("content", "notes"),
    [
        (binary(), ()),
        (binary(head=b"solid vertex facet endsolid"), ()),
        (binary(0), ("its header says 0 triangles, its length 12: 12 read",)),
        (binary(0xFFFFFFFF), ("its header says 4294967295 triangles, its length 12: 12 read",)),
        (binary(5, b"solid a"), ("its header says 5 triangles, its length 12: 12 read",)),
        (binary() + b"\0", ("1 byte behind its last triangle not read",)),
        (binary() + b"\r\n", ("2 bytes behind its last triangle not read",)),
        (binary(head=b"COLOR=abcd", attributes=31), ("the attribute bytes of its triangles not read",)),
        (text(), ()),
        (text(end="\r"), ()),
        (text(end="\r\n"), ()),
        (text("vertex 1 2 3 facet endsolid"), ()),
        (text("W\u00fcrfel").encode("latin-1"), ()),
        (text("").upper(), ()),
        (text() + "\n\n", ()),
        (text().replace("vertex", "\tvertex ").replace("facet ", "facet\t"), ()),
        (text().replace("4", "4.0e0").replace("6", "6,0"), ("decimal commas read as points",)),
        ("\ufeff" + text(), ()),
    ],
)
def test_a_box_is_read_whatever_its_header_says(tmp_path, content, notes):
    mesh = read(tmp_path / "a.stl", content)
    assert area_of(mesh) == AREA and mesh.notes == notes
    assert np.array_equal(mesh.vertices, CORNERS.reshape(-1, 3))


def test_several_solids_are_one_mesh(tmp_path):
    assert area_of(read(tmp_path / "a.stl", text("one") + text("two"))) == 2 * AREA


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (binary(13), "announces 13 triangles, but it ends after 12"),
        (binary()[:-20], "announces 12 triangles, but it ends after 11"),
        (binary(0)[:-20], "ends in the middle of triangle 12"),
        (binary()[:70], "it ends in its header"),
        (binary()[:84], "announces 12 triangles, but it ends after 0"),
        (binary(0)[:84], "contains no triangles"),
        (text().rpartition("endsolid")[0], "ends before its endsolid"),
        (text()[:-60], "it ends in the middle of one"),
        (text().replace("vertex 0 0 6", "vertex 0 0", 1), r"without three coordinates in line 5 \('vertex 0 0'\)"),
        (text().replace("vertex 0 0 6", "vertex 0 0 x", 1), "has 'x', not a number"),
        (text().replace("   vertex 0 0 6\n", "", 1), "has a facet that is no triangle"),
        ("solid a\nendsolid a\n", "contains no triangles"),
    ],
)
def test_what_is_cut_or_damaged_is_refused(tmp_path, content, sentence):
    with pytest.raises(InputError, match=sentence):
        read(tmp_path / "a.stl", content)


def test_an_invalid_float_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "a.stl").write_bytes(binary()[:96] + b"\1\0\x80\x7f" + binary()[100:])  # a signaling NaN
    with pytest.raises(InputError, match="has 36 corners, 1 of which contain NaN"):
        read_file(tmp_path / "a.stl")


def test_triangles_without_area_take_no_points_and_do_no_harm(tmp_path):
    flat = struct.pack("<12fH", *[0.0] * 12, 0)
    (tmp_path / "a.stl").write_bytes(binary(13) + flat)
    (cloud,) = read_file(tmp_path / "a.stl", 500)
    assert len(cloud) == 500 and cloud.num_faces == 13


@pytest.mark.parametrize("kind", ["stl", "stl_ascii"])
def test_points_are_those_of_trimesh_to_the_bit(tmp_path, kind):
    ball = trimesh.creation.icosphere(1)
    content = ball.export(file_type=kind)
    mesh = read(tmp_path / "a.stl", content)
    raw = content if isinstance(content, bytes) else content.encode()
    expected = trimesh.load_mesh(io.BytesIO(raw), "stl", process=False)
    assert np.array_equal(mesh.vertices[mesh.corner_index.reshape(-1, 3)], expected.triangles)
