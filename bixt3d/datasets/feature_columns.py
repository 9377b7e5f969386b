"""Features of points by name: what people call them, and how their numbers become those that a model reads."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Shaped

from bixt3d.bounds import listed
from bixt3d.types import Feature, Features, InputError

ALIASES = {"normals": "normal", "color": "rgb", "colors": "rgb", "colour": "rgb", "colours": "rgb"}
"""Other names of features, in small letters."""

ROUNDING = 1e-3
"""So far may a normal's length or a color be from 1 that was written with few decimals."""

Columns = Mapping[str, Shaped[np.ndarray, "*N _"]]
"""Named features of points, as a file or a program gives them."""


def feature_name(name: str) -> str:
    """Return what a column, an array or an attribute of this name is called here: ``rgb`` for ``Colors``."""
    name = name.strip().lower()
    return ALIASES.get(name, name)


def select_features(columns: Columns, features: Features, where: str) -> Float[np.ndarray, "*N F"]:
    """Return these features side by side, as float32: colors from 0 to 1, all else as it is.

    ``where`` begins the sentence of an error. Raises InputError for a feature that is missing, of another width, or not
    made of finite numbers.
    """
    named = {feature_name(name): values for name, values in columns.items()}
    if missing := [name for name in features.names if name not in named]:
        raise InputError(f"{where} has no {missing[0]} (it has {listed(sorted(named)) if named else 'no features'})")
    return np.concatenate([feature_numbers(named[one.name], one, where) for one in features.columns], -1).astype(
        np.float32
    )


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
    return values.astype(np.float64)


def unit_color(values: Shaped[np.ndarray, "*N _"], where: str, most: float | None = None) -> Float[np.ndarray, "*N _"]:
    """Return colors from 0 to 1. The largest number says what stands for 1: 1 (floats only), 255 or 65535.

    ``most``: the largest number, where these are not all colors of their file. Raises InputError for others, among them
    floats a little above 1, of which nobody can say which they are.
    """
    numbers, of_floats = values.astype(np.float64), values.dtype.kind == "f"
    most = numbers.max(initial=0) if most is None else most
    full = 1 if of_floats and most <= 1 + ROUNDING else 255 if most <= 255 else 65535
    unclear = of_floats and 1 + ROUNDING < most < 2
    if unclear or not (numbers >= 0).all() or not most <= 65535:
        raise InputError(f"{where} has colors outside 0 to 1, 0 to 255 and 0 to 65535: the largest is {most:g}")
    return np.minimum(numbers / full, 1)


def unit_normals(vectors: Shaped[np.ndarray, "N 3"]) -> Shaped[np.ndarray, "N 3"] | None:
    """Return vectors that are said to be normals with length 1; those without a direction are 0.

    Those that have this length up to rounding stay as they are. None if more than one of ten has no direction, or if
    any is not finite.
    """
    numbers = vectors.astype(np.float64)
    with np.errstate(over="ignore"):
        length = np.linalg.norm(numbers, axis=1, keepdims=True)
    directed_mask = length > 1e-6
    if not np.isfinite(length).all() or directed_mask.mean() < 0.9:
        return None
    if (np.abs(length[directed_mask] - 1) < ROUNDING).all() and not length[~directed_mask].any():
        return vectors
    return np.where(directed_mask, numbers / np.where(directed_mask, length, 1), 0)
