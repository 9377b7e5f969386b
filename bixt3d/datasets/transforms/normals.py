"""Normal estimation for point clouds."""

import torch
from jaxtyping import Float
from torch import Tensor

from bixt3d.errors import InputError, check_tensors, check_whole

CHUNK = 2**16
"""Number of points whose planes are fitted at a time."""


@torch.no_grad()
def estimate_normals(xyz: Float[Tensor, "N 3"], num_neighbors: int = 24) -> Float[Tensor, "N 3"]:
    """Estimate unit normals: fit a plane (PCA) to the ``num_neighbors`` nearest points of each, itself included.

    Normals are oriented away from the mean of the cloud, which is right for convex objects and a guess for others. If
    that decides nothing, as in a flat cloud, the largest component is positive. Clouds of fewer points than
    ``num_neighbors`` use all. Runs on the CPU. Raises InputError for fewer than 3 points or neighbors.

    Example:
        >>> plane = torch.cat([torch.rand(100, 2), torch.zeros(100, 1)], 1)
        >>> estimate_normals(plane)[0].abs().round()
        tensor([0., 0., 1.])
    """
    # `knn` also fixes the order of equally distant points, which does not matter here
    from scipy.spatial import cKDTree

    check_tensors(xyz=xyz)
    check_whole(num_neighbors=num_neighbors)
    if xyz.ndim != 2 or xyz.shape[1] != 3:
        raise InputError(f"normals are estimated for one cloud of shape (N, 3), not {tuple(xyz.shape)}")
    if min(num_neighbors, len(xyz)) < 3:
        raise InputError(f"normals of {len(xyz)} points from {num_neighbors} neighbors: at least 3 are needed")
    points = xyz.detach().double().cpu()
    points = points - points.mean(0)
    tree = cKDTree(points.numpy(), balanced_tree=False, compact_nodes=False)
    normals = []
    for queries in points.split(CHUNK):
        index = tree.query(queries.numpy(), min(num_neighbors, len(points)))[1]
        near = points[torch.from_numpy(index)]
        near = near - near.mean(1, keepdim=True)
        normals.append(torch.linalg.eigh(near.mT @ near).eigenvectors[..., 0])
    return _outward(points, torch.cat(normals)).to(xyz)


def _outward(points: Tensor, normals: Tensor) -> Tensor:
    largest = normals.gather(1, normals.abs().argmax(1, keepdim=True))
    normals = normals * torch.where(largest < 0, -1.0, 1.0)
    distance = (points * normals).sum(1, keepdim=True)  # of the fitted plane from the middle
    return normals * torch.where(distance < -1e-3 * points.abs().max(), -1.0, 1.0)
