"""Whole models: tokenizer, encoder and head."""

from bixt3d.models.baselines import IterativeEncoder, PointMLP, PointMLPElite, PointMLPSegmenter, SequentialEncoder
from bixt3d.models.classifier import BixtClassifier, CloudClassifier
from bixt3d.models.decoder import PointMLPDecoder
from bixt3d.models.encoder import BixtEncoder, Encoder
from bixt3d.models.segmenter import CloudSegmenter, DecoderSegmenter, TokenSegmenter

__all__ = [
    "BixtClassifier",
    "BixtEncoder",
    "CloudClassifier",
    "CloudSegmenter",
    "DecoderSegmenter",
    "Encoder",
    "IterativeEncoder",
    "PointMLP",
    "PointMLPDecoder",
    "PointMLPElite",
    "PointMLPSegmenter",
    "SequentialEncoder",
    "TokenSegmenter",
]
