"""E57 files, read: scans with poses, colors, invalid points, spherical coordinates; damaged and hostile ones."""

import struct
from pathlib import Path

import numpy as np
import pytest

pye57 = pytest.importorskip("pye57", reason="needs pye57: pip install 'bixt3d[lidar]'")

from bixt3d.datasets.files.e57 import _check_xml, _from_sphere  # noqa: E402
from bixt3d.datasets.files.reader import read_file  # noqa: E402
from bixt3d.types import InputError  # noqa: E402

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
