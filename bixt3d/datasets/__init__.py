"""Data sets of clouds, and what is done to a batch of them; no model."""

from bixt3d.datasets.meshes import ModelNetMeshes
from bixt3d.datasets.modelnet import ModelNetHDF5, ModelNetNormals
from bixt3d.datasets.shapes import Shapes
from bixt3d.datasets.source import CloudSource
from bixt3d.datasets.split import stratified_split
from bixt3d.datasets.transforms import CloudAugment, take_points

__all__ = [
    "CloudAugment",
    "CloudSource",
    "ModelNetHDF5",
    "ModelNetMeshes",
    "ModelNetNormals",
    "Shapes",
    "stratified_split",
    "take_points",
]
