"""Safe reading of .npy and .npz: no pickles, no more memory than the stored bytes justify."""

import io
import math
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from bixt3d.io.bounds import check_unpacked, open_plain, printable
from bixt3d.types import InputError

BLOCK_BYTES = 16 << 20
HEADER_BYTES = 10_000  # NumPy's own limit
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def load_arrays(path: Path) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Return the arrays of a .npz file by name, or that of a .npy file as ``arr_0``.

    Arrays of dates and of raw bytes, in a .npy also those of text, in a .npz those of objects, are returned empty.
    Raises InputError for a damaged file, and for a .npy of objects: to load them is to run what its author wrote.
    """
    try:
        with open_plain(path) as file:
            size = os.fstat(file.fileno()).st_size
            if file.read(2) == b"PK":
                return _load_zip(file, size, printable(path))
            file.seek(0)
            array = parse_npy(_read(file, size))
            if array.dtype.hasobject:
                raise InputError("contains Python objects, which are not loaded: write its numbers as one array")
            return {"arr_0": array if array.dtype.kind not in "US" else np.zeros(0, array.dtype)}
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 (zipfile, zlib and NumPy raise many types)
        raise InputError(
            f"{printable(path)} cannot be read as NumPy's .npy or .npz of plain numbers: write it again"
        ) from error


def _load_zip(file: Any, size: int, where: str) -> dict[str, Shaped[np.ndarray, "..."]]:
    with zipfile.ZipFile(file) as archive:
        arrays, packed, needed = {}, 0, 0
        for entry in archive.infolist():
            if entry.compress_type not in _METHODS or entry.flag_bits & 0x1:
                raise ValueError("compressed or encrypted as NumPy never does")
            packed += entry.file_size
            check_unpacked(packed, size, f"{where} has arrays that need")
            with archive.open(entry) as member:
                array = parse_npy(_read(member, entry.file_size))
            needed += 8 * array.size
            check_unpacked(needed, size, f"{where} has arrays that need")
            arrays[entry.filename.removesuffix(".npy")] = array
    return arrays


def _read(file: Any, size: int) -> bytearray:
    """Return ``size`` bytes as a writable buffer, which an array can share."""
    raw, done = bytearray(size), 0
    while count := file.readinto(memoryview(raw)[done : done + BLOCK_BYTES]):
        done += count
    if done < size:
        raise ValueError("the file ends too early")
    return raw


def parse_npy(raw: bytearray) -> Shaped[np.ndarray, "..."]:
    """Return the array of a .npy file without a copy, an empty one for objects and what is neither number nor text.

    Raises ValueError if it is damaged or truncated.
    """
    stream = io.BytesIO(raw[: HEADER_BYTES + 12])
    version = np.lib.format.read_magic(stream)
    if int.from_bytes(raw[8 : 8 + 2 * version[0]], "little") > HEADER_BYTES:
        raise ValueError("a header longer than any that NumPy writes")
    shape, fortran, dtype = _HEADERS[version](stream)
    if min(shape, default=0) < 0:
        raise ValueError(f"{dtype} {shape} is no array of numbers")
    if dtype.hasobject or (dtype.kind not in "biufcUS" and not dtype.names):
        return np.zeros(0, object if dtype.hasobject else dtype)
    count = math.prod(shape)
    if count * dtype.itemsize > len(raw) - stream.tell():
        raise ValueError("the file ends before its array")
    flat = np.frombuffer(raw, dtype, count, stream.tell()) if count else np.zeros(0, dtype)
    return flat.reshape(shape, order="F" if fortran else "C")
