"""The paper's baselines, built from the same modules and trained by the same commands."""

from bixt3d.models.baselines.perceiver import IterativeEncoder
from bixt3d.models.baselines.pointmlp import PointMLP, PointMLPElite
from bixt3d.models.baselines.pointmlp_segmenter import PointMLPSegmenter
from bixt3d.models.baselines.pointnet import PointNet
from bixt3d.models.baselines.pointnet2 import PointNet2, PointNet2Segmenter, PointwiseSegmenter
from bixt3d.models.baselines.sequential import SequentialEncoder

__all__ = [
    "IterativeEncoder",
    "PointMLP",
    "PointMLPElite",
    "PointMLPSegmenter",
    "PointNet",
    "PointNet2",
    "PointNet2Segmenter",
    "PointwiseSegmenter",
    "SequentialEncoder",
]
