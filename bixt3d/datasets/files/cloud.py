"""A single cloud, as read from a file: any number of points, positions in double precision, features by name."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
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
from bixt3d.io.bounds import counted
from bixt3d.types import Features, InputError, feature_name

FARTHEST = 1e18
"""Largest absolute coordinate: the square of a larger one overflows float32."""

SPACED, NEAREST = 1000, 1_000_000
"""Points whose spacing is measured, and points among which their neighbors are searched."""

NO_POSITION = f"NaN, infinite or beyond {FARTHEST:g}"


@dataclass(frozen=True, eq=False)
class Extent:
    """Number of points of a large cloud, their mean, and the largest distance of one from it."""

    num_points: int
    mean: Float[np.ndarray, "3"]
    radius: float


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
        original: the cloud with all its points, if some were dropped because they have no position; else None.
        kept: the indices of these points in ``original``; None: all.
        extent: of the whole cloud, if these are some of its points, in random order.
        meters: the units of x and y, and of z, in meters, if the source says them.

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
    original: "Cloud | None" = None
    kept: Int[np.ndarray, " N"] | None = None
    extent: Extent | None = None
    meters: tuple[float, float] | None = None

    def __len__(self) -> int:
        return len(self.xyz)

    @property
    def num_original(self) -> int:
        """The number of points of the source, with those that have no position or were not read."""
        return self.extent.num_points if self.extent else len(self.original or self)

    def for_original(self, values: Shaped[np.ndarray, "N ..."], missing: float | int) -> Shaped[np.ndarray, "M ..."]:
        """Return values with a row for each original point, in their order; ``missing`` where a point was dropped."""
        if self.kept is None:
            return values
        found = np.full((self.num_original, *values.shape[1:]), missing, values.dtype)
        found[self.kept] = values
        return found


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

    Points without a position are dropped (see `has_position`). Columns keep their own names if several would get the
    same one. Raises InputError for less than two points, and for positions or features of the wrong shape, or that
    are no numbers.
    """
    xyz = as_array(cloud.xyz, cloud.name)
    if xyz.ndim != 2 or xyz.shape[1] != 3 or xyz.dtype.kind == "b":
        raise InputError(f"{cloud.name} has positions of {xyz.dtype} of shape {xyz.shape}: they are numbers (N, 3)")
    if len(xyz) < 2:
        raise InputError(f"{cloud.name} has {counted(len(xyz), 'point')}: a cloud takes many")
    times = Counter(map(feature_name, cloud.columns))
    names = {name: feature_name(name) if times[feature_name(name)] == 1 else name for name in cloud.columns}
    columns = {names[name]: as_column(name, values, xyz.shape) for name, values in cloud.columns.items()}
    largest = {names[name]: most for name, most in cloud.largest.items() if name in names}
    words = {names[name]: own for name, own in cloud.words.items() if name in names}
    xyz = np.require(xyz, np.float64, ["C", "W"])
    return _drop(replace(cloud, xyz=xyz, columns=columns, largest=largest, words=words))


def has_position(xyz: Shaped[np.ndarray, "*N 3"]) -> Bool[np.ndarray, "*N"]:
    """Return the mask of points whose coordinates are finite and below 1e18; depth cameras write NaN for no point."""
    with np.errstate(invalid="ignore"):
        return (np.abs(xyz.astype(np.float64, copy=False)) < FARTHEST).all(axis=-1)


def _drop(cloud: Cloud) -> Cloud:
    """Return the cloud without the points that have no position. Raises InputError if less than two have one."""
    kept = np.flatnonzero(has_position(cloud.xyz))
    if len(kept) == len(cloud):
        return cloud
    if not len(kept):
        raise InputError(f"{cloud.name} {no_positions(len(cloud))}")
    if len(kept) == 1:
        raise InputError(f"{cloud.name} has 1 point, the others are {NO_POSITION}: a cloud takes many")
    original = cloud.original or cloud
    columns = {name: values[kept] for name, values in cloud.columns.items()}
    dropped = f"{len(cloud) - len(kept)} of its {len(cloud)} points dropped: {NO_POSITION}"
    numbers = kept if cloud.kept is None else cloud.kept[kept]
    return replace(
        cloud, xyz=cloud.xyz[kept], columns=columns, notes=(*cloud.notes, dropped), original=original, kept=numbers
    )


def no_positions(count: int) -> str:
    """Return the fault of a cloud of ``count`` points without a position."""
    return f"has {count} points, all of them {NO_POSITION}"


def share_largest(clouds: Sequence[Cloud]) -> list[Cloud]:
    """Return clouds of one source with ``largest`` over all of them: together they tell the range of colors."""
    if len(clouds) < 2:
        return list(clouds)
    names = {name for cloud in clouds for name in cloud.columns}
    largest = {name: max(largest_of(one.columns[name]) for one in clouds if name in one.columns) for name in names}
    return [replace(cloud, largest=largest) for cloud in clouds]


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


def median_spacing(xyz: Float[np.ndarray, "N 3"]) -> float | None:
    """Return the median distance of points to their nearest neighbor; None for a single point.

    A large cloud is searched in a run of consecutive points, which are neighbors in the files of scanners.
    """
    from scipy.spatial import cKDTree

    if len(xyz) < 2:
        return None
    first = max(0, len(xyz) - NEAREST) // 2
    some = xyz[first : first + NEAREST]
    some = some - some.mean(axis=0)
    chosen = np.random.default_rng(0).permutation(len(some))[:SPACED]
    return float(np.median(cKDTree(some).query(some[chosen], 2)[0][:, 1]))
