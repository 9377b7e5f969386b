"""Features of points by name: what people call them, and how their numbers become those that a model reads."""

from collections.abc import Iterable, Mapping

import numpy as np
from jaxtyping import Float, Shaped

from bixt3d.io.bounds import listed
from bixt3d.types import Feature, Features, InputError, feature_name

ROUNDING = 1e-3
"""So far may a normal's length or a color be from 1 that was written with few decimals."""

UNITS = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}
"""What stands for 1 in colors of these types."""

Columns = Mapping[str, Shaped[np.ndarray, "*N _"]]
"""Named features of points, as a file or a program gives them."""


def columns_of(feature: Feature, names: Iterable[str], where: str) -> list[str]:
    """Return the names of the columns that hold a feature: one, or ``NAME_0`` to ``NAME_n``; none if it is missing.

    Raises InputError for two columns that both mean it.
    """
    names = list(names)
    found = [name for name in names if feature_name(name) == feature.name]
    if len(found) > 1:
        raise InputError(f"{where} has {listed(found)}, which all mean {feature.name}: leave one of them")
    if not found and feature.width > 1:
        of_part = {name.strip().lower(): name for name in names}
        parts = [of_part.get(f"{feature.name}_{place}") for place in range(feature.width)]
        found = [part for part in parts if part is not None]
        return found if len(found) == len(parts) else []
    return found


def select_features(columns: Columns, features: Features, where: str) -> Float[np.ndarray, "*N F"]:
    """Return these features side by side, as float32: colors from 0 to 1, normals of length 1, scalars as they are.

    ``where`` begins the sentence of an error. Raises InputError for a feature that is missing, there twice, of another
    width, or not made of finite numbers.
    """
    found = []
    for feature in features.columns:
        names = columns_of(feature, columns, where)
        if not names:
            known = listed(sorted(set(map(feature_name, columns)))) if columns else "no features"
            raise InputError(f"{where} has no {feature.name} (it has {known})")
        values = np.concatenate([columns[name] for name in names], -1)
        found.append(feature_numbers(values, feature, where))
    return np.concatenate(found, -1).astype(np.float32)


def feature_numbers(
    values: Shaped[np.ndarray, "..."], feature: Feature, where: str, most: float | None = None
) -> Float[np.ndarray, "*N _"]:
    """Return the numbers of one feature, in double precision; see `select_features`, and `unit_color` for ``most``."""
    if values.dtype.kind not in "fiub":
        raise InputError(f"{where} has {feature.name} that is no number, but {values.dtype}")
    if values.shape[-1] != feature.width:
        raise InputError(
            f"{where} has {feature.name} of width {values.shape[-1]}, but the feature {feature} has {feature.width}"
        )
    if feature.kind == "color":
        return unit_color(values, where, most)
    with np.errstate(over="ignore", invalid="ignore"):
        finite = np.isfinite(values.astype(np.float32, copy=False)).all()
    if not finite:
        raise InputError(f"{where} has {feature.name} that is not finite")
    return (unit_normals(values) if feature.kind == "normal" else values).astype(np.float64)


def color_unit(values: Shaped[np.ndarray, "*N _"], most: float) -> int:
    """Return what stands for 1 in colors: 255 or 65535 by their type; of floats and wider integers, by the largest."""
    if values.dtype in UNITS:
        return UNITS[values.dtype]
    return 1 if values.dtype.kind == "f" and most <= 1 + ROUNDING else 255 if most <= 255 else 65535


def unit_color(values: Shaped[np.ndarray, "*N _"], where: str, most: float | None = None) -> Float[np.ndarray, "*N _"]:
    """Return colors from 0 to 1; see `color_unit` for what stands for 1.

    ``most``: the largest number, where these are not all colors of their file or set. Raises InputError for others,
    among them floats a little above 1, of which nobody can say which they are.
    """
    most = largest_of(values) if most is None else most
    unclear = values.dtype.kind == "f" and 1 + ROUNDING < most < 2
    if unclear or not (values >= 0).all() or not most <= 65535:
        raise InputError(f"{where} has colors outside 0 to 1, 0 to 255 and 0 to 65535: the largest is {most:g}")
    return np.minimum(values.astype(np.float64) / color_unit(values, most), 1)


def color_notes(values: Shaped[np.ndarray, "*N _"], most: float) -> tuple[str, ...]:
    """Return what was guessed of colors whose largest number is this."""
    unit = color_unit(values, most)
    if unit == 1 or values.dtype == np.uint8 or (values.dtype == np.uint16 and most > 255):
        return ()
    reason = ", as their type says, though none is above 255" if unit > 255 >= most else ""
    return (f"colors taken for 0 to {unit}{reason}",)


def largest_of(values: Shaped[np.ndarray, "..."]) -> float:
    """Return the largest number; NaN if there is any."""
    return float(values.max(initial=0))


def unit_normals(vectors: Shaped[np.ndarray, "*N 3"]) -> Shaped[np.ndarray, "*N 3"]:
    """Return vectors that are said to be normals with length 1; those without a direction are 0.

    Those that have this length up to rounding stay as they are.
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
    """Return whether vectors are finite, and at least nine of ten have a direction."""
    with np.errstate(over="ignore", invalid="ignore"):
        length = np.linalg.norm(vectors.astype(np.float64), axis=1)
    return bool(np.isfinite(length).all() and (length > 1e-6).mean() >= 0.9)
