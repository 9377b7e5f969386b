"""Geometric features of points: the shape of what lies nearby, from the eigenvalues of a covariance."""

from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bixt3d.ops.voxels import MAX_CELLS, voxel_grid
from bixt3d.types import InputError

TINY = 1e-9
"""Eigenvalues that are zero up to rounding, as a part of the square of a cell."""
ROUNDING = 1e-9
"""Added to positions in cells: the mean of points at the border of a voxel may be rounded to below it."""
CHUNK = 100_000
"""Points or cells whose sums are computed at a time."""
ROWS, COLUMNS = (0, 1, 1, 2, 2, 2), (0, 0, 1, 0, 1, 2)
"""The lower triangle of a symmetric matrix, which is all that `torch.linalg.eigh` reads."""


def geometric_features(points: Float[Tensor, "N 3"], cell: float) -> Float[Tensor, "N 4"]:
    """Return linearity, planarity, scattering and verticality around each point, each from 0 to 1.

    They are those of the points in the cubic cell of side ``cell`` of a point and the 26 cells around it. With the
    square roots s1 >= s2 >= s3 of the eigenvalues of their covariance: (s1 - s2) / s1, (s2 - s3) / s1, s3 / s1
    (Demantké et al. 2011), and 1 - |z of the normal|, for points in a line |z of the line|. All are 0 where the points
    lie in one place. Unlike `invariants` of objects, they need no search for neighbors. Raises InputError for points
    that spread over more cells than can be numbered.
    """
    points = points.double() / cell + ROUNDING
    cells = voxel_grid(points, 1.0)
    place = cells.first(points).floor().long()
    place -= place.amin(0)
    length, width, height = (int(most) + 3 for most in place.amax(0))
    if length * width * height > MAX_CELLS:
        raise InputError(f"points spread over {length} x {width} x {height} cells: too many")
    sums = torch.zeros(len(cells), 10, dtype=points.dtype)
    for some in torch.arange(len(points)).split(CHUNK):
        offset = points[some] - points[some].floor() - 0.5
        moments = torch.cat([torch.ones_like(offset[:, :1]), offset, _outer(offset, offset)], 1)
        sums.index_add_(0, cells.inverse[some], moments)
    key = (place[:, 0] * width + place[:, 1]) * height + place[:, 2]
    steps = [(step, (step[0] * width + step[1]) * height + step[2]) for step in product((-1, 0, 1), repeat=3)]
    found = [_shape(_sums_nearby(sums, key, some, steps)) for some in torch.arange(len(key)).split(CHUNK)]
    return torch.cat(found)[cells.inverse]


def _outer(one: Float[Tensor, "#N 3"], other: Float[Tensor, "#N 3"]) -> Float[Tensor, "N 6"]:
    return one[:, ROWS] * other[:, COLUMNS]


def _sums_nearby(
    sums: Float[Tensor, "V 10"],
    key: Int[Tensor, " V"],
    cells: Int[Tensor, " M"],
    steps: list[tuple[tuple[int, int, int], int]],
) -> Float[Tensor, "M 10"]:
    """Return the count, sum and sum of products of the points in 27 cells, from the center of the middle one.

    ``sums``: those of each cell, from its own center; ``key``: number of each cell, sorted; ``cells``: the middle ones;
    ``steps``: to the 27 cells, along the axes, and from number to number.
    """
    total = sums.new_zeros(len(cells), sums.shape[1])
    for step, between in steps:
        wanted = key[cells] + between
        found = torch.searchsorted(key, wanted).clamp(max=len(key) - 1)
        there = (key[found] == wanted).nonzero().flatten()
        count, first, second = sums[found[there]].split([1, 3, 6], 1)
        shift = sums.new_tensor([step])
        second = second + _outer(first, shift) + _outer(shift, first) + count * _outer(shift, shift)
        total[there] += torch.cat([count, first + count * shift, second], 1)
    return total


def _shape(sums: Float[Tensor, "M 10"]) -> Float[Tensor, "M 4"]:
    """Return linearity, planarity, scattering and verticality of points with these sums."""
    mean = sums[:, 1:4] / sums[:, :1]
    covariance = sums.new_zeros(len(sums), 3, 3)
    covariance[:, ROWS, COLUMNS] = sums[:, 4:] / sums[:, :1] - _outer(mean, mean)
    return shape_of(covariance)[:, :4]


def shape_of(covariance: Float[Tensor, "M 3 3"]) -> Float[Tensor, "M 5"]:
    """Return linearity, planarity, scattering and verticality of covariances, and the deviation along the normal."""
    values, vectors = torch.linalg.eigh(covariance)
    third, second, first = values.where(values > TINY, 0).sqrt().unbind(1)
    shares = torch.stack([first - second, second - third, third], 1) / first.clamp(min=TINY)[:, None]
    steepness = torch.where(first > 0, vectors[:, 2, 2].abs(), 0)
    vertical = torch.where(second > 0, 1 - vectors[:, 2, 0].abs(), steepness)
    return torch.cat([shares, torch.stack([vertical, third], 1)], 1)
