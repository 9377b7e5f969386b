"""Writer of a copy of a LAS or LAZ file with new dimensions, all else as it was."""

import shutil
import struct
from collections.abc import Iterable, Mapping
from itertools import chain, count
from pathlib import Path
from typing import Any, BinaryIO, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped

from bixt3d.datasets.files.las import CHUNK, LasFile, open_las
from bixt3d.datasets.files.las_dims import ENTRY, TYPES
from bixt3d.datasets.files.las_header import EXTRA_BYTES, LASZIP, Record
from bixt3d.io.writing import write_whole
from bixt3d.types import InputError, feature_name

LABELS = ("bixt3d", 1)
"""A record with the names of the labels, a line each: number, blank, name; its description ends with the dimension."""
LABELS_IN = "names of the labels in "
MAX_BYTES = 2**16 - 1


@runtime_checkable
class Numbers(Protocol):
    """A number for each point, of which slices are taken: an array, or numbers that are on disk or made on demand."""

    dtype: np.dtype

    def __len__(self) -> int: ...

    def __getitem__(self, place: slice) -> Shaped[np.ndarray, " _"]: ...


Values = Mapping[str, Numbers]


def copy_las(
    path: Path, source: Path, new: Values, names: Mapping[int, str] | None = None, changed: Values | None = None
) -> tuple[str, ...]:
    """Write a LAS or LAZ file (by the extension) as ``source`` is, bit for bit, with new dimensions; return notes.

    Points, scale, offset, records and all dimensions stay as they are. It is read and written in chunks, and appears
    whole or not at all. Raises InputError if it cannot be written.

    Args:
        path, source: the new file, and the one that is copied.
        new: numbers for each point, in the order of the file, by the names of their dimensions (extra bytes).
        names: names of the labels in the first of ``new``, for a record that says them; none without new dimensions.
        changed: new values of dimensions that the file has, such as ``classification``; negative: as in the file.
    """
    with open_las(source) as las:
        wrong = [name for name, values in (*new.items(), *(changed or {}).items()) if len(values) != len(las)]
        if wrong:
            raise InputError(f"{source.name} has {len(las)} points, but {wrong[0]} another number of values")
        columns = _free_names(las, new)
        names_written = [f"{name} written as {free}, as it has one" for name, free in zip(new, columns, strict=True)]
        notes = tuple(note for note, name, free in zip(names_written, new, columns, strict=True) if name != free)
        plan = _Plan(las, columns, names or {}, path.suffix.lower() == ".laz")
        write_whole(path, lambda temporary: plan.write(temporary, changed or {}))
        return notes + plan.notes


def check_copy(compress: bool, source: Path, new: Values) -> None:
    """Raise InputError if `copy_las` refuses to copy a file with such new dimensions, whatever their values."""
    with open_las(source) as las:
        _Plan(las, _free_names(las, new), {}, compress)


def _free_names(las: LasFile, new: Values) -> Values:
    taken, found = {*las.dims.names, "x", "y", "z"}, {}
    for name, values in new.items():
        free = free_name(name, taken)
        taken.add(free)
        found[free] = values
    return found


def free_name(name: str, taken: Iterable[str]) -> str:
    """Return the name, with the first number from 2 that makes it another feature than those ``taken``, if needed."""
    names = {feature_name(one) for one in taken}
    numbered = (f"{name}_{number}" for number in count(2))
    return next(one for one in chain([name], numbered) if feature_name(one) not in names)


class _Plan:
    """Header and records of the copy of a LAS file with new columns."""

    def __init__(self, las: LasFile, columns: Values, names: Mapping[int, str], compress: bool):
        self.las, self.compress, self.notes = las, compress, ()
        self.columns = {name: las_numbers(values) for name, values in columns.items()}
        self.width = las.header.point_bytes + sum(values.dtype.itemsize for values in self.columns.values())
        if self.width > MAX_BYTES:
            raise InputError(f"a point of {self.width} bytes does not fit into LAS, which has at most {MAX_BYTES}")
        if compress or las.header.compressed:
            las.check_channels()
        records = [one for one in las.header.records if not self._is_replaced(one.key)]
        self.extended = [one for one in las.extended if one.key[0] != "copc"]
        if any(record.key[0] == "copc" for record in las.all_records):
            self.notes += ("written without the index of COPC",)
        if las.header.waveforms and las.waveforms is None:
            self.notes += ("written without waveforms, as none are where its header says",)
        records += self._labels(names)
        self.records = self._in_place(records, self._extra_bytes())
        self.laz = self._laz_record() if compress else None
        self.records += [self.laz[1]] if self.laz else []

    def _labels(self, names: Mapping[int, str]) -> list[Record]:
        text = "\n".join(f"{number} {name}" for number, name in names.items()).encode()
        fits = self.columns and 0 < len(text) <= MAX_BYTES
        return [_record(LABELS, text, LABELS_IN + next(iter(self.columns)))] if fits else []

    def _extra_bytes(self) -> Record | None:
        """Return the record that describes all extra bytes: the old entries as they were, then the new ones, if any."""
        if not self.columns:
            return None
        dims = self.las.dims
        old = [record.data for record in self.las.header.records if record.key == EXTRA_BYTES]
        whole = b"".join(data[: len(data) // ENTRY.size * ENTRY.size] for data in old)
        content = whole[: ENTRY.size * len(dims.extras)]
        left = dims.dtype["undescribed"].itemsize if "undescribed" in dims.dtype.names else 0
        while left:  # new dimensions come behind bytes that nothing describes: say that they are there
            content += _entry("undescribed", 0, size := min(left, 255))
            left -= size
        for name, values in self.columns.items():
            content += _entry(name, TYPES.index(values.dtype.str[1:]) + 1, 0)
        if len(content) > MAX_BYTES:
            raise InputError("more extra dimensions than LAS has room for")
        return _record(EXTRA_BYTES, content, "extra bytes")

    def _in_place(self, records: list[Record], extra: Record | None) -> list[Record]:
        """Return the records with that of the extra bytes where it was, or at the end."""
        if extra is None:
            return records
        keys = [one.key for one in self.las.header.records]
        before = keys[: keys.index(EXTRA_BYTES)] if EXTRA_BYTES in keys else keys
        place = sum(not self._is_replaced(key) for key in before) if EXTRA_BYTES in keys else len(records)
        return [*records[:place], extra, *records[place:]]

    def _is_replaced(self, key: tuple[str, int]) -> bool:
        """Return whether a record is written anew, or left out, as the index of COPC is."""
        return key == LASZIP or key[0] == "copc" or (key == EXTRA_BYTES and bool(self.columns))

    def _laz_record(self) -> tuple[Any, Record]:
        import lazrs

        header = self.las.header
        laz = lazrs.LazVlr.new_for_compression(header.point_format, self.width - self.las.dims.format.size)
        return laz, _record(LASZIP, bytes(laz.record_data()), "http://laszip.org")

    def write(self, path: Path, changed: Values) -> None:
        """Write the whole file."""
        with open(path, "w+b") as file:
            self._write_head(file, 0)
            self._write_points(file, changed)
            start = file.seek(0, 2)
            self._write_extended(file)
            file.seek(0)
            self._write_head(file, start)

    def _write_head(self, file: BinaryIO, extended: int) -> None:
        """Write header and records; ``extended``: the place of what follows the points."""
        header, head = self.las.header, bytearray(self.las.header.raw)
        first = len(head) + sum(len(one.raw) for one in self.records) + len(header.behind_records)
        struct.pack_into("<II", head, 96, first, len(self.records))
        struct.pack_into("<BH", head, 104, header.point_format | 0x80 * self.compress, self.width)
        if header.version >= 3:
            struct.pack_into("<Q", head, 227, 0 if self.las.waveforms is None else extended + self.las.waveforms)
        if header.version >= 4:
            number = len(self.extended)
            struct.pack_into("<QI", head, 235, extended if number else 0, number)
        file.write(head + b"".join(one.raw for one in self.records) + header.behind_records)

    def _write_points(self, file: BinaryIO, changed: Values) -> None:
        import lazrs

        packer = lazrs.ParLasZipCompressor(file, self.laz[0]) if self.laz else None
        dtype = np.dtype(
            [
                ("old", f"V{self.las.header.point_bytes}"),
                *((f"new {at}", f"<{one.dtype.str[1:]}") for at, one in enumerate(self.columns.values())),
            ]
        )
        first = 0
        for records in self.las.records(CHUNK):
            place = slice(first, first := first + len(records))
            _change(records, self.las, {name: values[place] for name, values in changed.items()})
            points = np.empty(len(records), dtype)
            points["old"] = records.view(dtype["old"])
            for at, values in enumerate(self.columns.values()):
                points[f"new {at}"] = values[place]
            raw = points.view(np.uint8)
            packer.compress_many(raw) if packer else file.write(raw)
        if packer:
            packer.done()

    def _write_extended(self, file: BinaryIO) -> None:
        header, source = self.las.header, self.las.file
        if self.las.extended:
            file.write(b"".join(one.raw for one in self.extended))
        elif header.extended[0]:
            source.seek(header.extended[0])
            shutil.copyfileobj(source, file)


def _change(records: Shaped[np.ndarray, " N"], las: LasFile, values: Values) -> None:
    """Set dimensions of points. Raises InputError for one that is not there, or a value that it cannot hold."""
    from laspy.point.record import PackedPointRecord

    record = PackedPointRecord(records, las.dims.format)
    for name, numbers in values.items():
        if name not in las.dims.standard:
            raise InputError(f"the file has no dimension {name} that can be changed")
        field = las.dims.standard[name]
        try:
            numbers = np.where(numbers < 0, np.asarray(record[field]), numbers)
            record[field][:] = numbers
            kept = np.asarray(record[field])
        except (OverflowError, ValueError):
            kept = None
        if kept is None or not np.array_equal(kept, numbers):
            raise InputError(f"{name} of point format {las.header.point_format} cannot hold {np.max(numbers)}")


def las_numbers(values: Numbers) -> Numbers:
    """Return numbers in a dtype of LAS; 64-bit integers in the smallest that holds them."""
    kind = values.dtype.str[1:]
    if values.dtype.kind == "b":
        return values.astype(np.uint8)
    if kind == "f2":
        return values.astype(np.float32)
    if kind in ("i8", "u8"):
        least, most = int(values.min(initial=0)), int(values.max(initial=0))
        return values.astype(np.promote_types(np.min_scalar_type(least), np.min_scalar_type(most)))
    return values


def _entry(name: str, kind: int, options: int) -> bytes:
    return ENTRY.pack(kind, options, name.encode()[:32], *(0.0,) * 6, b"")


def _record(key: tuple[str, int], data: bytes, what: str) -> Record:
    raw = struct.pack("<H16sHH32s", 0, key[0].encode(), key[1], len(data), what.encode()) + data
    return Record(key, data, raw)
