"""Scene segmenters without training, or with little, and surveys for them."""

import json
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from bixt3d.datasets.files.las_new import write_las
from bixt3d.datasets.scenes.crops import SceneSet
from bixt3d.datasets.scenes.scene import make_scene
from bixt3d.datasets.scenes.tile_layout import LAS_CODES
from bixt3d.datasets.scenes.tiles import make_tile_cloud
from bixt3d.inference.runs import load_run
from bixt3d.io.weights import save_weights
from bixt3d.nn.feature_scale import fit_feature_scales
from bixt3d.tasks.task import FORMAT

CONFIG = """
class_path: TokenSegmenter
init_args:
  tokenizer: {class_path: PointTokenizer, init_args: {dim: 16, features: 'height,return_number'}}
  encoder: {class_path: BixtEncoder, init_args: {dim: 16, depth: 1, num_heads: 2, num_latents: 4, reads: tokens}}
  use_category: false
"""
CLASSES = ("ground", "vegetation", "building")


def write_scene_run(folder: Path, features: str = "height,return_number", **given) -> Path:
    """Write a run of random weights that labels by position, height and return number; return its folder."""
    import yaml

    from bixt3d.models.create import create_model

    torch.manual_seed(0)
    config = (
        CONFIG.replace("height,return_number", features)
        if features
        else CONFIG.replace(", features: 'height,return_number'", "")
    )
    model = create_model(
        "model:\n" + "".join(f"  {line}\n" for line in config.strip().splitlines()), 3, num_categories=1
    )
    torch.nn.init.normal_(model.head.weight, std=3)
    described = {"grid": 1.0, "window": 256, "shape": "cylinder", "up": "z", "features": features} | given
    settings = yaml.safe_load(config)
    metadata = {"model": settings, "input": described, "class_names": list(CLASSES)}
    metadata = {name: json.dumps(value) for name, value in metadata.items()} | {
        "config": f"model: {json.dumps(settings)}"
    }
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"format": FORMAT, "task": "scene segmentation"}
    save_weights(folder / "model.safetensors", model.state_dict(), metadata | facts)
    return folder


def load_scene_run(folder: Path, block: int, **given):
    """Return the predictor of such a run, with blocks of at most so many points."""
    predictor = load_run(write_scene_run(folder, **given))
    predictor.block = block
    return predictor


def train_a_little(predictor, steps: int = 80) -> None:
    """Train the model of a predictor on made-up tiles, until its labels follow the scene and not the random weights."""
    of_class = np.array([0, 1, 2, 2, 2, 2, 0])  # ground, vegetation, anything else; water is ground
    scenes = []
    for seed in (1, 2):
        xyz, columns, label = make_tile_cloud(np.random.default_rng(seed), 64.0, 1.5)
        scenes.append(make_scene(xyz, columns, of_class[label], predictor.features, predictor.grid))
    crops = SceneSet(tuple(scenes), CLASSES, predictor.features, 256, 8 * steps, predictor.shape, 0.5)
    fit_feature_scales(predictor.model, crops.feats)
    optimizer = torch.optim.AdamW(predictor.model.train().parameters(), 5e-3)
    for batch in crops.batches(torch.arange(8 * steps).split(8)):
        loss = cross_entropy(predictor.model(batch["xyz"], batch["feats"]).flatten(0, 1), batch["labels"].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    predictor.model.eval()


def write_survey(path: Path, side: float = 240.0, density: float = 0.25, seed: int = 0) -> Path:
    """Write a tile of an aerial scan as LAS or LAZ; return its path."""
    xyz, columns, label = make_tile_cloud(np.random.default_rng(seed), side, density)
    write_las(path, xyz, columns | {"classification": np.array(LAS_CODES, np.uint8)[label][:, None]})
    return path
