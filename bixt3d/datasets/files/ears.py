"""Triangulation of one concave polygon by cutting ears (Meisters 1975)."""

import numpy as np
from jaxtyping import Bool, Float, Int

MOST_CORNERS = 20_000
"""Largest number of corners in concave faces of one size: cutting ears takes quadratic time."""

MOST_TRIES = 10
"""Ears that are tried for each corner, on average, before a polygon is taken for one that crosses itself."""

ROUNDING = 1e-9
"""Sine of an angle, or share of an area, that is taken for zero."""


def cut_ears(xy: Float[np.ndarray, "K 2"]) -> Int[np.ndarray, "K_2 3"] | None:
    """Return the K - 2 triangles of a counterclockwise polygon as indices of its corners; None if edges cross."""
    if edges_cross(xy):
        return None
    ring, found, tries = np.arange(len(xy)), [], MOST_TRIES * len(xy)
    while len(ring) > 3:
        before, here, after = xy[np.roll(ring, 1)], xy[ring], xy[np.roll(ring, -1)]
        turn = _cross(here - before, after - here)
        limit = ROUNDING * np.linalg.norm(here - before, axis=1) * np.linalg.norm(after - here, axis=1)
        reflex = ring[turn < -limit]
        ear = None
        for place in np.flatnonzero(turn >= -limit):
            tries -= 1
            corners = ring[[place - 1, place, (place + 1) % len(ring)]]
            if turn[place] <= limit[place] or not _any_inside(xy[reflex], xy[corners]):
                ear = place
                break
            if tries < 0:
                return None
        if ear is None:
            return None
        found.append(corners)
        ring = np.roll(np.delete(ring, ear), -ear)
    return np.array([*found, ring])


def edges_cross(xy: Float[np.ndarray, "K 2"], most: int = 2000) -> bool:
    """Return whether two edges of a polygon cross; False, unchecked, above ``most`` corners."""
    if len(xy) > most:
        return False
    end = np.roll(xy, -1, axis=0)
    along = end - xy
    small = ROUNDING * (np.ptp(xy, axis=0) ** 2).sum()
    start_side = _cross(along[:, None], xy[None] - xy[:, None])  # of edge i, on which side edge j starts
    end_side = _cross(along[:, None], end[None] - xy[:, None])
    apart = (np.minimum(start_side, end_side) < -small) & (np.maximum(start_side, end_side) > small)
    return bool((apart & apart.T).any())


def _any_inside(points: Float[np.ndarray, "N 2"], corners: Float[np.ndarray, "3 2"]) -> bool:
    """Return whether a point lies in the triangle or on its border, other than on its corners."""
    side = np.roll(corners, -1, axis=0) - corners
    inside = (_cross(side[:, None], points[None] - corners[:, None]) >= 0).all(0)
    at_corner: Bool[np.ndarray, " N"] = (points[:, None] == corners[None]).all(2).any(1)
    return bool((inside & ~at_corner).any())


def _cross(first: Float[np.ndarray, "... 2"], second: Float[np.ndarray, "... 2"]) -> Float[np.ndarray, "..."]:
    return first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0]
