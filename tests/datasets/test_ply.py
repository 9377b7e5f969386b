"""PLY: text and binary of both byte orders, with faces, lists, strips and elements of any kind, against plyfile."""

import io

import numpy as np
import pytest
from mesh_cases import AREA, MIXED, QUADS, TRIANGLES, VERTICES, area_of, read

from bixt3d.datasets.files.reader import read_file
from bixt3d.types import InputError

TYPES = {"i1": "char", "u1": "uchar", "i2": "short", "u2": "ushort", "i4": "int", "u4": "uint"}
TYPES |= {"f4": "float", "f8": "double"}
FORMS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}
XYZ = [("x", "f4"), ("y", "f4"), ("z", "f4")]
CORNERS = [("vertex_indices", "u1", "i4")]


def ply(form: str, *elements: tuple[str, list, list], comment: str = "", end: str = "\n") -> bytes:
    """Write elements (name, properties, rows); a property is (name, type), or (name, type of its length, type)."""
    head, body = ["ply", f"format {form} 1.0", *([f"comment {comment}"] if comment else [])], []
    for name, properties, table in elements:
        head.append(f"element {name} {len(table)}")
        for one in properties:
            kinds = " ".join(TYPES[kind] for kind in one[1:])
            head.append(f"property {'list ' if len(one) == 3 else ''}{kinds} {one[0]}")
        for row in table:
            flat = []
            for one, value in zip(properties, row, strict=True):
                if len(one) == 3:
                    flat.append(np.array(len(value), FORMS[form] + one[1]))
                flat.append(np.array(value, FORMS[form] + one[-1]))
            if form == "ascii":
                words = " ".join(str(number) for values in flat for number in values.reshape(-1).tolist())
                body.append((words + end).encode())
            else:
                body.append(b"".join(values.tobytes() for values in flat))
    return (end.join([*head, "end_header"]) + end).encode("latin-1") + b"".join(body)


def faces_of(polygons: list[tuple[int, ...]]) -> list[list[tuple[int, ...]]]:
    return [[face] for face in polygons]


VERTEX, EDGE = ("vertex", XYZ, VERTICES.tolist()), ("edge", [("vertex1", "i4"), ("vertex2", "i4")], [[0, 1]])
BOX = [VERTEX, ("face", CORNERS, faces_of(MIXED))]
STRIP = [0, 1, 2, 3, -1, 4, 6, 5, 7, -1, 0, 4, 1, 5, -1, 2, 3, 6, 7, -1, 0, 2, 4, 6, -1, 1, 5, 3, 7]
TEXTURED = [("texcoord", "u1", "f4"), *CORNERS, ("flags", "u1")]
ROWS = [[[0.5] * (6 * (i % 2)), face, i] for i, face in enumerate(TRIANGLES)]
RAGGED = [("name", [("characters", "u2", "u1")], [[[65] * k] for k in range(5)])]
KINDS = {
    "triangles": ([VERTEX, ("face", CORNERS, faces_of(TRIANGLES))], ()),
    "quads": ([VERTEX, ("face", CORNERS, faces_of(QUADS))], ()),
    "mixed": (BOX, ()),
    "vertex_index": ([VERTEX, ("face", [("vertex_index", "i4", "u4")], faces_of(MIXED))], ()),
    "int16": ([("vertex", [(a, "i2") for a in "xyz"], VERTICES.astype(int).tolist()), *BOX[1:]], ()),
    "double": ([("vertex", [(a, "f8") for a in "xyz"], VERTICES.tolist()), *BOX[1:]], ()),
    "capitals": ([("vertex", [(a, "f4") for a in "XYZ"], VERTICES.tolist()), *BOX[1:]], ()),
    "vertices last": ([BOX[1], VERTEX], ()),
    "lists before and flags behind": ([VERTEX, ("face", TEXTURED, ROWS)], ("texcoord, flags of its faces not read",)),
    "own elements first": ([*RAGGED, *BOX, EDGE], ("its elements 'name' not read", "its elements 'edge' not read")),
    "strips": ([VERTEX, ("tristrips", [("vertex_indices", "i4", "i4")], [[STRIP]])], ()),
    "strips in rows": (
        [VERTEX, ("tristrips", [("vertex_indices", "i4", "i4")], [[STRIP[i : i + 4]] for i in range(0, 29, 5)])],
        (),
    ),
    "a quality": ([("vertex", [*XYZ, ("quality", "f4")], [[*v, 1] for v in VERTICES]), BOX[1]], ("quality of its",)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_box_is_read_in_every_form(tmp_path, kind, form):
    elements, notes = KINDS[kind]
    mesh = read(tmp_path / "a.ply", ply(form, *elements))
    assert np.array_equal(mesh.vertices, VERTICES) and area_of(mesh) == AREA
    assert len(mesh.notes) == len(notes) and all(map(str.startswith, mesh.notes, notes))


def in_text(change: object = lambda raw: raw, **options: str) -> bytes:
    return change(ply("ascii", *BOX, **options))


def in_body(raw: bytes, old: bytes, new: bytes) -> bytes:
    head, mark, body = raw.partition(b"end_header\n")
    return head + mark + body.replace(old, new)


BINARY = ply("binary_little_endian", *BOX)


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (in_text(comment="W\u00fcrfel"), ""),
        (in_text(comment="end_header"), ""),
        (b"\xef\xbb\xbf" + in_text(), ""),
        (b"\xef\xbb\xbf" + BINARY, ""),
        (in_text(lambda raw: raw.decode().encode("utf-16")), ""),
        (in_text(end="\r\n"), ""),
        (in_text(end="\r"), ""),
        (ply("binary_big_endian", *BOX, comment="a").replace(b"\n", b"\r\n", 10), ""),
        (in_text(lambda raw: raw.replace(b"end_header\n", b"end_header\n\n \n")), ""),
        (in_text(lambda raw: raw.replace(b"comment", b"obj_info"), comment="num_cols 3"), ""),
        (in_text(lambda raw: in_body(raw, b".", b",")), "decimal commas read as points"),
        (in_text(lambda raw: in_body(raw, b" ", b"\n")), ""),
        (in_text(lambda raw: in_body(raw, b" ", b", ")), ""),
        (in_text(lambda raw: in_body(raw, b" ", b"\t  ")), ""),
        (in_text(lambda raw: in_body(raw, b"\n", b" ")), ""),
        (in_text(lambda raw: raw + b"the end\n"), "1 line behind its last row not read"),
        (BINARY + b"\0\n", "2 bytes behind its last element not read"),
    ],
)
def test_a_box_is_read_whatever_its_text_looks_like(tmp_path, content, note):
    mesh = read(tmp_path / "a.ply", content)
    assert area_of(mesh) == AREA and mesh.notes == ((note,) if note else ())


def test_a_line_feed_behind_a_header_of_carriage_returns_is_data(tmp_path):
    table = np.array([[10, 0, 0], [1, 2, 3]], "u1")  # the first byte is a line feed
    head = "ply\rformat binary_little_endian 1.0\relement vertex 2\r"
    head += "".join(f"property uchar {a}\r" for a in "xyz") + "end_header\r"
    assert read(tmp_path / "a.ply", head.encode() + table.tobytes()).vertices.tolist() == table.tolist()


@pytest.mark.parametrize("form", FORMS)
def test_all_columns_of_a_cloud_are_those_of_plyfile(tmp_path, form):
    plyfile = pytest.importorskip("plyfile", reason="needs plyfile to compare with")
    rng = np.random.default_rng(0)
    names = ["scalar_Intensity", "f_dc_0", "f_dc_1", "f_dc_2", *(f"f_rest_{i}" for i in range(45)), "opacity"]
    kinds = [*XYZ, *((name, "f8" if name == "opacity" else "f4") for name in names), ("label", "u2"), ("t", "i1")]
    table = [[*rng.normal(size=3 + len(names)), 65535 - i, -i] for i in range(9)]
    content = ply(form, ("vertex", kinds, table), ("face", CORNERS, []))
    (tmp_path / "a.ply").write_bytes(content)
    (cloud,) = read_file(tmp_path / "a.ply")
    expected = plyfile.PlyData.read(io.BytesIO(content))["vertex"]
    assert np.array_equal(cloud.xyz, np.stack([expected[a] for a in "xyz"], 1)) and not cloud.from_mesh
    for name in (*names[1:], "label", "t"):
        assert np.array_equal(cloud.columns[name][:, 0], expected[name])
        assert cloud.columns[name].dtype == expected[name].dtype
    assert len(cloud.columns) == len(names) + 2


@pytest.mark.parametrize("form", FORMS)
def test_lists_of_a_cloud_are_kept_if_they_have_one_length(tmp_path, form):
    plain = [("x", "f4"), ("same", "u1", "f4"), ("y", "f4"), ("other", "u2", "i2"), ("z", "f4")]
    table = [[x, [1, 2], y, [3] * i, z] for i, (x, y, z) in enumerate(VERTICES)]
    (tmp_path / "a.ply").write_bytes(ply(form, ("vertex", plain, table)))
    (cloud,) = read_file(tmp_path / "a.ply")
    assert np.array_equal(cloud.xyz, VERTICES) and cloud.columns["same"].tolist() == [[1, 2]] * 8
    assert cloud.notes == ("the lists other of its points not read",)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("kind", "full"), [("u1", 255), ("u2", 65535), ("f4", 1)])
@pytest.mark.parametrize("of", ["vertex", "face"])
def test_colors_of_vertices_and_faces_reach_the_points(tmp_path, form, kind, full, of):
    rgba = [("red", kind), ("green", kind), ("blue", kind), ("alpha", kind)]
    color = [full, 0, full, full]
    vertex, face = (XYZ, VERTICES.tolist()), (CORNERS, faces_of(TRIANGLES))
    own = {name: (own, rows) for name, (own, rows) in (("vertex", vertex), ("face", face))}
    own[of] = (own[of][0] + rgba, [[*row, *color] for row in own[of][1]])
    (tmp_path / "a.ply").write_bytes(ply(form, *((name, *own[name]) for name in ("vertex", "face"))))
    (cloud,) = read_file(tmp_path / "a.ply", 50)
    assert np.allclose(cloud.columns["rgb"], [1, 0, 1])


def test_points_without_position_are_dropped_and_an_organized_grid_is_a_cloud(tmp_path):
    table = [*VERTICES.tolist(), [np.nan] * 3]
    grid = ("range_grid", [("vertex_indices", "u1", "i4")], [[[0]], [[]], [[1]]])
    (tmp_path / "a.ply").write_bytes(ply("binary_little_endian", ("vertex", XYZ, table), grid))
    (cloud,) = read_file(tmp_path / "a.ply")
    assert np.array_equal(cloud.xyz, VERTICES) and "its elements 'range_grid' not read" in cloud.notes


def test_faces_of_one_or_two_corners_are_left_out_and_noted(tmp_path):
    (tmp_path / "a.ply").write_bytes(ply("ascii", VERTEX, ("face", CORNERS, faces_of([*MIXED, (0,), (1, 2), ()]))))
    assert read_file(tmp_path / "a.ply", 10)[0].notes == ("3 faces of fewer than three corners left out",)


def bad(*face: int, kind: str = "i4", form: str = "ascii") -> bytes:
    return ply(form, VERTEX, ("face", [("vertex_indices", "u1", kind)], faces_of([*TRIANGLES, face])))


TEXT = in_text()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        *((bad(0, 1, 8, form=form), "has the vertex 8 in face 13, but only 8 vertices") for form in FORMS),
        *((bad(0, 1, -1, form=form), "has the vertex -1 in face 13") for form in FORMS),
        (bad(0, 1, 2**32 - 1, kind="u4"), "has the vertex"),
        (BINARY[:-1], "announces 9 rows of 'face', but it ends or is damaged in row 9"),
        (BINARY[:-40], "announces 9 rows of 'face', but it ends"),
        (BINARY[:250], "announces 8 rows of 'vertex', but it ends or is damaged in row"),
        (TEXT[:-8], "announces 9 rows of 'face', but it ends or is damaged in row 9"),
        (TEXT[:-2], "announces 9 rows of 'face', but it ends or is damaged in row 9"),
        (in_body(TEXT, b"2.0 4.0 6.0", b"2.0 4.0"), "damaged"),
        (in_body(TEXT, b"2.0 4.0 6.0", b"2.0 4.0 6.0 1.0"), "has 1 numbers more|is damaged"),
        (in_body(TEXT, b"2.0 4.0 6.0", b"2.0 4.0 x"), "has 'x', not a number"),
        (in_body(TEXT, b"2.0 4.0 6.0", b"2,0,4.0 6.0 1"), "not a number"),
        (in_body(TEXT, b"3 2 3 7", b"-3 2 3 7"), "damaged"),
        (TEXT.replace(b"element vertex 8", b"element vertex 99999999999"), "announces 99999999999 rows of 'vertex'"),
        (BINARY.replace(b"element vertex 8", b"element vertex 99999999999"), "announces 99999999999 rows of 'vertex'"),
        (TEXT.replace(b"element vertex 8", b"element vertex -8"), "declares a negative size"),
        (TEXT.replace(b"float x", b"string x"), "has the line 'property string x' in its header"),
        (TEXT.replace(b"list uchar", b"list float"), "has the line 'property list float int vertex_indices'"),
        (TEXT.replace(b"format ascii 1.0\n", b""), "does not say its format"),
        (TEXT.replace(b"end_header", b"end"), "has a header without end_header"),
        (TEXT.replace(b"element vertex", b"element corner").replace(b"float x", b"float u"), "has no vertices"),
        (ply("ascii", ("vertex", XYZ[:2], VERTICES[:, :2].tolist())), "has no columns x, y, z"),
        (ply("ascii", ("vertex", XYZ, []), ("face", CORNERS, [])), "has no vertices"),
        (in_body(TEXT, b"3 2 3 7", b"3.5 2 3 7"), "it ends or is damaged in row"),
        (b"plyformat", "does not begin with 'ply'"),
    ],
)
def test_what_is_cut_or_damaged_is_refused(tmp_path, content, sentence):
    with pytest.raises(InputError, match=sentence):
        area_of(read(tmp_path / "a.ply", content))
