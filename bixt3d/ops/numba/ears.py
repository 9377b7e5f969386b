"""Numba kernel that splits concave polygons into triangles by cutting ears (Meisters 1975)."""

from typing import no_type_check

import numpy as np

from bixt3d.ops.numba.jit import helper, kernel

ROUNDING = 1e-9
"""Sine of an angle, and share of an area, that are taken for zero."""

SPLIT, CROSSED, TOO_LONG = 0, 1, 2
"""What became of a polygon: split, not because edges cross each other, or not within the steps."""


@helper
@no_type_check
def cross(points, a, b, c):
    """Return twice the signed area of a triangle."""
    x, y = points[a, 0], points[a, 1]
    return (points[b, 0] - x) * (points[c, 1] - y) - (points[b, 1] - y) * (points[c, 0] - x)


@helper
@no_type_check
def edges_cross(points, small):
    """Return whether two edges of a polygon cross, not only touch."""
    size = len(points)
    for i in range(size):
        after = (i + 1) % size
        left, right = min(points[i, 0], points[after, 0]), max(points[i, 0], points[after, 0])
        for j in range(i + 2, size):
            end = (j + 1) % size
            if max(points[j, 0], points[end, 0]) < left or min(points[j, 0], points[end, 0]) > right:
                continue
            first, second = cross(points, i, after, j), cross(points, i, after, end)
            if min(first, second) < -small and max(first, second) > small:
                first, second = cross(points, j, end, i), cross(points, j, end, after)
                if min(first, second) < -small and max(first, second) > small:
                    return True
    return False


@helper
@no_type_check
def is_ear(points, before, after, b):
    """Return whether the triangle at corner ``b`` can be cut off, and the steps that took."""
    a, c = before[b], after[b]
    area = cross(points, a, b, c)
    lengths = (points[b, 0] - points[a, 0]) ** 2 + (points[b, 1] - points[a, 1]) ** 2
    lengths *= (points[c, 0] - points[b, 0]) ** 2 + (points[c, 1] - points[b, 1]) ** 2
    limit = ROUNDING * np.sqrt(lengths)
    if area <= limit:
        return area >= -limit, 1  # a corner on a straight edge, or two in one place: nothing is cut off
    steps, other = 1, after[c]
    while other != a:
        steps += 1
        inside = cross(points, a, b, other) >= 0 and cross(points, b, c, other) >= 0 and cross(points, c, a, other) >= 0
        if inside:
            at_corner = False
            for corner in (a, b, c):
                at_corner |= points[other, 0] == points[corner, 0] and points[other, 1] == points[corner, 1]
            if not at_corner:
                return False, steps
        other = after[other]
    return True, steps


@helper
@no_type_check
def cut_polygon(points, before, after, triangles, budget):
    """Write the triangles (K - 2, 3) of one polygon; return whether all were found, and the remaining budget."""
    left, tried, ear = len(points), 0, 0
    for i in range(left):
        before[i], after[i] = (i - 1) % left, (i + 1) % left
    while left > 2 and tried <= left and budget >= 0:
        cut, steps = is_ear(points, before, after, ear)
        budget -= steps
        tried += 1
        if cut or left == 3:
            corners = triangles[len(points) - left]
            corners[0], corners[1], corners[2] = before[ear], ear, after[ear]
            after[before[ear]], before[after[ear]] = after[ear], before[ear]
            left, tried = left - 1, 0
        ear = after[ear]
    return left == 2, budget


@kernel
@no_type_check
def cut_ears(polygons, triangles, state, budget):
    """Split counterclockwise polygons (P, K, 2): write corners of triangles (P, K - 2, 3) and ``state`` (P,).

    ``budget``: the number of steps after which no further polygon is split; return what is left of it.
    """
    size = polygons.shape[1]
    before, after = np.empty(size, np.int64), np.empty(size, np.int64)
    for number in range(len(polygons)):
        points = polygons[number]
        state[number] = TOO_LONG
        budget -= size * size // 2
        if budget < 0:
            break
        extent = (points[:, 0].max() - points[:, 0].min()) ** 2 + (points[:, 1].max() - points[:, 1].min()) ** 2
        state[number] = CROSSED
        if not edges_cross(points, ROUNDING * extent):
            done, budget = cut_polygon(points, before, after, triangles[number], budget)
            state[number] = SPLIT if done else CROSSED if budget >= 0 else TOO_LONG
    return budget
