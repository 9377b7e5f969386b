"""Data sets of clouds and of images, and what is done to them; no model."""

from bixt3d.datasets.corruptions import CORRUPTIONS, LEVELS, corrupt
from bixt3d.datasets.image_transforms import ImageAugment, SceneAugment
from bixt3d.datasets.images import ImageFolder, ImageSource
from bixt3d.datasets.meshes import ModelNetMeshes
from bixt3d.datasets.modelnet import ModelNetHDF5, ModelNetNormals
from bixt3d.datasets.part_hdf5 import PartHDF5
from bixt3d.datasets.sceneparse import SceneParse, SceneSource
from bixt3d.datasets.shapenetpart import ShapeNetPart
from bixt3d.datasets.shapes import Shapes
from bixt3d.datasets.source import CloudSource, PartSource
from bixt3d.datasets.split import stratified_split
from bixt3d.datasets.transforms import CloudAugment, cut_and_mix, take_points

__all__ = [
    "CORRUPTIONS",
    "LEVELS",
    "CloudAugment",
    "CloudSource",
    "ImageAugment",
    "ImageFolder",
    "ImageSource",
    "ModelNetHDF5",
    "ModelNetMeshes",
    "ModelNetNormals",
    "PartHDF5",
    "PartSource",
    "SceneAugment",
    "SceneParse",
    "SceneSource",
    "ShapeNetPart",
    "Shapes",
    "corrupt",
    "cut_and_mix",
    "stratified_split",
    "take_points",
]
