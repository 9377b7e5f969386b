"""Whole models: tokenizer, encoder and head."""

from bixt3d.models.baselines import IterativeEncoder, PointMLP, PointMLPElite, SequentialEncoder
from bixt3d.models.classifier import BixtClassifier, CloudClassifier
from bixt3d.models.encoder import BixtEncoder, Encoder

__all__ = [
    "BixtClassifier",
    "BixtEncoder",
    "CloudClassifier",
    "Encoder",
    "IterativeEncoder",
    "PointMLP",
    "PointMLPElite",
    "SequentialEncoder",
]
