"""Reader of PCD files (Point Cloud Library) with NumPy: ascii, binary and binary_compressed.

Open3D reads PCD too, but crashes the whole process on a damaged header (version 0.20).
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from bixt3d.datasets.files.columns import MAX_COLUMNS, Points, each_once
from bixt3d.datasets.files.fields import points_of_fields
from bixt3d.datasets.files.lzf import LZF_RATIO, expand_lzf
from bixt3d.datasets.files.mesh_text import without_mark
from bixt3d.datasets.files.pcd_rows import read_rows
from bixt3d.io.bounds import counted, read_plain
from bixt3d.types import InputError

UP = "-y"
"""The axis that points up in the frame of depth cameras, which usually write these files."""

_DATA = re.compile(rb"(?:\A|[\r\n])[ \t]*DATA[ \t]+(\w+)[^\r\n]*(?:\r\n|\n|\r|\Z)", re.IGNORECASE)


class Layout(NamedTuple):
    """What a header says: fields, number of points (None: not said), and the pose of the sensor."""

    names: list[str]
    dtype: np.dtype
    num_points: int | None
    viewpoint: Float[np.ndarray, "7"]


def read_pcd(path: Path, viewpoint: bool = True) -> list[Points]:
    """Return the cloud of a PCD file, with all fields by name. Raises InputError for a damaged file.

    ``viewpoint``: move the points by the pose of the sensor in the header, as PCL's viewer and CloudCompare do.
    """
    try:
        kind, header, body = _split(without_mark(read_plain(path)))
        layout = _layout(header, kind, len(body))
        columns, notes = _BODIES[kind](body, layout.dtype, layout.num_points)
    except InputError:
        raise
    except (ValueError, KeyError, IndexError, OverflowError, TypeError) as error:
        raise InputError("is not a PCD file, or it is damaged: write it again") from error
    kept = [(name, column) for name, column in zip(layout.names, columns, strict=True) if name != "_"]  # padding
    fields = dict(zip(each_once([name for name, _ in kept]), (column for _, column in kept), strict=True))
    points = points_of_fields(fields)
    points = points._replace(notes=points.notes + notes, up=UP)
    return [_placed(points, layout.viewpoint, viewpoint)]


def _placed(points: Points, viewpoint: Float[np.ndarray, "7"], applied: bool) -> Points:
    """Return the points moved from the frame of the sensor by its pose: x y z, then a quaternion w x y z."""
    origin, quaternion = viewpoint[:3], viewpoint[3:]
    length = np.linalg.norm(quaternion)
    if not np.isfinite(viewpoint).all() or not length > 1e-9 or not (np.abs(origin) < 1e18).all():
        return points._replace(notes=(*points.notes, "its VIEWPOINT, which is no pose, not applied"))
    w, x, y, z = quaternion / length
    turned = max(abs(x), abs(y), abs(z)) > 1e-9
    if not turned and not origin.any():
        return points
    if not applied:
        return points._replace(notes=(*points.notes, "its VIEWPOINT not applied"))
    matrix = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    with np.errstate(invalid="ignore", over="ignore"):
        columns = dict(points.columns)
        if "normal" in columns and turned:
            columns["normal"] = columns["normal"] @ matrix.T
        xyz = (points.xyz @ matrix.T if turned else points.xyz) + origin
    notes = (*points.notes, "moved by its VIEWPOINT, the pose of the sensor")
    return points._replace(xyz=xyz, columns=columns, notes=notes, up=None if turned else points.up)


def _split(raw: bytes) -> tuple[str, dict[str, list[str]], bytes]:
    """Return the kind of data, the header by its words, and what follows it."""
    end = _DATA.search(raw)
    if end is None:
        raise ValueError("no line DATA")
    header: dict[str, list[str]] = {}
    for line in raw[: end.start()].decode("latin-1").splitlines():
        key, *values = line.partition("#")[0].split() or ["#"]
        header[key.upper()] = values
    return end[1].decode().lower(), header, raw[end.end() :]


def _layout(header: Mapping[str, list[str]], kind: str, num_bytes: int) -> Layout:
    names = header.get("FIELDS") or header["COLUMNS"]  # before version 0.7
    default = {"SIZE": ["4"], "TYPE": ["F"], "COUNT": ["1"]} if kind == "ascii" else {"COUNT": ["1"]}
    entries = {key: header.get(key) or default[key] * len(names) for key in ("SIZE", "TYPE", "COUNT")}
    sizes, counts = ([_whole(one) for one in entries[key]] for key in ("SIZE", "COUNT"))
    record = sum(size * count for size, count in zip(sizes, counts, strict=True))
    if len(names) > MAX_COLUMNS or min(counts) < 1 or record > LZF_RATIO * num_bytes:
        raise ValueError("more or larger fields than the file can contain")
    kinds = [f"<{one.lower()}{size}" for one, size in zip(entries["TYPE"], sizes, strict=True)]
    dtype = np.dtype([(f"{i}", one, (count,)) for i, (one, count) in enumerate(zip(kinds, counts, strict=True))])
    if len(dtype) != len(names):
        raise ValueError("there are fields without a type")
    pose = np.array([0.0, 0, 0, 1, 0, 0, 0])
    if found := header.get("VIEWPOINT"):
        pose = np.array([float(one) for one in found]) if len(found) == 7 else np.full(7, np.nan)
    return Layout(names, dtype, _num_points(header), pose)


def _whole(text: str) -> int:
    """Return a whole number, which may be written as 40.0."""
    number = float(text)
    if number != int(number):
        raise ValueError(f"{text} is no whole number")
    return int(text) if text.lstrip("+-").isdigit() else int(number)


def _num_points(header: Mapping[str, list[str]]) -> int | None:
    """Return the number of points that a header announces, None if it says nothing."""
    width, height, points = (
        _whole(header[key][0]) if header.get(key) else None for key in ("WIDTH", "HEIGHT", "POINTS")
    )
    if width is None or (height is None and points is not None):
        announced = points
    else:
        announced = width * (1 if height is None else height)
        points = announced if points is None else points
        if min(width, announced) < 0 or points != announced:
            raise InputError(f"announces {points} points, but {width} times {height}: write it again")
    if announced is not None and announced < 0:
        raise InputError(f"announces {announced} points: write it again")
    return announced


Body = tuple[Sequence[np.ndarray], tuple[str, ...]]


def _ascii(body: bytes, layout: np.dtype, num_points: int | None) -> Body:
    return read_rows(body.decode("latin-1"), layout, num_points)


def _binary(body: bytes, layout: np.dtype, num_points: int | None) -> Body:
    found, rest = divmod(len(body), layout.itemsize)
    num_points = found if num_points is None and not rest else num_points
    _check_size(found, num_points)
    table = np.frombuffer(body, layout, num_points)
    return [table[name] for name in layout.names], _rest(len(body) - num_points * layout.itemsize)


def _compressed(body: bytes, layout: np.dtype, num_points: int | None) -> Body:
    """Read the fields, which are stored one after the other (structure of arrays)."""
    packed, unpacked = np.frombuffer(body, "<u4", 2).tolist()
    if unpacked > LZF_RATIO * packed:
        raise ValueError("a compression ratio above that of LibLZF")
    if packed > len(body) - 8:
        raise InputError(f"announces {packed} bytes of points, but it ends after {len(body) - 8}")
    expanded = expand_lzf(body[8 : 8 + packed], unpacked)
    num_points = len(expanded) // layout.itemsize if num_points is None else num_points
    _check_size(len(expanded) // layout.itemsize, num_points)
    columns, place = [], 0
    for name in layout.names:
        field, (count,) = layout[name].subdtype
        columns.append(np.frombuffer(expanded, field, num_points * count, place).reshape(num_points, count))
        place += num_points * layout[name].itemsize
    return columns, _rest(len(body) - 8 - packed)


_BODIES = {"ascii": _ascii, "binary": _binary, "binary_compressed": _compressed}


def _rest(num_bytes: int) -> tuple[str, ...]:
    return (f"{counted(num_bytes, 'byte')} behind its points not read",) if num_bytes else ()


def _check_size(found: int, num_points: int | None) -> None:
    if num_points is None:
        raise ValueError("nothing says how many points there are")
    if found < num_points:
        raise InputError(f"announces {num_points} points, but it ends after {found}")
