"""Eigenfeatures of voxels: the shape of what lies nearest, from the eigenvalues of a covariance."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bixt3d.datasets.scenes.geometry import shape_of

NEIGHBORS, FARTHEST = (8, 64), 16.0
"""Numbers of nearest voxels; those farther away than so many sides of a voxel do not count."""
FINEST = 0.2
"""Unit of the roughness within its logarithm, in voxels."""
CHUNK = 50_000
"""Voxels whose neighbors are found at a time."""


def eigenfeatures(points: Float[Tensor, "N 3"], grid: float) -> Float[Tensor, "N 10"]:
    """Return the eigenfeatures of voxels of side ``grid`` by their positions: of the 8 nearest ones, then of the 64.

    Each time linearity, planarity, scattering and verticality (see `geometric_features`), from 0 to 1, and roughness:
    the standard deviation along the normal, on a logarithmic scale. The nearest voxels are near in a dense scan and
    wide apart in a sparse one (Weinmann et al. 2015).
    """
    tree = tree_of(points)
    some = torch.arange(len(points)).split(CHUNK)
    return torch.cat([shapes(points, nearest(tree, one, grid), grid) for one in some])


def tree_of(points: Float[Tensor, "N 3"]) -> Any:
    """Return the k-d tree of voxels."""
    from scipy.spatial import KDTree

    return KDTree(points.numpy())


def nearest(tree: Any, places: Int[Tensor, " M"], grid: float) -> Int[Tensor, "M K"]:
    """Return the indices of the voxels of a tree nearest to these ones, which come first; again for those too far."""
    number, reach = max(NEIGHBORS) + 1, FARTHEST * grid
    wanted = tree.data[places.numpy()]
    _, near = tree.query(wanted, number, distance_upper_bound=reach, workers=torch.get_num_threads())
    return torch.where(torch.from_numpy(near == tree.n), places[:, None], torch.from_numpy(near))


def shapes(points: Float[Tensor, "N 3"], near: Int[Tensor, "M K"], grid: float) -> Float[Tensor, "M 10"]:
    """Return the eigenfeatures of voxels by the indices of their nearest ones."""
    offset = (points[near] - points[near[:, :1]]).double() / grid
    return torch.cat([_shape(offset[:, : number + 1]) for number in NEIGHBORS], 1)


def _shape(offset: Float[Tensor, "M K 3"]) -> Float[Tensor, "M 5"]:
    offset = offset - offset.mean(1, keepdim=True)
    shape, roughness = shape_of(offset.transpose(1, 2) @ offset / offset.shape[1]).split([4, 1], 1)
    return torch.cat([shape, (roughness / FINEST).log1p()], 1)
