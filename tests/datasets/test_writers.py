"""Labelled points as PLY, CSV, npz and npy, read by independent libraries."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh

from bixt3d.datasets.files.reader import read_file
from bixt3d.datasets.files.writers import LabelledPoints, as_bytes, write_ply
from bixt3d.datasets.files.writers import write_points as write_with_notes

XYZ = np.array([[500_000.125, 5_400_000.3, 0.1], [1 / 3, -2.0, 1e-9]])
RGB = np.array([[1, 2, 3], [255, 0, 7]], np.uint8)
SHOWN = np.array([[1.0, 0, 0.5], [0, 0.2, 1]])


def points(**columns: np.ndarray) -> LabelledPoints:
    label, confidence = np.array([3, 1]), np.array([0.25, 1.0])
    return LabelledPoints(XYZ, label, confidence, {1: "Chair/seat", 3: "Chair/leg"}, columns)


def write_points(*given: object) -> list[Path]:
    return write_with_notes(*given)[0]


def properties(path: Path) -> dict[str, np.ndarray]:
    """Return the properties of the points of a PLY file, by trimesh."""
    data = trimesh.load(path).metadata["_ply_raw"]["vertex"]["data"]
    return {name: np.ravel(data[name]) for name in data.dtype.names}


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("normal", np.eye(3, dtype=np.float32)[:2], {"nx": "f4", "ny": "f4", "nz": "f4"}),
        ("rgb", RGB, {"red": "u1", "green": "u1", "blue": "u1"}),
        ("rgb", RGB.astype(np.float64), {"red": "u1", "green": "u1", "blue": "u1"}),
        ("rgb", RGB.astype(np.uint16) * 257, {"red": "u2", "green": "u2", "blue": "u2"}),
        ("rgb", RGB / 255, {"red": "f8", "green": "f8", "blue": "f8"}),
        ("intensity", np.array([[0.1], [7]]), {"intensity": "f8"}),
        ("return number", np.array([[1], [2]], ">u2"), {"return_number": "u2"}),
        ("id", np.array([[5], [2**31]]), {"id": "f8"}),
        ("id", np.array([[-5], [2**31 - 1]]), {"id": "i4"}),
        ("flag", np.array([[True], [False]]), {"flag": "u1"}),
        ("half", np.array([[0.5], [2]], np.float16), {"half": "f4"}),
        ("fpfh", np.array([[1.5, 2], [3, 4]], np.float32), {"fpfh_0": "f4", "fpfh_1": "f4"}),
        ("x", np.array([[1.0], [2]]), {"x_": "f8"}),
        ("label", np.array([[9], [8]], np.uint8), {"original_label": "u1"}),
    ],
    ids=str,
)
def test_a_ply_holds_every_feature_as_it_was_beside_labels_and_confidences(tmp_path, name, values, expected):
    path = write_points(tmp_path / "a.ply", points(**{name: values}), SHOWN)[0]
    found = properties(path)
    assert np.array_equal(np.stack([found[axis] for axis in "xyz"], 1), XYZ)  # to the bit
    assert (found["label"].dtype, found["label"].tolist()) == (np.int32, [3, 1])
    assert (found["confidence"].dtype, found["confidence"].tolist()) == (np.float32, [0.25, 1.0])
    assert {name: found[name].dtype.str[1:] for name in expected} == expected
    assert np.array_equal(np.stack([found[name] for name in expected], 1), values)


def test_colors_of_their_own_stay_and_those_of_the_labels_lie_beside(tmp_path):
    own, beside = write_points(tmp_path / "a.ply", points(rgb=RGB), SHOWN)
    assert beside == tmp_path / "a_colors.ply"
    assert np.array_equal(trimesh.load(own).colors[:, :3], RGB)
    assert np.array_equal(trimesh.load(beside).colors[:, :3], as_bytes(SHOWN))
    assert np.array_equal(trimesh.load(beside).vertices, XYZ)
    (alone,) = write_points(tmp_path / "b.ply", points(), SHOWN)
    assert np.array_equal(trimesh.load(alone).colors[:, :3], [[255, 0, 128], [0, 51, 255]])
    assert b"comment red green blue are the colors of the labels\n" in alone.read_bytes()
    (packed,) = write_points(tmp_path / "c.ply", points(rgb=np.array([[0.5], [1]])), SHOWN)
    assert properties(packed)["original_rgb"].tolist() == [0.5, 1]


def test_a_prediction_of_a_prediction_keeps_the_labels_of_both_before(tmp_path):
    before = {"original_label": np.array([[3], [4]], np.uint8), "label": np.array([[5], [6]], np.uint8)}
    for name in ("a.ply", "a.las"):
        path = write_points(tmp_path / name, points(**before), SHOWN)[0]
        (found,) = read_file(path)
        read = {key: found.columns[key].ravel().tolist() for key in ("original_label", "original_label_2", "label")}
        assert read == {"original_label": [3, 4], "original_label_2": [5, 6], "label": [3, 1]}


def test_comments_of_a_ply_name_the_labels_and_cannot_end_its_header(tmp_path):
    (path,) = write_points(tmp_path / "a.ply", points(), SHOWN, ["made of a\nend_header\x1b[31m.xyz, \u00e9"])
    head = path.read_bytes().partition(b"end_header\n")[0].decode("ascii").splitlines()
    assert "comment label 1 Chair/seat" in head and "comment label 3 Chair/leg" in head
    assert "comment made of a?end_header?[31m.xyz, ?" in head


def test_open3d_reads_our_ply_files(tmp_path):
    pytest.importorskip("open3d", reason="needs open3d", exc_type=ImportError)
    path = write_points(tmp_path / "a.ply", points(rgb=RGB, normal=np.eye(3)[:2]), SHOWN)[0]
    code = f"import open3d, numpy as n; c = open3d.io.read_point_cloud({str(path)!r})\n"
    code += "print(*(n.asarray(x).tolist() for x in (c.points, c.colors, c.normals)), sep=';')\n"
    code += f"t = open3d.t.io.read_point_cloud({str(path)!r}).point\n"
    code += "print(t['label'].numpy().ravel().tolist(), t['confidence'].numpy().ravel().tolist())"
    read = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = read.stdout.splitlines()[-2:]
    assert first == f"{XYZ.tolist()};{(RGB / 255).tolist()};{np.eye(3)[:2].tolist()}"
    assert second == "[3, 1] [0.25, 1.0]"


def test_plyfile_reads_our_ply_files(tmp_path):
    plyfile = pytest.importorskip("plyfile", reason="needs plyfile")
    path = write_points(tmp_path / "a.ply", points(rgb=RGB), SHOWN, ["one note"])[0]
    read = plyfile.PlyData.read(path)
    vertex = read["vertex"]
    assert np.array_equal(np.stack([vertex[axis] for axis in "xyz"], 1), XYZ)
    assert np.array_equal(np.stack([vertex[name] for name in ("red", "green", "blue")], 1), RGB)
    assert vertex["label"].tolist() == [3, 1]
    assert read.comments == ["one note", "label 1 Chair/seat", "label 3 Chair/leg"]


def test_a_csv_gives_every_number_back_to_the_bit(tmp_path):
    assert write_points(tmp_path / "a.csv", points(), SHOWN) == [tmp_path / "a.csv"]
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [[float(row[axis]) for axis in "xyz"] for row in rows] == XYZ.tolist()
    assert [(row["label"], row["name"], row["confidence"]) for row in rows] == [
        ("3", "Chair/leg", "0.25"),
        ("1", "Chair/seat", "1"),
    ]


@pytest.mark.filterwarnings("ignore:The 'float_precision' argument is deprecated")  # pandas 3.1
def test_pandas_reads_our_csv_files(tmp_path):
    pandas = pytest.importorskip("pandas", reason="needs pandas")
    write_points(tmp_path / "a.csv", points(), SHOWN)
    read = pandas.read_csv(tmp_path / "a.csv", float_precision="round_trip")
    assert np.array_equal(read[["x", "y", "z"]].to_numpy(), XYZ)
    assert list(read["name"]) == ["Chair/leg", "Chair/seat"]


def test_npz_and_npy_hold_labels_as_numbers(tmp_path):
    write_points(tmp_path / "a.npz", points(), SHOWN)
    write_points(tmp_path / "a.npy", points(), SHOWN)
    with np.load(tmp_path / "a.npz") as file:
        assert np.array_equal(file["xyz"], XYZ) and file["label"].tolist() == [3, 1]
        assert file["name"].tolist() == ["Chair/leg", "Chair/seat"] and file["confidence"].tolist() == [0.25, 1.0]
    assert np.load(tmp_path / "a.npy").tolist() == [3, 1]


def test_points_with_colors_alone_are_written_for_a_viewer(tmp_path):
    write_ply(tmp_path / "a.ply", XYZ, {"rgb": as_bytes(SHOWN)})
    cloud = trimesh.load(tmp_path / "a.ply")
    assert np.array_equal(cloud.vertices, XYZ)
    assert cloud.colors[:, :3].tolist() == [[255, 0, 128], [0, 51, 255]]
