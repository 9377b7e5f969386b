"""Scale, offset and gaps of HDF5 datasets, which attributes define by the conventions of netCDF."""

from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from bixt3d.datasets.files.columns import as_numbers
from bixt3d.types import InputError

SCALES = ("scale_factor", "add_offset")
GAPS = ("_FillValue", "missing_value")
MAX_NUMBERS = 1000


def read_scaled(name: str, dataset: Any) -> tuple[Shaped[np.ndarray, "..."], list[str]]:
    """Return the numbers of a dataset times ``scale_factor`` plus ``add_offset``, and what was applied, in words.

    Numbers equal to ``_FillValue`` or ``missing_value`` become NaN. What is changed is in double precision. Raises
    InputError for scales that are no numbers, or not one, or one for each column.
    """
    values, said = np.asarray(dataset[()]), []
    if values.dtype.kind not in "fiu":
        return values, [f"{key} not applied" for key in (*SCALES, *GAPS) if values.dtype.names and key in dataset.attrs]
    gaps = np.zeros(values.shape, bool)
    for key in GAPS:
        numbers = _numbers(dataset, key)
        if key in dataset.attrs and numbers is None:
            said.append(f"{key} not applied, which is no number")
        elif numbers is not None and (found := np.isin(values, numbers)).any():
            gaps |= found
            said.append(f"{key} taken for gaps")
    scale, offset = (_scale(name, dataset, key, neutral) for key, neutral in zip(SCALES, (1.0, 0.0), strict=True))
    if (scale != 1).any() or (offset != 0).any():
        values = as_numbers(values) * scale + offset
        said.append(" and ".join(key for key in SCALES if key in dataset.attrs) + " applied")
    if gaps.any():
        values = np.where(gaps, np.nan, as_numbers(values))
    return values, said


def _scale(name: str, dataset: Any, key: str, neutral: float) -> Float[np.ndarray, " N"]:
    if key not in dataset.attrs:
        return np.array([neutral])
    numbers = _numbers(dataset, key)
    if numbers is None or not np.isfinite(numbers).all() or (key == "scale_factor" and not numbers.all()):
        raise InputError(f"has {name} with the attribute {key}, which is no number to scale by: write it again")
    if len(numbers) not in (1, *dataset.shape[1:][-1:]):
        raise InputError(f"has {name} of shape {dataset.shape} with {len(numbers)} numbers in its attribute {key}")
    return numbers


def _numbers(dataset: Any, key: str) -> Float[np.ndarray, " N"] | None:
    """Return the numbers of an attribute; None if it is missing, no numbers, or far too many."""
    if key not in dataset.attrs:
        return None
    attribute = dataset.attrs.get_id(key)
    if attribute.dtype.kind not in "fiu" or not 1 <= attribute.get_space().get_simple_extent_npoints() <= MAX_NUMBERS:
        return None
    return np.ravel(dataset.attrs[key]).astype(np.float64)
