"""The ``input`` entry of weights metadata: what clouds or images must be like for a model."""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from bixt3d.datasets.clouds.source import CloudSource
from bixt3d.datasets.images.transforms import MEAN, STD
from bixt3d.datasets.scenes.crops import SceneSet
from bixt3d.datasets.transforms.feature_augment import fill_by_name, fill_values
from bixt3d.io.untrusted import check_count, check_different_names, check_keys
from bixt3d.types import Features, InputError

NORMALIZATION = "unit_sphere"
MAX_POINTS, LARGEST_IMAGE = 2**18, 2048
"""Limits on what a file may ask of a predictor: points of a cloud, and the side of an image in pixels."""


def fill_of(run: Any, train: Any) -> Float[Tensor, " F"] | None:
    """Return the values of missing features if the run trains with feature dropout; else None."""
    drops = getattr(run.augment, "feature_dropout", 0)  # an augmentation of the user's own may not have it
    if not drops or not train.features:
        return None
    return train.fill if isinstance(train, SceneSet) else fill_values(train.feats, train.features)


def describe_clouds(data: CloudSource, fill: Float[Tensor, " F"] | None = None) -> dict[str, Any]:
    """Return the description of a data set's clouds that is saved with weights; ``fill``: see `fill_of`."""
    given = {"num_points": data.num_points, "up": data.up, "normalization": NORMALIZATION}
    given["features"] = str(data.features)
    return given if fill is None else given | {"fill": fill_by_name(fill, data.features)}


def read_clouds(given: Any, model: nn.Module, source: str) -> dict[str, Any]:
    """Return the arguments of a cloud predictor from a saved description. Raises InputError if it is invalid."""
    fill = ("fill",) if isinstance(given, dict) and "fill" in given else ()
    check_keys(given, ("num_points", "up", "normalization", "features", *fill), source)
    if given["normalization"] != NORMALIZATION or given["up"] not in ("y", "z"):
        raise InputError(f"{source} describes clouds that bixt3d does not know how to prepare")
    own = read_features(given["features"], model, source)
    return {
        "num_points": check_count(given["num_points"], f"num_points of {source}", 1, MAX_POINTS),
        "up": given["up"],
        "fill": read_fill(given["fill"], own, source) if fill else None,
    }


def read_features(text: Any, model: nn.Module, source: str) -> Features:
    """Return the features that a model reads. Raises InputError if a saved description names others."""
    if not _are_named(text, own := Features.of(model)):
        raise InputError(f"{source} describes other features than its model reads ({own or 'none'})")
    return own


def read_fill(fill: Any, features: Features, source: str) -> dict[str, list[float]]:
    """Return the saved values of missing features. Raises InputError if they are invalid."""
    check_keys(fill, features.names, f"fill of {source}")
    for feature in features.columns:
        values = fill[feature.name]
        numbers = isinstance(values, list) and all(type(one) in (int, float) and abs(one) < 1e30 for one in values)
        if not numbers or len(values) != feature.width:
            raise InputError(f"fill of {source} should have {feature.width} numbers for {feature.name}")
    return fill


def describe_images(**more: Any) -> dict[str, Any]:
    """Return the description of images that is saved with weights."""
    return {"mean": list(MEAN), "std": list(STD), **more}


def read_images(given: Any, keys: tuple[str, ...], source: str) -> Mapping[str, Any]:
    """Return the saved description of images, which must have these keys. Raises InputError if it is invalid."""
    check_keys(given, ("mean", "std", *keys), source)
    if (given["mean"], given["std"]) != (list(MEAN), list(STD)):
        raise InputError(f"{source} describes images whose colors bixt3d does not know how to normalize")
    return given


def _are_named(text: Any, features: Any) -> bool:
    try:
        return isinstance(text, str) and str(Features.parse(text)) == str(features)
    except InputError:  # not a list of features
        return False


def check_features(model: nn.Module, examples: Any) -> nn.Module:
    """Return the model. Raises InputError if it reads other features than the data set has."""
    given = getattr(examples, "features", None)
    if given is not None and (own := Features.of(model)) != given:
        raise InputError(
            f"the model reads {own or 'no features'}, but the data set gives {given or 'none'}: set "
            "--data.features alone, which the model follows; a model class of your own declares `features`"
        )
    return model


def check_parts(names: Mapping[str, Any], source: str) -> None:
    """Raise InputError unless every class has a list of different parts, each with a name."""
    for key in ("class_names", "part_names"):
        check_different_names(names[key], f"{key} of {source}")
    check_keys(names["class_parts"], names["class_names"], f"class_parts of {source}")
    for parts in names["class_parts"].values():
        if not (isinstance(parts, list) and parts and len(set(map(str, parts))) == len(parts)):
            raise InputError(f"class_parts of {source} should list the different parts of each class")
        for part in parts:
            check_count(part, f"a part of a class of {source}", 0, len(names["part_names"]) - 1)
