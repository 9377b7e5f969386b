"""What `bixt3d data check` and `info` say of scenes: side of a voxel, number of voxels, points without a class."""

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from bixt3d.datasets.files.las_large import LAS
from bixt3d.datasets.scenes.folder import CLASSES, read_classes
from bixt3d.io.bounds import listed
from bixt3d.ops.voxels import voxel_grid

LARGE = 20_000
"""Points from which on a cloud is taken for a scene, not for an object."""
SPACINGS = 3
"""Proposed side of a voxel, in spacings of the points."""

READ = ("rgb", "normal", "intensity", "return_number", "number_of_returns")
"""Columns that say something about a class in most scans."""


def proposed_grid(spacing: float) -> float:
    """Return a side of voxels for points with this spacing: about three times as much, with one digit."""
    return float(f"{SPACINGS * spacing:.1g}")


def count_voxels(xyz: Float[np.ndarray, "N 3"], spacing: float | None) -> int:
    """Return the number of voxels of the proposed side; 0 for a cloud without a spacing."""
    return len(voxel_grid(torch.from_numpy(xyz - xyz.min(0)), proposed_grid(spacing))) if spacing else 0


def grid_words(spacing: float, voxels: Sequence[int]) -> str:
    """Return the proposed side, and how many voxels the scenes then have."""
    least, most = min(voxels), max(voxels)
    range_words = f"{most:,}" if least == most else f"{least:,} to {most:,}"
    return f"{proposed_grid(spacing):g} for scenes ({SPACINGS} x the spacing): {range_words} voxels"


def scene_lines(spacing: Sequence[float], voxels: Sequence[int], root: Path, labels: Counter) -> list[str]:
    """Return lines on the side of a voxel, and on points without a class."""
    lines = [f"grid     {grid_words(float(np.median(spacing)), voxels)}"] if spacing else []
    if (root / CLASSES).is_file():
        of_word = read_classes(root / CLASSES, "", set())[1].of_word
        void = {word: number for word, number in labels.items() if word not in of_word}
        share = sum(void.values()) / max(1, sum(labels.values()))
        lines.append(f"no class {share:.1%} of the points" + (f": labels {listed(sorted(void))}" if void else ""))
    return lines


def scene_commands(root: Path, label: str, spacing: Sequence[float], features: Sequence[str], path: Path) -> list[str]:
    """Return the commands that train, test and predict scenes of a folder; ``path``: one of its files."""
    read = [name for name in READ if name in features]
    words = ["bixt3d", "train", "scenes", "--cfg", "folder_scenes", "--data.root", str(root)]
    if spacing:
        words += ["--data.grid", f"{proposed_grid(float(np.median(spacing))):g}"]
    words += ["--data.shape", "cylinder"] if path.suffix.lower() in LAS else []
    words += ["--data.features", ",".join([*read, "height"])] if read else []
    words += ["--data.label", label] if label else []
    test = next((root / name for name in ("test", "val") if (root / name).is_dir()), root)
    return [
        shlex.join(words),
        "bixt3d test scenes",
        shlex.join(["bixt3d", "predict", str(test), "--out", "predictions"]),
    ]
