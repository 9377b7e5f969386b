"""One token per voxel of a coarse grid: for scenes, whose points are too many for farthest point sampling."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bixt3d.nn.mlp import LinearBatchNormReLU, init_linear
from bixt3d.nn.refinement import Refinement
from bixt3d.tokenizers.points import PointTokenizer, Tokenizer
from bixt3d.types import InputError, Pyramid, Tokens

MAX_CELLS = 2**18
"""The most cells along an axis."""
MAX_NUMBERS = 2**63
"""The most cells of all clouds of a batch: their numbers must fit into 64 bits."""


class VoxelTokenizer(Tokenizer):
    """Embed every point, then pool the points of each voxel: maximum and mean, through a linear layer.

    A sinusoidal positional encoding of its mean position, through a linear layer, is added to every token. Costs one
    sort. Clouds of a batch with fewer voxels than others repeat theirs, and attention counts the copies too: what a
    cloud gets depends a little on the others. Tests and predictions of scenes have one cloud in a batch, so no copies.

    Args:
        dim: width of the tokens.
        points: embeds single points; its ``dim`` is their width.
        size: side of a voxel.
        refine: refines the points before they are pooled, such as `GroupRefinement`; None: they are not refined.

    Example:
        >>> tokenizer = VoxelTokenizer(dim=32, points=PointTokenizer(dim=8), size=0.5)
        >>> [level.feats.shape[1:] for level in tokenizer(torch.rand(2, 1000, 3))]
        [torch.Size([1000, 8]), torch.Size([8, 32])]
    """

    def __init__(
        self, dim: int, points: PointTokenizer, size: float, refine: Callable[[int, int], Refinement] | None = None
    ):
        super().__init__()
        if not size > 0:
            raise InputError(f"the side of a voxel must be positive, not {size}")
        self.dim, self.level_dims, self.size = dim, [points.dim, dim], size
        self.points, self.features = points, points.features
        self.refine = refine(points.dim, points.dim) if refine else nn.Identity()
        if getattr(self.refine, "reduce", 1) != 1:
            raise InputError("refine of a VoxelTokenizer must keep every point, so its reduce must be 1")
        self.local = LinearBatchNormReLU(points.dim + 3, dim)
        self.pooled = nn.Linear(2 * dim, dim)
        self.pooled.apply(init_linear)
        like_points = {"num_features": points.num_features, "temperature": points.temperature, "scale": points.scale}
        self.position = PointTokenizer(dim, **like_points)

    def forward(self, xyz: Tensor, feats: Tensor | None = None) -> Pyramid:
        (points,) = self.points(xyz, feats)
        points = self.refine(points)
        own, count, table = group_by_voxel(xyz, self.size)
        count = count[:, None].to(xyz.dtype)
        center = xyz.new_zeros(len(count), 3).index_add(0, own, xyz.flatten(0, 1)) / count
        offset = (xyz.flatten(0, 1) - center[own]).view_as(xyz) / self.size
        local = self.local(torch.cat([points.feats, offset.to(points.feats.dtype)], -1)).flatten(0, 1)
        mean = local.new_zeros(len(count), self.dim).index_add(0, own, local) / count.to(local.dtype)
        index = own[:, None].expand_as(local)
        most = local.new_zeros(len(count), self.dim).scatter_reduce(0, index, local, "amax", include_self=False)
        tokens = self.pooled(torch.cat([most, mean], 1))[table]
        (position,) = self.position(center[table])
        return points, Tokens(tokens + position.feats, center[table])


def group_by_voxel(
    xyz: Float[Tensor, "B N 3"], size: float
) -> tuple[Int[Tensor, " BN"], Int[Tensor, " V"], Int[Tensor, "B M"]]:
    """Return the voxel of every point, numbered over the batch; the points of each voxel; the voxels of every cloud.

    M is the largest number of voxels of a cloud; the others repeat theirs, in order. The host waits for V and M.
    Raises InputError for more than 512 clouds if all their grids together have more than 2^63 cells.
    """
    cells = (xyz / size).floor().long()
    cells = (cells - cells.amin((0, 1))).clamp(max=MAX_CELLS - 1)
    sizes = cells.amax((0, 1)) + 1
    if len(xyz) * MAX_CELLS**3 > MAX_NUMBERS and len(xyz) * int(sizes.prod()) > MAX_NUMBERS:  # the host seldom waits
        grid = " x ".join(map(str, sizes.tolist()))
        raise InputError(f"a batch of {len(xyz)} clouds in a grid of {grid} voxels is too large: take fewer clouds")
    x, y, z = cells.unbind(2)
    cloud = torch.arange(len(xyz), device=xyz.device)[:, None]
    key = ((cloud * sizes[0] + x) * sizes[1] + y) * sizes[2] + z
    _, own, inside = key.flatten().unique(return_inverse=True, return_counts=True)
    per_cloud = own.view(len(xyz), -1)
    first, last = per_cloud.amin(1, keepdim=True), per_cloud.amax(1, keepdim=True)
    count = last - first + 1
    place = torch.arange(int(count.max()), device=xyz.device)
    return own, inside, first + place % count
