"""Arrays in .npy, .npz and HDF5 as people write them: axes in any order, records, other names, groups."""

import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest

from bixt3d.datasets.files.array_layout import find_layout, looks_organized
from bixt3d.datasets.files.cloud import Cloud
from bixt3d.datasets.files.reader import read_file
from bixt3d.types import InputError

RNG = np.random.default_rng(0)
XYZ = RNG.normal(size=(100, 3))
RGB = RNG.integers(0, 256, (100, 3)).astype(np.uint8)
SEVERAL = RNG.normal(size=(5, 80, 3))


def read(path: Path, **arrays: np.ndarray) -> list[Cloud]:
    if path.suffix == ".npy":
        np.save(path, arrays["data"])
    elif path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array
    return read_file(path)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
@pytest.mark.parametrize(
    ("array", "expected", "note"),
    [
        (XYZ, [XYZ], ""),
        (XYZ[:3], [XYZ[:3]], "(3, 3) taken as points in rows"),
        (XYZ.T, [XYZ], "(3, 100) taken as 3 channels of 100 points"),
        (XYZ[:5].T, [XYZ[:5]], "(3, 5) taken as 3 channels of 5 points"),
        (np.hstack([XYZ, RGB]).T, [XYZ], "(6, 100) taken as 6 channels of 100 points"),
        (SEVERAL, SEVERAL, ""),
        (np.moveaxis(SEVERAL, 2, 1), SEVERAL, "(5, 3, 80) taken as 5 clouds, each of 3 channels of 80 points"),
        (SEVERAL[:, :3], SEVERAL[:, :3], "(5, 3, 3) taken as points in rows"),
        (XYZ[None], [XYZ], ""),
        (XYZ[:, None], [XYZ], ""),
        (XYZ[..., None], [XYZ], ""),
        (np.concatenate([SEVERAL, SEVERAL], 2), SEVERAL, ""),
        (np.asfortranarray(XYZ), [XYZ], ""),
        (XYZ.astype(">f8"), [XYZ], ""),
        (XYZ[::-1], [XYZ[::-1]], ""),
    ],
    ids=lambda value: str(value.shape) if hasattr(value, "shape") else None,
)
def test_the_axes_of_an_array_are_understood_and_what_was_guessed_is_said(tmp_path, suffix, array, expected, note):
    clouds = read(tmp_path / f"a{suffix}", data=array)
    assert len(clouds) == len(expected)
    for cloud, xyz in zip(clouds, expected, strict=True):
        assert np.array_equal(cloud.xyz, xyz)
        assert [one for one in cloud.notes if "column" not in one] == [note] * bool(note)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int8, np.int16, np.uint16, np.int64])
def test_numbers_of_any_type_are_read(tmp_path, dtype):
    values = RNG.integers(0, 99, (20, 3))
    assert np.array_equal(read(tmp_path / "a.npy", data=values.astype(dtype))[0].xyz, values)


def camera(height: int, width: int, missing: float = 0.0, noise: float = 0.0) -> np.ndarray:
    """Return what a depth camera sees: a floor, a wall, and a box before it."""
    x, y = np.meshgrid((np.arange(width) - width / 2) / width, (np.arange(height) - height / 2) / width)
    depth = np.minimum(3, np.where(y > 0.05, 0.8 / np.maximum(y, 1e-3), 9))
    depth = np.where((np.abs(x - 0.1) < 0.15) & (np.abs(y) < 0.2), 1.5, depth)
    depth = depth + RNG.normal(size=depth.shape) * noise
    xyz = np.stack([x * depth, y * depth, depth], -1)
    xyz[RNG.random((height, width)) < missing] = np.nan
    return xyz


def scanner(height: int, width: int) -> np.ndarray:
    """Return what a spinning scanner with ``height`` beams sees in a yard."""
    beam = np.deg2rad(np.linspace(2, -24, height))[:, None]
    turn = np.linspace(0, 2 * np.pi, width, endpoint=False)
    ground = 1.8 / np.maximum(np.sin(-beam), 1e-3)
    distance = np.minimum(ground, 10 + 5 * np.sin(3 * turn))
    x, y, z = np.cos(beam) * np.cos(turn), np.cos(beam) * np.sin(turn), np.sin(beam) * np.ones(width)
    return np.stack([x, y, z], -1) * distance[..., None]


GRID = np.stack([*np.meshgrid(np.arange(7.0), np.arange(6.0)), np.full((6, 7), 2.0)], -1)
MAP = np.stack([*np.meshgrid(np.arange(20.0), np.arange(9.0)), RNG.normal(size=(9, 20))], -1) + [5e5, 5.4e6, 0]
TURNED = camera(48, 64) @ np.linalg.qr(RNG.normal(size=(3, 3)))[0] + [10, 20, 30]


@pytest.mark.parametrize(
    "image",
    [
        GRID,
        MAP,
        camera(120, 160),
        camera(60, 80, 0.4, 0.005),
        camera(12, 16),
        TURNED,
        scanner(16, 900),
        scanner(64, 256),
    ],
    ids=["grid", "map", "camera", "camera with holes", "small camera", "turned", "16 beams", "64 beams"],
)
def test_an_image_of_points_is_one_organized_cloud(tmp_path, image):
    (cloud,) = read(tmp_path / "a.npz", data=image, intensity=image[..., 0], normals=image)
    height, width = image.shape[:2]
    placed = np.isfinite(image).all(-1).ravel()
    assert np.array_equal(cloud.xyz, image.reshape(-1, 3)[placed])
    assert np.array_equal(cloud.columns["intensity"][:, 0], image.reshape(-1, 3)[placed, 0])
    assert f"({height}, {width}, 3) taken for one organized cloud, not for {height}" in cloud.notes


CURVE = np.stack([np.cos(np.linspace(0, 40, 900)), np.sin(np.linspace(0, 40, 900)), np.linspace(0, 4, 900)], -1)
SETS = {
    "drawn": RNG.normal(size=(9, 200, 3)),
    "few": RNG.normal(size=(6, 7, 3)),
    "sorted": np.take_along_axis(SEVERAL, SEVERAL[..., :1].argsort(1), 1),
    "an object that moves": CURVE + RNG.normal(size=(40, 1, 3)) / 99 + np.linspace(0, 0.2, 40)[:, None, None],
    "an object that walks": CURVE + np.linspace(0, 3, 40)[:, None, None] * [1, 0, 0],
    "an object that grows": CURVE * np.linspace(0.5, 2, 40)[:, None, None],
}


@pytest.mark.parametrize("clouds", SETS.values(), ids=SETS)
def test_clouds_of_a_set_stay_several(clouds):
    assert not looks_organized(clouds)


def test_a_label_for_each_cloud_says_that_they_are_several(tmp_path):
    assert len(read(tmp_path / "a.h5", data=camera(12, 16), label=np.zeros((12, 1), int))) == 12


def test_channels_may_come_first_in_an_image_and_in_its_colors(tmp_path):
    image, colors = camera(40, 50), RNG.integers(0, 256, (40, 50, 3)).astype(np.uint8)
    (cloud,) = read(
        tmp_path / "a.npz", xyz=np.moveaxis(image, 2, 0), rgb=np.moveaxis(colors, 2, 0), label=image[..., 0]
    )
    assert np.array_equal(cloud.xyz, image.reshape(-1, 3)) and np.array_equal(
        cloud.columns["rgb"], colors.reshape(-1, 3)
    )
    assert np.array_equal(cloud.columns["label"][:, 0], image[..., 0].ravel())
    frames = np.stack([image, image + 1])
    for one in (frames, np.moveaxis(frames, 3, 1)):
        first, second = read(tmp_path / "b.npy", data=one)
        assert np.array_equal(first.xyz, image.reshape(-1, 3)) and np.array_equal(second.xyz, first.xyz + 1)


@pytest.mark.parametrize(
    "array",
    [
        RNG.random((30, 40)),
        RNG.random((480, 640)).astype(np.float32),
        RNG.integers(0, 5000, (48, 64)).astype(np.uint16),
        RNG.random((64, 1024)),
        RNG.random((16, 900)),
        RNG.random((1, 48, 64)),
        RNG.random((48, 64, 1)),
        RNG.random((32, 32, 32)),
        RNG.random((10, 48, 64)),
    ],
    ids=lambda value: str(value.shape),
)
def test_depth_maps_and_voxel_grids_are_no_points(array):
    with pytest.raises(InputError, match="as a depth map, an image or a voxel grid: .* turn it into points"):
        find_layout(array)


def test_a_photo_is_no_cloud(tmp_path):
    photo = (127 * (1 + np.sin(camera(48, 64)))).astype(np.uint8)
    noisy = np.random.default_rng(0).integers(0, 255, (48, 64, 4)).astype(np.uint8)
    for bytes_ in (photo, photo.transpose(2, 0, 1), noisy):
        with pytest.raises(InputError, match=rf"a.npy has bytes of shape \({bytes_.shape[0]}, .*, as an image"):
            read(tmp_path / "a.npy", data=bytes_)


def test_a_table_of_many_columns_is_points_as_long_as_it_has_many_more_rows(tmp_path):
    table = np.hstack([XYZ, np.ones((100, 9))])
    (cloud,) = read(tmp_path / "a.npy", data=table)
    assert len(cloud) == 100 and len(cloud.columns) == 9
    (cloud,) = read(tmp_path / "b.npy", data=np.hstack([np.tile(XYZ, (4, 1)), np.ones((400, 33))]))
    assert len(cloud) == 400 and len(cloud.columns) == 33


RECORDS = {
    "x y z": [("x", "<f4"), ("y", "<f4"), ("z", "<f4")],
    "capitals and doubles": [("X", ">f8"), ("Y", ">f8"), ("Z", ">f8")],
    "position": [("position", "<f8", 3)],
    "nested": [("pose", [("x", "<f8"), ("y", "<f8"), ("z", "<f8")])],
}


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
@pytest.mark.parametrize("fields", RECORDS.values(), ids=RECORDS)
def test_records_are_points_with_features(tmp_path, suffix, fields):
    table = np.zeros(100, [*fields, ("intensity", "<u2"), ("rgb", "<f4"), ("name", "S4")])
    if "position" in table.dtype.names:
        table["position"] = XYZ
    for axis, values in zip("xyz", XYZ.T, strict=True) if "position" not in table.dtype.names else ():
        inner = table["pose"] if "pose" in table.dtype.names else table
        inner[axis if axis in inner.dtype.names else axis.upper()] = values
    table["intensity"] = np.arange(100)
    table["rgb"] = (RGB.astype(np.uint32) << [16, 8, 0]).sum(1).astype(np.uint32).view(np.float32)  # as ROS packs it
    (cloud,) = read(tmp_path / f"a{suffix}", data=table)
    np.testing.assert_allclose(cloud.xyz, XYZ, rtol=1e-6)
    assert np.array_equal(cloud.columns["intensity"][:, 0], np.arange(100))
    assert np.array_equal(cloud.columns["rgb"], RGB) and cloud.notes == ("name not read",)


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
@pytest.mark.parametrize(
    "names", ["coords", "pc", "points", "Points", "cloud", "vertices", "position", "anything", "x y z"]
)
def test_positions_may_have_other_names(tmp_path, suffix, names):
    arrays = dict(zip(names.split(), XYZ.T, strict=True)) if " " in names else {names: XYZ}
    colors = dict(zip("RGB", RGB.T / 255, strict=True))
    (cloud,) = read(tmp_path / f"a{suffix}", **arrays, **colors, normals=XYZ, seed=np.array(7))
    assert np.array_equal(cloud.xyz, XYZ) and np.array_equal(cloud.columns["normal"], XYZ)
    assert np.array_equal(cloud.columns["rgb"], RGB / 255) and cloud.notes == ("seed not read",)


def test_positions_that_may_be_either_of_two_arrays_are_refused(tmp_path):
    with pytest.raises(InputError, match="has 2 arrays that may be positions, first, second: keep one of them"):
        read(tmp_path / "a.npz", first=XYZ, second=XYZ + 1)


@pytest.mark.parametrize("kind", ["U", "S", "column"])
def test_a_word_for_each_point_is_the_number_of_the_word(tmp_path, kind):
    words = np.array(["tree", "", "car", "ground"] * 25)
    label = words[:, None] if kind == "column" else words.astype(kind)
    (cloud,) = read(
        tmp_path / "a.npz", xyz=XYZ, label=label, days=np.array(["a", "b"]), time=np.arange(100).astype("M8[s]")
    )
    assert cloud.words == {"label": ("car", "ground", "tree")} and cloud.notes == ("time, days not read",)
    np.testing.assert_array_equal(cloud.columns["label"][:4, 0], [2, np.nan, 0, 1])


@pytest.mark.parametrize("kind", ["S", "variable", "column"])
def test_a_word_for_each_point_in_hdf5_is_the_number_of_the_word(tmp_path, kind):
    words = np.array(["tree", "", "car", "höhle"] * 25)
    label = np.char.encode(words, "utf-8") if kind == "S" else words.astype(h5py.string_dtype())
    label = label[:, None] if kind == "column" else label
    (cloud,) = read(tmp_path / "a.h5", xyz=XYZ, label=label, names=np.array([b"a", b"b"]), note=np.bytes_("made today"))
    assert cloud.words == {"label": ("car", "höhle", "tree")} and cloud.notes == ("names, note not read",)
    np.testing.assert_array_equal(cloud.columns["label"][:4, 0], [2, np.nan, 0, 1])
    (cloud,) = read(tmp_path / "b.h5", **{"scan/xyz": XYZ, "scan/label": label})
    assert cloud.words == {"label": ("car", "höhle", "tree")} and cloud.notes == ("from its group /scan",)


def test_text_in_hdf5_that_is_no_word_for_each_point_is_said_and_not_read(tmp_path):
    text = h5py.string_dtype()
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["xyz"] = XYZ
        file["long"] = np.array(["x" * 201] + ["x"] * 99, text)
        file["wide"] = np.array([[b"a", b"b"]] * 100)
        file["link"] = h5py.SoftLink("/wide")
        file["half"] = np.array(["a"] * 50, text)
    (cloud,) = read_file(tmp_path / "a.h5")
    assert not cloud.columns and cloud.notes == ("half, link, long, wide not read",)


def test_words_in_hdf5_that_are_one_long_text_take_little_memory(tmp_path):
    """All rows point to the same text in the file: read at once they would take 2 GB."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["xyz"] = np.random.default_rng(0).random((2000, 3))
        file["label"] = np.array(["x" * 1_000_000] + ["x"] * 1999, h5py.string_dtype())
        start = file["label"].id.get_offset()
    raw = bytearray((tmp_path / "a.h5").read_bytes())
    raw[start : start + 2000 * 16] = bytes(raw[start : start + 16]) * 2000
    (tmp_path / "a.h5").write_bytes(raw)
    with h5py.File(tmp_path / "a.h5") as file:
        assert len(file["label"][1999]) == 1_000_000
    tracemalloc.start()
    (cloud,) = read_file(tmp_path / "a.h5")
    assert tracemalloc.get_traced_memory()[1] < 64 << 20 and cloud.notes == ("label not read",)
    tracemalloc.stop()


def test_text_alone_in_a_npy_is_a_sentence(tmp_path):
    np.save(tmp_path / "a.npy", np.array([["1", "2", "3"]] * 5))
    with pytest.raises(InputError, match="contains no numbers"):
        read_file(tmp_path / "a.npy")


def test_more_than_1000_words_are_not_read(tmp_path):
    many = np.array([f"point {number}" for number in range(1001)])
    (cloud,) = read(tmp_path / "a.npz", xyz=np.random.default_rng(0).random((1001, 3)), name=many)
    assert not cloud.columns and cloud.notes == ("name not read",)


def test_objects_are_said_and_not_loaded(tmp_path):
    np.savez(tmp_path / "a.npz", xyz=XYZ, meta=np.array([{"a": Path("/")}], object), word=np.array("chair"))
    (cloud,) = read_file(tmp_path / "a.npz")
    assert np.array_equal(cloud.xyz, XYZ) and cloud.notes == ("meta, word not read",)
    np.save(tmp_path / "b.npy", np.array([XYZ, XYZ[:5]], object), allow_pickle=True)
    with pytest.raises(InputError, match="b.npy contains Python objects, which are not loaded"):
        read_file(tmp_path / "b.npy")


def test_groups_of_an_hdf5_file_are_clouds(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["scans/first/xyz"], file["scans/first/rgb"] = XYZ, RGB
        for axis, values in zip("xyz", XYZ.T + 1, strict=True):
            file[f"scans/second/{axis}"] = values
        file["meta/version"], file["about"] = 3, "made by hand"
        file["scans/first/again"] = file["scans"]  # a circle
    first, second = read_file(tmp_path / "a.h5")
    assert np.array_equal(first.xyz, XYZ) and np.array_equal(first.columns["rgb"], RGB)
    assert np.array_equal(second.xyz, XYZ + 1)
    assert (first.notes, second.notes) == (("from its group /scans/first",), ("from its group /scans/second",))


def test_a_group_that_has_the_name_of_the_dataset_of_points_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data/xyz"] = XYZ
    with pytest.raises(InputError, match=r"a.h5 has 'data' as a group \(of xyz\): write its datasets into the file"):
        read_file(tmp_path / "a.h5")


@pytest.mark.parametrize("kind", ["external", "soft", "circle"])
def test_links_in_groups_are_not_followed(tmp_path, kind):
    read(tmp_path / "secret.h5", xyz=XYZ)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("scan")
        link = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/") if kind == "external" else h5py.SoftLink("/scan")
        file["scan/inner" if kind == "circle" else "other"] = link
    with pytest.raises(InputError, match="has no array named"):
        read_file(tmp_path / "a.h5")


def test_too_many_groups_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for place in range(1001):
            file.create_group(str(place))
    with pytest.raises(InputError, match="has more than 1000 groups"):
        read_file(tmp_path / "a.h5")


VECTOR = np.dtype([("x", "f4"), ("y", "f4"), ("z", "f4")])
NORMALS = XYZ / np.linalg.norm(XYZ, axis=1, keepdims=True)


def records(*parts: tuple, **values: np.ndarray) -> np.ndarray:
    """Return records with the given fields; ``values``: the three numbers of those that are vectors."""
    table = np.zeros(100, list(parts))
    for name, own in values.items():
        if table[name].dtype.names:
            for part, column in zip(table[name].dtype.names[:3], own.T, strict=True):
                table[name][part] = column
        else:
            table[name] = own
    return table


QUATERNION = np.dtype([(name, "f4") for name in "xyzw"])
COLOR = np.dtype([(name, "u1") for name in "rgba"])
POINT = np.dtype([*((name, "f4") for name in "xyz"), ("intensity", "f4")])
NESTED = {
    "position and normal": (
        records(("position", VECTOR), ("normal", VECTOR), position=XYZ, normal=NORMALS),
        {"normal": NORMALS},
    ),
    "normal first": (
        records(("normal", VECTOR), ("position", VECTOR), position=XYZ, normal=NORMALS),
        {"normal": NORMALS},
    ),
    "normal and any other name": (
        records(("Normal", VECTOR), ("pose", VECTOR), pose=XYZ, Normal=NORMALS),
        {"normal": NORMALS},
    ),
    "a field of three numbers and a velocity": (
        records(("pos", "f4", 3), ("velocity", VECTOR), pos=XYZ, velocity=NORMALS),
        {"velocity": NORMALS},
    ),
    "a point and its end": (
        records(("point", POINT), ("end", VECTOR), point=XYZ, end=NORMALS),
        {"intensity": np.zeros((100, 1)), "end": NORMALS},
    ),
    "two colors": (
        records(("location", VECTOR), ("color", COLOR), ("specular", COLOR), location=XYZ, color=RGB),
        {"rgb": np.c_[RGB, 0 * RGB[:, 0]], "specular": np.zeros((100, 4))},
    ),
    "one color": (
        records(("location", VECTOR), ("color", COLOR), location=XYZ, color=RGB),
        {"rgb": RGB, "a": np.zeros((100, 1))},
    ),
    "a pose": (
        np.array(
            [((tuple(one), (0, 0, 0, 1)),) for one in XYZ],
            [("pose", [("position", VECTOR), ("orientation", QUATERNION)])],
        ),
        {"orientation": np.tile([0.0, 0, 0, 1], (100, 1))},
    ),
    "axes in any order": (
        records(
            *[("x", "f4"), ("y", "f4"), ("z", "f4"), ("normal", [("z", "f4"), ("y", "f4"), ("x", "f4")])],
            **dict(zip("xyz", XYZ.T, strict=True)),
            normal=NORMALS[:, ::-1],
        ),
        {"normal": NORMALS},
    ),
}


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
@pytest.mark.parametrize(("table", "features"), NESTED.values(), ids=NESTED)
def test_vectors_in_records_are_features_beside_the_position(tmp_path, suffix, table, features):
    (cloud,) = read(tmp_path / f"a{suffix}", data=table)
    np.testing.assert_allclose(cloud.xyz, XYZ, rtol=1e-6)
    assert set(cloud.columns) == set(features) and not cloud.notes
    for name, values in features.items():
        np.testing.assert_allclose(cloud.columns[name], values, rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ([("start", VECTOR), ("end", VECTOR)], r"has no columns x, y, z \(it has start, end\)$"),
        ([("normal", VECTOR)], r"has no columns x, y, z \(it has normal\)$"),
        (
            [("position", VECTOR), ("points", VECTOR)],
            "has 2 fields that may be positions, position, points: keep one of them$",
        ),
        (
            [("xyz", "f4", 3), ("points", "f4", 3)],
            "has 2 fields that may be positions, xyz, points: keep one of them$",
        ),
        (
            [("point", POINT), ("meta", [("intensity", "f4")])],
            "has two fields intensity, in point and in meta: rename one of them$",
        ),
        (
            [("i", "f4"), ("point", VECTOR), ("meta", [("i", "f4")])],
            "has two fields i, outside and in meta: rename one of them$",
        ),
    ],
    ids=str,
)
def test_records_whose_position_or_names_are_ambiguous_are_refused(tmp_path, fields, sentence):
    for suffix in (".npy", ".h5"):
        with pytest.raises(InputError, match=sentence):
            read(tmp_path / f"a{suffix}", data=np.ones(100, fields))


def test_words_in_nested_records_are_said(tmp_path):
    table = records(("point", VECTOR), ("meta", [("name", "S4"), ("i", "f4")]), point=XYZ)
    (cloud,) = read(tmp_path / "a.npy", data=table)
    assert list(cloud.columns) == ["i"] and cloud.notes == ("name not read",)


@pytest.mark.parametrize("fields", [VECTOR, [("xyz", "f4", 3)], [("point", VECTOR), ("normal", VECTOR), ("rgb", "f4")]])
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
def test_records_of_no_points_are_a_sentence(tmp_path, suffix, fields):
    with pytest.raises(InputError, match=rf"a{suffix} has 0 points: a cloud takes many$"):
        read(tmp_path / f"a{suffix}", data=np.zeros(0, fields))


WIDE = RNG.random((100, 8))
INDICES = np.arange(300).reshape(100, 3)
X, Y, Z = XYZ.T


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
@pytest.mark.parametrize(
    ("arrays", "names"),
    [
        ({"coords": XYZ, "data": WIDE}, "data, coords"),
        ({"coords": XYZ, "data": WIDE, "label": np.arange(100)}, "data, coords"),
        ({"coords": XYZ, "data": WIDE[:50]}, "data, coords"),
        ({"vertices": XYZ, "data": WIDE}, "data, vertices"),
        ({"XYZ": XYZ, "DATA": WIDE}, "DATA, XYZ"),
        ({"xyz": XYZ, "XYZ": 2 * XYZ}, "(xyz, XYZ|XYZ, xyz)"),
        ({"location": XYZ, "points": WIDE}, "points, location"),
        ({"coord": XYZ, "points": INDICES}, "points, coord"),
        ({"coord": XYZ, "coords": 2 * XYZ}, "coords, coord"),
        ({"xyz": WIDE, "coords": XYZ}, "xyz, coords"),
        ({"easting": X, "northing": Y, "elevation": Z, "data": WIDE}, "easting, northing, elevation, data"),
    ],
    ids=lambda value: str(list(value)) if isinstance(value, dict) else "",
)
def test_arrays_of_several_names_of_positions_are_refused(tmp_path, suffix, arrays, names):
    count = len(names.partition("|")[0].split(", "))
    with pytest.raises(InputError, match=f"has {count} arrays that may be positions, {names}: keep one of them$"):
        read(tmp_path / f"a{suffix}", **arrays)


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
@pytest.mark.parametrize(
    ("arrays", "columns", "note"),
    [
        ({"xyz": XYZ, "coords": INDICES}, ["coords"], ("xyz taken for positions, not coords",)),
        ({"pos": XYZ, "x": WIDE, "y": np.arange(100)}, ["x", "y"], ()),
        ({"points": XYZ, "vertices": XYZ[:8]}, [], ("vertices not read",)),
        ({"Coords": XYZ, "data": np.arange(100)}, [], ("data not read",)),
        ({"coords": XYZ, "data": WIDE[:, :1]}, [], ("data not read",)),
        ({"own": XYZ, "height": WIDE[:, 0], "class": WIDE[:, :1]}, ["height", "class"], ()),
        ({"x": X, "y": Y, "z": Z, "X": WIDE}, ["x"], ()),
        ({"x": X, "y": Y, "z": Z, "points": WIDE}, [], ("points not read",)),
        ({"x": X, "y": Y, "z": Z, "xyz": XYZ}, [], ("xyz not read",)),
        ({"points": XYZ, "x": np.float64(0), "y": np.float64(0), "z": np.float64(0)}, [], ("x, y, z not read",)),
        ({"easting": X, "northing": Y, "elevation": Z, "intensity": Y}, ["intensity"], ()),
        ({"Easting_m": X[:, None], "Northing_m": Y[:, None], "Height_m": Z[:, None]}, [], ()),
        ({"easting": X, "northing": Y, "elevation": Z, "features": WIDE}, ["features"], ()),
        ({"pos": XYZ, "x": Y, "y": Y, "height": Y}, ["x", "y", "height"], ()),
        ({"own": XYZ, "lon": X, "lat": Y, "alt": Z}, ["lon", "lat", "alt"], ()),
    ],
    ids=lambda value: str(list(value)) if isinstance(value, dict) else "",
)
def test_one_of_several_arrays_is_clearly_the_positions(tmp_path, suffix, arrays, columns, note):
    (cloud,) = read(tmp_path / f"a{suffix}", **arrays)
    assert np.array_equal(cloud.xyz, XYZ)
    assert sorted(cloud.columns) == sorted(columns)
    assert tuple(note.replace("y, x, z", "x, y, z") for note in cloud.notes) == note


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"x": X, "y": Y, "z": Z, "X": Y}, "has more than one array for x: (x, X|X, x)$"),
        ({"x": X, "y": Y, "z": Z, "xyz": 2 * XYZ}, "has 4 arrays that may be positions, x, y, z, xyz: keep one"),
        (
            {"easting": X, "northing": Y, "Easting": Y, "height": Z},
            "has more than one column for x: .*asting, .*asting$",
        ),
        ({"lon": X, "lat": Y, "alt": Z}, "has positions in degrees .*: project them to metres"),
    ],
    ids=lambda value: str(list(value)) if isinstance(value, dict) else "",
)
def test_axes_that_are_there_twice_or_in_degrees_are_refused(tmp_path, suffix, arrays, sentence):
    with pytest.raises(InputError, match=sentence):
        read(tmp_path / f"a{suffix}", **arrays)


def test_a_location_for_each_cloud_of_a_set_is_not_its_positions(tmp_path):
    clouds = read(tmp_path / "a.npz", data=SEVERAL, location=SEVERAL[:, 0])
    assert len(clouds) == 5 and np.array_equal(clouds[1].xyz, SEVERAL[1])
    assert clouds[0].notes == ("location not read",)


def test_groups_of_surveyed_points_are_clouds(tmp_path):
    axes = {f"scan/{name}": values for name, values in zip(("E", "N", "Z"), XYZ.T, strict=True)}
    (cloud,) = read(tmp_path / "a.h5", **axes, label=np.zeros((100, 1)))
    assert np.array_equal(cloud.xyz, XYZ) and cloud.notes == ("from its group /scan",)
