"""A single cloud, as read from a file: any number of points, positions in double precision, features by name."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped
from torch import Tensor

from bixt3d.datasets.files.feature_columns import (
    are_directions,
    color_notes,
    columns_of,
    largest_of,
    unit_color,
    unit_normals,
)
from bixt3d.datasets.transforms.upright import Up
from bixt3d.types import Features, InputError, feature_name


@dataclass(frozen=True, eq=False)
class Cloud:
    """One point cloud with its features, not normalized.

    Args:
        xyz: positions, in the units and the coordinate frame of the source.
        columns: features by name, each with a row for each point, unchanged: ``normal`` of any length, ``rgb`` from 0
            to 1, 0 to 255 or 0 to 65535, and any other.
        name: name in messages.
        from_mesh: the points were sampled from a mesh, and the normals are those of its faces.
        up: the direction that points up, if the file format defines it.
        notes: what was guessed, changed or left out when it was read, each in a few words.
        largest: the largest value of a column over all clouds of its file or array, if there are several.
        num_faces: number of triangles of the file that the points were sampled from; 0: not from a file with faces.
        words: the words of columns that the source has as words, such as class names: such a column contains their
            indices, or NaN for none.

    Example:
        >>> import numpy as np
        >>> len(Cloud(np.random.rand(100, 3), {"rgb": np.zeros((100, 3))}))
        100
    """

    xyz: Float[np.ndarray, "N 3"]
    columns: Mapping[str, Shaped[np.ndarray, "N _"]] = field(default_factory=dict)
    name: str = "the input"
    from_mesh: bool = False
    up: Up | None = None
    notes: tuple[str, ...] = ()
    largest: Mapping[str, float] = field(default_factory=dict)
    num_faces: int = 0
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.xyz)


def as_array(values: Any, what: str = "clouds") -> np.ndarray:
    """Return an array, or a tensor on any device, as an array of numbers. Raises InputError for anything else."""
    if np.ma.is_masked(values):
        raise InputError(f"{what}: some numbers of this array are masked; give the points that are there alone")
    try:
        if isinstance(values, Tensor):
            values = values.detach()
            values = (values.float() if values.dtype.itemsize < 4 and values.is_floating_point() else values).cpu()
            values = values.numpy(force=True)  # force: conjugate and negative views too
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists, sparse and meta tensors
        raise InputError(f"{what}: expected an array of numbers ({' '.join(str(error).split())})") from error
    if array.dtype.kind not in "fiub":
        raise InputError(f"{what}: expected an array of numbers, not of {array.dtype}")
    return array


def standard_cloud(cloud: Cloud) -> Cloud:
    """Return the cloud with positions in float64 and features under their standard names (``rgb`` for ``colors``).

    Columns keep their own names if several would get the same one. Raises InputError for positions or features of the
    wrong shape, or that are not numbers.
    """
    xyz = as_array(cloud.xyz, cloud.name)
    if xyz.ndim != 2 or xyz.shape[1] != 3 or not len(xyz) or xyz.dtype.kind == "b":
        raise InputError(f"{cloud.name} has positions of {xyz.dtype} of shape {xyz.shape}: they are numbers (N, 3)")
    times = Counter(map(feature_name, cloud.columns))
    names = {name: feature_name(name) if times[feature_name(name)] == 1 else name for name in cloud.columns}
    columns = {names[name]: as_column(name, values, xyz.shape) for name, values in cloud.columns.items()}
    largest = {names[name]: most for name, most in cloud.largest.items() if name in names}
    words = {names[name]: own for name, own in cloud.words.items() if name in names}
    xyz = np.require(xyz, np.float64, ["C", "W"])
    return replace(cloud, xyz=xyz, columns=columns, largest=largest, words=words)


def with_features(cloud: Cloud, features: Features) -> Cloud:
    """Return the cloud with those of its normals and colors that ``features`` names in the range that models read.

    Its notes say what was changed. Raises InputError for a duplicate feature, and for values that are not colors.
    """
    columns, notes = dict(cloud.columns), cloud.notes
    for feature in features.columns:
        names = columns_of(feature, columns, cloud.name)
        if not names:
            continue
        if any(name in cloud.words for name in names):
            raise InputError(f"{cloud.name} has {feature.name} as words, not as numbers: no model reads them")
        values = np.concatenate([columns.pop(name) for name in names], -1)
        if feature.kind == "normal" and values.shape[1] == 3:
            if not are_directions(values):
                notes += (f"its {feature.name}s left out, which have no direction or are not finite",)
                continue
            values = unit_normals(given := values)
            if values is not given:
                notes += (f"{feature.name}s scaled to length 1",)
        elif feature.kind == "color":
            most = max(cloud.largest.get(name, -np.inf) for name in names)
            most = largest_of(values) if most == -np.inf else most
            values = unit_color(given := values, cloud.name, most)
            notes += color_notes(given, most)
        columns[feature.name] = values
    return replace(cloud, columns=columns, notes=notes)


def as_column(name: str, values: Any, shape: tuple[int, ...]) -> Shaped[np.ndarray, "*N _"]:
    """Return a feature of points of ``shape`` as an array (..., width). Raises InputError if it does not fit."""
    values = as_array(values, name)
    values = values[..., None] if values.shape == shape[:-1] else values
    if values.shape[:-1] != shape[:-1]:
        raise InputError(f"{name} of shape {values.shape} does not fit points of shape {shape}")
    return values
