"""Inverse-distance interpolation: upsample features from few points to many, as in PointNet++ and PointMLP decoders."""

import torch
from jaxtyping import Float
from torch import Tensor

from bixt3d.errors import InputError, check_tensors, check_whole
from bixt3d.ops._backend import PointBackend
from bixt3d.ops.neighbors import gather, knn
from bixt3d.ops.reference import squared_distances


def interpolate(
    queries: Float[Tensor, "B T P"],
    points: Float[Tensor, "B N P"],
    feats: Float[Tensor, "B N D"],
    num_neighbors: int = 3,
    backend: PointBackend = "auto",
) -> Float[Tensor, "B T D"]:
    """Interpolate features at the queries from their k nearest points (inverse squared distance weighting).

    Weights are ``1 / (squared distance + 1e-8)``, normalized to sum 1, in float32. If a cloud has fewer than
    ``num_neighbors`` points, all are used. Raises InputError for ``num_neighbors`` < 1.

    Example:
        >>> points, feats = torch.tensor([[[0.0], [1.0]]]), torch.tensor([[[2.0], [4.0]]])
        >>> interpolate(torch.tensor([[[0.5]]]), points, feats, num_neighbors=2)
        tensor([[[3.]]])
    """
    check_tensors(queries=queries, points=points, feats=feats)
    check_whole(num_neighbors=num_neighbors)
    if num_neighbors < 1:
        raise InputError(f"asked to interpolate from {num_neighbors} neighbors: at least 1 is needed")
    index = knn(queries, points, min(num_neighbors, points.shape[1]), backend)
    distance = squared_distances(queries.float()[:, :, None], gather(points.float(), index))
    weight = 1 / (distance + 1e-8)
    weight = (weight / weight.sum(-1, keepdim=True)).to(feats.dtype)
    return torch.einsum("btk,btkd->btd", weight, gather(feats, index))
