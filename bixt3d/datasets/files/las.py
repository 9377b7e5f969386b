"""Readers of LAS, LAZ and COPC: all at once, or in chunks for files that do not fit into memory."""

import os
import struct
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from io import BufferedIOBase, BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from bixt3d.datasets.files.columns import Points
from bixt3d.datasets.files.las_crs import crs_notes, meters_of
from bixt3d.datasets.files.las_dims import Dimensions, eight_bit
from bixt3d.datasets.files.las_header import LASZIP, LasHeader, check_chunks, read_extended, read_header
from bixt3d.io.bounds import counted, open_plain
from bixt3d.io.extras import need
from bixt3d.types import InputError

CHUNK = 1_000_000
"""Points that are read at a time."""
LAYER_OF = {name: name.upper() for name in ("intensity", "classification", "user_data", "scan_angle", "gps_time")}
LAYER_OF |= {name: name.upper() for name in ("point_source_id", "rgb", "nir")}
LAYER_OF |= dict.fromkeys(("return_number", "number_of_returns", "scanner_channel"), "XY_RETURNS_CHANNEL")
LAYER_OF |= dict.fromkeys(
    ("synthetic", "key_point", "withheld", "overlap", "scan_direction_flag", "edge_of_flight_line"), "FLAGS"
)
"""The layer of compressed points of formats 6 to 10 that each column is in, as lazrs names it; others: extra bytes."""
POINTWISE, LAYERED = 2, 3
"""The compressors of LAZ that are read: chunks of points, and chunks of layers."""


class LasFile:
    """An open LAS or LAZ file: its header, the names of its columns, and its points in chunks.

    Use `open_las`.
    """

    def __init__(self, file: BufferedIOBase):
        self.file = file
        self.header: LasHeader = read_header(file, file.seek(0, os.SEEK_END))
        self.extended = read_extended(file, self.header)
        self.all_records = self.header.records + self.extended
        self.dims = Dimensions(self.header)
        self.notes = self.header.notes + self.dims.notes + self._tail() + crs_notes(self.all_records)
        self.meters = meters_of(self.all_records)

    def __len__(self) -> int:
        return self.header.count

    @property
    def waveforms(self) -> int | None:
        """The place of the waveforms in what follows the points (``header.extended``); None if they are not there."""
        start, size = self.header.extended
        size = sum(len(one.raw) for one in self.extended) if self.extended else size
        place = self.header.waveforms - start
        return place if start and 0 <= place < size else None

    def records(self, size: int = CHUNK, names: Collection[str] | None = None) -> Iterator[Shaped[np.ndarray, " _"]]:
        """Yield all points in chunks of ``size``, as arrays with the fields of the file.

        Those that columns other than ``names`` need may be left out of decompression.
        """
        with _damage_is_said():
            read = self._decompressor(names).decompress_many if self.header.compressed else self._plain()
        for first in range(0, len(self), size):
            raw = bytearray(min(size, len(self) - first) * self.header.point_bytes)
            with _damage_is_said():
                read(raw)
            yield np.frombuffer(raw, self.dims.dtype)

    def chunks(self, names: Collection[str] | None = None, size: int = CHUNK) -> Iterator[Points]:
        """Yield positions and columns (all, or those of these names) of all points in chunks; colors as in the file."""
        for records in self.records(size, names):
            yield Points(self.dims.xyz(records), self.dims.columns(records, names))

    def check_channels(self) -> None:
        """Raise InputError for waveforms of several scanner channels: lazrs neither packs nor unpacks them rightly."""
        if self.header.point_format in (9, 10):
            for records in self.records(CHUNK, ["scanner_channel"]):
                channels = self.dims.columns(records, ["scanner_channel"])["scanner_channel"]
                if (channels != channels[0]).any():
                    raise InputError(
                        "LAZ with waveforms of several scanner channels cannot be copied: read and write .las"
                    )

    def run(self, first: int, size: int) -> Points:
        """Return ``size`` points from the given one on, with all columns."""
        raw = bytearray(size * self.header.point_bytes)
        with _damage_is_said():
            if self.header.compressed:
                decompressor = self._decompressor(None)
                decompressor.seek(first)
                decompressor.decompress_many(raw)
            else:
                self._plain(first)(raw)
        records = np.frombuffer(raw, self.dims.dtype)
        return Points(self.dims.xyz(records), self.dims.columns(records))

    def _plain(self, first: int = 0) -> Callable[[bytearray], None]:
        self.file.seek(self.header.first_point + first * self.header.point_bytes)

        def read(raw: bytearray) -> None:
            if self.file.readinto(raw) < len(raw):
                raise InputError("ends before its last point: it was cut off")

        return read

    def _decompressor(self, names: Collection[str] | None) -> Any:
        import lazrs

        laszip = self.header.find(LASZIP)
        chunks = self._chunk_table(laszip)
        check_chunks(self.file, self.header, chunks)
        self.file.seek(self.header.first_point)
        kind = lazrs.ParLasZipDecompressor if len(chunks) > 1 else lazrs.LasZipDecompressor
        return kind(self.file, laszip, lazrs.DecompressionSelection(self._selection(names)))

    def _selection(self, names: Collection[str] | None) -> int:
        """Return the flags of lazrs for the layers of points that these columns are in; all where it has no layers."""
        import lazrs

        if names is None:
            return lazrs.SELECTIVE_DECOMPRESS_ALL
        found = lazrs.SELECTIVE_DECOMPRESS_XY_RETURNS_CHANNEL | lazrs.SELECTIVE_DECOMPRESS_Z
        for name in names:
            found |= getattr(lazrs, f"SELECTIVE_DECOMPRESS_{LAYER_OF.get(name, 'ALL_EXTRA_BYTES')}")
        return found

    def _chunk_table(self, laszip: bytes) -> list[tuple[int, int]]:
        """Return number of points and bytes of each compressed chunk. Raises InputError if they cannot be."""
        import lazrs

        if struct.unpack_from("<H", laszip)[0] not in (POINTWISE, LAYERED):
            raise InputError("is compressed as only the first versions of LASzip did: write it again")
        self.file.seek(self.header.first_point)
        place = struct.unpack("<q", self.file.read(8).ljust(8, b"\0"))[0]
        if place == -1:  # written to a pipe: the place follows at the end
            self.file.seek(self.header.size - 8)
            place = struct.unpack("<q", self.file.read(8))[0]
        if not self.header.first_point + 8 <= place <= self.header.size - 8:
            raise InputError("has no table of compressed chunks: it was cut off, or damaged")
        self.file.seek(place + 4)
        number = struct.unpack("<I", self.file.read(4))[0]
        if number * self.header.point_bytes > self.header.size:
            raise InputError(f"announces {number} compressed chunks, more than its bytes hold: it is damaged")
        self.file.seek(self.header.first_point)
        chunks = lazrs.read_chunk_table(self.file, lazrs.LazVlr(laszip))
        if sum(points for points, _ in chunks) < len(self):
            raise InputError(f"announces {counted(len(self), 'point')}, but has fewer: it was cut off, or damaged")
        return chunks

    def _tail(self) -> tuple[str, ...]:
        behind = self.header.end - self.header.first_point - self.header.count * self.header.point_bytes
        if self.header.compressed or behind <= 0:
            return ()
        return (f"{counted(behind, 'byte')} behind its last point not read",)


@contextmanager
def open_las(path: Path) -> Iterator[LasFile]:
    """Open a LAS or LAZ file. Raises InputError if it is damaged, here or when its points are read."""
    need("reading LAS and LAZ", "laspy", "lazrs")
    with open_plain(path) as file:
        yield LasFile(file)


@contextmanager
def _damage_is_said() -> Iterator[None]:
    """Turn any error of lazrs into an InputError; a damaged file can make it panic, which is no Exception."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise InputError("has compressed points that are damaged") from error


def read_las(path: Path) -> list[Points]:
    """Return the cloud of a LAS, LAZ or COPC file, with all dimensions by name."""
    with open_las(path) as las:
        return [_all_points(las)]


def read_laspy(las: Any) -> Points:
    """Return the cloud of a laspy ``LasData`` as `read_las` returns that of its file."""
    file = BytesIO()
    las.write(file, do_compress=False)
    return _all_points(LasFile(file))


def _all_points(las: LasFile) -> Points:
    if not len(las):
        raise InputError("has 0 points: a cloud takes many")
    xyz, columns, first = np.empty((len(las), 3)), {}, 0
    for chunk in las.chunks():
        place = slice(first, first := first + len(chunk.xyz))
        xyz[place] = chunk.xyz
        for name, values in chunk.columns.items():
            columns.setdefault(name, np.empty((len(las), values.shape[1]), values.dtype))[place] = values
    colors, notes = standard_colors(columns, float(columns["rgb"].max()) if "rgb" in columns else 0.0)
    return Points(xyz, columns | colors, las.notes + notes, meters=las.meters)


def standard_colors(
    columns: dict[str, Shaped[np.ndarray, "N _"]], most: float
) -> tuple[dict[str, Shaped[np.ndarray, "N _"]], tuple[str, ...]]:
    """Return colors as 8-bit numbers if they are such in 16-bit fields, and the note that says so.

    ``most``: the largest value in the whole file.
    """
    if not eight_bit(columns, most):
        return {}, ()
    return {"rgb": columns["rgb"].astype(np.uint8)}, (
        "colors taken for 0 to 255: none of their 16-bit fields is above",
    )
