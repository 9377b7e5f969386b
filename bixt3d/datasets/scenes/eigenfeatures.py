"""Eigenfeatures of voxels: the shape of what lies nearest, from the eigenvalues of a covariance."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bixt3d.datasets.scenes.geometry import COLUMNS, ROWS, shape_of

NEIGHBORS, FARTHEST = (8, 64), 16.0
"""Numbers of nearest voxels; those farther away than so many sides of a voxel do not count."""
FINEST = 0.2
"""Unit of the roughness within its logarithm, in voxels."""
SEARCHED, CHUNK = 20_000, 1_000
"""Voxels whose neighbors are searched at a time, and whose eigenfeatures are computed at a time, in the cache."""
SHIFT, TURNS = 1e-4, (0.7548776662, 0.5698402910, 0.3247179572)
"""Largest shift of positions in voxels, and irrational factors that tell it: no two neighbors are equally far away."""


def eigenfeatures(points: Float[Tensor, "N 3"], grid: float) -> Float[Tensor, "N 10"]:
    """Return the eigenfeatures of voxels of side ``grid`` by their positions: of the 8 nearest ones, then of the 64.

    Each time linearity, planarity, scattering and verticality (see `geometric_features`), from 0 to 1, and roughness:
    the standard deviation along the normal, on a logarithmic scale. The nearest voxels are near in a dense scan and
    wide apart in a sparse one (Weinmann et al. 2015).
    """
    from scipy.spatial import KDTree

    points = points.double() / grid
    places = _shifted(points).numpy()
    tree, found = KDTree(places), []
    for some in torch.arange(len(points)).split(SEARCHED):
        wanted, number = places[some.numpy()], max(NEIGHBORS) + 1
        _, near = tree.query(wanted, number, distance_upper_bound=FARTHEST, workers=torch.get_num_threads())
        parts = zip(some.split(CHUNK), torch.from_numpy(near).split(CHUNK), strict=True)
        found += [_shapes(points, *part).float() for part in parts]
    return torch.cat(found)


def _shifted(points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
    """Return positions, each moved by an amount that it alone tells: of equally near voxels the same ones are taken."""
    turns = torch.tensor(TURNS, dtype=points.dtype)
    moves = [(points * turns.roll(axis)).sum(1).square().frac() for axis in range(3)]
    return points + SHIFT * torch.stack(moves, 1)


def _shapes(points: Float[Tensor, "N 3"], some: Int[Tensor, " M"], near: Int[Tensor, "M K"]) -> Float[Tensor, "M 10"]:
    """Return the eigenfeatures of some voxels; the number of all stands for a neighbor that is too far away."""
    there = near < len(points)
    offset = points[torch.where(there, near, some[:, None])] - points[some, None]
    return torch.cat([_shape(offset[:, : number + 1], there[:, : number + 1]) for number in NEIGHBORS], 1)


def _shape(offset: Float[Tensor, "M K 3"], there: Bool[Tensor, "M K"]) -> Float[Tensor, "M 5"]:
    number = there.sum(1)[:, None]
    offset = (offset - (offset.sum(1) / number)[:, None]) * there[..., None]
    covariance = offset.new_zeros(len(offset), 3, 3)
    x = offset.unbind(2)
    covariance[:, ROWS, COLUMNS] = (
        torch.stack([(x[i] * x[j]).sum(1) for i, j in zip(ROWS, COLUMNS, strict=True)], 1) / number
    )
    shape, roughness = shape_of(covariance).split([4, 1], 1)
    return torch.cat([shape, (roughness / FINEST).log1p()], 1)
