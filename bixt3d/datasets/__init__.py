"""Data sets of clouds and of images: readers, file formats, augmentation, downloads."""

from bixt3d.datasets.clouds.folder import CloudFolder
from bixt3d.datasets.clouds.given import GivenClouds
from bixt3d.datasets.clouds.meshes import ModelNetMeshes
from bixt3d.datasets.clouds.modelnet import ModelNetHDF5, ModelNetNormals
from bixt3d.datasets.clouds.part_folder import PartFolder
from bixt3d.datasets.clouds.part_hdf5 import PartHDF5
from bixt3d.datasets.clouds.shapenetpart import ShapeNetPart
from bixt3d.datasets.clouds.source import CloudSource, PartSource
from bixt3d.datasets.clouds.split import stratified_split
from bixt3d.datasets.images.folder import ImageFolder, ImageSource
from bixt3d.datasets.images.sceneparse import SceneParse, SegmentationSource
from bixt3d.datasets.images.transforms import ImageAugment, SegmentationAugment
from bixt3d.datasets.scenes.crops import SceneSet
from bixt3d.datasets.scenes.folder import SceneFolder
from bixt3d.datasets.scenes.rooms import Rooms
from bixt3d.datasets.scenes.s3dis import S3DIS
from bixt3d.datasets.scenes.scannet import ScanNet
from bixt3d.datasets.scenes.semantickitti import SemanticKITTI
from bixt3d.datasets.scenes.source import SceneSource
from bixt3d.datasets.scenes.tiles import Tiles
from bixt3d.datasets.shapes.shapes import Shapes
from bixt3d.datasets.transforms.augment import CloudAugment, cut_and_mix, take_points
from bixt3d.datasets.transforms.corruptions import CORRUPTIONS, LEVELS, corrupt

__all__ = [
    "CORRUPTIONS",
    "LEVELS",
    "CloudAugment",
    "CloudFolder",
    "CloudSource",
    "GivenClouds",
    "ImageAugment",
    "ImageFolder",
    "ImageSource",
    "ModelNetHDF5",
    "ModelNetMeshes",
    "ModelNetNormals",
    "PartFolder",
    "PartHDF5",
    "PartSource",
    "SegmentationAugment",
    "Rooms",
    "S3DIS",
    "ScanNet",
    "SceneFolder",
    "SceneParse",
    "SceneSet",
    "SceneSource",
    "SegmentationSource",
    "SemanticKITTI",
    "ShapeNetPart",
    "Shapes",
    "Tiles",
    "corrupt",
    "cut_and_mix",
    "stratified_split",
    "take_points",
]
