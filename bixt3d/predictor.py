"""A trained run, ready to predict: what the Python API and the programs in tools/ share."""

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from bixt3d.cloud_predictor import PartPredictor, Predictor
from bixt3d.datasets.source import CloudSource
from bixt3d.datasets.upright import Up
from bixt3d.engine.checkpoint import fit_weights, load_weights
from bixt3d.engine.folder import weights_file
from bixt3d.image_predictor import IMAGE_TASKS, ImagePredictor, ImageSegmentationPredictor, make_image_predictor
from bixt3d.models.presets import build_model, build_segmenter
from bixt3d.types import InputError

TASKS = ("classification", "part segmentation", *IMAGE_TASKS)


def read_run(run: str | Path, task: str | None = None) -> tuple[Path, dict[str, Tensor], dict[str, Any]]:
    """Return the weights file of a run folder (or the file given), its weights, and the settings they come with.

    Raises InputError if there is none, or if no run of bixt3d wrote it, or one for another task than ``task``.
    """
    path = weights_file(Path(run))
    weights, metadata = load_weights(path)
    if metadata.get("task") not in TASKS:
        raise InputError(f"{path} does not come from a run of bixt3d")
    if task not in (None, metadata["task"]):
        own, other = (f"a{'n' * (name[0] in 'aeiou')} {name} run" for name in (metadata["task"], task))
        raise InputError(f"{path} comes from {own}, but {other} is needed here")
    return path, weights, metadata


def load_run(
    run: str | Path, device: str | torch.device = "cpu"
) -> Predictor | PartPredictor | ImagePredictor | ImageSegmentationPredictor:
    """Load a trained model: from a run folder, or from its ``model.safetensors`` alone.

    Classifiers and part segmenters of clouds give a Predictor or PartPredictor, those of images an ImagePredictor or
    ImageSegmentationPredictor. Raises InputError if there is no such run, or if its weights do not fit its settings.
    """
    path, weights, metadata = read_run(run)
    if metadata["task"] in IMAGE_TASKS:
        return make_image_predictor(str(path), weights, metadata, device)
    class_names, data = json.loads(metadata["class_names"]), yaml.safe_load(metadata["config"])["data"]
    options = {"num_points": data["init_args"]["num_points"]}
    options["up"] = _up_axis(data)
    if metadata["task"] == "classification":
        model = build_model(metadata["config"], len(class_names))
        fit_weights(model, weights, str(path))
        return Predictor(model.to(device), class_names, **options)
    part_names, class_parts = (json.loads(metadata[key]) for key in ("part_names", "class_parts"))
    model = build_segmenter(metadata["config"], len(part_names), len(class_names))
    fit_weights(model, weights, str(path))
    return PartPredictor(model.to(device), part_names, {name: class_parts[name] for name in class_names}, **options)


def _up_axis(data: Mapping[str, Any]) -> Up:
    """Return the axis that points up in a data set, as its settings or its class say; y if the class is not here."""
    module, _, name = data["class_path"].rpartition(".")
    try:
        source = getattr(import_module(module or "bixt3d.datasets"), name)
    except (ImportError, AttributeError):
        source = CloudSource
    return data["init_args"].get("up") or source.up
