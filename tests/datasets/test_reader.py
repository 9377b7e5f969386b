"""Reading files: every format, the meaning of columns, sampled meshes, and one sentence for a damaged file."""

import struct
from pathlib import Path

import h5py
import numpy as np
import pytest
import trimesh

from bixt3d.datasets.files.cloud import with_features
from bixt3d.datasets.files.lzf import expand_lzf
from bixt3d.datasets.files.reader import SUFFIXES, Cloud, find_files, read_file
from bixt3d.datasets.files.writers import write_ply
from bixt3d.types import Features, InputError

SCANS = Path(__file__).parents[3] / "shared" / "data" / "scans"
XYZ = np.array([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0.5, 0.25, -3]])
NORMALS = np.array([[0.0, 0, 1], [1, 0, 0], [0, -1, 0], [0.6, 0.8, 0]])
BOTH = np.hstack([XYZ, NORMALS])
RGB = np.array([[255.0, 0, 0], [0, 128, 0], [1, 2, 3], [90, 90, 90]])
INTENSITY = np.array([[7.0], [8], [9], [1]])


def lines(table: np.ndarray, delimiter: str = " ") -> str:
    return "".join(delimiter.join(f"{value:g}" for value in row) + "\n" for row in table)


def short(value: object) -> str:
    return value[:40] if isinstance(value, str) else type(value).__name__


def read(path: Path, content: str | bytes) -> Cloud:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    (cloud,) = read_file(path)
    assert cloud.name == path.name
    return cloud


def check(cloud: Cloud, normals: bool) -> None:
    np.testing.assert_allclose(cloud.xyz, XYZ, rtol=1e-6)
    cloud = with_features(cloud, Features.parse("normal"))
    assert ("normal" in cloud.columns) == normals
    if normals:
        np.testing.assert_allclose(cloud.columns["normal"], NORMALS, atol=1e-6)
    assert not cloud.from_mesh


@pytest.mark.parametrize(
    ("name", "text", "normals"),
    [
        ("a.xyz", lines(XYZ), False),
        ("A.XYZ", lines(XYZ).replace("\n", "\r\n"), False),
        ("a.txt", lines(XYZ, "\t"), False),
        ("a.csv", lines(XYZ, ","), False),
        ("a.csv", lines(XYZ, ", "), False),
        ("a.csv", lines(XYZ, ";").replace(".", ","), False),
        ("a.csv", "\ufeffx,y,z\n" + lines(XYZ, ","), False),
        ("a.csv", lines(XYZ, ",").replace("\n", ",\n"), False),
        ("a.xyz", "# made by hand\n//X Y Z\n\n" + lines(XYZ) + "\n", False),
        ("a.pts", "4\n" + lines(np.hstack([XYZ, INTENSITY, RGB])), False),
        ("a.pts", lines(XYZ), False),
        ("a.xyz", lines(np.hstack([XYZ, INTENSITY])), False),
        ("a.xyz", lines(np.hstack([XYZ, RGB])), False),
        ("a.xyz", lines(np.hstack([XYZ, RGB / 255])), False),
        ("a.xyz", lines(BOTH), True),
        ("a.txt", lines(np.hstack([BOTH, INTENSITY]), ","), True),
        ("a.txt", lines(np.hstack([XYZ, RGB, NORMALS])), True),
        ("a.csv", ",z,x,y\n" + lines(np.hstack([INTENSITY, XYZ[:, [2, 0, 1]]]), ","), False),
        ("a.csv", "nx;ny;nz;x;y;z\n" + lines(np.hstack([NORMALS, XYZ]), ";"), True),
        ("a.csv", "x,y,z,normal_x,normal_y,normal_z\n" + lines(np.hstack([XYZ, 5 * NORMALS]), ","), True),
        ("a.csv", "x,y,z,nx,ny,nz\n" + lines(np.hstack([XYZ, 0 * NORMALS]), ","), False),
        ("a.csv", "east,north,height\n" + lines(XYZ, ","), False),
    ],
    ids=short,
)
def test_a_text_file_has_a_point_in_each_line(tmp_path, name, text, normals):
    check(read(tmp_path / name, text), normals)


def test_coordinates_far_from_the_origin_keep_their_digits(tmp_path):
    cloud = read(tmp_path / "a.xyz", "500000.01 5400000.02 1\n500000.03 5400000.04 1\n")
    np.testing.assert_allclose(cloud.xyz[1] - cloud.xyz[0], [0.02, 0.02, 0], atol=1e-9)


def test_one_normal_of_ten_may_be_missing(tmp_path):
    table = np.hstack([np.tile(XYZ, (5, 1)), np.tile(NORMALS, (5, 1))])
    table[7:9, 3:] = 0
    cloud = read(tmp_path / "a.txt", lines(table))
    np.testing.assert_allclose(cloud.columns["normal"], table[:, 3:], atol=1e-6)
    table[9, 3:] = 0
    cloud = read(tmp_path / "b.txt", lines(table))
    assert "normal" not in with_features(cloud, Features.parse("normal")).columns


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_arrays_of_numpy(tmp_path, kind):
    np.save(tmp_path / "a.npy", XYZ.astype(kind))
    np.save(tmp_path / "b.npy", BOTH.astype(kind))
    np.savez(tmp_path / "c.npz", points=XYZ.astype(kind), normals=2 * NORMALS.astype(kind), label=np.ones(4))
    np.savez_compressed(tmp_path / "d.npz", BOTH.astype(kind))
    for name, normals in (("a.npy", False), ("b.npy", True), ("c.npz", True), ("d.npz", True)):
        check(*read_file(tmp_path / name), normals)


@pytest.mark.parametrize("suffix", ["h5", "hdf5"])
def test_an_hdf5_file_contains_one_cloud_or_several(tmp_path, suffix):
    with h5py.File(tmp_path / f"one.{suffix}", "w") as file:
        file["data"] = XYZ
    with h5py.File(tmp_path / f"two.{suffix}", "w") as file:
        file["data"], file["normal"], file["label"] = np.stack([XYZ + 1, XYZ]), np.stack([XYZ, NORMALS]), np.ones(2)
    check(*read_file(tmp_path / f"one.{suffix}"), normals=False)
    first, second = read_file(tmp_path / f"two.{suffix}")
    assert [first.name, second.name] == [f"two.{suffix}[0]", f"two.{suffix}[1]"]
    np.testing.assert_allclose(first.xyz, XYZ + 1)
    assert "normal" not in with_features(first, Features.parse("normal")).columns  # its first normal is (0, 0, 0)
    np.testing.assert_allclose(second.columns["normal"], NORMALS)


def ply(table: np.ndarray, names: str, form: str, count: int = 4) -> bytes:
    head = f"ply\nformat {form} 1.0\nelement vertex {count}\n"
    head += "".join(f"property float {name}\n" for name in names.split()) + "end_header\n"
    return head.encode() + (lines(table).encode() if form == "ascii" else table.astype("<f4").tobytes())


@pytest.mark.parametrize("form", ["ascii", "binary_little_endian"])
def test_a_ply_without_faces_is_a_cloud(tmp_path, form):
    check(read(tmp_path / "a.ply", ply(XYZ, "x y z", form)), normals=False)
    check(read(tmp_path / "b.ply", ply(BOTH, "x y z nx ny nz", form)), normals=True)
    check(read(tmp_path / "c.ply", ply(0 * BOTH + np.hstack([XYZ, 0 * XYZ]), "x y z nx ny nz", form)), normals=False)


def pcd(data: str, body: bytes, fields: str = "x y z", count: int = 4) -> bytes:
    number = len(fields.split())
    return (
        f"# .PCD v0.7\nVERSION 0.7\nFIELDS {fields}\nSIZE{' 4' * number}\nTYPE{' F' * number}\nCOUNT{' 1' * number}\n"
        f"WIDTH {count}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {count}\nDATA {data}\n"
    ).encode() + body


def test_a_pcd_is_read_as_text_as_binary_and_compressed(tmp_path):
    fields = "x y z normal_x normal_y normal_z"
    check(read(tmp_path / "a.pcd", pcd("ascii", lines(XYZ).encode())), normals=False)
    check(read(tmp_path / "b.pcd", pcd("ascii", lines(BOTH).encode(), fields)), normals=True)
    check(read(tmp_path / "c.pcd", pcd("binary", BOTH.astype("<f4").tobytes(), fields)), normals=True)
    padded = np.hstack([XYZ, INTENSITY, INTENSITY])  # PCL calls padding _
    check(read(tmp_path / "d.pcd", pcd("binary", padded.astype("<f4").tobytes(), "x y z _ _")), normals=False)
    columns = BOTH.T.astype("<f4").tobytes()  # one field after the other
    packed = b"".join(bytes([len(part) - 1]) + part for part in (columns[:32], columns[32:64], columns[64:]))
    body = struct.pack("<II", len(packed), len(columns)) + packed
    check(read(tmp_path / "e.pcd", pcd("binary_compressed", body, fields)), normals=True)


def test_fields_of_a_pcd_with_many_numbers_are_kept(tmp_path):
    table = np.hstack([XYZ, np.arange(12.0).reshape(4, 3), INTENSITY])
    for data, body in (("ascii", lines(table).encode()), ("binary", table.astype("<f4").tobytes())):
        content = pcd(data, body, "x y z fpfh Intensity").replace(b"COUNT 1 1 1 1", b"COUNT 1 1 1 3")
        cloud = read(tmp_path / "a.pcd", content)
        assert np.array_equal(cloud.columns["fpfh"], table[:, 3:6])
        assert np.array_equal(cloud.columns["intensity"], INTENSITY)


def test_lists_of_a_ply_are_kept_and_numbers_on_the_vertices_of_a_mesh_noted(tmp_path):
    head = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
    text = head + "property list uchar float f\nend_header\n0 0 0 2 1 2\n1 0 0 2 3 4\n0 1 0 2 5 6\n"
    assert read(tmp_path / "a.ply", text).columns["f"].tolist() == [[1, 2], [3, 4], [5, 6]]
    text = head + "property float quality\nelement face 1\nproperty list uchar int vertex_indices\nend_header\n"
    cloud = read(tmp_path / "b.ply", text + "0 0 0 5\n1 0 0 6\n0 1 0 7\n3 0 1 2\n")
    assert cloud.notes == ("quality of its vertices not read",)


def test_an_unused_header_and_duplicate_columns_are_noted(tmp_path):
    assert read(tmp_path / "a.csv", "a,b,c\n" + lines(XYZ, ",")).notes == ("its header 'a,b,c' not used",)
    assert not read(tmp_path / "a.xyz", "# made by hand, in a long night\n" + lines(XYZ)).notes
    for second in ("intensity", "Intensity"):
        table = lines(np.hstack([XYZ, INTENSITY, INTENSITY + 1]), ",")
        cloud = read(tmp_path / "b.csv", f"x,y,z,Intensity,{second}\n{table}")
        assert len(cloud.columns) == 2
        with pytest.raises(InputError, match="which all mean intensity"):
            with_features(cloud, Features.parse("intensity"))
    with pytest.raises(InputError, match="has more than one column for x: X, x"):
        read(tmp_path / "c.csv", "X,y,z,x\n" + lines(np.hstack([XYZ, INTENSITY]), ","))


def test_arrays_that_may_both_be_positions_are_refused_unless_one_is_clearly_meant(tmp_path):
    np.savez(tmp_path / "a.npz", xyz=XYZ, data=np.hstack([XYZ, XYZ]))
    with pytest.raises(InputError, match="has 2 arrays that may be positions, data, xyz: keep one of them"):
        read_file(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", xyz=XYZ, data=np.ones((9, 5)))
    (cloud,) = read_file(tmp_path / "b.npz")
    assert np.array_equal(cloud.xyz, XYZ) and cloud.notes == ("data not read",)


def test_a_feature_with_an_array_of_its_own_is_not_guessed_from_columns(tmp_path):
    np.savez(tmp_path / "a.npz", data=BOTH, normals=-NORMALS)
    (cloud,) = read_file(tmp_path / "a.npz")
    assert np.array_equal(cloud.columns["normal"], -NORMALS) and "column4" in cloud.columns and not cloud.notes


def test_repetitions_of_lzf_are_undone():
    assert expand_lzf(b"\x02abc\x20\x02", 6) == b"abcabc"  # 3 bytes from 3 back
    assert expand_lzf(b"\x00a\x60\x00", 6) == b"aaaaaa"  # 5 bytes from 1 back: it repeats what it writes
    assert expand_lzf(b"\x00a\xe0\x05\x00", 15) == b"a" * 15  # 7 + 5 + 2 bytes: a long one
    with pytest.raises(ValueError, match="before the beginning"):
        expand_lzf(b"\x00a\x20\x05", 4)


def test_a_pcd_is_what_open3d_says(tmp_path):
    open3d = pytest.importorskip("open3d", reason="needs open3d to compare with", exc_type=ImportError)
    rng = np.random.default_rng(0)
    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(rng.integers(0, 9, (2000, 3)).astype(float)))
    cloud.normals = open3d.utility.Vector3dVector(np.tile(NORMALS, (500, 1)))
    for kind in ({"write_ascii": True}, {}, {"compressed": True}):
        assert open3d.io.write_point_cloud(str(tmp_path / "a.pcd"), cloud, **kind)
        (found,) = read_file(tmp_path / "a.pcd")
        np.testing.assert_allclose(found.xyz, np.asarray(cloud.points), rtol=1e-6)
        np.testing.assert_allclose(found.columns["normal"], np.asarray(cloud.normals), atol=1e-6)


@pytest.mark.parametrize("suffix", ["ply", "obj", "off", "stl", "glb", "gltf"])
def test_a_mesh_becomes_points_spread_over_its_faces(tmp_path, suffix):
    path = tmp_path / f"box.{suffix}"
    box = trimesh.creation.box((2.0, 2.0, 6.0))
    if suffix == "gltf":
        for name, content in trimesh.Scene(box).export(file_type="gltf").items():
            (tmp_path / name).write_bytes(content)
        path = tmp_path / "model.gltf"
    else:
        box.export(path)
    (cloud,) = read_file(path, num_points=1000)
    assert cloud.from_mesh
    assert cloud.xyz.shape == (1000, 3)
    side = np.abs(cloud.columns["normal"]).argmax(1)
    assert np.allclose(np.abs(cloud.columns["normal"][np.arange(1000), side]), 1)
    outward = cloud.xyz[np.arange(1000), side] * cloud.columns["normal"][np.arange(1000), side]
    np.testing.assert_allclose(outward, np.array([1, 1, 3])[side], rtol=1e-5)  # on the face that the normal says
    assert (np.abs(cloud.xyz) <= np.array([1, 1, 3]) + 1e-5).all()
    assert abs((side == 2).sum() - 1000 * 8 / 56) <= 4  # the ends have 8 of the area's 56
    again = read_file(path, num_points=1000)[0]
    assert np.array_equal(again.xyz, cloud.xyz)


def test_a_scene_is_flattened_with_its_transforms(tmp_path):
    scene, mirror = trimesh.Scene(), np.diag([-1.0, 1, 1, 1])
    mirror[0, 3] = 10
    scene.add_geometry(trimesh.creation.icosphere(2))
    scene.add_geometry(trimesh.creation.icosphere(2), transform=mirror)
    scene.export(tmp_path / "two.glb")
    (cloud,) = read_file(tmp_path / "two.glb", num_points=500)
    near = cloud.xyz[:, 0] < 5
    assert 230 < near.sum() < 270
    out = cloud.xyz - np.where(near[:, None], 0, [10.0, 0, 0])
    assert np.abs(np.linalg.norm(out, axis=1) - 1).max() < 0.05
    assert ((out * cloud.columns["normal"]).sum(1) > 0.9).all()  # outwards also in the mirror


def test_faces_without_area_and_of_four_corners_do_no_harm(tmp_path):
    text = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf 1 1 2\nf 1 2 3 4\nf 1 2 3 4\nmtllib lost.mtl\n"
    cloud = read(tmp_path / "a.obj", text)
    assert np.allclose(cloud.columns["normal"], [0, 0, 1])
    assert np.allclose(cloud.xyz.mean(0), [0.5, 0.5, 0], atol=0.02)


def test_a_mesh_may_be_tiny(tmp_path):
    cloud = read(tmp_path / "a.obj", "v 0 0 0\nv 1e-9 0 0\nv 0 1e-9 0\nf 1 2 3\n")
    assert np.allclose(cloud.columns["normal"], [0, 0, 1])


def written_with_nan(path: Path, xyz: np.ndarray, rgb: np.ndarray) -> None:
    """Write points with colors, which are NaN as well where the format has them as floats."""
    packed = (rgb.astype(np.uint32) << [16, 8, 0]).sum(1).astype("<u4").view("<f4")
    records = np.column_stack([xyz.astype("<f4"), packed])
    if path.suffix == ".pcd":
        header = f"FIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F F\nWIDTH 4\nHEIGHT {len(xyz) // 4}\nDATA binary\n"
        path.write_bytes(header.encode() + records.tobytes())
    elif path.suffix == ".ply":
        write_ply(path, xyz, {"rgb": rgb})
    elif path.suffix == ".npz":
        np.savez(path, xyz=xyz, rgb=rgb)
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["xyz"], file["rgb"] = xyz, rgb
    else:
        table = np.hstack([xyz, np.where(np.isfinite(xyz[:, :1]), rgb, np.nan)])
        np.save(path, table) if path.suffix == ".npy" else np.savetxt(path, table, fmt="%.17g")


@pytest.mark.parametrize("suffix", [".ply", ".pcd", ".npy", ".npz", ".h5", ".xyz"])
def test_points_without_a_position_are_dropped_and_the_cloud_knows_which(tmp_path, suffix):
    """As depth cameras write them: NaN where nothing was measured."""
    xyz = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32).astype(np.float64)
    rgb = np.random.default_rng(1).integers(0, 256, (20, 3)).astype(np.uint8)
    missing = [0, 7, 8, 19]
    xyz[missing] = [[np.nan] * 3, [1, np.inf, 2], [-np.inf] * 3, [0, 0, 2e18]]
    written_with_nan(tmp_path / f"a{suffix}", xyz, rgb)
    (cloud,) = read_file(tmp_path / f"a{suffix}")
    kept = np.setdiff1d(np.arange(20), missing)
    assert np.array_equal(cloud.kept, kept) and (cloud.num_original, len(cloud)) == (20, 16)
    assert np.array_equal(cloud.xyz, xyz[kept])
    assert np.array_equal(cloud.columns["rgb"], rgb[kept])
    assert "4 of its 20 points dropped: NaN, infinite or beyond 1e+18" in cloud.notes
    back = cloud.for_original(cloud.columns["rgb"].astype(int), -1)
    assert np.array_equal(back[kept], rgb[kept]) and (back[missing] == -1).all()


def test_points_of_a_mesh_are_not_dropped_but_refused(tmp_path):
    with pytest.raises(InputError, match="has 3 corners, 1 of which contain NaN"):
        read(tmp_path / "a.obj", TRIANGLE.replace("1 0 0", "nan 0 0") + "f 1 2 3\n")


GARBAGE = bytes(range(256)) * 8
TRIANGLE = "v 0 0 0\nv 1 0 0\nv 0 1 0\n"


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("content", "sentence"), [(b"", "is empty"), (GARBAGE, "")], ids=["empty", "garbage"])
def test_an_empty_file_and_binary_garbage_are_refused_in_every_format(tmp_path, suffix, content, sentence):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"a{suffix} .*{sentence}") as caught:
        read_file(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.ply", GARBAGE, "a.ply is not a PLY file: it does not begin with 'ply'"),
        ("a.xyz", "nan 0 0\n0 inf 0\n1e19 0 0\n", "has 3 points, all of them NaN, infinite"),
        ("a.xyz", "nan 0 0\n0 inf 0\n1 2 3\n", "has 1 point: a cloud takes many"),
        ("a.xyz", "nan 0 0\n1 2 3\n1 2 3\n", "has all its 2 points in one place"),
        ("a.ply", ply(XYZ * np.nan, "x y z", "ascii"), "has 4 points, all of them NaN, infinite"),
        ("a.pcd", pcd("binary", (XYZ * np.nan).astype("<f4").tobytes()), "has 4 points, all of them NaN, infinite"),
        ("a.xyz", "1 2 3\n", "has 1 point: a cloud takes many"),
        ("a.ply", ply(XYZ[:1], "x y z", "ascii", 1), "has 1 point: a cloud takes many"),
        ("a.xyz", "1 2 3\n1 2 3\n", "has all its 2 points in one place"),
        ("a.xyz", "1 2\n3 4\n", "has 2 columns, but a point takes three"),
        ("a.xyz", "5\n6\n", "has 1 column, but a point takes three"),
        ("a.csv", "x,y,z\n1,2,3\n1,2\n", "has 2 columns in line 3, but 3 in line 2"),
        ("a.csv", "x,y,z\n1,2,3\n1,two,3\n", "has 'two' in line 3, not a number"),
        ("a.csv", 'x,y,z\n1,2,3\n1,"4 5",3\n', "has '4 5' in line 3, not a number"),
        ("a.txt", "Dear reader,\nthere are no points here.\n", "contains no points"),
        ("a.csv", "x,y,z\n", "contains no points"),
        ("a.pts", "3\n1 2 3\n4 5 6\n", "announces 3 points in line 1, but has 2 lines"),
        ("a.stl", "solid a\nendsolid a\n", "contains no triangles"),
        ("a.obj", TRIANGLE + "f 1 1 2\n", "has only faces without area"),
        ("a.obj", TRIANGLE + "f 1 2 9\n", r"has the vertex 9 in line 4 \('f 1 2 9'\), but there are only 3 vertices"),
        ("a.gltf", '{"asset": {"version": "2.0"}}', "contains no mesh and no points"),
        ("a.ply", ply(XYZ, "x y z", "ascii", 9), "announces 9 rows of 'vertex', but it ends or is damaged in row 5"),
        (
            "a.ply",
            ply(XYZ, "x y z", "binary_little_endian", 9),
            "announces 9 rows of 'vertex', but it ends .* in row 5",
        ),
        ("a.ply", ply(XYZ, "x y w", "ascii"), "has no columns x, y, z"),
        ("a.pcd", pcd("binary", XYZ.astype("<f4").tobytes(), count=9), "announces 9 points, but it ends .* 4"),
        ("a.pcd", pcd("ascii", lines(XYZ).encode(), "x y w"), "has no columns x, y, z"),
        ("a.pcd", pcd("ascii", b"a b c\n" * 4), "is not a PCD file, or it is damaged"),
        ("a.docx", GARBAGE, r"has an unsupported format: supported are .ply, .obj, .*, .csv"),
        ("a", GARBAGE, "has an unsupported format"),
    ],
    ids=short,
)
def test_what_is_broken_gets_one_sentence(tmp_path, name, content, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        read(tmp_path / name, content)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (XYZ[:, :2], "has 2 columns"),
        (XYZ[0], r"has points of shape \(3,\)"),
        (XYZ[:0], r"has 0 points \(an array of shape \(0, 3\)\): a cloud takes many"),
        (XYZ > 0, "contains no numbers, but bool"),
        (XYZ.astype(object), "contains Python objects, which are not loaded"),
        (np.full((4, 3), np.nan), "has 4 points, all of them NaN, infinite"),
    ],
    ids=["columns", "axes", "empty", "bool", "pickle", "nan"],
)
def test_what_is_no_cloud_in_an_array_gets_one_sentence(tmp_path, array, sentence):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(InputError, match=sentence):
        read_file(tmp_path / "a.npy")


def test_arrays_of_other_names_or_sizes_get_one_sentence(tmp_path):
    np.savez(tmp_path / "a.npz", weights=XYZ[:, 0])
    with pytest.raises(InputError, match=r"has no array named data, xyz, points, pos \(it has weights\)"):
        read_file(tmp_path / "a.npz")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["weights"] = XYZ[:, 0]
    with pytest.raises(InputError, match=r"has no array named .* \(it has weights\)"):
        read_file(tmp_path / "a.h5")
    np.savez(tmp_path / "b.npz", xyz=XYZ, normals=NORMALS[:2])
    with pytest.raises(InputError, match=r"has points of shape \(4, 3\), but normals of shape \(2, 3\)"):
        read_file(tmp_path / "b.npz")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=f"there is no file {tmp_path}/a.ply"):
        read_file(tmp_path / "a.ply")
    with pytest.raises(InputError, match="there is no file"):
        read_file(tmp_path)  # a folder is not read as a file


def test_folders_are_searched_for_known_files(tmp_path):
    for name in ("b/a.ply", "b/.hidden/a.ply", "b/c/a.PLY", "b/notes.md", "a.xyz", ".b.xyz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [tmp_path / "a.xyz", tmp_path / "b/a.ply", tmp_path / "b/c/a.PLY"]
    assert find_files([tmp_path]) == found
    assert find_files([tmp_path / "b", tmp_path / "a.xyz", tmp_path]) == [*found[1:], found[0]]
    assert find_files(["any.thing"]) == [Path("any.thing")]  # reading says what is wrong with it


def test_a_folder_without_a_known_file_is_refused(tmp_path):
    (tmp_path / "notes.md").touch()
    with pytest.raises(InputError, match=r"the folder .* contains no file of a supported format: .ply, "):
        find_files([tmp_path])


@pytest.mark.skipif(not SCANS.is_dir(), reason=f"{SCANS} is not there")
@pytest.mark.parametrize(
    ("name", "points", "normals", "from_mesh"),
    [
        ("stanford-bunny.obj", 10_000, True, True),
        ("spot.obj", 10_000, True, True),
        ("beetle.off", 10_000, True, True),
        ("igea.ply", 10_000, True, True),  # its faces are strips of triangles
        ("fragment.pcd", 113_662, True, False),
    ],
)
def test_real_scans_are_read(name, points, normals, from_mesh):
    (cloud,) = read_file(SCANS / name)
    assert (len(cloud.xyz), "normal" in cloud.columns, cloud.from_mesh) == (points, normals, from_mesh)
    if normals:
        assert np.allclose(np.linalg.norm(cloud.columns["normal"], axis=1), 1)
