"""The dimensions of LAS points by name: bit fields, scan angles in degrees, colors, and named extra bytes."""

import struct
from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from bixt3d.datasets.files.las_header import EXTRA_BYTES, LasHeader
from bixt3d.io.bounds import counted, printable
from bixt3d.types import feature_name

ENTRY = struct.Struct("<2xBB32s4x72x3d3d32s")
"""An entry of the record of extra bytes: type, options, name, scales, offsets, description; limits skipped."""
TYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")
SCALED, SHIFTED = 8, 16
"""Bits of the options of an entry: it has a scale, an offset."""
ANGLE_STEP = 0.006
"""Degrees of a step of the scan angle in point formats 6 to 10."""
WAVES = ("wavepacket_index", "wavepacket_offset", "wavepacket_size", "return_point_wave_location", "x_t", "y_t", "z_t")
COLORS = ("red", "green", "blue")


class Extra(NamedTuple):
    """An extra dimension: its name as a column and as a field, type of a number, how many of them, scale and offset."""

    name: str
    field: str
    dtype: str
    width: int
    scale: tuple[float, ...] | None
    offset: tuple[float, ...] | None


class Dimensions:
    """The dimensions of the points of a file, and their columns.

    Args:
        header: of the file.
    """

    def __init__(self, header: LasHeader):
        from laspy import PointFormat

        self.header, self.format, self.notes = header, PointFormat(header.point_format), ()
        fields = list(self.format.dimension_names)
        if header.compressed and header.point_format in (9, 10):
            fields = [name for name in fields if name not in WAVES]
            self.notes += ("waveform packets not read, which lazrs unpacks wrongly if there are several channels",)
        self.standard = {_column_of(name): name for name in fields if name not in ("X", "Y", "Z", *COLORS)}
        self.has_colors = "red" in fields
        self.extras, used = _extras_of(header, {*self.standard, *("rgb" for _ in range(self.has_colors))})
        rest = header.point_bytes - self.format.size - used
        if rest < 0:
            self.extras, rest = (), header.point_bytes - self.format.size
            self.notes += ("extra bytes not read, whose description does not fit the points",)
        elif rest:
            self.notes += (f"{counted(rest, 'extra byte')} of each point not read, which nothing describes",)
        fields = [(one.field, f"{one.width}{one.dtype}" if one.width > 1 else f"<{one.dtype}") for one in self.extras]
        undescribed = [("undescribed", f"V{rest}")] if rest else []
        self.dtype = np.dtype([*_fields_of(self.format.dtype()), *fields, *undescribed])

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all columns."""
        return (*self.standard, *("rgb" for _ in range(self.has_colors)), *(one.name for one in self.extras))

    def xyz(self, points: Shaped[np.ndarray, " N"]) -> Float[np.ndarray, "N 3"]:
        """Return positions, as the integers of the file, its scale and offset give them in double precision."""
        found = np.empty((len(points), 3))
        for place, (axis, scale, offset) in enumerate(zip("XYZ", self.header.scale, self.header.offset, strict=True)):
            with np.errstate(over="ignore"):  # a damaged scale: infinite positions are refused
                found[:, place] = points[axis] * scale + offset
        return found

    def columns(
        self, points: Shaped[np.ndarray, " N"], names: Collection[str] | None = None
    ) -> dict[str, Shaped[np.ndarray, "N _"]]:
        """Return the columns of points, all or those of these names."""
        from laspy.point.record import PackedPointRecord

        record, found = PackedPointRecord(points, self.format), {}
        for name, field in self.standard.items():
            if names is None or name in names:
                values = np.asarray(record[field])
                found[name] = values * np.float32(ANGLE_STEP) if field == "scan_angle" else values.copy()
        if self.has_colors and (names is None or "rgb" in names):
            found["rgb"] = np.stack([points[color] for color in COLORS], axis=1)
        for one in self.extras:
            if names is None or one.name in names:
                found[one.name] = _scaled(points[one.field], one)
        return {name: values.reshape(len(points), -1) for name, values in found.items()}


def _column_of(field: str) -> str:
    return "scan_angle" if field == "scan_angle_rank" else field


def _fields_of(dtype: np.dtype) -> list[tuple[str, str]]:
    return [(name, dtype.fields[name][0].str) for name in dtype.names]


def _scaled(values: Shaped[np.ndarray, "N ..."], extra: Extra) -> Shaped[np.ndarray, "N ..."]:
    if extra.scale is None and extra.offset is None:
        return values.copy()
    scale, offset = (np.array(one if one else default) for one, default in ((extra.scale, 1.0), (extra.offset, 0.0)))
    return values.astype(np.float64) * scale + offset


def _extras_of(header: LasHeader, taken: Collection[str]) -> tuple[tuple[Extra, ...], int]:
    """Return the extra dimensions of a file, and their bytes. Names that mean another column get a prefix."""
    room, found, used = header.point_bytes, [], 0
    names = {feature_name(name) for name in taken} | {"x", "y", "z"}
    for data in (record.data for record in header.records if record.key == EXTRA_BYTES):
        for entry in ENTRY.iter_unpack(data[: len(data) // ENTRY.size * ENTRY.size]):
            extra = _extra_of(entry, names, len(found))
            if extra is None or used + (size := extra.width * int(extra.dtype[1])) > room:
                return tuple(found), room + 1
            names.add(feature_name(extra.name))
            found.append(extra)
            used += size
    return tuple(found), used


def _extra_of(entry: tuple, names: set[str], place: int) -> Extra | None:
    """Return the extra dimension of an entry, or None for an unknown type."""
    kind, options, raw_name, *numbers, _ = entry
    name = printable(_text(raw_name)).strip() or f"extra_{place}"
    while feature_name(name) in names:
        name = f"extra_{name}"
    field = f"extra {place}"
    if kind == 0:  # bytes without a meaning
        return Extra(name, field, "u1", max(1, options), None, None)
    if kind > 3 * len(TYPES):
        return None
    width = (kind - 1) // len(TYPES) + 1
    scale = tuple(numbers[:width]) if options & SCALED else None
    offset = tuple(numbers[3 : 3 + width]) if options & SHIFTED else None
    return Extra(name, field, TYPES[(kind - 1) % len(TYPES)], width, scale, offset)


def _text(raw: bytes) -> str:
    raw = raw.split(b"\0")[0]
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def eight_bit(columns: Mapping[str, Shaped[np.ndarray, "N _"]], most: float) -> bool:
    """Return whether colors, whose largest value in the whole file is ``most``, are 8-bit numbers in 16-bit fields."""
    return "rgb" in columns and 0 < most <= 255
