"""Writer of new LAS and LAZ files, for points that come from files of other formats."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from bixt3d.datasets.files.cloud import has_position
from bixt3d.datasets.files.feature_columns import unit_color
from bixt3d.datasets.files.las_writing import LABELS, LABELS_IN, MAX_BYTES, las_numbers
from bixt3d.io.bounds import listed
from bixt3d.io.extras import need
from bixt3d.io.writing import write_whole
from bixt3d.types import InputError, feature_name

FINEST, COARSEST = 1e-12, 1e-4
"""Bounds of the scale, where 32-bit integers allow it: a tenth of a millimetre is finer than any scanner."""
LARGEST = 2**31 - 1
COLORS = ("red", "green", "blue")


def write_las(
    path: Path,
    xyz: Float[np.ndarray, "N 3"],
    columns: Mapping[str, Shaped[np.ndarray, "N ..."]],
    names: Mapping[int, str] | None = None,
) -> tuple[str, ...]:
    """Write points as a new LAS 1.4 file, or LAZ by the extension; return notes.

    Columns that LAS has a dimension for go there if their numbers fit, all others become extra bytes. Raises InputError
    if it cannot be written. ``names``: names of the labels, for a record that says them.
    """
    need("writing LAS and LAZ", "laspy", "lazrs")
    import laspy
    from laspy import VLR

    there = has_position(xyz)
    columns = {name: np.asarray(values).reshape(len(xyz), -1)[there] for name, values in columns.items()}
    xyz = xyz[there]
    colors, notes = _colors(columns)
    notes += () if there.all() else (f"{np.sum(~there)} points without a position left out, for which LAS has no room",)
    header = laspy.LasHeader(point_format=7 if colors else 6, version="1.4")
    header.scales, header.offsets = scale_of(xyz)
    header.global_encoding.gps_time_type = laspy.header.GpsTimeType.STANDARD
    standard = {name: values[:, 0] for name, values in columns.items() if _fits(header, name, values)}
    standard = {name: values if name == "gps_time" else values.astype(np.uint16) for name, values in standard.items()}
    taken = {"x", "y", "z", "rgb", *header.point_format.dimension_names}
    left = {name: values for name, values in columns.items() if name not in standard and not (name == "rgb" and colors)}
    extras = _extra_columns(left, taken)
    header.add_extra_dims([laspy.ExtraBytesParams(name, values.dtype) for name, values in extras.items()])
    if header.point_format.size > MAX_BYTES or len(extras) > MAX_BYTES // 192:
        raise InputError(f"the cloud has {len(extras)} columns that LAS has no dimension for: more than it can hold")
    text = "\n".join(f"{number} {name}" for number, name in (names or {}).items()).encode()
    if 0 < len(text) <= MAX_BYTES:
        header.vlrs.append(VLR(*LABELS, f"{LABELS_IN}label", text))
    las = laspy.LasData(header)
    las.x, las.y, las.z = xyz.T
    for name, values in {**standard, **colors, **extras}.items():
        las[name] = values
    write_whole(path, lambda temporary: _write(las, temporary, path.suffix.lower() == ".laz"))
    other = [name for name in left if name in taken]
    notes += (
        (f"{listed(other)} written as extra dimensions, as LAS has no room for such numbers there",) if other else ()
    )
    return (f"positions rounded to {header.scales[0]:g}", *notes)


def _write(las: Any, path: Path, compress: bool) -> None:
    with open(path, "wb") as file:
        las.write(file, do_compress=compress)


def scale_of(xyz: Float[np.ndarray, "N 3"]) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
    """Return scale and offset for positions: a power of ten near a ten-millionth of the extent, at most 0.0001.

    It is coarser only where 32-bit integers do not reach over the extent, or from the offset to the points.
    """
    least, most = xyz.min(axis=0), xyz.max(axis=0)
    extent, offset = float((most - least).max()), np.floor((least + most) / 2)
    farthest = max(extent, float((most - offset).max()), float((offset - least).max()), FINEST)
    wanted = np.clip(10.0 ** np.floor(np.log10(max(extent, FINEST) * 1e-7)), FINEST, COARSEST)
    needed = 10.0 ** np.ceil(np.log10(farthest / LARGEST))
    scale = max(float(wanted), float(needed))
    return np.full(3, float(f"{scale:.0e}")), offset


def _colors(columns: Mapping[str, Shaped[np.ndarray, "N _"]]) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Return red, green and blue with 16 bits, and a note if they had others; nothing for what is not a color."""
    rgb = columns.get("rgb")
    if rgb is None or rgb.shape[1] != 3:
        return {}, ()
    try:
        values = np.round(65535 * unit_color(rgb, "the cloud")).astype(np.uint16)
    except InputError:
        return {}, ()
    notes = () if rgb.dtype == np.uint16 else ("colors written from 0 to 65535, as LAS has them",)
    return dict(zip(COLORS, values.T, strict=True)), notes


def _fits(header: Any, name: str, values: Shaped[np.ndarray, "N _"]) -> bool:
    """Return whether LAS has a dimension of this name that holds these numbers as they are."""
    if values.shape[1] != 1 or name in ("X", "Y", "Z", *COLORS, "scan_angle"):
        return False
    dimension = next((one for one in header.point_format.standard_dimensions if one.name == name), None)
    if dimension is None:
        return False
    if dimension.kind.name == "FloatingPoint":
        return values.dtype.kind == "f"
    whole = values.dtype.kind in "iub" or bool((values == np.round(values)).all())
    return bool(whole and values.min() >= dimension.min and values.max() <= dimension.max)


def _extra_columns(columns: Mapping[str, Shaped[np.ndarray, "N _"]], taken: set[str]) -> dict[str, np.ndarray]:
    """Return columns as extra dimensions of one number each, under names of at most 32 bytes that are not ``taken``."""
    taken, found = set(map(feature_name, taken)), {}
    for name, values in columns.items():
        for place, column in enumerate(values.T):
            own = name if values.shape[1] == 1 else f"{name}_{place}"
            short = own.encode()[:28].decode(errors="ignore").replace("\0", "") or "column"
            free, number = short, 1
            while feature_name(free) in taken:
                number += 1
                free = f"{short}_{number}"
            taken.add(feature_name(free))
            found[free] = las_numbers(np.ascontiguousarray(column))
    return found
