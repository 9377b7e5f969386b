"""Complete models: tokenizer, encoder and head."""

from bixt3d.models.baselines import (
    IterativeEncoder,
    PointMLP,
    PointMLPElite,
    PointMLPSegmenter,
    PointNet,
    PointNet2,
    PointNet2Segmenter,
    PointwiseSegmenter,
    SequentialEncoder,
)
from bixt3d.models.classifier import BixtClassifier, CloudClassifier
from bixt3d.models.decoder import PointMLPDecoder
from bixt3d.models.encoder import BixtEncoder, Encoder
from bixt3d.models.features import FeatureModel, ModelFeatures
from bixt3d.models.image_classifier import BixtImageClassifier, ImageClassifier
from bixt3d.models.image_presets import BixtPreset
from bixt3d.models.image_segmenter import ImageSegmenter, LinearSegmenter, SemanticFPNSegmenter
from bixt3d.models.segmenter import CloudSegmenter, DecoderSegmenter, TokenSegmenter

__all__ = [
    "BixtClassifier",
    "BixtEncoder",
    "BixtImageClassifier",
    "BixtPreset",
    "CloudClassifier",
    "CloudSegmenter",
    "DecoderSegmenter",
    "Encoder",
    "FeatureModel",
    "ImageClassifier",
    "ImageSegmenter",
    "IterativeEncoder",
    "LinearSegmenter",
    "ModelFeatures",
    "PointMLP",
    "PointMLPDecoder",
    "PointMLPElite",
    "PointMLPSegmenter",
    "PointNet",
    "PointNet2",
    "PointNet2Segmenter",
    "PointwiseSegmenter",
    "SemanticFPNSegmenter",
    "SequentialEncoder",
    "TokenSegmenter",
]
