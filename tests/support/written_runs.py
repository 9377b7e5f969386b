"""Runs without training: weights and settings, written as training writes them."""

import json
import statistics
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from bixt3d.io.weights import save_weights
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


SMALL = """
seed: SEED
data: {class_path: Shapes, init_args: {num_points: 64, features: 'FEATURES'}}
model:
  class_path: BixtClassifier
  init_args:
    tokenizer: {class_path: PointTokenizer, init_args: {dim: 16}}
    encoder: {class_path: BixtEncoder, init_args: {dim: 16, depth: 1, num_heads: 2, num_latents: 4}}
train: {epochs: 3}
"""
"""Settings of a cloud classifier."""


def write_run_folder(folder: Path, accuracies: list[float], seed: int = 0, features: str = "", **more: Any) -> Path:
    """Write the run folder of a classifier with these test accuracies, one per epoch; return it.

    With 3 of them, the number of epochs, the run is finished. ``more`` goes to result.json.
    """
    from bixt3d.models.create import create_model

    config = SMALL.replace("SEED", str(seed)).replace("FEATURES", features)
    model = create_model(config, 3)
    folder.mkdir(parents=True, exist_ok=True)
    write_run(folder / "model.safetensors", model, "classification", config, class_names=["bed", "car", "mug"])
    (folder / "config.yaml").write_text(config)
    began = f"2026-01-0{seed + 1}T00:00:00.000000+00:00"
    (folder / "run.json").write_text(json.dumps({"task": "classification", "began": began}))
    rows = [f"{epoch + 1},{value},{value / 2}" for epoch, value in enumerate(accuracies)]
    (folder / "metrics.csv").write_text("\n".join(["epoch,test_accuracy,test_mean_accuracy", *rows, ""]))
    if len(accuracies) == 3:
        best = {"overall_accuracy": {"value": max(accuracies), "epoch": 1 + accuracies.index(max(accuracies))}}
        result = {"task": "classification", "overall_accuracy": accuracies[-1], "mean_accuracy": accuracies[-1] / 2}
        result |= {"parameters": sum(one.numel() for one in model.parameters()), "device": "cpu", "version": "0.1.0"}
        result |= {"torch": "2.14", "commit": "abc1234", "seed": seed, "epochs": 3, "seconds": 100.0 + 20 * seed}
        result |= {"clouds_per_second": 50.0, "best_on_test": best, **more}
        (folder / "result.json").write_text(json.dumps(result))
    return folder


def write_seeds(folder: Path, *accuracies: list[float]) -> Path:
    """Write the folder of a run of several seeds, with the test accuracies of each; return it."""
    for seed, values in enumerate(accuracies):
        write_run_folder(folder / f"seed{seed}", values, seed)
    seeds, last = list(range(len(accuracies))), [values[-1] for values in accuracies]
    record = {"task": "classification", "began": "2026-02-01T00:00:00.000000+00:00", "seeds": seeds}
    (folder / "run.json").write_text(json.dumps(record))
    if all(len(values) == 3 for values in accuracies):
        mean, deviation = statistics.mean(last), statistics.stdev(last)
        result = {"task": "classification", "seeds": seeds}
        for name, share in (("overall_accuracy", 1), ("mean_accuracy", 0.5)):
            result[name] = {"mean": share * mean, "deviation": share * deviation, "values": [share * v for v in last]}
        (folder / "result.json").write_text(json.dumps(result))
    return folder
