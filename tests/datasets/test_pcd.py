"""PCD files as programs and people write them: headers, rows, packed colors, the pose of the sensor."""

import struct
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bixt3d.datasets.files.cloud import Cloud
from bixt3d.datasets.files.reader import read_file
from bixt3d.types import InputError

XYZ = np.random.default_rng(0).integers(-99, 99, (6, 3)) / 4
RGB = np.random.default_rng(1).integers(0, 256, (6, 3)).astype(np.uint8)
PACKED = (RGB.astype(np.uint32) << [16, 8, 0]).sum(1).astype(np.uint32)
HEAD = {"VERSION": "0.7", "FIELDS": "x y z", "SIZE": "4 4 4", "TYPE": "F F F", "COUNT": "1 1 1", "WIDTH": "6"}
HEAD |= {"HEIGHT": "1", "VIEWPOINT": "0 0 0 1 0 0 0", "POINTS": "6", "DATA": "ascii"}
ROWS = [" ".join(f"{value:g}" for value in row) for row in XYZ]


def header(**changed: str | None) -> str:
    entries = HEAD | changed
    return "# .PCD v0.7 - Point Cloud Data file format\n" + "".join(
        f"{key} {value}\n" for key, value in entries.items() if value is not None
    )


def read(path: Path, content: str | bytes, **options: bool) -> Cloud:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    (cloud,) = read_file(path, **options)
    return cloud


def ascii_of(rows: list[str] = ROWS, **changed: str | None) -> str:
    return header(**changed) + "\n".join(rows) + "\n"


def binary_of(xyz: np.ndarray = XYZ, **changed: str | None) -> bytes:
    return header(DATA="binary", **changed).encode() + xyz.astype("<f4").tobytes()


def compressed(raw: bytes) -> bytes:
    """Return LZF data that repeats nothing."""
    pieces = [raw[i : i + 32] for i in range(0, len(raw), 32)]
    packed = b"".join(bytes([len(piece) - 1]) + piece for piece in pieces)
    return struct.pack("<II", len(packed), len(raw)) + packed


@pytest.mark.parametrize(
    "content",
    [
        ascii_of(HEIGHT=None),
        ascii_of(WIDTH="2", HEIGHT="3"),
        ascii_of(WIDTH="2", HEIGHT=None),  # what counts is POINTS
        ascii_of(POINTS=None),
        ascii_of(POINTS=None, HEIGHT=None),
        ascii_of(POINTS=None, HEIGHT=None, WIDTH=None),
        ascii_of(WIDTH=None, HEIGHT=None),
        ascii_of(VERSION=None, VIEWPOINT=None, COUNT=None),
        ascii_of(SIZE=None, TYPE=None),
        ascii_of(WIDTH="6.0", HEIGHT="1.0", POINTS="6.0", COUNT="1.0 1.0 1.0"),
        ascii_of(FIELDS="X Y Z", TYPE="f f f", DATA="ASCII"),
        ascii_of().replace("FIELDS", "COLUMNS"),
        ascii_of().replace("WIDTH", "width").replace("DATA ascii", "data ascii"),
        ascii_of(WIDTH="6 # columns"),
        ascii_of().replace("VERSION", "# written by J\u00fcrgen\nVERSION"),
        ascii_of().replace("VERSION", "# J\u00fcrgen\nVERSION").encode("latin-1"),
        ascii_of().replace("\n", "\r\n"),
        ascii_of().replace("\n", "\r"),
        ascii_of().replace("\n", "\n\n"),
        "\ufeff" + ascii_of(),
        ascii_of().encode("utf-16"),
        b"\xef\xbb\xbf" + binary_of(),
        ascii_of().replace("FIELDS", "\t FIELDS"),
        ascii_of(["# first", *ROWS[:2], "", "  # h\u00e4lfte", *ROWS[2:]]),
        ascii_of([row + "  # seen" for row in ROWS]),
        ascii_of([row.replace(".", ",") for row in ROWS]),
        ascii_of([row.replace(" ", ",") for row in ROWS]),
        ascii_of([row.replace(" ", ", ") for row in ROWS]),
        ascii_of([row.replace(" ", " \t ") for row in ROWS]),
        ascii_of()[:-1],
        binary_of(HEIGHT=None),
        binary_of(POINTS=None),
        binary_of(POINTS=None, HEIGHT=None, WIDTH=None),
        binary_of().replace(b"DATA binary", b"DATA Binary\r"),
        binary_of().replace(b"VERSION", b"# \xfc\nVERSION"),
        header(DATA="binary_compressed", POINTS=None, HEIGHT=None, WIDTH=None).encode()
        + compressed(XYZ.T.astype("<f4").tobytes()),
        header(DATA="binary", SIZE="8 8 8").encode() + XYZ.astype("<f8").tobytes(),
    ],
)
def test_a_header_may_be_short_commented_and_written_by_hand(tmp_path, content):
    cloud = read(tmp_path / "a.pcd", content)
    assert np.array_equal(cloud.xyz, XYZ) and not cloud.columns and not cloud.notes and cloud.up == "-y"


@pytest.mark.parametrize(
    ("kind", "text", "expected", "dtype"),
    [
        ("U1", "12.0", 12, np.uint8),
        ("U2", "1.2e3", 1200, np.uint16),
        ("I4", "-7.000000", -7, np.int32),
        ("U8", "1612345678901234567", 1612345678901234567, np.uint64),
        ("U1", "300", 300, np.float64),  # not 44
        ("U1", "-1", -1, np.float64),
        ("I2", "0.5", 0.5, np.float64),
        ("F4", "1e-3", np.float32(1e-3), np.float32),
    ],
)
def test_numbers_are_read_as_they_are_written_whatever_their_type(tmp_path, kind, text, expected, dtype):
    cloud = read(
        tmp_path / "a.pcd",
        ascii_of(
            [f"{row} {text}" for row in ROWS],
            FIELDS="x y z intensity",
            SIZE=f"4 4 4 {kind[1]}",
            TYPE=f"F F F {kind[0]}",
            COUNT="1 1 1 1",
        ),
    )
    assert cloud.columns["intensity"].dtype == dtype and cloud.columns["intensity"].tolist() == [[expected]] * 6


@pytest.mark.parametrize("missing", ["nan", "NaN", "-nan", "-nan(ind)", "1.#QNAN", "-1.#IND00", "inf", "-1.#INF"])
def test_points_that_a_camera_did_not_see_are_dropped_however_nan_is_written(tmp_path, missing):
    rows = [*ROWS[:2], f"{missing} {missing} {missing}", *ROWS[3:]]
    cloud = read(tmp_path / "a.pcd", ascii_of(rows, WIDTH="3", HEIGHT="2"))
    assert np.array_equal(cloud.kept, [0, 1, 3, 4, 5]) and np.array_equal(cloud.xyz, XYZ[cloud.kept])


def colored(kind: str, name: str, values: np.ndarray, data: str) -> bytes:
    size = str(values.dtype.itemsize)
    head = header(
        FIELDS=f"x y z _ {name}", SIZE=f"4 4 4 1 {size}", TYPE=f"F F F U {kind}", COUNT="1 1 1 4 1", DATA=data
    ).encode()
    table = np.zeros(6, [("xyz", "<f4", 3), ("_", "u1", 4), ("c", values.dtype.newbyteorder("<"))])
    table["xyz"], table["c"] = XYZ, values
    if data == "binary":
        return head + table.tobytes()
    if data == "ascii":
        rows = (f"{row} 0 0 0 0 {value!r}" for row, value in zip(ROWS, values.tolist(), strict=True))
        return head + "\n".join(rows).encode()
    fields = [XYZ.T.astype("<f4"), table["_"], table["c"]]
    return head + compressed(b"".join(np.ascontiguousarray(field).tobytes() for field in fields))


@pytest.mark.parametrize("data", ["ascii", "binary", "binary_compressed"])
@pytest.mark.parametrize("name", ["rgb", "rgba", "RGB"])
@pytest.mark.parametrize("kind", ["F", "U", "I"])
def test_packed_colors_are_read_from_floats_and_integers_of_any_opacity(tmp_path, kind, name, data):
    for opacity in (0, 1, 254):
        values = PACKED | np.uint32(opacity << 24)
        values = values.view({"F": np.float32, "U": np.uint32, "I": np.int32}[kind])
        cloud = read(tmp_path / "a.pcd", colored(kind, name, values, data))
        assert np.array_equal(cloud.columns["rgb"], RGB) and list(cloud.columns) == ["rgb"]


def test_packed_colors_written_as_whole_numbers_into_a_field_of_floats_are_read_and_said(tmp_path):
    for kind in (np.float32, np.float64):
        cloud = read(tmp_path / "a.pcd", colored("F", "rgb", PACKED.astype(kind), "ascii"))
        assert np.array_equal(cloud.columns["rgb"], RGB)
        assert cloud.notes == ("packed colors taken as whole numbers",)


TURN = Rotation.from_euler("xyz", [20, -70, 110], degrees=True)
ORIGIN = np.array([500_000.25, 5_400_000.5, -100])


@pytest.mark.parametrize("factor", [1, -1, 2.5], ids=["unit", "negative", "long"])
def test_the_viewpoint_moves_points_and_normals(tmp_path, factor):
    quaternion = TURN.as_quat(scalar_first=True) * factor
    pose = " ".join(repr(float(one)) for one in (*ORIGIN, *quaternion))
    both = np.hstack([XYZ, np.roll(np.eye(3), 1, 0)[[0, 1, 2, 0, 1, 2]]])
    fields = {"FIELDS": "x y z normal_x normal_y normal_z", "SIZE": "4 4 4 4 4 4", "TYPE": "F F F F F F"}
    content = binary_of(both, **fields, COUNT="1 1 1 1 1 1", VIEWPOINT=pose)
    cloud = read(tmp_path / "a.pcd", content)
    np.testing.assert_allclose(cloud.xyz, TURN.apply(XYZ) + ORIGIN, atol=1e-8)
    np.testing.assert_allclose(cloud.columns["normal"], TURN.apply(both[:, 3:]), atol=1e-12)
    assert cloud.up is None and cloud.notes == ("moved by its VIEWPOINT, the pose of the sensor",)
    left = read(tmp_path / "a.pcd", content, viewpoint=False)
    assert np.array_equal(left.xyz, XYZ) and left.notes == ("its VIEWPOINT not applied",) and left.up == "-y"


@pytest.mark.parametrize(
    ("pose", "note"),
    [
        ("1 2 3 1 0 0 0", "moved by its VIEWPOINT, the pose of the sensor"),
        ("1 2 3 0 0 0 0", "its VIEWPOINT, which is no pose, not applied"),
        ("1 2 nan 1 0 0 0", "its VIEWPOINT, which is no pose, not applied"),
        ("1 2 3", "its VIEWPOINT, which is no pose, not applied"),
    ],
)
def test_a_viewpoint_that_turns_nothing_leaves_what_is_up(tmp_path, pose, note):
    cloud = read(tmp_path / "a.pcd", ascii_of(VIEWPOINT=pose))
    assert cloud.notes == (note,) and cloud.up == "-y"
    assert np.array_equal(cloud.xyz, XYZ + ([1, 2, 3] if "moved" in note else 0))


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (ascii_of([*ROWS, "9 9 9"]), "1 row behind its points not read"),
        (binary_of() + b"\0" * 7, "7 bytes behind its points not read"),
        (
            header(DATA="binary_compressed").encode() + compressed(XYZ.T.astype("<f4").tobytes()) + b"ab",
            "2 bytes behind its points not read",
        ),
    ],
    ids=["ascii", "binary", "compressed"],
)
def test_what_lies_behind_the_points_is_said(tmp_path, content, note):
    cloud = read(tmp_path / "a.pcd", content)
    assert np.array_equal(cloud.xyz, XYZ) and cloud.notes == (note,)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (ascii_of(ROWS[:5]), "announces 6 points, but it ends after 5"),
        (ascii_of([*ROWS[:5], "1 2"]), "has the row '1 2', but its fields take 3 numbers"),
        (ascii_of([*ROWS[:5], "1 2 3 4"]), "has the row '1 2 3 4', but its fields take 3 numbers"),
        (binary_of()[:-1], "announces 6 points, but it ends after 5"),
        (
            (header(DATA="binary_compressed").encode() + compressed(XYZ.T.astype("<f4").tobytes()))[:-4],
            "announces 75 bytes of points, but it ends after 71",
        ),
        (binary_of(POINTS=None, HEIGHT=None, WIDTH=None)[:-1], "is not a PCD file, or it is damaged"),
        (binary_of(SIZE=None), "is not a PCD file, or it is damaged"),
        (ascii_of(WIDTH="5", HEIGHT="2"), "announces 6 points, but 5 times 2"),
        (ascii_of(WIDTH="6.5"), "is not a PCD file, or it is damaged"),
        (ascii_of(DATA="zip"), "is not a PCD file, or it is damaged"),
        (ascii_of(FIELDS="x y"), "is not a PCD file, or it is damaged"),
        (ascii_of(FIELDS="a b c"), "has no columns x, y, z"),
    ],
)
def test_what_is_cut_short_or_contradicts_itself_is_refused(tmp_path, content, sentence):
    with pytest.raises(InputError, match=sentence):
        read(tmp_path / "a.pcd", content)


def test_one_field_may_be_the_whole_position(tmp_path):
    content = ascii_of(FIELDS="position", SIZE="4", TYPE="F", COUNT="3")
    assert np.array_equal(read(tmp_path / "a.pcd", content).xyz, XYZ)


def test_points_and_colors_are_what_open3d_reads(tmp_path):
    open3d = pytest.importorskip("open3d", reason="needs open3d to compare with", exc_type=ImportError)
    for data in ("ascii", "binary", "binary_compressed"):
        path = tmp_path / f"{data}.pcd"
        path.write_bytes(colored("F", "rgb", PACKED.view(np.float32), data))
        expected, (found,) = open3d.io.read_point_cloud(str(path)), read_file(path)
        assert np.array_equal(found.xyz, np.asarray(expected.points))
        np.testing.assert_allclose(found.columns["rgb"] / 255, np.asarray(expected.colors))
