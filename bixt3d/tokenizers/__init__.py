"""Tokenizers of point clouds and images."""

from bixt3d.tokenizers.groups import GroupTokenizer
from bixt3d.tokenizers.patches import ConvTokenizer, ImageTokenizer, PatchTokenizer
from bixt3d.tokenizers.points import PointTokenizer, Tokenizer
from bixt3d.tokenizers.voxels import VoxelTokenizer

__all__ = [
    "ConvTokenizer",
    "GroupTokenizer",
    "ImageTokenizer",
    "PatchTokenizer",
    "PointTokenizer",
    "Tokenizer",
    "VoxelTokenizer",
]
