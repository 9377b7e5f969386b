"""The ``input`` entry of the metadata of a scene segmenter: how scenes are prepared for it."""

from typing import Any, get_args

from torch import nn

from bixt3d.datasets.scenes.crops import SceneSet, Shape
from bixt3d.datasets.transforms.feature_augment import fill_by_name
from bixt3d.io.untrusted import check_count, check_keys
from bixt3d.tasks.inputs import fill_of, read_features, read_fill
from bixt3d.types import InputError

MAX_TOKENS = 2**22
"""Limit on the window that a file may ask for."""


def describe_scenes(run: Any, scenes: SceneSet) -> dict[str, Any]:
    """Return the description of a data set's scenes that is saved with weights."""
    data, fill = run.data, fill_of(run, scenes)
    given = {"grid": data.grid, "window": run.train.window or data.crop_sizes[-1], "shape": data.shape, "up": data.up}
    given["features"] = str(data.features)
    if scenes.codes:
        given["las_codes"] = list(scenes.codes)
    return given if fill is None else given | {"fill": fill_by_name(fill, data.features)}


def read_scenes(given: Any, model: nn.Module, num_classes: int, source: str) -> dict[str, Any]:
    """Return the arguments of a scene predictor from a saved description. Raises InputError if it is invalid."""
    more = [name for name in ("fill", "las_codes") if isinstance(given, dict) and name in given]
    check_keys(given, ("grid", "window", "shape", "up", "features", *more), source)
    grid = given["grid"]
    if type(grid) not in (int, float) or not 1e-9 < grid < 1e9:
        raise InputError(f"grid of {source} should be the side of a voxel, not {str(grid)[:40]}")
    if given["shape"] not in get_args(Shape) or given["up"] != "z":
        raise InputError(f"{source} describes scenes that bixt3d does not know how to prepare")
    features = read_features(given["features"], model, source)
    return {
        "grid": float(grid),
        "window": check_count(given["window"], f"window of {source}", 1, MAX_TOKENS),
        "shape": given["shape"],
        "fill": read_fill(given["fill"], features, source) if "fill" in more else None,
        "codes": _read_codes(given["las_codes"], num_classes, source) if "las_codes" in more else None,
    }


def _read_codes(codes: Any, num_classes: int, source: str) -> list[int]:
    if not isinstance(codes, list) or len(codes) != num_classes:
        raise InputError(f"las_codes of {source} should be {num_classes} numbers")
    return [check_count(code, f"las_codes of {source}", 0, 255) for code in codes]
