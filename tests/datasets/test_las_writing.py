"""LAS and LAZ files, written: copies that differ by their new dimensions alone, and new files; laspy reads them."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest

laspy = pytest.importorskip("laspy", reason="needs laspy and lazrs: pip install 'bixt3d[lidar]'")

from las_files import WKT, first_point, las_bytes, make_las, write_las_file  # noqa: E402
from laspy.vlrs.vlrlist import VLRList  # noqa: E402
from small_disk import largest_file  # noqa: E402

from bixt3d.datasets.files.las import open_las  # noqa: E402
from bixt3d.datasets.files.las_new import scale_of, write_las  # noqa: E402
from bixt3d.datasets.files.las_writing import copy_las  # noqa: E402
from bixt3d.datasets.files.reader import read_file  # noqa: E402
from bixt3d.datasets.files.writers import LabelledPoints, write_points  # noqa: E402
from bixt3d.io.writing import WriteError  # noqa: E402
from bixt3d.types import InputError  # noqa: E402

LABEL, CONFIDENCE = np.arange(200) % 7, np.linspace(0, 1, 200, dtype=np.float32)
NEW = {"label": LABEL, "confidence": CONFIDENCE}
NAMES = {0: "Chair/leg", 6: "höhe"}


def point_bytes(las) -> np.ndarray:
    return np.frombuffer(las.points.array.tobytes(), np.uint8).reshape(len(las), -1)


def records(path: Path) -> list[tuple]:
    with open_las(path) as las:
        return [one for one in las.all_records if one.key not in (("laszip encoded", 22204), ("LASF_Spec", 4))]


@pytest.mark.parametrize(("point_format", "ending"), [(n, "las" if n % 2 else "laz") for n in range(11)] + [(6, "las")])
def test_a_copy_has_every_bit_of_its_source_and_the_new_dimensions(tmp_path, point_format, ending):
    las = make_las(point_format, wkt=WKT)
    if point_format > 8:
        las.scanner_channel = np.full(200, 2)
    source = write_las_file(tmp_path / "a.laz", las)
    assert copy_las(tmp_path / f"b.{ending}", source, NEW, NAMES) == ()
    old, new = laspy.read(source), laspy.read(tmp_path / f"b.{ending}")
    assert np.array_equal(point_bytes(new)[:, : old.point_format.size], point_bytes(old))
    assert np.array_equal(new.label, LABEL) and np.array_equal(new.confidence, CONFIDENCE)
    assert (new.label.dtype, new.header.are_points_compressed) == (np.uint8, ending == "laz")
    assert list(new.point_format.extra_dimension_names) == ["height", "label", "confidence"]
    assert np.array_equal(new["height"], old["height"])
    own = records(tmp_path / f"b.{ending}")
    assert [one for one in own if one.key != ("bixt3d", 1)] == records(source)
    assert [one.data.decode() for one in own if one.key == ("bixt3d", 1)] == ["0 Chair/leg\n6 höhe"]
    with open_las(source) as before, open_las(tmp_path / f"b.{ending}") as after:
        places = range(len(before.header.raw))  # offset of the points, numbers of records, point format and size
        assert {place for place in places if before.header.raw[place] != after.header.raw[place]} <= {*range(96, 107)}


def test_extended_records_and_bytes_between_stay_and_their_place_is_right(tmp_path):
    las = make_las(6)
    las.evlrs = VLRList([laspy.VLR("somebody", 7, "notes", b"x" * 70_000)])
    raw = bytearray(las_bytes(las))
    first = first_point(raw)
    raw[first:first] = b"??"  # as LAS 1.0 has it
    struct.pack_into("<I", raw, 96, first + 2)
    struct.pack_into("<Q", raw, 235, struct.unpack_from("<Q", raw, 235)[0] + 2)
    (tmp_path / "a.las").write_bytes(raw)
    copy_las(tmp_path / "b.laz", tmp_path / "a.las", NEW)
    with open_las(tmp_path / "b.laz") as found:
        assert found.header.behind_records == b"??" and found.extended[0].data == b"x" * 70_000
    assert laspy.read(tmp_path / "b.laz").evlrs[0].record_data == b"x" * 70_000


def test_waveforms_inside_a_file_stay_where_its_header_says(tmp_path):
    raw = bytearray(las_bytes(make_las(4)))
    raw[6] |= 2
    struct.pack_into("<Q", raw, 227, len(raw))
    (tmp_path / "a.las").write_bytes(bytes(raw) + b"waveforms")
    copy_las(tmp_path / "b.las", tmp_path / "a.las", NEW)
    written = (tmp_path / "b.las").read_bytes()
    assert written[struct.unpack_from("<Q", written, 227)[0] :] == b"waveforms"


@pytest.mark.parametrize(("point_format", "bit"), [(4, 0), (9, 0), (9, 2)])
def test_waveforms_that_neither_a_bit_nor_a_number_announces_are_copied_too(tmp_path, point_format, bit):
    raw, waves = bytearray(las_bytes(make_las(point_format))), b"waveforms" * 20
    raw[6] |= bit
    struct.pack_into("<Q", raw, 227, len(raw))
    record = struct.pack("<H16sHQ32s", 0, b"LASF_Spec", 65535, len(waves), b"") + waves
    (tmp_path / "a.las").write_bytes(raw + record)
    assert copy_las(tmp_path / "b.las", tmp_path / "a.las", NEW) == ()
    written = (tmp_path / "b.las").read_bytes()
    assert written[struct.unpack_from("<Q", written, 227)[0] :] == record
    assert np.array_equal(laspy.read(tmp_path / "b.las").label, LABEL)


@pytest.mark.parametrize("place", [2**64 - 1, 2**63, 700])
def test_a_place_of_waveforms_where_none_are_becomes_zero_and_is_said(tmp_path, place):
    raw = bytearray(las_bytes(make_las(4)))
    struct.pack_into("<Q", raw, 227, place)
    (tmp_path / "a.las").write_bytes(raw)
    notes = copy_las(tmp_path / "b.las", tmp_path / "a.las", NEW)
    assert notes == ("written without waveforms, as none are where its header says",)
    assert struct.unpack_from("<Q", (tmp_path / "b.las").read_bytes(), 227) == (0,)


def test_waveforms_of_several_channels_are_not_copied_wrongly_to_laz(tmp_path):
    source = write_las_file(tmp_path / "a.las", make_las(9))
    with pytest.raises(InputError, match="several scanner channels cannot be copied"):
        copy_las(tmp_path / "b.laz", source, NEW)
    assert copy_las(tmp_path / "b.las", source, NEW) == () and not (tmp_path / "b.laz").exists()


@pytest.mark.parametrize("ending", ["las", "laz"])
def test_a_copy_that_does_not_fit_on_the_disk_says_why(tmp_path, ending):
    source = write_las_file(tmp_path / "a.las", make_las(6))
    with largest_file(2000), pytest.raises(WriteError, match=rf"could not write .*b\.{ending}: File too large"):
        copy_las(tmp_path / f"b.{ending}", source, NEW)
    assert list(tmp_path.iterdir()) == [source]


def test_dimensions_that_are_there_are_kept_and_the_new_get_free_names(tmp_path):
    source = write_las_file(tmp_path / "a.las", make_las(3))
    copy_las(tmp_path / "b.las", source, NEW)
    notes = copy_las(tmp_path / "c.las", tmp_path / "b.las", {"label": LABEL[::-1], "confidence": CONFIDENCE})
    assert notes == ("label written as label_2, as it has one", "confidence written as confidence_2, as it has one")
    found = laspy.read(tmp_path / "c.las")
    assert np.array_equal(found["label"], LABEL) and np.array_equal(found["label_2"], LABEL[::-1])


def test_names_of_labels_that_are_there_stay_beside_those_of_the_new_dimension(tmp_path):
    source = write_las_file(tmp_path / "a.las", make_las(3))
    copy_las(tmp_path / "b.las", source, NEW, NAMES)
    copy_las(tmp_path / "c.laz", tmp_path / "b.las", NEW, {0: "wire"})
    with open_las(tmp_path / "c.laz") as las:
        own = [one for one in las.header.records if one.key == ("bixt3d", 1)]
    said = [(one.raw[22:54].rstrip(b"\0").decode(), one.data.decode()) for one in own]
    names = "names of the labels in label"
    assert said == [(names, "0 Chair/leg\n6 höhe"), (f"{names}_2", "0 wire")]


def test_a_copy_without_new_dimensions_has_the_records_of_its_source_and_no_other(tmp_path):
    copy_las(tmp_path / "a.las", write_las_file(tmp_path / "first.las", make_las(3)), NEW, NAMES)
    raw = bytearray((tmp_path / "a.las").read_bytes())
    struct.pack_into("<H", raw, 105, struct.unpack_from("<H", raw, 105)[0] + 1)  # a byte that nothing describes
    first = first_point(raw)
    points = np.frombuffer(raw[first:], np.uint8).reshape(200, -1)
    (tmp_path / "a.las").write_bytes(raw[:first] + np.pad(points, ((0, 0), (0, 1))).tobytes())
    copy_las(tmp_path / "b.las", tmp_path / "a.las", {}, {0: "wire"}, {"classification": LABEL})
    assert (tmp_path / "b.las").read_bytes()[:first] == raw[:first]


def test_new_dimensions_come_behind_bytes_that_nothing_describes(tmp_path):
    raw = bytearray(las_bytes(make_las(1)))
    struct.pack_into("<H", raw, raw.index(b"LASF_Spec") + 16, 99)
    (tmp_path / "a.las").write_bytes(raw)
    copy_las(tmp_path / "b.las", tmp_path / "a.las", NEW)
    found = laspy.read(tmp_path / "b.las")
    assert np.array_equal(found.label, LABEL)
    assert np.array_equal(point_bytes(found)[:, :30], point_bytes(laspy.read(tmp_path / "a.las")))


def test_entries_of_two_records_of_extra_bytes_are_joined_without_what_is_behind_the_first(tmp_path):
    las, one, two = make_las(1, extra=False), *(np.arange(200) % most for most in (250, 7))
    las.add_extra_dims([laspy.ExtraBytesParams("one", "u1"), laspy.ExtraBytesParams("two", "u1")])
    las.one, las.two = one, two
    raw = bytearray(las_bytes(las))
    head = raw.index(b"LASF_Spec") - 2
    first, second = raw[head + 54 : head + 246], raw[head + 246 : head + 438]
    both = [raw[head : head + 20] + struct.pack("<H32s", len(data), b"") + data for data in (first + b"junk", second)]
    raw[head : head + 438] = b"".join(both)
    struct.pack_into("<II", raw, 96, first_point(raw) + 58, 2)
    (tmp_path / "a.las").write_bytes(raw)
    copy_las(tmp_path / "b.las", tmp_path / "a.las", NEW)
    found = laspy.read(tmp_path / "b.las")
    assert np.array_equal(found.one, one) and np.array_equal(found.two, two) and np.array_equal(found.label, LABEL)


def test_a_dimension_is_changed_where_that_is_asked_for_and_nothing_else(tmp_path):
    source = write_las_file(tmp_path / "a.las", make_las(1))
    copy_las(tmp_path / "b.las", source, {}, changed={"classification": LABEL})
    old, new = laspy.read(source), laspy.read(tmp_path / "b.las")
    assert np.array_equal(new.classification, LABEL)
    copy_las(tmp_path / "b.las", source, {}, changed={"classification": np.where(LABEL[0] == LABEL, -1, LABEL)})
    kept = np.where(LABEL[0] == LABEL, old.classification, LABEL)
    assert np.array_equal(laspy.read(tmp_path / "b.las").classification, kept)
    assert all(np.array_equal(new[name], old[name]) for name in old.point_format.dimension_names if name[:2] != "cl")
    for changed, words in (({"classification": LABEL + 90}, "cannot hold"), ({"nir": LABEL}, "no dimension nir")):
        with pytest.raises(InputError, match=words):
            copy_las(tmp_path / "c.las", source, {}, changed=changed)
    with pytest.raises(InputError, match="has 200 points, but label another number of values"):
        copy_las(tmp_path / "c.las", source, {"label": LABEL[1:]})
    assert not (tmp_path / "c.las").exists() and len(list(tmp_path.iterdir())) == 2


def test_a_copy_of_a_damaged_file_leaves_no_file(tmp_path):
    raw = las_bytes(make_las(7, 3000), True)
    (tmp_path / "a.laz").write_bytes(raw[:5000] + bytes(2000) + raw[7000:])
    with pytest.raises(InputError):
        copy_las(tmp_path / "b.laz", tmp_path / "a.laz", {"label": np.zeros(3000, int)})
        raise InputError("read all the same: zeros may be valid points")
    assert not [one for one in tmp_path.iterdir() if one.name.startswith(".")]


@pytest.mark.parametrize("extent", [2.0, 300.0, 5e4, 1e6])
def test_points_of_other_files_are_rounded_by_less_than_a_millimetre(tmp_path, extent):
    xyz = np.random.default_rng(0).random((200, 3)) * extent + [5e5, 5e6, 0]
    notes = write_las(tmp_path / "a.laz", xyz, {})
    assert np.abs(read_file(tmp_path / "a.laz")[0].xyz - xyz).max() < min(1e-3, extent * 1e-6)
    assert notes == (f"positions rounded to {scale_of(xyz)[0][0]:g}",)


@pytest.mark.parametrize("extent", [0.0, 1e-9, 1e-3])
def test_points_that_lie_close_together_are_written_too(tmp_path, extent):
    xyz = np.random.default_rng(0).random((20, 3)) * extent + [5e5, 0.9, 0.5]
    write_las(tmp_path / "a.las", xyz, {})
    with laspy.open(tmp_path / "a.las") as las:
        assert np.abs(las.read().xyz - xyz).max() < 1e-8


def test_columns_go_to_their_dimensions_or_become_extra_ones(tmp_path):
    rng = np.random.default_rng(0)
    xyz, rgb = rng.random((200, 3)), rng.integers(0, 256, (200, 3)).astype(np.uint8)
    columns = {
        "rgb": rgb,
        "normal": xyz,
        "intensity": xyz[:, :1],
        "classification": LABEL[:, None],
        "return_number": np.full((200, 1), 99),
        "gps_time": xyz[:, 1],
        "a name of more than thirty-two bytes": LABEL,
    }
    xyz[3] = np.nan
    notes = write_las(tmp_path / "a.las", xyz, columns | NEW)
    found, kept = laspy.read(tmp_path / "a.las"), np.arange(200) != 3
    assert np.array_equal(np.stack([found.red, found.green, found.blue], 1), rgb[kept].astype(np.uint16) * 257)
    assert np.array_equal(found.classification, LABEL[kept]) and np.array_equal(found.label, LABEL[kept])
    assert np.array_equal(found["intensity_2"], columns["intensity"][kept, 0]) and found["return_number_2"][0] == 99
    assert (
        np.array_equal(found.gps_time, columns["gps_time"][kept]) and "normal_2" in found.point_format.dimension_names
    )
    assert notes[1:] == (
        "colors written from 0 to 65535, as LAS has them",
        "1 points without a position left out, for which LAS has no room",
        "intensity, return_number written as extra dimensions, as LAS has no room for such numbers there",
    )


def test_labelled_points_of_a_las_file_are_a_copy_and_of_any_other_a_new_file(tmp_path):
    source = write_las_file(tmp_path / "a.las", make_las(0))
    (cloud,) = read_file(source)
    points = LabelledPoints(cloud.xyz, LABEL, CONFIDENCE, {n: str(n) for n in range(7)}, cloud.columns, source)
    assert write_points(tmp_path / "b.laz", points, cloud.xyz) == ([tmp_path / "b.laz"], ())
    other = LabelledPoints(cloud.xyz, LABEL, CONFIDENCE, points.names, {"label": LABEL[:, None]}, tmp_path / "a.ply")
    _, notes = write_points(tmp_path / "c.las", other, cloud.xyz)
    found = laspy.read(tmp_path / "c.las")
    assert "original_label" in found.point_format.dimension_names and json.dumps(notes).count("rounded") == 1
