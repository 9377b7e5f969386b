"""Readers of LAS, LAZ and COPC: all at once, or in chunks for files that do not fit into memory."""

import os
import struct
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Shaped

from bixt3d.datasets.files.columns import Points
from bixt3d.datasets.files.las_crs import crs_notes
from bixt3d.datasets.files.las_dims import Dimensions, eight_bit
from bixt3d.datasets.files.las_header import LASZIP, LasHeader, check_chunks, read_extended, read_header
from bixt3d.io.bounds import counted, open_plain
from bixt3d.io.extras import need
from bixt3d.types import InputError

CHUNK = 1_000_000
"""Points that are read at a time."""
POINTWISE, LAYERED = 2, 3
"""The compressors of LAZ that are read: chunks of points, and chunks of layers."""


class LasFile:
    """An open LAS or LAZ file: its header, the names of its columns, and its points in chunks.

    Use `open_las`.
    """

    def __init__(self, file: BinaryIO):
        self.file = file
        self.header: LasHeader = read_header(file, os.fstat(file.fileno()).st_size)
        self.extended = read_extended(file, self.header)
        self.all_records = self.header.records + self.extended
        self.dims = Dimensions(self.header)
        self.notes = self.header.notes + self.dims.notes + self._tail() + crs_notes(self.all_records)

    def __len__(self) -> int:
        return self.header.count

    def records(self, size: int = CHUNK) -> Iterator[Shaped[np.ndarray, " _"]]:
        """Yield all points in chunks of ``size``, as arrays with the fields of the file."""
        with _damage_is_said():
            read = self._decompressor() if self.header.compressed else self._plain()
        for first in range(0, len(self), size):
            raw = bytearray(min(size, len(self) - first) * self.header.point_bytes)
            with _damage_is_said():
                read(raw)
            yield np.frombuffer(raw, self.dims.dtype)

    def chunks(self, names: Collection[str] | None = None, size: int = CHUNK) -> Iterator[Points]:
        """Yield positions and columns (all, or those of these names) of all points in chunks; colors as in the file."""
        for records in self.records(size):
            yield Points(self.dims.xyz(records), self.dims.columns(records, names))

    def _plain(self) -> Any:
        self.file.seek(self.header.first_point)

        def read(raw: bytearray) -> None:
            if self.file.readinto(raw) < len(raw):
                raise InputError("ends before its last point: it was cut off")

        return read

    def _decompressor(self) -> Any:
        import lazrs

        laszip = self.header.find(LASZIP)
        chunks = self._chunk_table(laszip)
        check_chunks(self.file, self.header, chunks)
        self.file.seek(self.header.first_point)
        kind = lazrs.ParLasZipDecompressor if len(chunks) > 1 else lazrs.LasZipDecompressor
        return kind(self.file, laszip).decompress_many

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
        if not len(las):
            raise InputError("has 0 points: a cloud takes many")
        chunks = list(las.chunks())
        xyz = np.concatenate([chunk.xyz for chunk in chunks])
        columns = {name: np.concatenate([chunk.columns[name] for chunk in chunks]) for name in las.dims.names}
        colors, notes = standard_colors(columns, float(columns["rgb"].max()) if "rgb" in columns else 0)
        return [Points(xyz, columns | colors, las.notes + notes)]


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
