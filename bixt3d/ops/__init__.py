"""Operators: functions on tensors without parameters. Each has a reference implementation and faster backends."""

from bixt3d.ops.bi_attention import bi_attention, similarity
from bixt3d.ops.interpolate import interpolate
from bixt3d.ops.neighborhoods import neighbor_max, neighbor_moments, neighbor_sum
from bixt3d.ops.neighbors import farthest_points, gather, knn
from bixt3d.ops.sinusoid import sinusoid
from bixt3d.ops.voxels import VoxelGrid, voxel_grid

__all__ = [
    "VoxelGrid",
    "bi_attention",
    "farthest_points",
    "gather",
    "interpolate",
    "knn",
    "neighbor_max",
    "neighbor_moments",
    "neighbor_sum",
    "similarity",
    "sinusoid",
    "voxel_grid",
]
