"""Reader of PCD files (Point Cloud Library) with NumPy: ascii, binary and binary_compressed.

Open3D reads PCD too, but crashes the whole process on a damaged header (version 0.20).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from bixt3d.datasets.files.columns import MOST_COLUMNS, Points, each_once, named_columns
from bixt3d.io.bounds import read_plain
from bixt3d.types import InputError

LZF_RATIO = 100
"""Upper bound of the compression ratio: LibLZF expands 3 bytes to at most 264."""


def read_pcd(path: Path) -> list[Points]:
    """Return the cloud of a PCD file, with all fields by name. Raises InputError for a damaged file."""
    try:
        columns = _read_columns(read_plain(path))
    except InputError:
        raise
    except (ValueError, KeyError, IndexError, OverflowError, TypeError) as error:
        raise InputError("is not a PCD file, or it is damaged: write it again") from error
    xyz, features = named_columns(columns)[:2]
    if (packed := features.get("rgb", features.pop("rgba", None))) is not None and packed.shape[1] == 1:
        features["rgb"] = _unpack_color(packed[:, 0])
    return [Points(xyz, features)]


def _unpack_color(packed: Shaped[np.ndarray, " N"]) -> Shaped[np.ndarray, "N 3"]:
    """Return red, green and blue, which PCL packs into the lower three bytes of one float or integer."""
    if packed.dtype.itemsize != 4:
        raise InputError(f"has colors of type {packed.dtype}, not packed into four bytes as PCL does: write it again")
    raw = np.ascontiguousarray(packed).view("<u4")
    return np.stack([raw >> 16 & 255, raw >> 8 & 255, raw & 255], axis=1).astype(np.uint8)


def _read_columns(raw: bytes) -> dict[str, Shaped[np.ndarray, "N _"]]:
    """Return the fields by name. Raises ValueError, KeyError or IndexError for a file that is not PCD."""
    header, body = _read_header(raw)
    names = header["FIELDS"]
    counts = [int(count) for count in header.get("COUNT", ["1"] * len(names))]
    sizes = [int(size) for size in header["SIZE"]]
    num_points = _num_points(header)
    record = sum(size * count for size, count in zip(sizes, counts, strict=True))
    if len(names) > MOST_COLUMNS or min(counts) < 1 or record > LZF_RATIO * len(body):
        raise ValueError("more or larger fields than the file can contain")
    kinds = [f"<{kind.lower()}{size}" for kind, size in zip(header["TYPE"], sizes, strict=True)]
    # fields of padding share the name _
    layout = np.dtype([(f"{i}", kind, (n,)) for i, (kind, n) in enumerate(zip(kinds, counts, strict=True))])
    if len(layout) != len(names):
        raise ValueError("there are fields without a type")
    columns = _BODIES[header["DATA"][0].lower()](body, layout, num_points)
    kept = [(name, column) for name, column in zip(names, columns, strict=True) if name != "_"]  # padding
    return dict(zip(each_once([name for name, _ in kept]), (column for _, column in kept), strict=True))


def _num_points(header: dict[str, list[str]]) -> int:
    width, height = (int(header[key][0]) for key in ("WIDTH", "HEIGHT"))
    announced = int(header["POINTS"][0]) if "POINTS" in header else width * height
    if min(width, height) < 0 or announced != width * height:
        raise InputError(f"announces {announced} points, but {width} times {height}: write it again")
    return announced


def _read_header(raw: bytes) -> tuple[dict[str, list[str]], bytes]:
    header, place = {}, 0
    while "DATA" not in header:
        end = raw.index(b"\n", place)
        key, *values = raw[place:end].decode("ascii").split() or ["#"]
        header[key] = values
        place = end + 1
    return header, raw[place:]


def _ascii(body: bytes, layout: np.dtype, num_points: int) -> Sequence[np.ndarray]:
    lines = [line for line in body.decode("ascii").splitlines() if line.strip()][:num_points]
    _check_size(len(lines), num_points)
    if (
        2 * sum(layout[name].shape[0] for name in layout.names) > len(body) + 1
    ):  # a number takes a digit and a blank at least
        raise ValueError("a point takes more numbers than there are")
    return list(np.loadtxt(lines, layout, ndmin=1, unpack=True))


def _binary(body: bytes, layout: np.dtype, num_points: int) -> Sequence[np.ndarray]:
    _check_size(len(body) // layout.itemsize, num_points)
    table = np.frombuffer(body, layout, num_points)
    return [table[name] for name in layout.names]


def _compressed(body: bytes, layout: np.dtype, num_points: int) -> Sequence[np.ndarray]:
    """Read the fields, which are stored one after the other (structure of arrays)."""
    packed, unpacked = np.frombuffer(body, "<u4", 2).tolist()
    if unpacked > LZF_RATIO * packed:
        raise ValueError("a compression ratio above that of LibLZF")
    body = expand_lzf(body[8 : 8 + packed], unpacked)
    _check_size(len(body) // layout.itemsize, num_points)
    columns, place = [], 0
    for name in layout.names:
        field, (count,) = layout[name].subdtype
        columns.append(np.frombuffer(body, field, num_points * count, place).reshape(num_points, count))
        place += num_points * layout[name].itemsize
    return columns


_BODIES = {"ascii": _ascii, "binary": _binary, "binary_compressed": _compressed}


def expand_lzf(packed: bytes, size: int) -> bytes:
    """Decompress LibLZF data. Raises ValueError or IndexError if the result is not ``size`` bytes long.

    A control byte c below 32 is followed by c + 1 literal bytes. Any other starts a back reference: 3 bits of length
    and 13 bits of distance; if the length is 7, the next byte is added to it.
    """
    out, place = bytearray(), 0
    while place < len(packed) and len(out) < size:
        control = packed[place]
        place += 1
        if control < 32:
            out += packed[place : place + control + 1]
            place += control + 1
            continue
        length = control >> 5
        if length == 7:
            length += packed[place]
            place += 1
        start = len(out) - ((control & 31) << 8) - packed[place] - 1
        place += 1
        if start < 0:
            raise ValueError("a back reference to before the beginning")
        piece = out[start : start + length + 2]
        out += (piece * (length // len(piece) + 2))[: length + 2]
    if len(out) != size:
        raise ValueError(f"{len(out)} bytes instead of {size}")
    return bytes(out)


def _check_size(found: int, num_points: int) -> None:
    if found < num_points:
        raise InputError(f"announces {num_points} points, but it ends after {found}")
