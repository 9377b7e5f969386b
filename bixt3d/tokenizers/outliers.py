"""Statistical outlier removal for clouds whose number of points must stay: outliers move to their neighbors."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bixt3d.ops import gather, knn

NUM_NEIGHBORS = 8
FAR = 1e18
"""A coordinate farther away than any point; its square is finite in float32."""


def outlier_mask(xyz: Float[Tensor, "B N 3"], most: float) -> tuple[Bool[Tensor, "B N"], Int[Tensor, "B N K"]]:
    """Return a mask of the outliers, and the nearest neighbors of every point, the nearest first.

    An outlier's mean distance to its 8 nearest neighbors is more than ``most`` times the median of the cloud. Points
    in the same place count once, so that a cloud that is filled up by copies has the outliers of the cloud itself.
    """
    count = min(NUM_NEIGHBORS + 1, xyz.shape[1])
    copy = knn(xyz, xyz, 1)[:, :, 0] != torch.arange(xyz.shape[1], device=xyz.device)  # of a point before it
    near = knn(xyz, xyz.float().masked_fill(copy[:, :, None], FAR), count)[:, :, 1:]  # the first is in the same place
    valid = ~gather(copy, near)
    distances = (gather(xyz, near.flatten(1)).unflatten(1, near.shape[1:]) - xyz[:, :, None]).norm(dim=3)
    distance = distances.where(valid, 0).sum(2) / valid.sum(2).clamp(min=1)
    middle = ((~copy).sum(1, keepdim=True) - 1) // 2
    median = distance.masked_fill(copy, torch.inf).sort(1).values.gather(1, middle)
    return distance > most * median, near.where(valid, near[:, :, :1])


def move_outliers(
    xyz: Float[Tensor, "B N 3"], feats: Float[Tensor, "B N F"] | None, most: float
) -> tuple[Float[Tensor, "B N 3"], Float[Tensor, "B N F"] | None]:
    """Replace each outlier by the nearest of its neighbors that is none, if there is one; see `outlier_mask`."""
    outlier, near = outlier_mask(xyz, most)
    good = ~gather(outlier[:, :, None], near.flatten(1))[:, :, 0].unflatten(1, near.shape[1:])
    first = near.gather(2, good.int().argmax(2, keepdim=True))[:, :, 0]  # argmax: the first good one
    replaced = (outlier & good.any(2))[:, :, None]
    xyz = gather(xyz, first).where(replaced, xyz)
    return xyz, feats if feats is None else gather(feats, first).where(replaced, feats)
