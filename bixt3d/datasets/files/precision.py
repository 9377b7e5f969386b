"""Notes on digits that are lost: of integers in double precision, and of positions in single precision."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Shaped

from bixt3d.datasets.files.cloud import has_position
from bixt3d.io.bounds import printable, shortened

EXACT, LARGEST = 2.0**53, 2.0**64
"""From the first on, double precision rounds integers; none of 64 bits is beyond the second."""

FAR = 100
"""Clouds that are this many times their extent away from the origin are far from it."""


def is_rounded(values: Shaped[np.ndarray, "..."]) -> bool:
    """Return whether some values are integers that double precision rounds; of floats, those of at most 64 bits."""
    if values.dtype.kind not in "fiu" or values.dtype.itemsize != 8 or not values.size:
        return False
    if values.dtype.kind == "f":
        size = np.abs(values)
        return bool(((size >= EXACT) & (size <= LARGEST)).any())
    return int(values.max()) >= EXACT or int(values.min()) <= -EXACT


def rounded_notes(columns: Mapping[str, Shaped[np.ndarray, "..."]], where: str = "") -> tuple[str, ...]:
    """Return notes on columns that are, or were, integers which double precision rounds; ``where``: how notes end."""
    names = [printable(shortened(name)) for name, values in columns.items() if is_rounded(values)]
    return tuple(f"{name} has integers beyond 2^53, rounded{where}" for name in names)


def coarse_notes(xyz: Float[np.ndarray, "N 3"], kinds: Sequence[np.dtype]) -> tuple[str, ...]:
    """Return a note if positions of these dtypes are floats of 32 bits or less, far from the origin."""
    coarse = [axis for axis, kind in enumerate(kinds) if kind.kind == "f" and kind.itemsize < 8]
    xyz = xyz[has_position(xyz)] if coarse else xyz[:0]
    if not len(xyz):
        return ()
    most, extent = np.abs(xyz[:, coarse]).max(), np.ptp(xyz, axis=0).max()
    if not 0 < FAR * extent < most:
        return ()
    kind = kinds[coarse[0]]
    return (f"coordinates are {kind.name} and far from the origin: steps of {np.spacing(kind.type(most)):g}",)
