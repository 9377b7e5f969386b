"""Notes on digits that are lost."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Shaped

from bixt3d.io.bounds import printable, shortened

EXACT, LARGEST = 2.0**53, 2.0**64
"""From the first on, double precision rounds integers; none of 64 bits is beyond the second."""


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
