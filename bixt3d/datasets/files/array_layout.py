"""What the axes of an array of positions mean: points in rows, channels first, several clouds, or an organized one."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from bixt3d.datasets.files.cloud import has_position
from bixt3d.types import InputError

MAX_CHANNELS, WIDE = 9, 16
"""Channels come first in at most 9 rows of more than 16 numbers. Tables of more than 16 columns have many more rows."""

SAMPLES, LINES = 4000, 40
"""Pairs of points, and rows and columns, that are looked at to tell an organized cloud from several clouds."""


class Layout(NamedTuple):
    """How to turn an array (..., C) of positions, or of a feature of the same points, into one row for each point.

    ``rows``: the shape of one number for each point, as it was given; ``several``: its first axis is that of clouds;
    ``axis``: that of the coordinates, which others than positions may have last.
    """

    rows: tuple[int, ...]
    several: bool
    axis: int
    notes: tuple[str, ...] = ()

    def arrange(self, values: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."] | None:
        """Return values as (N, C), or (S, N, C) for several clouds; None if they are not those of these points."""
        values = values[..., None] if values.shape == self.rows else values
        if values.ndim != len(self.rows) + 1:
            return None
        for axis in (self.axis, values.ndim - 1):
            if values.shape[:axis] + values.shape[axis + 1 :] == self.rows:
                values = np.moveaxis(values, axis, -1)
                return values.reshape((self.rows[0], -1, values.shape[-1]) if self.several else (-1, values.shape[-1]))
        return None


def find_layout(xyz: Shaped[np.ndarray, "..."], is_set: bool = False) -> Layout:
    """Return the layout of positions, with notes on what was guessed.

    ``is_set``: something else says that the first axis is that of clouds. Raises InputError for what is no array of
    points: depth maps, images, voxel grids.
    """
    shape = xyz.shape
    if xyz.size == 0 and xyz.ndim in (2, 3, 4) and shape[-1]:
        raise InputError(f"has 0 points (an array of shape {shape}): a cloud takes many")
    if xyz.ndim not in (2, 3, 4) or 0 in shape:
        raise InputError(f"has points of shape {shape}: write (N, 3), or (S, N, 3) for several clouds")
    if xyz.ndim == 2:
        return _of_two(shape)
    if xyz.ndim == 3:
        return _of_three(xyz, is_set)
    for axis in (1, 3):
        if 3 <= shape[axis] <= MAX_CHANNELS and (axis == 3 or shape[3] > WIDE):
            note = (f"{shape} taken for {shape[0]} organized clouds",)
            return Layout(shape[:axis] + shape[axis + 1 :], True, axis, note)
    raise _no_points(shape)


def _of_two(shape: tuple[int, ...]) -> Layout:
    rows, columns = shape
    if (rows == 3 and columns > 3) or (4 <= rows <= MAX_CHANNELS and columns > WIDE):
        return Layout((columns,), False, 0, (f"{shape} taken as {rows} channels of {columns} points",))
    if columns >= 3 and not _is_table(rows, columns):
        raise _no_points(shape)
    return Layout((rows,), False, 1, (f"{shape} taken as points in rows",) if rows == columns == 3 else ())


def _of_three(xyz: Shaped[np.ndarray, "A B C"], is_set: bool) -> Layout:
    first, second, third = shape = xyz.shape
    if xyz.dtype == np.uint8 and not is_set and min(sorted(shape)[1:]) > WIDE and {first, third} & {3, 4}:
        raise InputError(
            f"has bytes of shape {shape}, as an image: a point takes three coordinates (if it has these, write them "
            "as another type)"
        )
    if second == 1 and third >= 3:  # as OpenCV writes points
        return Layout((first, 1), False, 2)
    if third == 1 and 3 <= second <= MAX_CHANNELS:
        return Layout((first, 1), False, 1)
    if (second == 3 and third > 3) or (4 <= second <= MAX_CHANNELS and third > WIDE):
        note = f"{shape} taken as {first} clouds, each of {second} channels of {third} points"
        return Layout((first, third), True, 1, (note,))
    if third >= 3 and _is_table(second, third):
        if not is_set and looks_organized(xyz[..., :3]):
            return Layout((first, second), False, 2, (f"{shape} taken for one organized cloud, not for {first}",))
        return Layout((first, second), True, 2, (f"{shape} taken as points in rows",) * (second == third == 3))
    if 3 <= first <= MAX_CHANNELS and min(second, third) > WIDE:
        note = f"{shape} taken for one organized cloud of {first} channels"
        return Layout((second, third), False, 0, (note,))
    raise _no_points(shape)


def _is_table(rows: int, columns: int) -> bool:
    return columns <= WIDE or rows >= 8 * columns


def _no_points(shape: tuple[int, ...]) -> InputError:
    return InputError(
        f"has numbers of shape {shape}, as a depth map, an image or a voxel grid: a point takes x, y, z, so turn it "
        "into points (N, 3) first, such as by Open3D's PointCloud.create_from_depth_image"
    )


def looks_organized(xyz: Shaped[np.ndarray, "H W 3"]) -> bool:
    """Return whether an array is the image of a depth camera or a scanner, not one cloud in each row.

    Then points beside and below each other are near, and rows or columns are curves in a plane through the sensor.
    """
    height, width = xyz.shape[:2]
    if min(height, width) < 4:
        return False
    rng = np.random.default_rng(0)
    row, column = rng.integers(height - 1, size=SAMPLES), rng.integers(width - 1, size=SAMPLES)
    here, other = (_numbers(xyz[row, column]) for _ in range(2))
    typical = _median_distance(here, rng.permutation(other))
    near = 0.55 * typical
    if not _median_distance(here, _numbers(xyz[row, column + 1])) < near:
        return False
    if not _median_distance(here, _numbers(xyz[row + 1, column])) < near:
        return False
    rows, columns = (np.linspace(0, size - 1, min(size, LINES)).astype(int) for size in (height, width))
    across, down = [_numbers(xyz[one]) for one in rows], [_numbers(xyz[:, one]) for one in columns]
    spans = [np.linalg.norm(np.ptp(placed, axis=0)) for line in down if len(placed := line[has_position(line)])]
    if not np.median(spans) > 0.3 * typical:  # the same object again and again, a little changed
        return False
    thickness = [np.median([_thickness(line) for line in lines], axis=0) for lines in (across, down)]
    # columns alone: a spinning scanner; straight ones would be the paths of an object's points
    return bool(thickness[0][1] < 0.05 or (thickness[1][1] < 0.05 and thickness[1][0] > 0.05))


def _numbers(xyz: Shaped[np.ndarray, "*N 3"]) -> Float[np.ndarray, "*N 3"]:
    return xyz.astype(np.float64)


def _median_distance(first: Float[np.ndarray, "N 3"], second: Float[np.ndarray, "N 3"]) -> float:
    """Return the median distance of the pairs that have positions; NaN without any."""
    both = has_position(first) & has_position(second)
    return float(np.median(np.linalg.norm(first[both] - second[both], axis=1))) if both.any() else np.nan


def _thickness(line: Float[np.ndarray, "N 3"]) -> tuple[float, float]:
    """Return the extents of points beside the straight line and the plane that fit them best, as shares of the largest.

    They are 1 for too few points.
    """
    placed = line[has_position(line)]
    if len(placed) < 4:
        return 1.0, 1.0
    size = np.linalg.svd(placed - placed.mean(0), compute_uv=False)
    return (float(size[1] / size[0]), float(size[2] / size[0])) if size[0] else (1.0, 1.0)
