"""Statistical outlier removal for clouds whose number of points must stay: outliers move to their neighbors."""

from jaxtyping import Bool, Float, Int
from torch import Tensor

from bixt3d.ops import gather, knn

NUM_NEIGHBORS = 8


def outlier_mask(xyz: Float[Tensor, "B N 3"], most: float) -> tuple[Bool[Tensor, "B N"], Int[Tensor, "B N K"]]:
    """Return a mask of the outliers, and the nearest neighbors of every point, the nearest first.

    An outlier's mean distance to its 8 nearest neighbors is more than ``most`` times the median of the cloud.
    """
    count = min(NUM_NEIGHBORS + 1, xyz.shape[1])
    near = knn(xyz, xyz, count)[:, :, 1:]  # the first is the point itself, or one in the same place
    distance = (gather(xyz, near.flatten(1)).unflatten(1, near.shape[1:]) - xyz[:, :, None]).norm(dim=3).mean(2)
    median = distance.sort(1).values[:, (xyz.shape[1] - 1) // 2]
    return distance > most * median[:, None], near


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
