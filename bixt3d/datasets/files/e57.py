"""Reader of E57, by pye57: all scans of a file as one cloud, each moved by its pose."""

import os
import struct
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np
from jaxtyping import Float, Shaped

from bixt3d.datasets.files.columns import Points
from bixt3d.datasets.files.feature_columns import color_unit, largest_of
from bixt3d.io.bounds import LIST_BYTES, check_unpacked, counted, listed, open_plain, printable
from bixt3d.io.extras import need
from bixt3d.types import InputError

PAGE, PAYLOAD = 1024, 1020
"""Bytes of a page, and those of them that are no checksum."""
DEEPEST, MAX_NODES, MAX_SCANS = 64, 100_000, 5000
CARTESIAN = ("cartesianX", "cartesianY", "cartesianZ")
SPHERICAL = ("sphericalRange", "sphericalAzimuth", "sphericalElevation")
COLORS = ("colorRed", "colorGreen", "colorBlue")
NORMALS = ("nor:normalX", "nor:normalY", "nor:normalZ")
INVALID = ("cartesianInvalidState", "sphericalInvalidState")
NAMES = {"rowIndex": "row", "columnIndex": "column", "returnIndex": "return_number", "returnCount": "number_of_returns"}
NAMES |= {"timeStamp": "time"}
"""Fields of E57 and their columns; any other keeps its name."""
ROWS = 1_000_000
"""Points that are read at a time."""


def read_e57(path: Path) -> list[Points]:
    """Return the cloud of all scans. Points that the scanner marks as invalid get no position (NaN)."""
    need("reading E57", "pye57")
    with open_plain(path) as file:
        _check_xml(_xml_of(file, os.fstat(file.fileno()).st_size))
    import pye57

    try:
        with pye57.E57(str(path)) as image:
            if image.scan_count > MAX_SCANS:
                raise InputError(f"has {image.scan_count} scans: at most {MAX_SCANS} are read")
            scans = [_Scan(image, place) for place in range(image.scan_count)]
            needed = sum(scan.count * 8 * (3 + len(scan.fields)) for scan in scans)
            check_unpacked(needed, path.stat().st_size, "has points that need")
            scans = [scan for scan in scans if scan.count]
            if not scans:
                raise InputError("has 0 points: a cloud takes many")
            return [_join(scans, len(image.root["images2D"]) if image.root.isDefined("images2D") else 0)]
    except (InputError, OSError, MemoryError):
        raise
    except Exception as error:  # pye57 raises its own for each kind of damage, and others for what it does not expect
        reason = printable(" ".join(str(error).split("\n")[0].split()))[:200]
        raise InputError(f"cannot be read as E57 ({reason}): it is damaged") from error


def _xml_of(file: Any, size: int) -> bytes:
    """Return the XML part of a file, which describes it. Raises InputError if it is not there, or too large."""
    head = file.read(48)
    if head[:8] != b"ASTM-E57" or len(head) < 48:
        raise InputError("is no E57 file: it does not begin with ASTM-E57")
    place, length, page = struct.unpack_from("<QQQ", head, 24)
    if page != PAGE or not 0 < length <= min(size, LIST_BYTES) or not 48 <= place < size:
        raise InputError("has a damaged header, or a description of more than 16 MB")
    start = place // PAGE * PAGE
    file.seek(start)
    raw = file.read((length // PAYLOAD + 3) * PAGE)
    pages = b"".join(raw[at : at + PAYLOAD] for at in range(0, len(raw), PAGE))
    return pages[place - start :][:length]


def _check_xml(xml: bytes) -> None:
    """Raise InputError for a description that is nested too deep, too long, or defines entities, which can multiply."""
    depth, nodes = 0, 0

    def start(*_: object) -> None:
        nonlocal depth, nodes
        depth, nodes = depth + 1, nodes + 1
        if depth > DEEPEST or nodes > MAX_NODES:
            raise InputError("has a description that is nested too deep, or too long")

    def end(_: str) -> None:
        nonlocal depth
        depth -= 1

    def refuse(*_: object) -> None:
        raise InputError("has a description with a document type, as no scanner writes it")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler, parser.StartDoctypeDeclHandler = start, end, refuse
    try:
        parser.Parse(xml, True)
    except (expat.ExpatError, LookupError, ValueError) as error:  # the latter two: of its encoding
        raise InputError(f"has a damaged description ({printable(error)})") from error


class _Scan:
    """A scan of an E57 file: its number of points, the fields that are read, and its pose."""

    def __init__(self, image: Any, place: int):
        from pye57 import libe57

        self.image, self.place, self.header = image, place, image.get_header(place)
        self.count, prototype = self.header.point_count, libe57.StructureNode(self.header.points.prototype())
        numeric = (libe57.IntegerNode, libe57.ScaledIntegerNode, libe57.FloatNode)
        known = self.header.point_fields
        self.fields = [name for name in known if isinstance(prototype[name], numeric)]
        self.unread = [name for name in known if name not in self.fields]
        self.whole = {
            name: int(prototype[name].maximum())
            for name in self.fields
            if isinstance(prototype[name], libe57.IntegerNode)
        }
        self.posed = self.header.has_pose()

    def read(self) -> tuple[Float[np.ndarray, "N 3"], dict[str, Shaped[np.ndarray, "N _"]]]:
        """Return positions, moved by the pose, and columns."""
        values = self._values()
        cartesian = all(name in values for name in CARTESIAN)
        if not cartesian and not all(name in values for name in SPHERICAL):
            raise InputError(f"has a scan without positions (it has {listed(values)})")
        xyz = _take(values, CARTESIAN) if cartesian else _from_sphere(_take(values, SPHERICAL))
        invalid = [values.pop(name) for name in INVALID if name in values]
        for mask in invalid:
            xyz[mask != 0] = np.nan  # also 1: only the direction is known
        rotation = self.header.rotation_matrix if self.posed else np.eye(3)
        columns = {}
        for name, fields in (("rgb", COLORS), ("normal", NORMALS)):
            if all(field in values for field in fields):
                columns[name] = _take(values, fields)
        if "normal" in columns:
            columns["normal"] = columns["normal"] @ rotation.T
        if "rgb" in columns:
            columns["rgb"] = self._colors(columns["rgb"])
        columns |= {
            NAMES.get(name, name): one[:, None] for name, one in values.items() if name not in CARTESIAN + SPHERICAL
        }
        with np.errstate(over="ignore", invalid="ignore"):  # points without a position
            return (xyz @ rotation.T + self.header.translation if self.posed else xyz), columns

    def _values(self) -> dict[str, Float[np.ndarray, " N"]]:
        from pye57 import libe57

        rows = min(self.count, ROWS)
        values = {name: np.empty(self.count) for name in self.fields}
        parts = {name: np.empty(rows) for name in self.fields}
        buffers = libe57.VectorSourceDestBuffer()
        for name, part in parts.items():
            buffers.append(libe57.SourceDestBuffer(self.image.image_file, name, part, rows, True, True))
        reader, first = self.header.points.reader(buffers), 0
        while number := reader.read():
            for name, part in parts.items():
                values[name][first : first + number] = part[:number]
            first += number
        reader.close()
        if first < self.count:
            raise InputError(f"announces {counted(self.count, 'point')}, but has {first}: it was cut off")
        return values

    def _colors(self, rgb: Float[np.ndarray, "N 3"]) -> Shaped[np.ndarray, "N 3"]:
        """Return colors as the whole numbers that the file says it has; others as they are."""
        most = max(self.whole.get(name, 2**32) for name in COLORS)
        limits = self.header["colorLimits"] if self.header.node.isDefined("colorLimits") else None
        if limits is not None and limits.isDefined("colorRedMaximum"):
            most = min(most, limits["colorRedMaximum"].value()) if rgb.max(initial=0) <= most else most
        if (rgb == np.round(rgb)).all() and rgb.min(initial=0) >= 0 and most > 1:
            for kind in (np.uint8, np.uint16):
                if rgb.max(initial=0) <= np.iinfo(kind).max and most <= np.iinfo(kind).max:
                    return rgb.astype(kind)
        return rgb


def _take(values: dict[str, Float[np.ndarray, " N"]], fields: tuple[str, ...]) -> Float[np.ndarray, "N 3"]:
    return np.stack([values.pop(name) for name in fields], axis=1)


def _from_sphere(rae: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    from pye57.utils import convert_spherical_to_cartesian

    return convert_spherical_to_cartesian(rae)


def _one_range(parts: list[dict[str, Shaped[np.ndarray, "N _"]]]) -> list[str]:
    """Scale the colors of all scans to 0 to 1 if their ranges differ; return the note that says so."""
    units = [color_unit(columns["rgb"], largest_of(columns["rgb"])) for columns in parts]
    if len(set(units)) < 2:
        return []
    for columns, unit in zip(parts, units, strict=True):
        columns["rgb"] = columns["rgb"] / unit
    return ["colors of each scan scaled from its own range to 0 to 1"]


def _join(scans: list[_Scan], images: int) -> Points:
    """Return the points of all scans as one cloud, with the columns that all of them have."""
    parts = [scan.read() for scan in scans]
    names = [name for name in parts[0][1] if all(name in columns for _, columns in parts)]
    partial = dict.fromkeys(name for _, columns in parts for name in columns if name not in names)
    notes = _one_range([columns for _, columns in parts]) if "rgb" in names else []
    if "intensity" in names and len({scan.whole.get("intensity") for scan in scans}) > 1:
        notes.append("intensity joined as it is, though its range differs between scans")
    columns = {name: np.concatenate([one[name] for _, one in parts]) for name in names}
    if len(scans) > 1:
        columns["scan"] = np.repeat(np.arange(len(scans)), [scan.count for scan in scans])[:, None]
        posed = sum(scan.posed for scan in scans)
        notes.append(
            f"{len(scans)} scans joined, {posed if posed < len(scans) else 'all'} of them moved by their poses"
        )
    elif scans[0].posed:
        notes.append("moved by the pose of its scan")
    unread = dict.fromkeys([*(name for scan in scans for name in scan.unread), *partial])
    notes += [f"{listed(unread)} not read, which not all scans have as numbers"] if unread else []
    notes += [f"its {counted(images, 'image')} not read"] if images else []
    return Points(np.concatenate([xyz for xyz, _ in parts]), columns, tuple(notes))
