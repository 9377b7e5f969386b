"""A virtual laser scanner: which points of surfaces it sees from where it stands."""

import numpy as np
from jaxtyping import Float, Int

COARSE = 3
"""Side of the cells in which the nearest surface hides others, in steps of the scanner."""
THICKNESS, SLOPE = 0.05, 0.06
"""How far behind the nearest point of its cell a point may lie: in units of length, and as a share of its range."""


def visible_points(
    points: Float[np.ndarray, "N 3"], position: Float[np.ndarray, "3"], step: float
) -> Int[np.ndarray, " M"]:
    """Return the points that a scanner sees: at most one in each direction, none behind another surface.

    ``points``: dense on the surfaces, z up; ``step``: angle between two directions, in degrees. The density of what is
    seen falls with the square of the distance.
    """
    offset = points - position
    distance = np.linalg.norm(offset, axis=1)
    azimuth = np.degrees(np.arctan2(offset[:, 1], offset[:, 0])) + 180
    elevation = np.degrees(np.arcsin(np.clip(offset[:, 2] / np.maximum(distance, 1e-9), -1, 1))) + 90
    coarse = _cells(azimuth, elevation, COARSE * step)
    nearest = np.full(coarse.max() + 1, np.inf)
    np.minimum.at(nearest, coarse, distance)
    seen = np.flatnonzero(distance <= nearest[coarse] + THICKNESS + SLOPE * distance)
    by_distance = seen[np.argsort(distance[seen], kind="stable")]
    _, first = np.unique(_cells(azimuth, elevation, step)[by_distance], return_index=True)
    return by_distance[first]


def _cells(azimuth: Float[np.ndarray, " N"], elevation: Float[np.ndarray, " N"], step: float) -> Int[np.ndarray, " N"]:
    return (azimuth / step).astype(np.int64) * (int(180 / step) + 1) + (elevation / step).astype(np.int64)


def with_range_noise(
    points: Float[np.ndarray, "N 3"], position: Float[np.ndarray, "3"], deviation: float, rng: np.random.Generator
) -> Float[np.ndarray, "N 3"]:
    """Return points moved along the ray of the scanner by Gaussian noise."""
    offset = points - position
    distance = np.linalg.norm(offset, axis=1, keepdims=True)
    return points + offset / np.maximum(distance, 1e-9) * deviation * rng.standard_normal((len(points), 1))
