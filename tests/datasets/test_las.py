"""LAS and LAZ files, read: against laspy, with every dimension; damaged and hostile ones."""

import struct
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("laspy", reason="needs laspy and lazrs: pip install 'bixt3d[lidar]'")

from las_files import WKT, first_point, las_bytes, make_las, write_las_file  # noqa: E402

from bixt3d.datasets.files.arrays import as_clouds  # noqa: E402
from bixt3d.datasets.files.las import open_las  # noqa: E402
from bixt3d.datasets.files.las_crs import crs_of  # noqa: E402
from bixt3d.datasets.files.las_dims import WAVES  # noqa: E402
from bixt3d.datasets.files.reader import read_file  # noqa: E402
from bixt3d.types import InputError  # noqa: E402


def changed(raw: bytes, place: int, form: str, *values: object) -> bytes:
    found = bytearray(raw)
    struct.pack_into(form, found, place, *values)
    return bytes(found)


@pytest.mark.parametrize(("point_format", "ending"), [(n, "laz" if n % 2 else "las") for n in range(11)] + [(6, "laz")])
def test_every_dimension_is_read_as_laspy_reads_it(tmp_path, point_format, ending):
    las = make_las(point_format)
    (cloud,) = read_file(write_las_file(tmp_path / f"a.{ending}", las))
    waves = WAVES if ending == "laz" and point_format > 8 else ()
    assert np.array_equal(cloud.xyz, np.stack([las.x, las.y, las.z], 1)) and cloud.up == "z"
    assert [note[:25] for note in cloud.notes] == ["waveform packets not read"] * bool(waves)
    names = set(las.point_format.dimension_names) - {*"XYZ", "red", "green", "blue", *waves}
    for name in names - {"scan_angle", "scan_angle_rank"}:
        assert np.array_equal(cloud.columns[name][:, 0], las[name]), name
    if "red" in las.point_format.dimension_names:
        assert np.array_equal(cloud.columns["rgb"], np.stack([las.red, las.green, las.blue], 1))
    if point_format < 6:
        assert np.array_equal(cloud.columns["scan_angle"][:, 0], las.scan_angle_rank)
    else:
        assert np.allclose(cloud.columns["scan_angle"][:, 0], np.array(las.scan_angle) * 0.006)
    assert len(cloud.columns) == len(names) + ("red" in las.point_format.dimension_names)


@pytest.mark.parametrize("point_format", range(11))
@pytest.mark.parametrize("most", [255, 65535])
def test_an_object_of_laspy_is_read_as_its_file_is(tmp_path, point_format, most):
    las = make_las(point_format)
    if "red" in las.point_format.dimension_names:
        las.red, las.green, las.blue = np.random.default_rng(0).integers(0, most + 1, (3, len(las)))
    (from_file,) = read_file(write_las_file(tmp_path / "a.las", las))
    single, (cloud,) = as_clouds(las)
    assert single and (cloud.up, cloud.notes) == ("z", from_file.notes) and np.array_equal(cloud.xyz, from_file.xyz)
    assert list(cloud.columns) == list(from_file.columns)
    for name, values in from_file.columns.items():
        assert cloud.columns[name].dtype == values.dtype and np.array_equal(cloud.columns[name], values), name


def test_chunks_of_a_file_give_what_the_whole_gives(tmp_path):
    path = write_las_file(tmp_path / "a.laz", make_las(7))
    (cloud,) = read_file(path)
    with open_las(path) as las:
        chunks = list(las.chunks(size=70))
        few = list(las.chunks(["intensity"], size=70))
        run = las.run(150, 30)
    assert [len(chunk.xyz) for chunk in chunks] == [70, 70, 60]
    for own in (chunks, few):
        assert np.array_equal(np.concatenate([chunk.xyz for chunk in own]), cloud.xyz)
    for name in cloud.columns:
        assert np.array_equal(np.concatenate([chunk.columns[name] for chunk in chunks]), cloud.columns[name])
    assert np.array_equal(np.concatenate([chunk.columns["intensity"] for chunk in few]), cloud.columns["intensity"])
    assert np.array_equal(run.xyz, cloud.xyz[150:180]) and list(few[0].columns) == ["intensity"]


def test_colors_of_8_bits_in_16_bit_fields_are_taken_for_them_and_said(tmp_path):
    las = make_las(2)
    las.red = las.green = las.blue = np.arange(200)
    (cloud,) = read_file(write_las_file(tmp_path / "a.las", las))
    assert cloud.columns["rgb"].dtype == np.uint8 and cloud.columns["rgb"][:, 0].tolist() == list(range(200))
    assert cloud.notes == ("colors taken for 0 to 255: none of their 16-bit fields is above",)


def test_extra_dimensions_that_mean_a_standard_one_get_another_name(tmp_path):
    raw = las_bytes(make_las(0))
    entry = raw.index(b"height" + bytes(20))
    for name, column in (("Intensity", "extra_intensity"), ("x", "extra_x"), ("Höhe", "höhe"), ("", "extra_0")):
        (tmp_path / "a.las").write_bytes(changed(raw, entry, "32s", name.encode("latin-1")))
        (cloud,) = read_file(tmp_path / "a.las")
        assert column in cloud.columns and len(cloud.columns) == 13


def test_an_extra_dimension_of_three_numbers_is_one_column(tmp_path):
    las = make_las(0, extra=False)
    las.add_extra_dim(__import__("laspy").ExtraBytesParams("a", "u4"))
    las["a"] = np.arange(200) * 65536 + np.arange(200)
    raw = las_bytes(las)
    place = raw.index(b"LASF_Spec") + 52
    (tmp_path / "a.las").write_bytes(changed(raw, place + 2, "<B", 13))  # two of uint16
    assert np.array_equal(read_file(tmp_path / "a.las")[0].columns["a"], np.arange(200)[:, None].repeat(2, 1))


def test_extra_bytes_that_nothing_describes_are_said(tmp_path):
    raw = las_bytes(make_las(1))
    name = raw.index(b"LASF_Spec")
    (tmp_path / "a.las").write_bytes(changed(raw, name + 16, "<H", 99))
    (cloud,) = read_file(tmp_path / "a.las")
    assert cloud.notes == ("2 extra bytes of each point not read, which nothing describes",)
    assert "height" not in cloud.columns


@pytest.mark.parametrize(
    ("wkt", "expected"),
    [
        (WKT, {"name": "Paris + height", "units": "metres", "vertical": "feet"}),
        ('PROJCS["x",GEOGCS["y",UNIT["degree",0.01745]],UNIT["US survey foot",0.304800609601219]]', "US survey feet"),
        ('PROJCRS["x",BASEGEOGCRS["y"],CS[Cartesian,2],LENGTHUNIT["foot",0.3048]]', "feet"),
        ('GEOGCS["WGS 84",UNIT["degree",0.0174532925199433]]', "degrees"),
        ('PROJCS["x",UNIT["rod",5.0292]]', "rod of 5.0292 m"),
        ("no WKT", None),
    ],
)
def test_the_coordinate_system_gives_units(tmp_path, wkt, expected):
    path = write_las_file(tmp_path / "a.las", make_las(6, wkt=wkt))
    with open_las(path) as las:
        found = crs_of(las.all_records)
    assert found == expected if isinstance(expected, dict) else found.get("units") == expected
    (cloud,) = read_file(path)
    degrees = "x and y are degrees of longitude and latitude, which distort shapes: project them to metres first"
    unit = f"coordinates are in {expected}, as the coordinate system of the file says"
    metres = expected is None or isinstance(expected, dict)
    assert cloud.notes == (() if metres else (degrees,) if expected == "degrees" else (unit,))


@pytest.mark.parametrize(
    ("wkt", "expected"),
    [
        ('PROJCS["x",UNIT["foot",0.3048]]', (0.3048, 0.3048)),
        (
            'COMPD_CS["x",PROJCS["y",UNIT["metre",1]],VERT_CS["z",UNIT["US survey foot",0.3048006096]]]',
            (1, 1200 / 3937),
        ),
        ('PROJCS["x",UNIT["rod",5.0292]]', (5.0292, 5.0292)),
        ('PROJCS["x",UNIT["nothing",0.0]]', None),
        ('PROJCS["x",UNIT["a of b m",1e+-]]', None),
        ('GEOGCS["WGS 84",UNIT["degree",0.0174532925199433]]', None),
        ("", None),
    ],
)
def test_units_in_meters(tmp_path, wkt, expected):
    (cloud,) = read_file(write_las_file(tmp_path / "a.las", make_las(6, wkt=wkt)))
    assert cloud.meters == (expected and pytest.approx(expected, rel=1e-9))
    with open_las(tmp_path / "a.las") as las:
        assert las.meters == cloud.meters


def test_keys_of_geotiff_give_name_and_units(tmp_path):
    from laspy import VLR

    las = make_las(3)
    keys = struct.pack("<16H", 1, 1, 0, 3, 1024, 0, 1, 1, 3073, 34737, 8, 0, 3076, 0, 1, 9003)
    las.vlrs += [VLR("LASF_Projection", 34735, "", keys), VLR("LASF_Projection", 34737, "", b"Oregon|\0")]
    with open_las(write_las_file(tmp_path / "a.las", las)) as found:
        assert crs_of(found.all_records) == {"name": "Oregon", "units": "US survey feet"}


def test_bytes_behind_the_points_are_said_and_counts_that_differ_too(tmp_path):
    (tmp_path / "a.las").write_bytes(las_bytes(make_las(1)) + b"12345")
    assert read_file(tmp_path / "a.las")[0].notes == ("5 bytes behind its last point not read",)
    (tmp_path / "b.las").write_bytes(changed(las_bytes(make_las(6)), 107, "<I", 150))
    assert read_file(tmp_path / "b.las")[0].notes == ("says 150 points in one place and 200 in another: 200 read",)


PLAIN, LAYERED, OLD = las_bytes(make_las(3)), las_bytes(make_las(7), True), las_bytes(make_las(3), True)
LASZIP = LAYERED.index(b"laszip encoded") + 52
TABLE = struct.unpack_from("<q", LAYERED, first_point(LAYERED))[0]


@pytest.mark.parametrize(
    ("ending", "raw", "sentence"),
    [
        ("las", PLAIN[:-10], "announces 200 points, but it ends after 199"),
        ("las", changed(PLAIN, 107, "<I", 2**32 - 1), "announces 4294967295 points"),
        ("las", b"PLY" + PLAIN, "is no LAS or LAZ file"),
        ("las", PLAIN[:100], "has a damaged header"),
        ("las", changed(PLAIN, 25, "<B", 9), "of a version that is not known"),
        ("las", changed(PLAIN, 96, "<I", 2**31), "its sizes do not fit the file"),
        ("las", changed(PLAIN, 100, "<I", 2**32 - 1), "announces 4294967295 variable length records"),
        ("las", changed(PLAIN, 100, "<I", 30), "damaged variable length records"),
        ("las", changed(PLAIN, 104, "<B", 11), "has points of format 11"),
        ("las", changed(PLAIN, 105, "<H", 3), "has points of 3 bytes, too few for format 3"),
        ("las", changed(PLAIN, 131, "<d", np.nan), "has the scale (nan, 0.01, 0.001)"),
        ("las", changed(PLAIN, 131, "<d", 0), "has the scale (0.0, 0.01, 0.001)"),
        ("las", las_bytes(make_las(3, 0)), "has 0 points"),
        ("laz", OLD[:-30], "cut off, or damaged"),
        ("laz", changed(OLD, 107, "<I", 2**32 - 1), "points that need"),
        ("laz", changed(OLD, 107, "<I", 100_000), "announces 100000 points, but has fewer"),
        ("laz", changed(LAYERED, 247, "<Q", 2**62), "points that need"),
        ("laz", changed(LAYERED, LASZIP, "<H", 1), "as only the first versions of LASzip did"),
        ("laz", changed(LAYERED, LASZIP + 36, "<H", 60_000), "compressed points of another size"),
        ("laz", changed(LAYERED, TABLE + 4, "<I", 2**32 - 1), "announces 4294967295 compressed chunks"),
        ("laz", changed(LAYERED, first_point(LAYERED), "<q", 2**60), "has no table of compressed chunks"),
        (
            "laz",
            changed(LAYERED, first_point(LAYERED) + 8 + 38 + 4, "<I", 2**32 - 1),
            "has layers of compressed points",
        ),
        ("laz", OLD.replace(b"laszip encoded", b"laszip decoded"), "without a record that says how"),
    ],
)
def test_a_damaged_or_hostile_file_is_a_sentence(tmp_path, ending, raw, sentence):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(raw)
    with pytest.raises(InputError) as caught:
        read_file(path)
    assert sentence in str(caught.value) and str(caught.value).startswith(str(path))


def test_without_laspy_a_las_file_is_a_sentence_with_the_pip_line(tmp_path, monkeypatch):
    import sys

    path = write_las_file(tmp_path / "a.las", make_las())
    monkeypatch.setitem(sys.modules, "laspy", None)
    with pytest.raises(InputError, match=r"pip install 'bixt3d\[lidar\]'"):
        read_file(Path(path))
