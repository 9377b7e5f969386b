"""The header of a LAS or LAZ file, held against the bytes of the file before anything is read."""

import math
import struct
from dataclasses import dataclass
from io import BufferedIOBase
from typing import NamedTuple

from bixt3d.io.bounds import check_unpacked, counted
from bixt3d.types import InputError

POINT_BYTES = (20, 28, 26, 34, 57, 63, 30, 36, 38, 59, 67)
"""Size of a point of each format, without extra bytes."""
HEADER_BYTES = {0: 227, 1: 227, 2: 227, 3: 235, 4: 375, 5: 393}
MAX_RECORDS = 1000
"""Variable length records of a file; real files have a few."""
LASZIP, EXTRA_BYTES = ("laszip encoded", 22204), ("LASF_Spec", 4)
LAYERS = {10: 9, 11: 1, 12: 2, 13: 1}
"""Compressed layers of the items of point formats 6 to 10, by their type; item 14, extra bytes, has one a byte."""


class Record(NamedTuple):
    """A variable length record: its key (user and number), its content, and all its bytes."""

    key: tuple[str, int]
    data: bytes
    raw: bytes


@dataclass(frozen=True)
class LasHeader:
    """What the header of a LAS file says, checked.

    Args:
        raw: its bytes.
        records, behind_records: the variable length records (VLR), and the bytes between them and the points.
        first_point: the place of the first point in the file.
        end: the first place behind the points.
        count, point_bytes: number and size of the points.
        extended: place and size of the extended records (EVLR), or of waveforms that none of these announces; or 0.
        size: size of the file.
        notes: what was guessed or left out.
    """

    raw: bytes
    records: tuple[Record, ...]
    behind_records: bytes
    first_point: int
    end: int
    count: int
    point_bytes: int
    extended: tuple[int, int]
    size: int
    notes: tuple[str, ...]

    @property
    def version(self) -> int:
        """The minor version: 4 for LAS 1.4."""
        return self.raw[25]

    @property
    def point_format(self) -> int:
        """Point format, 0 to 10."""
        return self.raw[104] & 0x3F

    @property
    def compressed(self) -> bool:
        """Whether the points are compressed, as in LAZ."""
        return bool(self.raw[104] & 0x80)

    @property
    def scale(self) -> tuple[float, float, float]:
        """Scale of the stored integers along x, y and z."""
        return struct.unpack_from("<3d", self.raw, 131)

    @property
    def offset(self) -> tuple[float, float, float]:
        """Offset of the positions along x, y and z."""
        return struct.unpack_from("<3d", self.raw, 155)

    @property
    def num_extended(self) -> int:
        """Number of extended records."""
        return struct.unpack_from("<I", self.raw, 243)[0] if self.version >= 4 else 0

    @property
    def waveforms(self) -> int:
        """The place where waveforms begin, as the header says; 0: none in this file."""
        return struct.unpack_from("<Q", self.raw, 227)[0] if self.version >= 3 else 0

    def find(self, key: tuple[str, int]) -> bytes | None:
        """Return the content of the first record with this key, or None."""
        return next((record.data for record in self.records if record.key == key), None)


def read_header(file: BufferedIOBase, size: int) -> LasHeader:
    """Read and check the header of a file of ``size`` bytes. Raises InputError if the file cannot be as it says."""
    file.seek(0)
    raw = file.read(HEADER_BYTES[5])
    if raw[:4] != b"LASF":
        raise InputError("is no LAS or LAZ file: it does not begin with LASF")
    if len(raw) < 227 or raw[24] != 1 or raw[25] not in HEADER_BYTES or len(raw) < HEADER_BYTES[raw[25]]:
        raise InputError("has a damaged header, or one of a version that is not known: LAS 1.0 to 1.4 are read")
    header_size, first_point, num_records = struct.unpack_from("<HII", raw, 94)
    if not HEADER_BYTES[raw[25]] <= header_size <= first_point <= size:
        raise InputError("has a damaged header: its sizes do not fit the file")
    file.seek(0)
    head = file.read(first_point)
    records, place = _walk(head, header_size, num_records, "<H", 54)
    count, notes = _count(head)
    point_bytes = struct.unpack_from("<H", head, 105)[0]
    extended = _extended(file, head, size)
    end = extended[0] or size
    found = LasHeader(
        head[:header_size], records, head[place:], first_point, end, count, point_bytes, extended, size, notes
    )
    _check(found)
    return found


def read_extended(file: BufferedIOBase, header: LasHeader) -> tuple[Record, ...]:
    """Return the extended records of a LAS 1.4. Raises InputError if they are damaged."""
    if not header.num_extended or not header.extended[0]:
        return ()
    file.seek(header.extended[0])
    raw = file.read(header.extended[1])
    return _walk(raw, 0, header.num_extended, "<Q", 60)[0]


def _walk(raw: bytes, place: int, number: int, length: str, head: int) -> tuple[tuple[Record, ...], int]:
    """Return ``number`` records that begin at ``place``, and the place behind them."""
    if number > MAX_RECORDS:
        raise InputError(f"announces {number} variable length records: at most {MAX_RECORDS} are read")
    found = []
    for _ in range(number):
        if place + head > len(raw):
            raise InputError("has damaged variable length records, which end too late")
        user, identity = struct.unpack_from("<16sH", raw, place + 2)
        end = place + head + struct.unpack_from(length, raw, place + 20)[0]
        if end > len(raw):
            raise InputError("has damaged variable length records, which end too late")
        name = user.split(b"\0")[0].decode("latin-1")
        found.append(Record((name, identity), raw[place + head : end], raw[place:end]))
        place = end
    return tuple(found), place


def _count(head: bytes) -> tuple[int, tuple[str, ...]]:
    """Return the number of points, and a note where two fields contradict each other."""
    legacy = struct.unpack_from("<I", head, 107)[0]
    if head[25] < 4:
        return legacy, ()
    count = struct.unpack_from("<Q", head, 247)[0]
    if not count and legacy:
        return legacy, (f"its number of points, {legacy}, taken from the field of older versions: that of 1.4 is 0",)
    wrong = legacy not in (0, count) and count < 2**32
    return count, (f"says {legacy} points in one place and {count} in another: {count} read",) if wrong else ()


def _extended(file: BufferedIOBase, head: bytes, size: int) -> tuple[int, int]:
    """Return place and size of what the header says follows the points."""
    place = 0
    if head[25] >= 4 and struct.unpack_from("<I", head, 243)[0]:
        place = struct.unpack_from("<Q", head, 235)[0]
    elif head[25] >= 3:
        place = struct.unpack_from("<Q", head, 227)[0]
        is_announced = head[25] == 3 and head[6] & 2  # waveforms inside the file
        if not is_announced and not _are_waveforms(file, place, len(head), size):
            place = 0
    if place and not len(head) <= place <= size:
        raise InputError("has extended variable length records that are not in the file: it was cut off, or damaged")
    return place, size - place if place else 0


def _are_waveforms(file: BufferedIOBase, place: int, first_point: int, size: int) -> bool:
    """Return whether the record of the waveforms begins at this place."""
    if not first_point <= place <= size - 60:
        return False
    file.seek(place + 2)
    user, number = struct.unpack("<16sH", file.read(18))
    return (user.rstrip(b"\0"), number) == (b"LASF_Spec", 65535)


def _check(header: LasHeader) -> None:
    """Raise InputError for a point format, a scale or a number of points that cannot be."""
    if header.point_format >= len(POINT_BYTES) or header.raw[104] & 0x40:
        raise InputError(f"has points of format {header.raw[104]}: known are 0 to {len(POINT_BYTES) - 1}")
    if header.point_bytes < POINT_BYTES[header.point_format]:
        raise InputError(f"has points of {header.point_bytes} bytes, too few for format {header.point_format}")
    if not all(map(math.isfinite, (*header.scale, *header.offset))) or 0 in header.scale:
        raise InputError(f"has the scale {header.scale} and the offset {header.offset}: its header is damaged")
    if header.compressed:
        check_unpacked(header.count * header.point_bytes, header.size, f"has {header.count} points that need")
        _check_laszip(header)
    elif header.count > (there := (header.end - header.first_point) // header.point_bytes):
        raise InputError(f"announces {counted(header.count, 'point')}, but it ends after {there}: it was cut off")


def _check_laszip(header: LasHeader) -> None:
    """Raise InputError if the record of the compressor does not describe points of this size."""
    laszip = header.find(LASZIP)
    if laszip is None or len(laszip) < 34:
        raise InputError("has compressed points without a record that says how: it is damaged")
    items = items_of(laszip)
    if sum(size for _, size in items) != header.point_bytes or len(laszip) < 34 + 6 * len(items):
        raise InputError("has compressed points of another size than its header says: it is damaged")


def items_of(laszip: bytes) -> list[tuple[int, int]]:
    """Return type and size of the items of a compressed point."""
    number = struct.unpack_from("<H", laszip, 32)[0]
    whole = min(number, (len(laszip) - 34) // 6)
    return [struct.unpack_from("<HH", laszip, 34 + 6 * place) for place in range(whole)]


def check_chunks(file: BufferedIOBase, header: LasHeader, chunks: list[tuple[int, int]]) -> None:
    """Raise InputError if a chunk of compressed points (number of points, bytes), or a layer of it, is not in the file.

    The decompressor allocates what these sizes say.
    """
    laszip = header.find(LASZIP)
    items, compressor = items_of(laszip), struct.unpack_from("<H", laszip)[0]
    layers = sum(size if kind == 14 else LAYERS.get(kind, 0) for kind, size in items)
    place, head = header.first_point + 8, header.point_bytes + 4
    for _, size in chunks:
        if size < header.point_bytes or place + size > header.size:
            raise InputError("has compressed points that are not in the file: it was cut off, or damaged")
        if compressor == 3:
            file.seek(place + head)
            sizes = file.read(4 * layers)
            if len(sizes) < 4 * layers or head + len(sizes) + sum(struct.unpack(f"<{layers}I", sizes)) > size:
                raise InputError("has layers of compressed points that are not in the file: it is damaged")
        place += size
