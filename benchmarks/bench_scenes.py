"""What the labels of a scene of a million voxels cost, in one pass and in windows."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from bench_case import Case, How, Row, Run
from bench_measure import measure
from torch import Tensor

from bixt3d.inference.scenes import ScenePredictor
from bixt3d.models.create import create_model

SIDES = {False: (1000, 1000), True: (30, 30)}
"""Columns of the scene along x and y, by ``small``: one point, and one voxel, each."""
GRID, WINDOW = 0.5, 24_576


def bench_scenes(how: How) -> Iterator[list[Row]]:
    """Measure the model of `tiles_small`, without features, on one scene."""
    yield measure(scene_case(how), how)


def hills(how: How) -> np.ndarray:
    """Return a point in the middle of each voxel of a hilly ground."""
    x, y = np.meshgrid(*(GRID * (np.arange(side) + 0.5) for side in SIDES[how.small]), indexing="ij")
    z = GRID * (np.round(20 * np.sin(x / 30) * np.cos(y / 40)) + 0.5)
    return np.stack([x, y, z], axis=2).reshape(-1, 3)


def scene_case(how: How) -> Case:
    """Return the model alone, and the predictor: voxels, windows if any, the model, and labels of the points."""
    xyz = hills(how)
    model = create_model("tiles_small", 8, num_categories=1, features="").to(how.device).eval()
    inputs = torch.from_numpy(xyz - xyz.mean(0)).float().to(how.device)[None]
    window = 300 if how.small else WINDOW
    names = [str(i) for i in range(8)]

    def forward() -> Tensor:
        with torch.no_grad(), how.precision():
            return model(inputs, inputs[..., :0], torch.zeros(1, dtype=torch.long, device=how.device))

    def label(size: int) -> Tensor:
        return ScenePredictor(model, names, GRID, size, "cylinder").predict(xyz).labels

    variants: dict[str, Run] = {"model alone, one pass": forward, "predictor, one pass": partial(label, len(xyz))}
    variants[f"predictor, windows of {window:,}"] = partial(label, window)

    def check(name: str, result: Tensor) -> None:
        assert result.shape[:1] == (len(xyz),) or result.shape[1] == len(xyz), f"shape {tuple(result.shape)}"
        assert result.isfinite().all() and (result.is_floating_point() or (result >= 0).all()), "a point has no label"

    title = f"tiles_small, a scene of {len(xyz):,} voxels"
    return Case(title, "model alone, one pass", variants, check, len(xyz), "points", clock="wall")
