"""Point features by name: finding their columns, and converting their values to the ranges that a model reads."""

from collections.abc import Iterable, Mapping

import numpy as np
from jaxtyping import Float, Shaped

from bixt3d.datasets.files.column_names import is_unnamed
from bixt3d.io.bounds import listed
from bixt3d.types import Feature, Features, InputError, feature_name

ROUNDING = 1e-3
"""Tolerance of the length of normals and of the largest color: files round to a few decimals."""

UNITS = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}
"""The value that means full intensity (1) in colors of these dtypes."""

LEAVE_OUT = "leave out of --data.features what is missing to do without"
TRAIN_WITHOUT = "for such clouds train a model without, or with --augment.feature_dropout 0.2"
"""The end of sentences on missing features, in training and in prediction."""
NAME_THEM = "name its columns: a text file begins with a line such as x y z intensity r g b"

Columns = Mapping[str, Shaped[np.ndarray, "*N _"]]
"""Point features by name, unconverted."""


def columns_of(feature: Feature, names: Iterable[str], where: str) -> list[str]:
    """Return the names of the columns of a feature: one, or ``NAME_0`` to ``NAME_n``; none if it is missing.

    Raises InputError if two columns are that feature.
    """
    names = list(names)
    found = [name for name in names if feature_name(name) == feature.name]
    if len(found) > 1:
        raise InputError(f"{where} has {listed(found)}, which all mean {feature.name}: leave one of them")
    if not found and feature.width > 1:
        by_lower = {name.strip().lower(): name for name in names}
        numbered = [by_lower.get(f"{feature.name}_{place}") for place in range(feature.width)]
        found = [name for name in numbered if name is not None]
        return found if len(found) == len(numbered) else []
    return found


def missing_features(features: Iterable[Feature], names: Iterable[str], where: str) -> str | None:
    """Return the fault of a cloud that lacks some of the features, all in one; None if its columns have them all."""
    names = list(names)
    missing = [feature.name for feature in features if not columns_of(feature, names, where)]
    known = listed(sorted(set(map(feature_name, names)))) if names else "no features"
    hint = f"; {NAME_THEM}" if any(map(is_unnamed, names)) else ""
    return f"has no {listed(missing)} (it has {known}){hint}" if missing else None


def select_features(columns: Columns, features: Features, where: str) -> Float[np.ndarray, "*N F"]:
    """Concatenate features, as float32: colors from 0 to 1, normals of length 1, scalars unchanged.

    ``where``: the source, for errors. Raises InputError for a feature that is missing, duplicate, of another width, or
    not finite.
    """
    if fault := missing_features(features.columns, columns, where):
        raise InputError(f"{where} {fault}; {LEAVE_OUT}")
    found = []
    for feature in features.columns:
        values = np.concatenate([columns[name] for name in columns_of(feature, columns, where)], -1)
        found.append(feature_numbers(values, feature, where).astype(np.float32))
    return np.concatenate(found, -1)


def feature_numbers(
    values: Shaped[np.ndarray, "..."], feature: Feature, where: str, most: float | None = None
) -> Float[np.ndarray, "*N _"]:
    """Return the values of one feature, in double precision; see `select_features`, and `unit_color` for ``most``."""
    if values.dtype.kind not in "fiub":
        raise InputError(f"{where} has {feature.name} that is no number, but {values.dtype}")
    if values.shape[-1] != feature.width:
        raise InputError(
            f"{where} has {feature.name} of width {values.shape[-1]}, but the feature {feature} has {feature.width}"
        )
    if feature.kind == "color":
        return unit_color(values, where, most)
    check_values(values, feature.name, where)
    return (unit_normals(values) if feature.kind == "normal" else values).astype(np.float64)


def num_gaps(values: Shaped[np.ndarray, "*N _"]) -> int:
    """Return the number of points without a value: an empty cell, NaN, or a number that is infinite in float32."""
    if values.dtype.kind != "f":
        return 0
    with np.errstate(over="ignore", invalid="ignore"):
        return int((~np.isfinite(values.astype(np.float32, copy=False))).any(-1).sum())


def check_values(values: Shaped[np.ndarray, "*N _"], name: str, where: str) -> None:
    """Raise InputError if some points have no value of a feature."""
    if gaps := num_gaps(values):
        number = f" in {gaps:,} of {len(values):,} points" if values.ndim == 2 else ""  # else: of a block of clouds
        raise InputError(
            f"{where} has {name} that is not finite (an empty cell, NaN){number}: give them a number, take them out, "
            f"or train without {name}"
        )


def color_unit(values: Shaped[np.ndarray, "*N _"], most: float) -> int:
    """Return the value that means 1 in colors: 255 or 65535 by dtype; for floats and wider integers by the largest."""
    if values.dtype in UNITS:
        return UNITS[values.dtype]
    return 1 if values.dtype.kind == "f" and most <= 1 + ROUNDING else 255 if most <= 255 else 65535


def unit_color(values: Shaped[np.ndarray, "*N _"], where: str, most: float | None = None) -> Float[np.ndarray, "*N _"]:
    """Return colors scaled to 0 to 1; see `color_unit`.

    ``most``: the largest value of the file or set, if ``values`` are only some of its colors. Raises InputError for
    values outside all ranges, and for floats between 1 and 2, whose range is ambiguous.
    """
    check_values(values, "color", where)
    most = largest_of(values) if most is None else most
    unclear = values.dtype.kind == "f" and 1 + ROUNDING < most < 2
    if unclear or not (values >= 0).all() or not most <= 65535:
        raise InputError(f"{where} has colors outside 0 to 1, 0 to 255 and 0 to 65535: the largest is {most:g}")
    return np.minimum(values.astype(np.float64) / color_unit(values, most), 1)


def color_notes(values: Shaped[np.ndarray, "*N _"], most: float) -> tuple[str, ...]:
    """Return notes on the range that was guessed for colors whose largest value is ``most``."""
    unit = color_unit(values, most)
    if unit == 1 or values.dtype == np.uint8 or (values.dtype == np.uint16 and most > 255):
        return ()
    reason = " by their dtype, though none is above 255" if unit > 255 >= most else ""
    return (f"colors taken for 0 to {unit}{reason}",)


def largest_of(values: Shaped[np.ndarray, "..."]) -> float:
    """Return the largest value; NaN if any is NaN."""
    return float(values.max(initial=0))


def unit_normals(vectors: Shaped[np.ndarray, "*N 3"]) -> Shaped[np.ndarray, "*N 3"]:
    """Return normals scaled to length 1; those of length 0 stay zero.

    Those of length 1 up to rounding stay unchanged to the bit.
    """
    numbers = vectors.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        length = np.linalg.norm(numbers, axis=-1, keepdims=True)
        right_mask = (np.abs(length - 1) < ROUNDING) | ~vectors.any(-1, keepdims=True)
        directed_mask = length > 1e-6
        if right_mask.all():
            return vectors
        scaled = np.where(directed_mask, numbers / np.where(directed_mask, length, 1), 0)
    return np.where(right_mask, vectors, scaled)


def are_directions(vectors: Shaped[np.ndarray, "N 3"]) -> bool:
    """Return whether all vectors are finite, and at least nine of ten are not zero."""
    with np.errstate(over="ignore", invalid="ignore"):
        length = np.linalg.norm(vectors.astype(np.float64), axis=1)
    return bool(np.isfinite(length).all() and (length > 1e-6).mean() >= 0.9)
