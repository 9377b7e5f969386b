"""Conventions of the programs that write HDF5: data frames of pandas, and scales, offsets and gaps of netCDF."""

import h5py
import numpy as np
import pytest

from bixt3d.datasets.files.reader import read_file
from bixt3d.types import InputError

RNG = np.random.default_rng(0)
XYZ = RNG.normal(size=(100, 3))
X, Y, Z = XYZ.T
WIDE = RNG.random((100, 2))


def write_frame(path, blocks, key="df", index=None, **others):
    """Write a data frame as pandas' ``to_hdf`` does in its fixed layout: ``blocks`` of names and values."""
    with h5py.File(path, "a") as file:
        group = file.create_group(key)
        group.attrs["pandas_type"] = np.bytes_(b"frame")
        group["axis0"] = np.array([name for names, _ in blocks for name in names])
        group["axis1"] = np.arange(100) if index is None else index
        for place, (names, values) in enumerate(blocks):
            group[f"block{place}_items"], group[f"block{place}_values"] = np.array(names), values
        for name, values in others.items():
            group[name] = values
    return path


def test_the_columns_of_a_data_frame_are_found_by_their_names(tmp_path):
    path = write_frame(tmp_path / "a.h5", [((b"intensity", b"x", b"y", b"z"), np.c_[WIDE[:, 0], XYZ])])
    (cloud,) = read_file(path)
    assert np.array_equal(cloud.xyz, XYZ) and list(cloud.columns) == ["intensity"]
    assert np.array_equal(cloud.columns["intensity"][:, 0], WIDE[:, 0]) and cloud.notes == ("from its group /df",)


@pytest.mark.parametrize("key", ["df", "data", "scans/first"])
def test_all_blocks_of_a_data_frame_are_read(tmp_path, key):
    colors = RNG.integers(0, 256, (100, 3))
    blocks = [((b"z", b"y", b"x"), XYZ[:, ::-1]), ((b"r", b"g", b"b"), colors), ((b"label",), np.arange(100)[:, None])]
    (cloud,) = read_file(write_frame(tmp_path / "a.h5", blocks, key))
    assert np.array_equal(cloud.xyz, XYZ) and np.array_equal(cloud.columns["rgb"], colors)
    assert np.array_equal(cloud.columns["label"][:, 0], np.arange(100)) and len(cloud.columns) == 2


def test_words_times_and_the_index_of_a_data_frame_are_said(tmp_path):
    blocks = [((b"x", b"y", b"z"), XYZ), ((b"time",), np.arange(100)[:, None]), ((b"word",), np.array([b"a"] * 100))]
    path = write_frame(tmp_path / "a.h5", blocks, index=np.arange(100) + 7, other=np.zeros(3))
    with h5py.File(path, "a") as file:
        file["df/block1_values"].attrs["value_type"] = np.bytes_(b"datetime64[ns]")
    (cloud,) = read_file(path)
    assert np.array_equal(cloud.xyz, XYZ) and not cloud.columns
    assert cloud.notes == ("time, word, other, its index not read", "from its group /df")


def test_a_data_frame_without_names_is_a_table(tmp_path):
    (cloud,) = read_file(write_frame(tmp_path / "a.h5", [((1, 0), XYZ[:, 1::-1]), ((3, 2), np.c_[WIDE[:, 0], Z])]))
    assert np.array_equal(cloud.xyz, XYZ) and np.array_equal(cloud.columns["column4"][:, 0], WIDE[:, 0])


def test_columns_with_digits_that_are_no_numbers_are_refused_by_their_names(tmp_path):
    names = tuple("²³¹".encode()[i : i + 2] for i in (0, 2, 4))
    with pytest.raises(InputError, match="has no columns x, y, z"):
        read_file(write_frame(tmp_path / "a.h5", [(names, XYZ)]))


def test_data_frames_are_clouds_and_those_without_positions_are_not(tmp_path):
    path = write_frame(tmp_path / "a.h5", [((b"a", b"b"), WIDE)], "about")
    with pytest.raises(InputError, match=r"has the group '/about', which has no columns x, y, z \(it has a, b\)$"):
        read_file(path)
    write_frame(path, [((b"Easting", b"Northing", b"Height"), XYZ)], "second")
    (cloud,) = read_file(path)
    assert np.array_equal(cloud.xyz, XYZ) and cloud.notes == ("from its group /second",)


def test_a_data_frame_without_a_row_is_a_sentence(tmp_path):
    path = write_frame(tmp_path / "a.h5", [((b"x", b"y", b"z"), np.zeros((1, 1)))], index=np.zeros(1))
    with h5py.File(path, "a") as file:
        file["df/block0_values"].attrs["shape"] = np.bytes_(b"pickled")
    with pytest.raises(InputError, match="has 0 points: a cloud takes many"):
        read_file(path)


@pytest.mark.parametrize(
    ("blocks", "sentence"),
    [
        ([((b"x", b"y", b"z"), WIDE)], r"has a data frame of pandas with 3 names for values of shape \(100, 2\)$"),
        (
            [((b"x", b"y", b"z"), XYZ), ((b"i",), WIDE[:9, :1])],
            r"has a data frame of pandas with 1 names for values of shape \(9, 1\)$",
        ),
        ([((b"x", b"y", b"z"), XYZ), ((b"x",), WIDE[:, :1])], "has more than one column for x: x, x$"),
        ([((b"x", b"y", b"z", b"i", b"i"), np.c_[XYZ, WIDE])], "with a name twice: x, y, z, i, i$"),
        ([(([[b"x", b"y", b"z"]]), XYZ)], "has 'block0_items', which is no list of at most 1000 words$"),
        ([((0.5, 1.5, 2.5), XYZ)], "has 'block0_items', which contains no words$"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damaged_data_frames_are_refused(tmp_path, blocks, sentence):
    with h5py.File(tmp_path / "a.h5", "w"):
        pass
    path = tmp_path / "a.h5"
    with h5py.File(path, "a") as file:
        for place, (names, values) in enumerate(blocks):
            file[f"df/block{place}_items"], file[f"df/block{place}_values"] = np.array(names), values
    with pytest.raises(InputError, match=sentence):
        read_file(path)


def test_a_table_of_pandas_whose_names_are_pickled_is_refused_in_plain_words(tmp_path):
    table = np.zeros(100, [("index", "i8"), ("values_block_0", "f8", (4,))])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["df/table"] = table
    with pytest.raises(InputError, match=r"has the table 'table' of pandas, which does not say .*format='fixed'"):
        read_file(tmp_path / "a.h5")
    named = np.zeros(100, [("index", "i8"), ("values_block_0", "f8", (1,)), *((axis, "f8") for axis in "xyz")])
    for axis, values in zip("xyz", XYZ.T, strict=True):
        named[axis] = values
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["df/table"] = named
    assert np.array_equal(read_file(tmp_path / "b.h5")[0].xyz, XYZ)


RAW = RNG.integers(-9999, 9999, (100, 3)).astype(np.int32)


def scaled(path, **datasets):
    """Write datasets of values and attributes."""
    with h5py.File(path, "w") as file:
        for name, (values, attributes) in datasets.items():
            file[name] = values
            file[name].attrs.update(attributes)
    return path


@pytest.mark.parametrize("of_netcdf4", [False, True])
def test_scale_and_offset_of_each_axis_are_applied_and_said(tmp_path, of_netcdf4):
    attributes = [{"scale_factor": 0.001 * (place + 1), "add_offset": 5.0} for place in range(3)]
    if of_netcdf4:
        attributes = [{key: np.array([value]) for key, value in one.items()} for one in attributes]
    axes = {axis: (RAW[:, place], attributes[place]) for place, axis in enumerate("xyz")}
    (cloud,) = read_file(scaled(tmp_path / "a.h5", **axes, intensity=(RAW[:, 0], {"scale_factor": 0.5})))
    assert np.array_equal(cloud.xyz, RAW * [0.001, 0.002, 0.003] + 5.0)
    assert np.array_equal(cloud.columns["intensity"][:, 0], RAW[:, 0] / 2)
    assert cloud.notes == ("intensity: scale_factor applied", "x, y, z: scale_factor and add_offset applied")


@pytest.mark.parametrize("scale", [0.25, [0.25], [0.5, 0.25, 2.0]])
def test_positions_may_have_one_scale_or_one_for_each_axis(tmp_path, scale):
    (cloud,) = read_file(scaled(tmp_path / "a.h5", **{"scan/xyz": (RAW.astype(np.float32), {"scale_factor": scale})}))
    assert np.array_equal(cloud.xyz, RAW * np.array(scale))
    assert cloud.notes == ("xyz: scale_factor applied", "from its group /scan")


@pytest.mark.parametrize("key", ["_FillValue", "missing_value"])
def test_numbers_that_stand_for_gaps_are_no_positions(tmp_path, key):
    raw = RAW.copy()
    raw[3, 2] = -32768
    path = scaled(
        tmp_path / "a.h5", xyz=(raw, {key: np.int32(-32768), "scale_factor": 0.001}), i=(RAW[:, 0], {key: 1e9})
    )
    (cloud,) = read_file(path)
    assert np.array_equal(cloud.xyz, np.delete(RAW, 3, 0) * 0.001) and cloud.num_original == 100
    assert cloud.notes[:2] == (f"xyz: {key} taken for gaps", "xyz: scale_factor applied")
    assert cloud.columns["i"].dtype == np.int32


def test_neutral_scales_change_nothing(tmp_path):
    attributes = {"scale_factor": 1.0, "add_offset": 0.0, "_FillValue": np.nan, "units": "m"}
    (cloud,) = read_file(
        scaled(tmp_path / "a.h5", xyz=(XYZ, attributes), label=(np.arange(100), {"scale_factor": 1.0}))
    )
    assert np.array_equal(cloud.xyz, XYZ) and cloud.columns["label"].dtype == np.int64 and not cloud.notes


@pytest.mark.parametrize(
    ("attributes", "sentence"),
    [
        ({"scale_factor": "0.001"}, "has xyz with the attribute scale_factor, which is no number to scale by"),
        ({"scale_factor": np.nan}, "has xyz with the attribute scale_factor, which is no number to scale by"),
        ({"scale_factor": 0.0}, "has xyz with the attribute scale_factor, which is no number to scale by"),
        ({"add_offset": np.inf}, "has xyz with the attribute add_offset, which is no number to scale by"),
        ({"add_offset": [1.0, 2.0]}, r"has xyz of shape \(100, 3\) with 2 numbers in its attribute add_offset"),
    ],
    ids=str,
)
def test_scales_that_cannot_be_right_are_refused(tmp_path, attributes, sentence):
    with pytest.raises(InputError, match=sentence):
        read_file(scaled(tmp_path / "a.h5", xyz=(RAW, attributes)))


def test_attributes_that_are_not_applied_are_said(tmp_path):
    table = np.zeros(100, [(axis, "f8") for axis in "xyz"])
    table["x"], table["y"], table["z"] = X, Y, Z
    (cloud,) = read_file(scaled(tmp_path / "a.h5", cloud=(table, {"scale_factor": 0.1})))
    assert np.array_equal(cloud.xyz, XYZ) and cloud.notes == ("cloud: scale_factor not applied",)
    (cloud,) = read_file(scaled(tmp_path / "b.h5", xyz=(XYZ, {"missing_value": "none"})))
    assert np.array_equal(cloud.xyz, XYZ) and cloud.notes == ("xyz: missing_value not applied, which is no number",)
