"""bixt3d: BiXT for point clouds and images. Latents and tokens attend to each other at once, linear in their number.

Everything here is imported on first use: ``import bixt3d`` costs next to nothing.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "Cloud": "datasets.files.cloud",
    "Features": "types",
    "ImagePrediction": "inference.images",
    "ImagePredictor": "inference.images",
    "ImageSegmentationPredictor": "inference.images",
    "InputError": "types",
    "PartPrediction": "inference.predictions",
    "PartPredictor": "inference.clouds",
    "Prediction": "inference.predictions",
    "Predictor": "inference.clouds",
    "SegmentationPrediction": "inference.images",
    "create_model": "models.create",
    "list_models": "models.create",
    "build_image_classifier": "models.image_presets",
    "build_image_segmenter": "models.image_presets",
    "build_model": "models.presets",
    "build_segmenter": "models.presets",
    "estimate_normals": "datasets.transforms.normals",
    "load_run": "inference.runs",
    "read_file": "datasets.files.reader",
    "BixtClassifier": "models",
    "BixtEncoder": "models",
    "BixtImageClassifier": "models",
    "IterativeEncoder": "models",
    "LinearSegmenter": "models",
    "PointMLP": "models",
    "PointMLPElite": "models",
    "SemanticFPNSegmenter": "models",
    "SequentialEncoder": "models",
    "ConvTokenizer": "tokenizers",
    "GroupTokenizer": "tokenizers",
    "PatchTokenizer": "tokenizers",
    "PointTokenizer": "tokenizers",
    "from_pyg": "datasets.files.pyg",
    "to_pyg": "datasets.files.pyg",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'bixt3d' has no attribute '{name}'")
    return getattr(import_module(f"bixt3d.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
