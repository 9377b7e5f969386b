"""Features of points that do not change when their cloud turns: for sets in which clouds lie in any pose."""

import torch
from jaxtyping import Float
from torch import Tensor

from bixt3d.types import Feature, InputError

INVARIANTS = Feature.parse("invariants:5")
"""The feature that these numbers are; it is computed for clouds that have no column of that name."""
CHUNK = 2**16
"""Number of points whose neighborhoods are measured at a time."""


@torch.no_grad()
def invariants(xyz: Float[Tensor, "N 3"], num_neighbors: int = 24) -> Float[Tensor, "N 5"]:
    """Return radius, linearity, planarity, scattering and slope of every point: numbers from 0 to 1.

    The radius is the distance from the mean of the cloud, over the largest one. Linearity, planarity and scattering
    are those of its ``num_neighbors`` nearest points (Weinmann et al. 2013, from the eigenvalues of their covariance).
    The slope is the absolute cosine between the normal of their plane and the direction from the mean. Clouds of fewer
    points than ``num_neighbors`` use all. Runs on the CPU. Raises InputError for fewer than 3 points.

    Example:
        >>> line = torch.stack([torch.arange(50.0), torch.zeros(50), torch.zeros(50)], 1)
        >>> invariants(line)[0, :4].round()
        tensor([1., 1., 0., 0.])
    """
    from scipy.spatial import cKDTree

    if len(xyz) < 3:
        raise InputError(f"rotation-invariant features of {len(xyz)} points: at least 3 are needed")
    points = xyz.detach().double().cpu()
    points = points - points.mean(0)
    radius = points.norm(dim=1, keepdim=True)
    points, radius = points / radius.max(), radius / radius.max()
    tree, found = cKDTree(points.numpy(), balanced_tree=False, compact_nodes=False), []
    for queries in points.split(CHUNK):
        near = points[torch.from_numpy(tree.query(queries.numpy(), min(num_neighbors, len(points)))[1])]
        near = near - near.mean(1, keepdim=True)
        values, vectors = torch.linalg.eigh(near.mT @ near)
        small, middle, large = values.clamp(min=0).sqrt().unbind(1)
        shape = torch.stack([large - middle, middle - small, small], 1) / large.clamp(min=1e-12)[:, None]
        slope = (vectors[:, :, 0] * torch.nn.functional.normalize(queries, dim=1)).sum(1, keepdim=True).abs()
        found.append(torch.cat([shape, slope], 1))
    return torch.cat([radius, torch.cat(found)], 1).to(xyz)
