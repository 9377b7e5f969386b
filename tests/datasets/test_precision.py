"""Integers beyond 2^53 and float32 far from the origin: kept where they can be, and said where they cannot."""

from pathlib import Path

import h5py
import numpy as np
import pandas
import pytest
import torch

from bixt3d.datasets.clouds.modelnet import ModelNetHDF5
from bixt3d.datasets.clouds.part_hdf5 import PartHDF5
from bixt3d.datasets.files.arrays import as_clouds
from bixt3d.datasets.files.cloud import Cloud
from bixt3d.datasets.files.reader import read_file
from bixt3d.datasets.files.writers import LabelledPoints, write_points

XYZ = np.random.default_rng(0).uniform(1, 9, (40, 3)).round(3)
TIME = 1_690_000_000_123_456_789 + np.arange(40)
"""Nanoseconds since 1970: float64 has steps of 256 there."""
IDS = 2**63 + np.arange(40, dtype=np.uint64)
ROUNDED = "t has integers beyond 2^53, rounded"
LINES = [f"{x} {y} {z} {t}" for (x, y, z), t in zip(XYZ, TIME, strict=True)]
PCD = "VERSION 0.7\nFIELDS x y z {0}\nSIZE 8 8 8 8\nTYPE F F F U\nWIDTH 40\nHEIGHT 1\nPOINTS 40\nDATA {1}\n"


def read(path: Path, content: str | bytes) -> Cloud:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    (cloud,) = read_file(path)
    return cloud


def records(values: np.ndarray) -> np.ndarray:
    table = np.zeros(40, [*((axis, "f8") for axis in "xyz"), ("t", values.dtype)])
    table["x"], table["y"], table["z"], table["t"] = *XYZ.T, values
    return table


@pytest.mark.parametrize("values", [TIME, -TIME, IDS], ids=["int64", "below 0", "uint64"])
def test_integers_of_64_bits_are_kept_where_a_file_has_them_as_numbers(tmp_path, values):
    np.save(tmp_path / "a.npy", records(values))
    np.savez(tmp_path / "b.npz", xyz=XYZ, t=values)
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["xyz"], file["t"] = XYZ, values
    for name in ("a.npy", "b.npz", "c.h5"):
        (cloud,) = read_file(tmp_path / name)
        assert np.array_equal(cloud.columns["t"][:, 0], values) and cloud.notes == ()
    whole = np.column_stack([*(100 * XYZ.T).round().astype(values.dtype), values])
    np.save(tmp_path / "d.npy", whole)
    for cloud in (read_file(tmp_path / "d.npy")[0], as_clouds(pandas.DataFrame(whole))[1][0]):
        assert np.array_equal(cloud.columns["column4"][:, 0], values) and cloud.notes == ()


def test_a_pcd_keeps_integers_of_64_bits_binary_and_as_text(tmp_path):
    binary = PCD.format("t", "binary").encode() + records(TIME.astype(np.uint64)).tobytes()
    for content in (PCD.format("t", "ascii") + "\n".join(LINES), binary):
        cloud = read(tmp_path / "a.pcd", content)
        assert np.array_equal(cloud.columns["t"][:, 0], TIME) and cloud.notes == ()
    head = PCD.format("t n", "ascii").replace("8 8 8 8", "8 8 8 8 4").replace("F F F U", "F F F U U")
    cloud = read(tmp_path / "b.pcd", head + "\n".join(f"{line} 2.0" for line in LINES))
    assert np.array_equal(cloud.columns["t"][:, 0], TIME)


@pytest.mark.parametrize("head", ["x,y,z,t\n", ""])
@pytest.mark.parametrize("last", ["", "1,2,3,\n"], ids=["plain", "with a gap"])
def test_integers_that_a_text_rounds_are_said(tmp_path, head, last):
    name = "t" if head else "column4"
    cloud = read(tmp_path / "a.csv", head + "".join(line.replace(" ", ",") + "\n" for line in LINES) + last)
    assert f"{name} has integers beyond 2^53, rounded" in cloud.notes
    small = read(tmp_path / "b.csv", head + "".join(f"{x},{y},{z},{i}.5\n" for i, (x, y, z) in enumerate(XYZ)) + last)
    assert not any("2^53" in note for note in small.notes)


@pytest.mark.parametrize(("kind", "values"), [("uint64", TIME), ("int64", -TIME), ("uint64", IDS)])
def test_integers_that_a_ply_in_text_rounds_are_said(tmp_path, kind, values):
    head = "ply\nformat ascii 1.0\nelement vertex 40\nproperty double x\nproperty double y\nproperty double z\n"
    rows = "".join(f"{x} {y} {z} {t}\n" for (x, y, z), t in zip(XYZ, values, strict=True))
    cloud = read(tmp_path / "a.ply", f"{head}property {kind} t\nend_header\n{rows}")
    assert cloud.notes == (ROUNDED,)
    assert np.array_equal(cloud.columns["t"][:, 0], values.astype(float).astype(kind))


def test_the_largest_integers_of_a_ply_in_text_do_not_become_negative(tmp_path):
    head = "ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\nproperty float z\n"
    for kind in ("int64", "uint64"):
        most = np.iinfo(kind).max
        cloud = read(tmp_path / "a.ply", f"{head}property {kind} t\nend_header\n0 0 0 {most}\n1 1 1 0\n")
        assert cloud.columns["t"][:, 0].tolist() == [float(most), 0] and ROUNDED in cloud.notes


def test_integers_among_the_numbers_of_a_data_frame_without_names_are_said(tmp_path):
    frame = pandas.DataFrame(dict(enumerate([*XYZ.T, TIME])))
    assert as_clouds(frame)[1][0].notes == ("column4 has integers beyond 2^53, rounded",)
    frame = pandas.DataFrame(dict(enumerate([*XYZ.T, TIME % 2**53])))
    assert as_clouds(frame)[1][0].notes == ()


@pytest.mark.parametrize("values", [TIME, -TIME, IDS], ids=["int64", "below 0", "uint64"])
def test_integers_of_64_bits_are_said_where_a_ply_is_written_and_kept_by_las(tmp_path, values):
    labels = np.zeros(40, int), np.ones(40), {0: "a"}
    points = LabelledPoints(XYZ, *labels, {"t": values[:, None], "small": np.arange(40)[:, None]})
    _, notes = write_points(tmp_path / "a.ply", points, XYZ)
    assert notes == (f"{ROUNDED}: PLY has no integers of 64 bits",)
    pytest.importorskip("laspy", reason="needs laspy and lazrs: pip install 'bixt3d[lidar]'")
    _, notes = write_points(tmp_path / "a.las", points, XYZ)
    assert not any("2^53" in note for note in notes)
    assert np.array_equal(read_file(tmp_path / "a.las")[0].columns["t"][:, 0], values)


MAP = (XYZ + [500_000, 5_400_000, 0]).astype(np.float32)
COARSE = "coordinates are float32 and far from the origin: steps of 0.5"


def ply_of(xyz: np.ndarray, kind: str) -> bytes:
    lines = ["ply", "format binary_little_endian 1.0", "element vertex 40"]
    lines += [*(f"property {kind} {axis}" for axis in "xyz"), "end_header", ""]
    return "\n".join(lines).encode() + xyz.tobytes()


def write_all(folder: Path, xyz: np.ndarray, colors: np.ndarray) -> None:
    table = np.zeros(40, [(axis, xyz.dtype) for axis in "xyz"])
    table["x"], table["y"], table["z"] = xyz.T
    np.save(folder / "a.npy", xyz)
    np.save(folder / "b.npy", xyz.astype(xyz.dtype.newbyteorder(">")))
    np.save(folder / "c.npy", table)
    np.save(folder / "d.npy", np.hstack([xyz, colors.astype(xyz.dtype)]))
    np.savez(folder / "e.npz", x=xyz[:, 0], y=xyz[:, 1], z=xyz[:, 2], rgb=colors)
    with h5py.File(folder / "f.h5", "w") as file:
        file["xyz"], file["rgb"] = xyz, colors
    size = xyz.dtype.itemsize
    head = f"VERSION 0.7\nFIELDS x y z\nSIZE{f' {size}' * 3}\nTYPE F F F\nWIDTH 40\nHEIGHT 1\nPOINTS 40\nDATA binary\n"
    (folder / "g.pcd").write_bytes(head.encode() + xyz.tobytes())
    (folder / "h.ply").write_bytes(ply_of(xyz, "float" if size == 4 else "double"))


def test_float32_far_from_the_origin_is_said_in_every_format(tmp_path):
    write_all(tmp_path, MAP, np.zeros((40, 3)))
    files = sorted(tmp_path.iterdir())
    assert len(files) == 8
    for path in files:
        (cloud,) = read_file(path)
        assert COARSE in cloud.notes and np.array_equal(cloud.xyz, MAP), path.name
    facet = np.zeros(12, [("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attributes", "<u2")])
    facet["corners"] = MAP[:36].reshape(12, 3, 3)
    (tmp_path / "i.stl").write_bytes(bytes(80) + np.uint32(12).tobytes() + facet.tobytes())
    assert COARSE in read_file(tmp_path / "i.stl")[0].notes
    missing = MAP.copy()
    missing[3], missing[5, 1] = np.nan, 1e30
    np.save(tmp_path / "a.npy", missing)
    assert COARSE in read_file(tmp_path / "a.npy")[0].notes


@pytest.mark.parametrize("xyz", [MAP.astype(float), XYZ.astype("f4"), (XYZ + 500).astype("f4")], ids=str)
def test_float64_and_float32_near_the_origin_have_no_such_note(tmp_path, xyz):
    write_all(tmp_path, xyz, np.zeros((40, 3)))
    notes = [note for path in sorted(tmp_path.iterdir()) for note in read_file(path)[0].notes]
    assert not any("far from the origin" in note for note in notes)


def test_training_sets_in_float32_far_from_the_origin_say_so(tmp_path):
    (tmp_path / "shape_names.txt").write_text("bed\nchair\n")
    for split, offset in (("train", 0), ("test", [500_000, 5_400_000, 0])):
        (tmp_path / f"{split}_files.txt").write_text(f"{split}.h5\n")
        with h5py.File(tmp_path / f"{split}.h5", "w") as file:
            file["data"], file["label"] = np.stack([XYZ + offset] * 2).astype("f4"), np.array([0, 1])
            file["pid"] = np.zeros((2, 40), int)
    train, test = ModelNetHDF5(str(tmp_path), num_points=40).load()
    assert (train.notes, test.notes) == ((), (f"test.h5: {COARSE}",))
    (tmp_path / "seg_classes.json").write_text('{"bed": [0], "chair": [1]}')
    with h5py.File(tmp_path / "test.h5", "a") as file:
        file["pid"][1] = 1
    with h5py.File(tmp_path / "train.h5", "a") as file:
        file["pid"][1] = 1
    train, test = PartHDF5(str(tmp_path), num_points=40).load()
    assert (train.notes, test.notes) == ((), (f"test.h5: {COARSE}",))


def test_float32_far_from_the_origin_is_said_of_arrays_tensors_and_pyg():
    batch = np.repeat([0, 1], 20)
    for given, more in ((MAP, {}), (torch.tensor(MAP), {}), (MAP[None], {}), (MAP, {"batch": batch})):
        assert all(cloud.notes == (COARSE,) for cloud in as_clouds(given, **more)[1])
    for given in (MAP.astype(float), MAP - MAP.min(0), XYZ.astype(np.float32)):
        assert as_clouds(given)[1][0].notes == ()
    data = pytest.importorskip("torch_geometric.data", reason="needs torch-geometric", exc_type=ImportError)
    assert as_clouds(data.Data(pos=torch.tensor(MAP)))[1][0].notes == (COARSE,)
