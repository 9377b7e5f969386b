"""BiXT for point clouds and images: bi-directional cross-attention between latents and tokens, linear in the tokens.

The public functions and classes. Each name is imported on first use: ``import bixt3d`` alone does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bixt3d.version import __version__ as __version__

if TYPE_CHECKING:  # for editors and type checkers; the table below is for Python, and a test checks that they are equal
    from bixt3d.datasets import CORRUPTIONS as CORRUPTIONS
    from bixt3d.datasets import LEVELS as LEVELS
    from bixt3d.datasets import S3DIS as S3DIS
    from bixt3d.datasets import CloudAugment as CloudAugment
    from bixt3d.datasets import CloudFolder as CloudFolder
    from bixt3d.datasets import CloudSource as CloudSource
    from bixt3d.datasets import GivenClouds as GivenClouds
    from bixt3d.datasets import ImageAugment as ImageAugment
    from bixt3d.datasets import ImageFolder as ImageFolder
    from bixt3d.datasets import ImageSource as ImageSource
    from bixt3d.datasets import ModelNetHDF5 as ModelNetHDF5
    from bixt3d.datasets import ModelNetMeshes as ModelNetMeshes
    from bixt3d.datasets import ModelNetNormals as ModelNetNormals
    from bixt3d.datasets import PartFolder as PartFolder
    from bixt3d.datasets import PartHDF5 as PartHDF5
    from bixt3d.datasets import PartSource as PartSource
    from bixt3d.datasets import Rooms as Rooms
    from bixt3d.datasets import ScanNet as ScanNet
    from bixt3d.datasets import SceneFolder as SceneFolder
    from bixt3d.datasets import SceneParse as SceneParse
    from bixt3d.datasets import SceneSet as SceneSet
    from bixt3d.datasets import SceneSource as SceneSource
    from bixt3d.datasets import SegmentationAugment as SegmentationAugment
    from bixt3d.datasets import SegmentationSource as SegmentationSource
    from bixt3d.datasets import SemanticKITTI as SemanticKITTI
    from bixt3d.datasets import ShapeNetPart as ShapeNetPart
    from bixt3d.datasets import Shapes as Shapes
    from bixt3d.datasets import Tiles as Tiles
    from bixt3d.datasets import corrupt as corrupt
    from bixt3d.datasets import cut_and_mix as cut_and_mix
    from bixt3d.datasets import stratified_split as stratified_split
    from bixt3d.datasets import take_points as take_points
    from bixt3d.datasets.files.cloud import Cloud as Cloud
    from bixt3d.datasets.files.pyg import from_pyg as from_pyg
    from bixt3d.datasets.files.pyg import to_pyg as to_pyg
    from bixt3d.datasets.files.reader import read_file as read_file
    from bixt3d.datasets.transforms.draws import Draws as Draws
    from bixt3d.datasets.transforms.normalize import normalize_clouds as normalize_clouds
    from bixt3d.datasets.transforms.normals import estimate_normals as estimate_normals
    from bixt3d.inference.clouds import CloudPredictor as CloudPredictor
    from bixt3d.inference.clouds import PartPredictor as PartPredictor
    from bixt3d.inference.clouds import Predictor as Predictor
    from bixt3d.inference.export import export_run as export_run
    from bixt3d.inference.images import ImagePrediction as ImagePrediction
    from bixt3d.inference.images import ImagePredictor as ImagePredictor
    from bixt3d.inference.images import ImageSegmentationPredictor as ImageSegmentationPredictor
    from bixt3d.inference.images import SegmentationPrediction as SegmentationPrediction
    from bixt3d.inference.predictions import BasePrediction as BasePrediction
    from bixt3d.inference.predictions import PartPrediction as PartPrediction
    from bixt3d.inference.predictions import Prediction as Prediction
    from bixt3d.inference.runs import load_pretrained as load_pretrained
    from bixt3d.inference.runs import load_run as load_run
    from bixt3d.inference.runs import read_run as read_run
    from bixt3d.inference.scenes import ScenePrediction as ScenePrediction
    from bixt3d.inference.scenes import ScenePredictor as ScenePredictor
    from bixt3d.models import BixtClassifier as BixtClassifier
    from bixt3d.models import BixtEncoder as BixtEncoder
    from bixt3d.models import BixtImageClassifier as BixtImageClassifier
    from bixt3d.models import BixtPreset as BixtPreset
    from bixt3d.models import CloudClassifier as CloudClassifier
    from bixt3d.models import CloudSegmenter as CloudSegmenter
    from bixt3d.models import DecoderSegmenter as DecoderSegmenter
    from bixt3d.models import Encoder as Encoder
    from bixt3d.models import FeatureModel as FeatureModel
    from bixt3d.models import ImageClassifier as ImageClassifier
    from bixt3d.models import ImageSegmenter as ImageSegmenter
    from bixt3d.models import IterativeEncoder as IterativeEncoder
    from bixt3d.models import LinearSegmenter as LinearSegmenter
    from bixt3d.models import ModelFeatures as ModelFeatures
    from bixt3d.models import PointMLP as PointMLP
    from bixt3d.models import PointMLPDecoder as PointMLPDecoder
    from bixt3d.models import PointMLPElite as PointMLPElite
    from bixt3d.models import PointMLPSegmenter as PointMLPSegmenter
    from bixt3d.models import PointNet as PointNet
    from bixt3d.models import PointNet2 as PointNet2
    from bixt3d.models import PointNet2Segmenter as PointNet2Segmenter
    from bixt3d.models import PointwiseSegmenter as PointwiseSegmenter
    from bixt3d.models import SemanticFPNSegmenter as SemanticFPNSegmenter
    from bixt3d.models import SequentialEncoder as SequentialEncoder
    from bixt3d.models import TokenSegmenter as TokenSegmenter
    from bixt3d.models.attention_maps import attention_maps as attention_maps
    from bixt3d.models.attention_maps import image_attention_maps as image_attention_maps
    from bixt3d.models.create import create_model as create_model
    from bixt3d.models.create import list_models as list_models
    from bixt3d.models.official import load_official_weights as load_official_weights
    from bixt3d.nn.attention import BiAttention as BiAttention
    from bixt3d.nn.local_patch import LocalPatchRefinement as LocalPatchRefinement
    from bixt3d.nn.refinement import GroupRefinement as GroupRefinement
    from bixt3d.nn.refinement import Refinement as Refinement
    from bixt3d.ops import VoxelGrid as VoxelGrid
    from bixt3d.ops import bi_attention as bi_attention
    from bixt3d.ops import farthest_points as farthest_points
    from bixt3d.ops import gather as gather
    from bixt3d.ops import interpolate as interpolate
    from bixt3d.ops import knn as knn
    from bixt3d.ops import neighbor_max as neighbor_max
    from bixt3d.ops import neighbor_moments as neighbor_moments
    from bixt3d.ops import neighbor_sum as neighbor_sum
    from bixt3d.ops import similarity as similarity
    from bixt3d.ops import sinusoid as sinusoid
    from bixt3d.ops import voxel_grid as voxel_grid
    from bixt3d.tasks.classification import Classification as Classification
    from bixt3d.tasks.from_python import train as train
    from bixt3d.tasks.image_classification import ImageClassification as ImageClassification
    from bixt3d.tasks.image_segmentation import ImageSegmentation as ImageSegmentation
    from bixt3d.tasks.part_segmentation import PartSegmentation as PartSegmentation
    from bixt3d.tasks.scene_segmentation import SceneSegmentation as SceneSegmentation
    from bixt3d.tasks.scores import Evaluation as Evaluation
    from bixt3d.tasks.scores import Score as Score
    from bixt3d.tasks.settings import Run as Run
    from bixt3d.tasks.settings import Train as Train
    from bixt3d.tasks.task import Task as Task
    from bixt3d.tokenizers import ConvTokenizer as ConvTokenizer
    from bixt3d.tokenizers import GroupTokenizer as GroupTokenizer
    from bixt3d.tokenizers import ImageTokenizer as ImageTokenizer
    from bixt3d.tokenizers import PatchTokenizer as PatchTokenizer
    from bixt3d.tokenizers import PointTokenizer as PointTokenizer
    from bixt3d.tokenizers import Tokenizer as Tokenizer
    from bixt3d.tokenizers import VoxelTokenizer as VoxelTokenizer
    from bixt3d.types import CloudSet as CloudSet
    from bixt3d.types import Feature as Feature
    from bixt3d.types import Features as Features
    from bixt3d.types import InputError as InputError
    from bixt3d.types import Pyramid as Pyramid
    from bixt3d.types import Tokens as Tokens


_NAMES = {
    "types": "CloudSet Feature Features InputError Pyramid Tokens",
    "ops": "bi_attention farthest_points gather interpolate knn neighbor_max neighbor_moments neighbor_sum "
    "similarity sinusoid voxel_grid VoxelGrid",
    "nn.attention": "BiAttention",
    "nn.refinement": "GroupRefinement Refinement",
    "nn.local_patch": "LocalPatchRefinement",
    "tokenizers": "ConvTokenizer GroupTokenizer ImageTokenizer PatchTokenizer PointTokenizer Tokenizer VoxelTokenizer",
    "models": "BixtClassifier BixtEncoder BixtImageClassifier BixtPreset CloudClassifier CloudSegmenter "
    "DecoderSegmenter Encoder FeatureModel ImageClassifier ImageSegmenter IterativeEncoder LinearSegmenter "
    "ModelFeatures PointMLP PointMLPDecoder PointMLPElite PointMLPSegmenter PointNet PointNet2 PointNet2Segmenter "
    "PointwiseSegmenter SemanticFPNSegmenter SequentialEncoder TokenSegmenter",
    "models.create": "create_model list_models",
    "models.official": "load_official_weights",
    "models.attention_maps": "attention_maps image_attention_maps",
    "datasets": "CloudAugment CloudFolder CloudSource corrupt CORRUPTIONS cut_and_mix GivenClouds ImageAugment "
    "ImageFolder ImageSource LEVELS ModelNetHDF5 ModelNetMeshes ModelNetNormals PartFolder PartHDF5 PartSource Rooms "
    "S3DIS ScanNet SceneFolder SceneParse SceneSet SceneSource SegmentationAugment SegmentationSource SemanticKITTI "
    "ShapeNetPart Shapes stratified_split take_points Tiles",
    "datasets.files.cloud": "Cloud",
    "datasets.files.pyg": "from_pyg to_pyg",
    "datasets.files.reader": "read_file",
    "datasets.transforms.draws": "Draws",
    "datasets.transforms.normalize": "normalize_clouds",
    "datasets.transforms.normals": "estimate_normals",
    "tasks.settings": "Run Train",
    "tasks.task": "Task",
    "tasks.scores": "Evaluation Score",
    "tasks.classification": "Classification",
    "tasks.part_segmentation": "PartSegmentation",
    "tasks.image_classification": "ImageClassification",
    "tasks.image_segmentation": "ImageSegmentation",
    "tasks.from_python": "train",
    "inference.scenes": "ScenePrediction ScenePredictor",
    "tasks.scene_segmentation": "SceneSegmentation",
    "inference.runs": "load_pretrained load_run read_run",
    "inference.clouds": "CloudPredictor PartPredictor Predictor",
    "inference.images": "ImagePrediction ImagePredictor ImageSegmentationPredictor SegmentationPrediction",
    "inference.predictions": "BasePrediction PartPrediction Prediction",
    "inference.export": "export_run",
}
"""Public names by module."""

_HOMES = {name: f"bixt3d.{module}" for module, names in _NAMES.items() for name in names.split()}

__all__ = sorted([*_HOMES, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'bixt3d' has no attribute '{name}'")
    return globals().setdefault(name, getattr(import_module(_HOMES[name]), name))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
