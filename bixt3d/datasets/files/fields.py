"""Tables with named fields: PCD, structured arrays, compound datasets, data frames."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Shaped

from bixt3d.datasets.files.columns import Points, named_columns
from bixt3d.io.bounds import listed
from bixt3d.types import InputError

VECTORS = ("xyz", "position", "positions", "pos", "points", "point", "coords", "coord", "coordinates", "location")
"""The usual names, in lower case, of one field of three numbers that is the position."""


def points_of_fields(fields: Mapping[str, Shaped[np.ndarray, "N ..."]]) -> Points:
    """Return the points of named fields: ``x y z``, or one of three numbers such as ``position``.

    A field ``rgb`` or ``rgba`` of one number contains red, green and blue in three bytes, as in PCL and ROS. Raises
    InputError if there are no positions, or if two fields of three numbers may be.
    """
    fields = dict(fields)
    lower = {name.strip().lower(): name for name in fields}
    if not {"x", "y", "z"} <= set(lower):
        vectors = [name for name in fields if name.strip().lower() in VECTORS and fields[name].shape[1:] == (3,)]
        if len(vectors) > 1:
            raise InputError(f"has {len(vectors)} fields that may be positions, {listed(vectors)}: keep one of them")
        for name in vectors:
            fields |= dict(zip("xyz", fields.pop(name).T, strict=True))
    points, notes = named_columns(fields), ()
    columns = points.columns
    for name in ("rgb", "rgba"):
        original = next((one for one in columns if one.strip().lower() == name), None)
        if original is not None and columns[original].shape[1] == 1:
            values, said = _unpack_color(columns.pop(original)[:, 0])
            if "rgb" not in columns:
                columns["rgb"], notes = values, (*notes, *said)
    return points._replace(notes=points.notes + notes)


def _unpack_color(packed: Shaped[np.ndarray, " N"]) -> tuple[Shaped[np.ndarray, "N 3"], tuple[str, ...]]:
    """Return red, green and blue, which PCL packs into the lower three bytes of one float or integer, and notes."""
    notes: tuple[str, ...] = ()
    if packed.dtype.kind == "f":
        with np.errstate(invalid="ignore", over="ignore"):
            # the bits of packed colors are no whole numbers from 1 to 2**32: that would take an opacity of 63 to 79
            whole = (
                len(packed) and (packed == np.round(packed)).all() and packed.min() >= 0 and 1 <= packed.max() < 2**32
            )
            notes = ("packed colors taken as whole numbers",) if whole else ()
            packed = packed.astype(np.int64) if whole else packed.astype(np.float32).view(np.uint32)
    if packed.dtype.kind not in "iu":
        raise InputError(f"has colors of type {packed.dtype}, not packed into a number as PCL does: write it again")
    raw = packed.astype(np.int64)
    return np.stack([raw >> 16 & 255, raw >> 8 & 255, raw & 255], axis=1).astype(np.uint8), notes
