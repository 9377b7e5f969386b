"""Runs that nobody trained: weights and settings, written as training writes them."""

import json
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from bixt3d.engine.checkpoint import save_weights
from bixt3d.tasks.inputs import NORMALIZATION, describe_images
from bixt3d.tasks.task import FORMAT


def write_run(path: Path, model: nn.Module, task: str, config: str, **names: Any) -> Path:
    """Write weights with the metadata of a run with these settings (in yaml) and names; returns the path."""
    settings = yaml.safe_load(config)
    data, train = (settings.get("data") or {}).get("init_args", {}), settings.get("train") or {}
    given = {
        "image classification": describe_images(
            size=data.get("size", 224), crop_fraction=data.get("crop_fraction", 0.875)
        ),
        "image segmentation": describe_images(window=train.get("window")),
    }.get(task)
    given = given or {
        "num_points": data.get("num_points", 1024),
        "up": data.get("up", "y"),
        "normalization": NORMALIZATION,
        "features": data.get("features", ""),
    }
    described = {"model": settings["model"], "input": given, **names}
    metadata = {key: json.dumps(value) for key, value in described.items()}
    save_weights(path, model.state_dict(), metadata | {"format": FORMAT, "task": task, "config": config})
    return path
