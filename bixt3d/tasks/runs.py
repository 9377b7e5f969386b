"""Trained runs put to use: what their weights say of themselves, and the predictors made of them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import bixt3d.datasets
from bixt3d.engine.checkpoint import load_metadata, load_weights
from bixt3d.engine.folder import newest_run, weights_file
from bixt3d.tasks import find_task
from bixt3d.tasks.described import build_described
from bixt3d.tasks.inputs import describe_old_input
from bixt3d.tasks.task import FORMAT, Task
from bixt3d.types import InputError
from bixt3d.untrusted import printable, read_json, read_yaml


@dataclass(frozen=True)
class SavedRun:
    """What the weights of a run say of themselves, checked.

    Args:
        path: the file of weights.
        task: what the model does.
        model: class and settings of the model.
        names: what its outputs stand for.
        input: what it reads.
        config: the settings of the run in yaml, which only training and testing need.
    """

    path: Path
    task: Task
    model: dict[str, Any]
    names: dict[str, Any]
    input: dict[str, Any]
    config: str

    def load_model(self, trust: bool = False) -> nn.Module:
        """Return the model with its weights. Raises InputError for a class that is not known, and what does not fit."""
        weights: dict[str, Tensor] = load_weights(self.path)[0]
        outputs, features = self.task.outputs(self.names), self.input.get("features") or ""
        return build_described(self.model, self.task.model, outputs, features, weights, str(self.path), trust)


def newest_of(task: Task) -> Path:
    """Return the folder of the run of this task, under runs/, that began last. Raises InputError if there is none."""
    return newest_run(Path("runs"), task.name.__eq__, f"{task.name} run", task.example)


def read_run(run: str | Path, task: str | None = None) -> SavedRun:
    """Return what the weights of a run folder, or of a file, say of themselves; no weights are read.

    Raises InputError if there are none, if no run of bixt3d wrote them, or one for another task than ``task``.
    """
    path = weights_file(Path(run))
    metadata = load_metadata(path)
    found = find_task(metadata.get("task"))
    if found is None:
        raise InputError(f"{path} does not come from a run of bixt3d, or of a task that is imported here")
    if task not in (None, found.name):
        own, other = (f"a{'n' * (name[0] in 'aeiou')} {name} run" for name in (found.name, task))
        raise InputError(f"{path} comes from {own}, but {other} is needed here")
    if metadata.get("format") is None:
        metadata = describe_old(metadata, found, path)
    if metadata["format"] != FORMAT:
        raise InputError(
            f"{path} has format {printable(metadata['format'])[:20]}: a newer bixt3d wrote it, install that"
        )
    needed = ("model", "input", "config", *found.name_keys)
    if missing := [key for key in needed if key not in metadata]:
        raise InputError(f"{path} does not describe itself whole: it lacks '{missing[0]}'")
    names = {key: read_json(metadata[key], f"{key} of {path}") for key in found.name_keys}
    found.check_names(names, str(path))
    described = {key: read_json(metadata[key], f"{key} of {path}") for key in ("model", "input")}
    if not all(isinstance(value, dict) for value in described.values()) or "class_path" not in described["model"]:
        raise InputError(f"{path} does not describe its model and its input")
    return SavedRun(path, found, **described, names=names, config=metadata["config"])


def load_run(run: str | Path, device: str | torch.device = "cpu", trust: bool = False) -> Any:
    """Load a trained model: from a run folder, or from its ``model.safetensors`` alone.

    Classifiers and part segmenters of clouds give a Predictor or PartPredictor, those of images an ImagePredictor or
    ImageSegmentationPredictor. Nothing is imported, downloaded or read but this file; ``trust`` lets it import the
    class of a model that is not bixt3d's, and so run its code. Raises InputError if there is no such run, or if its
    weights do not fit its description.
    """
    saved = read_run(run)
    model = saved.load_model(trust).to(device)
    return saved.task.make_predictor(model, saved.names, saved.input, f"input of {saved.path}")


def describe_old(metadata: dict[str, str], task: Task, path: Path) -> dict[str, str]:
    """Return the metadata of a file that was written before runs described themselves, derived from its settings."""
    config = read_yaml(metadata.get("config", ""), f"config of {path}")
    parts = {key: config.get(key) if isinstance(config, dict) else None for key in ("data", "model", "train")}
    parts["train"] = parts["train"] or {}
    if not all(isinstance(part, dict) for part in parts.values()):
        raise InputError(f"{path} does not hold the settings of its run")
    of_data = parts["data"].get("init_args", {})
    if not isinstance(of_data, dict):
        raise InputError(f"{path} does not hold the settings of its data")
    name = str(parts["data"].get("class_path")).rpartition(".")[2]
    source = getattr(bixt3d.datasets, name, None) if name in bixt3d.datasets.__all__ else None
    settings = {"up": getattr(source, "up", "y"), **of_data, **parts["train"]}
    described = {"model": parts["model"], "input": describe_old_input(task.name, settings)}
    return metadata | {"format": FORMAT} | {key: json.dumps(value) for key, value in described.items()}
