"""Data sets of clouds, and what is done to a batch of them; no model."""

from bixt3d.datasets.meshes import ModelNetMeshes
from bixt3d.datasets.modelnet import ModelNetHDF5, ModelNetNormals
from bixt3d.datasets.part_hdf5 import PartHDF5
from bixt3d.datasets.shapenetpart import ShapeNetPart
from bixt3d.datasets.shapes import Shapes
from bixt3d.datasets.source import CloudSource, PartSource
from bixt3d.datasets.split import stratified_split
from bixt3d.datasets.transforms import CloudAugment, cut_and_mix, take_points

__all__ = [
    "CloudAugment",
    "CloudSource",
    "ModelNetHDF5",
    "ModelNetMeshes",
    "ModelNetNormals",
    "PartHDF5",
    "PartSource",
    "ShapeNetPart",
    "Shapes",
    "cut_and_mix",
    "stratified_split",
    "take_points",
]
