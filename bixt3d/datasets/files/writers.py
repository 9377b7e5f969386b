"""Writers of labelled points: LAS and LAZ, PLY, CSV, and NumPy's .npz and .npy."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped, UInt8

from bixt3d.datasets.files.las_new import write_las
from bixt3d.datasets.files.las_writing import copy_las, free_name
from bixt3d.datasets.files.precision import rounded_notes
from bixt3d.io.writing import replace_file

PLY_TYPES = {"i1": "char", "u1": "uchar", "i2": "short", "u2": "ushort", "i4": "int", "u4": "uint"}
PLY_TYPES |= {"f4": "float", "f8": "double"}
TRIPLES = {"normal": ("nx", "ny", "nz"), "rgb": ("red", "green", "blue")}
"""The usual PLY names of the columns of these features."""
IN_PLY = ": PLY has no integers of 64 bits"
ROWS = 100_000
"""Points that are written at a time."""

Columns = Mapping[str, Shaped[np.ndarray, "N _"]]


@dataclass(frozen=True)
class LabelledPoints:
    """Points, each with a label and its confidence.

    Args:
        xyz: positions.
        label: predicted label of each point; -1: none, because it has no position.
        confidence: predicted probability of that label, from 0 to 1, or NaN.
        names: name of each label; an empty one for -1.
        columns: features of the points, as in the file that was read.
        source: the file that was read, if it has exactly these points in this order.
        more: other predicted numbers of each point, by name, such as ``entropy``.
    """

    xyz: Float[np.ndarray, "N 3"]
    label: Int[np.ndarray, " N"]
    confidence: Float[np.ndarray, " N"]
    names: Mapping[int, str]
    columns: Columns = field(default_factory=dict)
    source: Path | None = None
    more: Mapping[str, Float[np.ndarray, " N"]] = field(default_factory=dict)


def write_points(
    path: Path, points: LabelledPoints, rgb: Float[np.ndarray, "N 3"], comments: Sequence[str] = ()
) -> tuple[list[Path], tuple[str, ...]]:
    """Write points with their labels in the format of the file extension; return the paths written, and notes.

    A LAS or LAZ file of a LAS or LAZ file is a copy with the dimensions label and confidence, else a new one.

    A PLY file gets all features of the points. If these have colors, they stay ``red green blue``, and a second file
    ``NAME_colors.ply`` has the colors of the labels (``rgb``); if not, the colors of the labels are ``red green blue``.
    """
    if path.suffix in LAS:
        return [path], _write_las(path, points)
    if path.suffix != ".ply":
        WRITERS[path.suffix](path, points)
        return [path], ()
    own_colors = "rgb" in points.columns and points.columns["rgb"].shape[1] == 3
    new = ("label", "confidence", *points.more)
    columns = _apart(points.columns, new if own_colors else (*new, "rgb"))
    if own_colors:
        extra = colors_beside(path)
        write_ply(extra, points.xyz, {"rgb": as_bytes(rgb)}, ["the colors of the labels"])
    else:
        columns["rgb"] = as_bytes(rgb)
        comments = [*comments, "red green blue are the colors of the labels"]
    notes = rounded_notes({name: values for name, values in columns.items() if values.dtype.kind in "iu"}, IN_PLY)
    columns |= {"label": points.label.astype("<i4"), "confidence": points.confidence.astype("<f4"), **points.more}
    names = [f"label {number} {name or 'none: the point has no position'}" for number, name in points.names.items()]
    write_ply(path, points.xyz, columns, [*comments, *names])
    return ([path, extra] if own_colors else [path]), notes


def colors_beside(path: Path) -> Path:
    """Return the file with the colors of the labels that may be written beside a PLY file."""
    return path.with_name(f"{path.stem}_colors.ply")


def _apart(columns: Columns, taken: Sequence[str]) -> dict[str, Shaped[np.ndarray, "N _"]]:
    """Return columns, those with names that are ``taken`` under others."""
    used, found = {*columns, *taken}, {}
    for name, values in columns.items():
        free = free_name(f"original_{name}", used) if name in taken else name
        used.add(free)
        found[free] = values
    return found


def _write_las(path: Path, points: LabelledPoints) -> tuple[str, ...]:
    labels = {"label": points.label, "confidence": points.confidence.astype("<f4", copy=False), **points.more}
    if points.source and points.source.suffix.lower() in LAS:
        return copy_las(path, points.source, labels, points.names)
    return write_las(path, points.xyz, {**_apart(points.columns, tuple(labels)), **labels}, points.names)


def as_bytes(rgb: Float[np.ndarray, "N 3"]) -> UInt8[np.ndarray, "N 3"]:
    """Return colors from 0 to 1 as bytes."""
    return np.round(255 * np.clip(rgb, 0, 1)).astype(np.uint8)


def write_ply(
    path: Path,
    xyz: Float[np.ndarray, "N 3"],
    columns: Mapping[str, Shaped[np.ndarray, "N ..."]],
    comments: Sequence[str] = (),
) -> None:
    """Write points with features as a binary PLY file: positions as double; 64-bit integers as int or double."""
    fields = {axis: xyz[:, place].astype("<f8", copy=False) for place, axis in enumerate("xyz")}
    for feature, values in columns.items():
        values = _ply_numbers(values.reshape(len(xyz), -1), feature)
        for name, column in zip(_ply_names(feature, values.shape[1]), values.T, strict=True):
            while name in fields:
                name += "_"
            fields[name] = column
    dtype = np.dtype([(name, values.dtype) for name, values in fields.items()])
    head = ["ply", "format binary_little_endian 1.0"]
    head += ["comment " + " ".join(re.sub(r"[^ -~]", "?", line).split()) for line in comments]
    head += [f"element vertex {len(xyz)}"]
    head += [f"property {PLY_TYPES[values.dtype.str[1:]]} {name}" for name, values in fields.items()]

    def parts() -> Iterator[bytes]:
        yield "\n".join([*head, "end_header", ""]).encode()
        for part in _parts(len(xyz)):
            table = np.empty(part.stop - part.start, dtype)
            for name, values in fields.items():
                table[name] = values[part]
            yield table.tobytes()

    replace_file(path, parts())


def _parts(total: int) -> Iterator[slice]:
    return (slice(first, min(first + ROWS, total)) for first in range(0, total, ROWS))


def _ply_names(feature: str, width: int) -> Sequence[str]:
    if width == 3 and feature in TRIPLES:
        return TRIPLES[feature]
    name = re.sub(r"\W", "_", feature, flags=re.ASCII)
    return [name] if width == 1 else [f"{name}_{place}" for place in range(width)]


def _ply_numbers(values: Shaped[np.ndarray, "N W"], feature: str) -> Shaped[np.ndarray, "N W"]:
    """Return the values in a dtype of PLY; integer colors up to 255 become bytes, unless they are uint16."""
    if (
        feature == "rgb"
        and values.dtype != np.uint16
        and (values == np.round(values)).all()
        and values.min() >= 0
        and 1 < values.max() <= 255
    ):
        return values.astype(np.uint8)
    kind = values.dtype.str[1:]
    if kind in PLY_TYPES:
        return values.astype(f"<{kind}", copy=False)
    if values.dtype.kind == "b":
        return values.astype(np.uint8)
    if values.dtype.itemsize < 4:  # float16
        return values.astype("<f4")
    fits = values.dtype.kind in "iu" and np.abs(values.astype(np.float64)).max(initial=0) < 2**31
    return values.astype("<i4" if fits else "<f8")


def _write_csv(path: Path, points: LabelledPoints) -> None:
    def lines(rows: Iterable[Sequence[Any]]) -> bytes:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        return text.getvalue().encode()

    head = ["x", "y", "z", "label", "name", "confidence", *points.more]
    rows = (
        [(x, y, z, label, points.names[label], *(f"{one:.6g}" for one in more)) for x, y, z, label, *more in part]
        for part in _rows(points)
    )
    replace_file(path, map(lines, chain([[head]], rows)))


def _write_txt(path: Path, points: LabelledPoints) -> None:
    head = ["# x y z " + " ".join(("label", "confidence", *points.more))]
    head += [f"# label {number}: {name or 'none, the point has no position'}" for number, name in points.names.items()]
    lines = (
        [" ".join(f"{one:.6g}" if place > 3 else repr(one) for place, one in enumerate(row)) for row in part]
        for part in _rows(points)
    )
    replace_file(path, ("\n".join([*part, ""]).encode() for part in chain([head], lines)))


def _rows(points: LabelledPoints) -> Iterator[Iterable[tuple[Any, ...]]]:
    """Yield the rows of some points at a time: x, y, z, label, confidence and so on."""
    columns = (*points.xyz.T, points.label, points.confidence, *points.more.values())
    return (zip(*(one[part].tolist() for one in columns), strict=True) for part in _parts(len(points.xyz)))


def _write_npz(path: Path, points: LabelledPoints) -> None:
    content = io.BytesIO()
    present = np.unique(points.label)
    name = np.array([points.names[label] for label in present.tolist()])[present.searchsorted(points.label)]
    confidence = points.confidence.astype(np.float32)
    arrays = {"xyz": points.xyz, "label": points.label, "name": name, "confidence": confidence, **points.more}
    np.savez_compressed(content, **arrays)
    replace_file(path, content.getvalue())


def _write_npy(path: Path, points: LabelledPoints) -> None:
    content = io.BytesIO()
    np.save(content, points.label)
    replace_file(path, content.getvalue())


WRITERS: dict[str, Callable[[Path, LabelledPoints], None]]
WRITERS = {".csv": _write_csv, ".txt": _write_txt, ".npz": _write_npz, ".npy": _write_npy}
LAS = (".las", ".laz")
FORMATS = ("ply", "las", "laz", *(suffix[1:] for suffix in WRITERS))
"""Formats of labelled points: ply, las, laz (all features), csv, txt, npz (x y z, label, confidence), npy (labels)."""
