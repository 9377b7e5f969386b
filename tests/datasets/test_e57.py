"""E57 files, read: scans with poses, colors, invalid points, spherical coordinates; damaged and hostile ones."""

import struct
from pathlib import Path

import numpy as np
import pytest

pye57 = pytest.importorskip("pye57", reason="needs pye57: pip install 'bixt3d[lidar]'")

from bixt3d.datasets.files import e57  # noqa: E402
from bixt3d.datasets.files.cloud import with_features  # noqa: E402
from bixt3d.datasets.files.e57 import _check_xml, _from_sphere  # noqa: E402
from bixt3d.datasets.files.reader import read_file  # noqa: E402
from bixt3d.types import Features, InputError  # noqa: E402

RNG = np.random.default_rng(0)
XYZ = RNG.random((40, 3)).astype(np.float32).astype(np.float64)
QUARTER = np.array([np.sqrt(0.5), 0, 0, np.sqrt(0.5)])
"""A quarter turn about z, as a quaternion."""


def scan(**more: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(("cartesianX", "cartesianY", "cartesianZ"), XYZ.T.copy(), strict=True)) | more


def write(path: Path, *scans: dict, poses: tuple = ()) -> Path:
    with pye57.E57(str(path), "w") as file:
        for place, one in enumerate(scans):
            rotation, translation = poses[place] if poses else (np.array([1.0, 0, 0, 0]), np.zeros(3))
            file.write_scan_raw(one, rotation=rotation, translation=translation)
    return path


def test_scans_are_joined_each_moved_by_its_pose(tmp_path):
    colors = {name: RNG.integers(0, 256, 40).astype(np.uint8) for name in ("colorRed", "colorGreen", "colorBlue")}
    poses = ((QUARTER, np.array([10.0, 0, 0])), (np.array([1.0, 0, 0, 0]), np.array([0, 0, 5.0])))
    path = write(tmp_path / "a.e57", scan(**colors), scan(**colors, intensity=np.ones(40, np.float32)), poses=poses)
    (cloud,) = read_file(path)
    turned = np.stack([10 - XYZ[:, 1], XYZ[:, 0], XYZ[:, 2]], 1)
    assert np.allclose(cloud.xyz, np.concatenate([turned, XYZ + [0, 0, 5]]), atol=1e-12) and cloud.up == "z"
    assert cloud.columns["rgb"].dtype == np.uint8
    assert np.array_equal(cloud.columns["rgb"][40:], np.stack(list(colors.values()), 1))
    assert cloud.columns["scan"][:, 0].tolist() == [0] * 40 + [1] * 40
    assert cloud.notes == (
        "2 scans joined, all of them moved by their poses",
        "intensity not read, which not all scans have as numbers",
    )


def write_mixed(path: Path, monkeypatch, *ranges: tuple[np.ndarray, int]) -> Path:
    """Write a scan for each gray value and range; pye57 itself writes 0 to 255 alone."""
    monkeypatch.setattr(
        pye57.e57, "SUPPORTED_POINT_FIELDS", pye57.e57.SUPPORTED_POINT_FIELDS | dict.fromkeys(e57.COLORS, "d")
    )
    node, single = pye57.libe57.IntegerNode, pye57.libe57.FloatPrecision.E57_SINGLE
    with pye57.E57(str(path), "w") as file:
        for gray, most in ranges:

            def of_range(image, *values, most=most):
                values = [most if value == 255 else value for value in values]
                if most > 1:
                    return node(image, *values)
                return pye57.libe57.FloatNode(image, float(values[0]), *([single, 0.0, 1.0] * (len(values) > 1)))

            monkeypatch.setattr(pye57.libe57, "IntegerNode", of_range)
            file.write_scan_raw(scan(**dict.fromkeys(e57.COLORS, gray)))
    monkeypatch.undo()
    return path


def test_colors_of_scans_with_different_ranges_mean_the_same(tmp_path, monkeypatch):
    eight, sixteen = np.full(40, 200, np.uint8), np.full(40, 51400, np.uint16)
    dark, share = np.full(40, 1, np.uint8), np.full(40, 200 / 255, np.float32)
    path = write_mixed(tmp_path / "a.e57", monkeypatch, (eight, 255), (sixteen, 65535), (share, 1), (dark, 255))
    (cloud,) = read_file(path)
    assert "colors of each scan scaled from its own range to 0 to 1" in cloud.notes
    found = with_features(cloud, Features.parse("rgb")).columns["rgb"]
    assert np.allclose(found[:120], 200 / 255) and np.allclose(found[120:], 1 / 255)
    (cloud,) = read_file(write_mixed(tmp_path / "b.e57", monkeypatch, (eight, 255), (dark, 255)))
    assert cloud.columns["rgb"].dtype == np.uint8 and not any("colors" in note for note in cloud.notes)


def test_an_intensity_whose_range_differs_between_scans_is_said(tmp_path, monkeypatch):
    read = e57._Scan.__init__
    monkeypatch.setattr(e57._Scan, "__init__", lambda one, *of: read(one, *of) or one.whole.update(intensity=one.place))
    intensity = np.arange(40, dtype=np.float32)
    (cloud,) = read_file(write(tmp_path / "a.e57", scan(intensity=intensity), scan(intensity=intensity)))
    assert "intensity joined as it is, though its range differs between scans" in cloud.notes
    assert np.array_equal(cloud.columns["intensity"][:, 0], np.tile(intensity, 2))


def test_points_that_the_scanner_marks_as_invalid_are_dropped_and_counted(tmp_path):
    state = np.array([0, 1, 2, 0] * 10, np.int8)
    rows = {"rowIndex": np.arange(40).astype(np.uint16), "columnIndex": np.arange(40).astype(np.uint16)}
    path = write(tmp_path / "a.e57", scan(cartesianInvalidState=state, intensity=XYZ[:, 0].astype(np.float32), **rows))
    (cloud,) = read_file(path)
    assert (len(cloud), cloud.num_original) == (20, 40) and np.array_equal(cloud.kept, np.flatnonzero(state == 0))
    assert np.allclose(cloud.xyz, XYZ[state == 0]) and np.array_equal(cloud.columns["row"][:, 0], cloud.kept)
    assert np.allclose(cloud.columns["intensity"][:, 0], XYZ[state == 0, 0])
    assert any("20 of its 40 points dropped" in note for note in cloud.notes)


def test_range_azimuth_and_elevation_become_x_y_z():
    found = _from_sphere(np.array([[2.0, 0, 0], [2, np.pi / 2, 0], [2, 0, np.pi / 2]]))
    assert np.allclose(found, [[2, 0, 0], [0, 2, 0], [0, 0, 2]])


def checksum(page: bytes) -> bytes:
    """Return the checksum of a page: CRC-32C."""
    found = 0xFFFFFFFF
    for one in page:
        found ^= one
        for _ in range(8):
            found = (found >> 1) ^ (0x82F63B78 if found & 1 else 0)
    return struct.pack(">I", found ^ 0xFFFFFFFF)


def changed(raw: bytes, old: bytes, new: bytes) -> bytes:
    """Return a file with text of its description changed, and right checksums."""
    assert old in raw and len(old) == len(new)
    place = raw.index(old) // 1024 * 1024
    page = raw.replace(old, new, 1)[place : place + 1020]
    return raw[:place] + page + checksum(page) + raw[place + 1024 :]


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> bytes:
    return write(tmp_path_factory.mktemp("e57") / "a.e57", scan()).read_bytes()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda raw: raw[:-500], "damaged description"),
        (lambda raw: b"nothing" + raw, "is no E57 file"),
        (lambda raw: raw[:100] + b"xxxx" + raw[104:], "checksum mismatch"),
        (lambda raw: changed(raw, b'recordCount="40"', b'recordCount="99"'), "cannot be read as E57|has 40"),
        (lambda raw: raw[:32] + struct.pack("<Q", 2**60) + raw[40:], "damaged header"),
    ],
    ids=range(5),
)
def test_a_damaged_file_is_a_sentence(tmp_path, plain, change, sentence):
    (tmp_path / "a.e57").write_bytes(change(plain))
    with pytest.raises(InputError, match=sentence):
        read_file(tmp_path / "a.e57")


def test_a_small_file_does_not_announce_a_billion_points(tmp_path):
    with pye57.E57(str(tmp_path / "a.e57"), "w") as file:
        file.write_scan_raw(scan(), rotation=np.array([1.0, 0, 0, 0]), translation=np.zeros(3), name="x" * 40)
    raw = (tmp_path / "a.e57").read_bytes()
    long = raw.replace(b'recordCount="40"', b'recordCount="9999999999"').replace(b"x" * 40, b"x" * 32)
    assert len(long) == len(raw)
    pages = [long[at : at + 1020] for at in range(0, len(long), 1024)]
    (tmp_path / "a.e57").write_bytes(b"".join(page + checksum(page) for page in pages))
    with pytest.raises(InputError):
        read_file(tmp_path / "a.e57")


@pytest.mark.parametrize(
    ("xml", "sentence"),
    [
        (b"<a>" * 100 + b"</a>" * 100, "nested too deep"),
        (b"<a>" + b"<b/>" * 200_000 + b"</a>", "too long"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "document type"),
        (b"<a>", "damaged description"),
        (b'<?xml version="1.0" encoding="UTF-4"?><a/>', "damaged description"),
    ],
)
def test_a_hostile_description_is_refused_before_another_library_reads_it(xml, sentence):
    with pytest.raises(InputError, match=sentence):
        _check_xml(xml)
