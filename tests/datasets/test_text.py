"""Text files of points, generated as programs and instruments write them, with their kin; what cannot be right."""

import re
from pathlib import Path

import numpy as np
import pandas
import pytest

from bixt3d.datasets.files.arrays import as_clouds
from bixt3d.datasets.files.cloud import with_features
from bixt3d.datasets.files.columns import Points
from bixt3d.datasets.files.reader import read_file
from bixt3d.datasets.files.text import read_text
from bixt3d.datasets.files.text_columns import MAX_WORDS
from bixt3d.types import Features, InputError

XYZ = np.random.default_rng(0).uniform(-9, 9, (40, 3)).round(3)
XYZ[0], XYZ[5] = [0.25, -3, 7], [12, 0.5, -0.125]
UTM = XYZ + [500_000, 5_400_000, 0]
NORMALS = np.tile([[0, 0, 1.0], [0.6, 0.8, 0]], (20, 1))
RGB = np.random.default_rng(1).integers(0, 256, (40, 3)).astype(float)
IDS = np.arange(1.0, 41)[:, None]
WORDS = ["chair", "table"] * 20


def rows(*columns: np.ndarray, sep: str = ",", decimal: str = ".", form: str = "{:.15g}") -> str:
    """Return the rows of a table."""
    cells = [[form.format(value).replace(".", decimal) for value in row] for row in np.hstack(columns)]
    return "".join(sep.join(row) + "\n" for row in cells)


def points(folder: Path, text: str | bytes, name: str = "a.csv") -> Points:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    (found,) = read_text(folder / name)
    return found


def refused(folder: Path, text: str | bytes, name: str = "a.csv") -> str:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as caught:
        read_file(folder / name)
    said = str(caught.value)
    assert said.startswith(str(folder / name)) and "\n" not in said
    return said.removeprefix(f"{folder / name} ")


@pytest.mark.parametrize(
    "names",
    [
        ("X", "Y", "Z"),
        ("x [m]", "y [m]", "z [m]"),
        ("X(m)", "Y(m)", "Z(m)"),
        ("X/m", "Y/m", "Z/m"),
        ("x_mm", "y_mm", "z_mm"),
        ("Points:0", "Points:1", "Points:2"),
        ("Points_0", "Points_1", "Points_2"),
        ("coords_x", "coords_y", "coords_z"),
        ("x-coordinate", "y-coordinate", "z-coordinate"),
        ("X Coordinate", "Y Coordinate", "Z Coordinate"),
        ("PointX", "PointY", "PointZ"),
        ("pos_x", "pos_y", "pos_z"),
        ("PtX", "PtY", "PtZ"),
        ("xyz_1", "xyz_2", "xyz_3"),
        ("Easting", "Northing", "Elevation"),
        ("easting [m]", "northing [m]", "height [m]"),
        ("UTM_Easting", "UTM_Northing", "Alt"),
        ("east", "north", "height"),
        ("E", "N", "Z"),
        ("E", "N", "H"),
        ("Rechtswert", "Hochwert", "Höhe"),
        ("x", "y", "elevation"),
    ],
    ids="-".join,
)
def test_positions_are_found_by_name_in_any_order_and_behind_numbers_of_points(tmp_path, names):
    x, y, z = names
    table = rows(IDS, UTM[:, [1, 0, 2]], RGB[:, :1])
    found = points(tmp_path, f"Point,{y},{x},{z},intensity [dB]\n{table}")
    assert np.array_equal(found.xyz, UTM) and list(found.columns) == ["point", "intensity"]
    for quoted in (f'"{x}";"{y}";"{z}"\n', f"# {x};{y};{z}\n", f"% made by hand\n%{x}; {y}; {z}\n"):
        assert np.array_equal(points(tmp_path, quoted + rows(UTM, sep=";")).xyz, UTM)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("lon,lat,alt", "in degrees (lon, lat, alt): project them to metres"),
        ("Latitude;Longitude;Height", "in degrees"),
        ("x [deg],y [deg],z [m]", "in degrees"),
        ("x [m],y [m],z [mm]", "different units (m, m, mm)"),
        ("x,y,z\nm,m,ft", "different units (m, m, ft)"),
        ("x,y,intensity", "no columns x, y, z in its header"),
        ("x,X,z", "no columns x, y, z in its header"),
    ],
)
def test_names_that_cannot_be_right_are_refused(tmp_path, header, words):
    assert words in refused(tmp_path, header + "\n" + rows(XYZ, sep=";" if ";" in header else ","))


def test_a_header_that_names_no_positions_is_refused_unless_there_are_three_columns(tmp_path):
    assert "no columns x, y, z in its header 'time,range,angle,gain'" in refused(
        tmp_path, "time,range,angle,gain\n" + rows(XYZ, RGB[:, :1])
    )
    assert points(tmp_path, "a,b,c\n" + rows(XYZ)).notes == ("its header 'a,b,c' not used",)
    assert "names 3 columns in line 1, but has 6 in line 2" in refused(tmp_path, "x,y,z\n" + rows(XYZ, RGB))


@pytest.mark.parametrize("sep", [",", ";", "\t", " "])
def test_numbers_of_rows_that_pandas_and_r_write_are_no_positions(tmp_path, sep):
    index = IDS - 1
    table = rows(index, XYZ, sep=sep)
    pandas = sep.join(["", "0", "1", "2"]) + "\n" + table
    quoted = "\n".join(f'"{line.split(sep)[0]}"{line[len(line.split(sep)[0]) :]}' for line in table.splitlines())
    unnamed = sep.join(["Unnamed: 0", "0", "1", "2"]) + "\n" + table
    for text in (
        *([pandas, unnamed] if sep != " " else []),
        sep.join(["x", "y", "z"]) + "\n" + table,  # R's write.table
        sep.join(['"V1"', '"V2"', '"V3"']) + "\n" + quoted + "\n",
        sep.join(['""', '"x"', '"y"', '"z"']) + "\n" + table,
    ):
        found = points(tmp_path, text)
        assert np.array_equal(found.xyz, XYZ) and not found.columns, text[:30]
        assert "its first column, which counts the rows, not read" in found.notes
    found = points(tmp_path, sep.join("012") + "\n" + rows(XYZ, sep=sep))
    assert np.array_equal(found.xyz, XYZ)
    found = points(tmp_path, sep.join("012345") + "\n" + rows(XYZ.round(), RGB, sep=sep))
    assert len(found.xyz) == 40 and np.array_equal(found.columns["rgb"], RGB)
    assert len(points(tmp_path, "0 1 2\n1 2 3\n4 5 6\n").xyz) == 3  # may well be a point
    assert "counts its rows in the first column" in refused(tmp_path, rows(IDS, XYZ))
    assert "has rising integers in the first column" in refused(tmp_path, rows(100 + 3 * IDS, XYZ))
    for header, own in ((",0,1,2,label", (index, XYZ)), ("0,1,2,label", (XYZ,))):
        text = header + "\n" + rows(*own).replace("\n", ",car\n")
        found = points(tmp_path, text)
        assert np.array_equal(found.xyz, XYZ) and found.words == {"label": ("car",)}


@pytest.mark.parametrize(
    ("sep", "decimal"),
    [(",", "."), (", ", "."), (";", "."), (";", ","), ("\t", "."), ("\t", ","), (" ", "."), (" ", ",")]
    + [("   ", "."), ("   ", ","), (" \t ", "."), ("|", "."), (" ; ", ","), ("\t\t", ".")],
)
@pytest.mark.parametrize(
    ("ending", "encoding"),
    [("\n", "utf-8"), ("\r\n", "utf-8-sig"), ("\r", "utf-16"), ("\r\n", "utf-16-be"), ("\n", "utf-32-le")],
)
def test_separators_decimal_marks_line_endings_and_encodings(tmp_path, sep, decimal, ending, encoding):
    table = rows(UTM, RGB[:, :1], sep=sep, decimal=decimal).replace("\n", ending)
    for header in ("", sep.join(("x", "y", "z", "intensity")) + ending):
        found = points(tmp_path, (header + ending + table + ending).encode(encoding))
        assert np.array_equal(found.xyz, UTM)
        assert np.array_equal(*found.columns.values(), RGB[:, :1])
        assert ("commas read as decimal marks" in found.notes) == (decimal == ",")


@pytest.mark.parametrize(
    "row",
    [
        "1'234.5 2'600'000.25 400",
        "1\u2019234.5;2\u2019600\u2019000.25;400",
        '"1,234.5","2,600,000.25","400"',
        "1,234.5\t2,600,000.25\t400.0",
        "1.234,5;2.600.000,25;400",
        "1 234,5;2 600 000,25;400",
        "1\u202f234,5\t2\u202f600\u202f000,25\t400",
    ],
)
def test_thousands_marks_are_read_where_they_are_clear(tmp_path, row):
    found = points(tmp_path, f"{row}\n{row.replace('400', '500')}\n")
    assert found.xyz.tolist() == [[1234.5, 2600000.25, 400], [1234.5, 2600000.25, 500]]
    assert "between thousands" in found.notes[0]


def test_decimal_commas_between_commas_are_refused(tmp_path):
    table = rows(abs(XYZ), form="{:.3f}", decimal=",")
    assert "may have decimal commas, as in '" in refused(tmp_path, table)
    assert "names 3 columns in line 1, but has 6 in line 2" in refused(tmp_path, "x,y,z\n" + table)
    row = '"3,198","2,351","5,255"\n"4,42","7,272","6,329"\n'
    assert points(tmp_path, row).xyz.tolist() == [[3.198, 2.351, 5.255], [4.42, 7.272, 6.329]]


@pytest.mark.parametrize("mark", ["#", "//", "!", "%", ";"])
def test_comments_are_skipped_alone_behind_numbers_and_among_rows(tmp_path, mark):
    lines = rows(XYZ, sep=" ").splitlines()
    text = "\n".join([f"{mark} by hand 1 2 3", *(f"{line} {mark} p" for line in lines[:9]), f"{mark} q", *lines[9:]])
    assert np.array_equal(points(tmp_path, text, "a.xyz").xyz, XYZ)
    assert np.array_equal(points(tmp_path, text.replace(f" {mark} p", ""), "a.xyz").xyz, XYZ)


@pytest.mark.parametrize("mark", ["#", "//"])
def test_a_comment_may_touch_the_number_before_it(tmp_path, mark):
    lines = rows(XYZ, sep=" ").splitlines()
    for touched in (lines[:3], lines[5:9], lines):
        text = "\n".join(f"{line}{mark}1 2" if line in touched else line for line in lines)
        found = points(tmp_path, text, "a.xyz")
        assert np.array_equal(found.xyz, XYZ) and not found.notes
    kept = points(tmp_path, "1 2 3 1.#QNAN wall1#2\n4 5 7 6 wall1#3\n", "a.xyz")
    assert kept.words == {"column5": ("wall1#2", "wall1#3")} and np.isnan(kept.columns["column4"][0])


def test_exponents_signs_and_marks_of_the_end_of_old_programs(tmp_path):
    table = rows(XYZ, sep="  ", form="{:.6e}")
    for text in (table, table.replace("e", "D"), table.replace("e", "d"), table.replace("e", "E") + "\x1a"):
        np.testing.assert_allclose(points(tmp_path, text, "a.xyz").xyz, XYZ, atol=1e-5)
    assert np.array_equal(points(tmp_path, rows(XYZ, sep="\t").replace("-", "\u2212")).xyz, XYZ)
    assert "has '2.5-3.5' in line 41, not a number" in refused(tmp_path, rows(XYZ, sep=" ") + "1.5  2.5-3.5 7\n")


def test_a_header_of_names_and_units_behind_other_lines(tmp_path):
    text = "Instrument: LS-5\nDate: 2024-05-01\n\nid;Easting;Northing;Height;class\n;m;m;m;\n"
    lines = [
        f"A{place};{row};{word}\n"
        for place, (row, word) in enumerate(zip(rows(UTM, sep=";").split(), WORDS, strict=True))
    ]
    found = points(tmp_path, text + "".join(lines))
    assert np.array_equal(found.xyz, UTM) and found.words["class"] == ("chair", "table")
    for text in ("sep=;\nx;y;z\n", "x;y;z\nm;m;m\n", "x;y;z;\n", "//X Y Z\n40\n", "x y z\n"):
        assert np.array_equal(points(tmp_path, text + rows(XYZ, sep=";")).xyz, XYZ)
        assert np.array_equal(points(tmp_path, text + rows(XYZ, sep=";").replace("\n", ";\n")).xyz, XYZ)
    text = "x y z\n" + rows(XYZ, sep=" ")
    assert np.array_equal(points(tmp_path, text + text).xyz, np.concatenate([XYZ, XYZ]))


@pytest.mark.parametrize("header", ["", "x,y,z,class\n"])
def test_words_become_numbers_whose_words_are_known(tmp_path, header):
    words = ["chair", "big, red table", "none", "7"] * 10
    lines = [f'{row},"{word}"\n' for row, word in zip(rows(XYZ).split(), words, strict=True)]
    lines[5] = lines[5].split('"')[0] + "\n"
    found = points(tmp_path, header + "".join(lines))
    (name,) = found.words
    assert name == ("class" if header else "column4") and found.words[name] == ("7", "big, red table", "chair", "none")
    codes = found.columns[name][:, 0]
    assert np.isnan(codes[5]) and f"{name} missing in 1 point" in found.notes
    assert [found.words[name][int(code)] for code in np.delete(codes, 5)] == words[:5] + words[6:]
    (tmp_path / "b.csv").write_text(header + "".join(lines))
    (cloud,) = read_file(tmp_path / "b.csv")
    assert cloud.words == found.words
    with pytest.raises(InputError, match=f"b.csv has {name} as words"):
        with_features(cloud, Features.parse(name))


def test_times_and_other_words_without_end_are_left_out(tmp_path):
    table = rows(np.random.default_rng(0).normal(size=(MAX_WORDS + 1, 3))).split()
    text = "".join(f"2024-05-01 12:00:{place / 1000:.3f},{row}\n" for place, row in enumerate(table))
    found = points(tmp_path, "time,x,y,z\n" + text)
    assert not found.columns and found.notes == (f"time not read, which has {MAX_WORDS + 1} different words",)


def test_colors_written_as_hexadecimal_numbers(tmp_path):
    words = [f"#{int(r):02x}{int(g):02X}{int(b):02x}" for r, g, b in RGB]
    lines = [f"{row} {word}\n" for row, word in zip(rows(XYZ, sep=" ").split("\n"), words, strict=False)]
    assert np.array_equal(points(tmp_path, "".join(lines)).columns["rgb"], RGB)
    text = "x y z color\n" + "".join(lines).replace("#", "0x")
    assert np.array_equal(points(tmp_path, text).columns["color"], RGB)


@pytest.mark.parametrize("gap", ["", "nan", "NaN", "NULL", "N/A", "-", "#N/A", "#DIV/0!", "1.#IND", "-1.#QNAN", "---"])
def test_gaps_are_nan_and_said(tmp_path, gap):
    lines = rows(XYZ, RGB[:, :1]).split()
    lines[3] = gap + lines[3][lines[3].index(",") :]
    lines[7] = lines[7][: lines[7].rindex(",") + 1] + gap
    found = points(tmp_path, "\n".join(["x,y,z,i", *lines]))
    assert np.flatnonzero(np.isnan(found.xyz).any(axis=1)).tolist() == [3] and len(found.xyz) == 40
    assert np.flatnonzero(np.isnan(found.columns["i"])).tolist() == [7]
    assert found.notes == ("i missing in 1 point",)
    first = points(tmp_path, "x,y,z,i\n---,---,---,---\nnan,nan,nan,nan\n" + rows(XYZ, RGB[:, :1]))
    assert np.isnan(first.xyz[0]).all() and len(first.xyz) == 41


def test_the_height_of_no_data_is_a_gap_unless_others_are_near(tmp_path):
    table = UTM.copy()
    table[4, 2] = -9999
    found = points(tmp_path, rows(table, sep=" "))
    assert np.flatnonzero(np.isnan(found.xyz).any(axis=1)).tolist() == [4]
    assert found.notes == ("-9999 taken for a missing z",)
    table[5, 2] = -9500
    assert not np.isnan(points(tmp_path, rows(table, sep=" ")).xyz).any()


def test_words_among_numbers_are_nan_and_said_but_no_positions(tmp_path):
    lines = rows(XYZ, RGB[:, :1]).split()
    lines[7] = lines[7][: lines[7].rindex(",") + 1] + "error"
    found = points(tmp_path, "\n".join(["x,y,z,i", *lines]))
    assert np.isnan(found.columns["i"][7]) and found.notes == ("i is no number in 1 point, such as 'error'",)
    lines[7] = "error" + lines[7][lines[7].index(",") :]
    assert "has 'error' in line 9, not a number" in refused(tmp_path, "\n".join(["x,y,z,i", *lines]))
    assert "has 3 columns in line 10, but 4 in line 2" in refused(
        tmp_path, "\n".join(["x,y,z,i", *lines[:7], "", "1,2,3"])
    )


@pytest.mark.parametrize("counts", [(40,), (15, 25), (10, 10, 20)])
def test_scans_of_a_pts_are_put_together(tmp_path, counts):
    lines, text, start = rows(XYZ, IDS - 99, RGB, sep=" ").splitlines(), "", 0
    for count in counts:
        text += f"{count}\n" + "".join(f"{line}\n" for line in lines[start : start + count])
        start += count
    found = points(tmp_path, text, "a.pts")
    assert np.array_equal(found.xyz, XYZ) and np.array_equal(found.columns["intensity"], IDS - 99)
    assert np.array_equal(found.columns["rgb"], RGB)
    assert (f"{len(counts)} scans put together" in found.notes) == (len(counts) > 1)
    cut = text.removesuffix(lines[-1] + "\n")
    assert re.match(r"announces \d+ points in line \d+, but has \d+ lines of them", refused(tmp_path, cut, "a.pts"))


def test_columns_of_open3d_and_cloudcompare_have_their_meaning(tmp_path):
    found = points(tmp_path, rows(XYZ, 0 * NORMALS, sep=" "), "a.xyzn")
    assert list(found.columns) == ["normal"] and "usual in .xyzn" in found.notes[0]
    found = points(tmp_path, rows(XYZ, RGB / 255, sep=" "), "a.XYZRGB")
    np.testing.assert_allclose(found.columns["rgb"], RGB / 255)
    text = "//X Y Z R G B Nx Ny Nz Scalar_field\n40\n"
    found = points(tmp_path, text + rows(XYZ, RGB, NORMALS, IDS, sep=" "), "a.asc")
    assert sorted(found.columns) == ["normal", "rgb", "scalar_field"] and np.array_equal(found.xyz, XYZ)
    header = ",".join([f'"{word}:{axis}"' for word in ("Normals", "Points") for axis in range(3)])
    found = points(tmp_path, header + "\n" + rows(NORMALS, XYZ))
    assert np.array_equal(found.columns["normal"], NORMALS) and np.array_equal(found.xyz, XYZ)


def test_what_looks_like_points_and_is_none_is_refused(tmp_path):
    grid = "ncols 3\nnrows 3\nxllcorner 0\nyllcorner 0\ncellsize 1\nNODATA_value -9999\n1 2 3\n3 4 5\n5 6 7\n"
    assert "is a grid of heights (ESRI ASCII)" in refused(tmp_path, grid, "a.asc")
    assert "has 2 columns in line 1, but 3 in line 2" in refused(tmp_path, "1 2\n" + rows(XYZ, sep=" "))
    assert "contains no points" in refused(tmp_path, rows(XYZ, sep=",").replace("\n", ";255,0,0\n"))
    assert "contains no points" in refused(tmp_path, "[1.0, 2.0, 3.0]\n[2.0, 3.0, 4.0]\n")
    assert "contains no points, but a header alone" in refused(tmp_path, ",0,1,2\n\n# the end\n")
    assert "is not text" in refused(tmp_path, b"1 2 3\n\0\0\0 4 5 6\n")


def test_letters_of_unknown_encodings_are_said_and_words_of_them_left_out(tmp_path):
    found = points(tmp_path, ("# gemessen von Herrn Müller\n" + rows(XYZ)).encode("latin-1"))
    assert np.array_equal(found.xyz, XYZ) and found.notes == (
        "its text is not UTF-8: letters beyond ASCII may be wrong",
    )
    lines = [f"{row},{word}\n" for row, word in zip(rows(XYZ).split(), ["椅子", "桌子"] * 20, strict=True)]
    for encoding in ("gbk", "utf-8", "utf-16"):
        found = points(tmp_path, ("x,y,z,label\n" + "".join(lines)).encode(encoding))
        assert np.array_equal(found.xyz, XYZ) and ("label" in found.words) == (encoding != "gbk")
    assert sorted(found.words["label"]) == sorted(["椅子", "桌子"])


def test_plain_numbers_and_anything_else_give_the_same_points(tmp_path):
    """Quotes make a file one that is not read by NumPy."""
    table = rows(XYZ, NORMALS, sep=" ")
    fast, slow = points(tmp_path, table), points(tmp_path, table.replace("0.25", '"0.25"', 1))
    assert np.array_equal(fast.xyz, slow.xyz) and fast.notes == slow.notes
    assert np.array_equal(fast.columns["normal"], slow.columns["normal"])


@pytest.mark.parametrize(
    "first",
    [IDS[::-1], 100 + 3 * IDS[::-1], np.random.default_rng(2).permutation(IDS), IDS % 4, -IDS],
    ids=["falling", "falling in steps", "shuffled", "labels", "below 0"],
)
def test_numbers_and_labels_of_points_before_positions_are_refused_in_every_table_without_names(tmp_path, first):
    sentence = (
        "has integers in the first column, as numbers or labels of points: put x, y, z first, or name the columns"
    )
    table = np.hstack([first, UTM])
    for text in (rows(table), rows(table, sep=" "), "0,1,2,3\n" + rows(table), rows(table, NORMALS, RGB)):
        assert refused(tmp_path, text) == sentence
    assert refused(tmp_path, rows(table, sep=" "), "a.pts") == sentence
    np.save(tmp_path / "a.npy", table)
    np.savez(tmp_path / "a.npz", points=table.astype("f4"))
    for name in ("a.npy", "a.npz"):
        assert refused(tmp_path, (tmp_path / name).read_bytes(), name) == sentence
    with pytest.raises(InputError, match="has integers in the first column"):
        as_clouds(pandas.DataFrame(table))


def test_integers_of_voxels_grids_and_labels_behind_positions_are_read(tmp_path):
    grid = np.hstack([XYZ[:, :2].round(), XYZ[:, 2:]])
    for table in (np.hstack([XYZ.round(), IDS]), np.hstack([grid, NORMALS]), np.hstack([XYZ, IDS % 4]), XYZ.round()):
        assert np.array_equal(points(tmp_path, rows(table)).xyz, table[:, :3])
        np.save(tmp_path / "a.npy", table.astype("f4"))
        assert np.array_equal(read_file(tmp_path / "a.npy")[0].xyz, table[:, :3].astype("f4"))
    plane = np.hstack([0 * IDS, XYZ[:, 1:], XYZ[:, :1]])
    found = points(tmp_path, rows(plane))
    assert np.array_equal(found.xyz, plane[:, :3])
    assert "its first column, 0 in all points, taken for x" in found.notes


KEYS = ("NROWS 30", "NCOLS 5", "XLLCORNER 0", "YLLCORNER 0", "CELLSIZE 1")
GRASS = ("north: 5400030", "south: 5400000", "east: 500005", "west: 500000", "rows: 30", "cols: 5")


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (KEYS, "ESRI"),
        (("ncols: 5", "cellsize = 1", "nrows: 30"), "ESRI"),
        (("# DEM", "", *map(str.lower, KEYS)), "ESRI"),
        ([f"# {key}" for key in KEYS], "ESRI"),
        (("DEM of 2020", *KEYS), "ESRI"),
        (GRASS, "GRASS"),
        (["  ".join(GRASS)], "GRASS"),
    ],
)
@pytest.mark.parametrize("width", [3, 5])
def test_grids_are_refused_whatever_the_order_of_their_keys(tmp_path, head, kind, width):
    heights = rows(np.random.default_rng(3).uniform(0, 9, (30, width)).round(2), sep=" ")
    sentence = f"is a grid of heights ({kind} ASCII), not a list of points: export it as x y z"
    assert refused(tmp_path, "\n".join([*head, heights]), "a.asc") == sentence


@pytest.mark.parametrize("name", ["# rows: 40\n# columns: 3\n", "# ncols 100\n# nrows 200\n", "north,east,height\n"])
def test_words_of_grids_before_points_are_no_grid(tmp_path, name):
    assert len(points(tmp_path, name + rows(XYZ)).xyz) == 40


@pytest.mark.parametrize(
    "header",
    [
        "range,azimuth,elevation",
        "Range [m];Azimuth [deg];Elevation [deg]",
        "range azimuth elevation",
        "# range azimuth elevation",
        "range,azimuth,elevation\nm,gon,gon",
        "nx,ny,nz",
        "Normals:0,Normals:1,Normals:2",
        "r,g,b",
        "B,G,R",
        "Red Green Blue",
        "time,temperature,pressure",
        "GPS_Time,foo,bar",
        "Easting,Northing,Depth",
        "Easting Northing Depth (m)",
        "id,easting,northing",
        "Norte,Este,Altura",
        "x,y,depth",
    ],
)
def test_a_header_of_other_quantities_is_refused(tmp_path, header):
    shown = header.split("\n")[0]
    sentence = f"has no columns x, y, z in its header '{shown}': name them so"
    sep = ";" if ";" in header else "," if "," in header else " "
    assert refused(tmp_path, header + "\n" + rows(XYZ, sep=sep)) == sentence


@pytest.mark.parametrize(
    "header",
    [
        "a,b,c",
        "u,v,w",
        "e,f,g",
        "Rechts;Hoch;Höhe",
        "Este,Norte,Altura",
        "Abscisse,Ordonnée,Altitude",
        "length,width,height",
        "distance_x,distance_y,distance_z",
        "# time of flight",
        "Depth survey 2020",
        "# made by hand",
    ],
)
def test_a_header_of_unknown_words_is_said_and_not_used(tmp_path, header):
    sep = ";" if ";" in header else "," if "," in header else " "
    found = points(tmp_path, header + "\n" + rows(XYZ, sep=sep))
    assert np.array_equal(found.xyz, XYZ) and found.notes == (f"its header '{header}' not used",)
