"""What `bixt3d data check` and `info` say of scenes: side of a voxel, number of voxels, points without a class."""

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from bixt3d.datasets.clouds.folder_files import Entry, Listing
from bixt3d.datasets.files.las_large import LAS
from bixt3d.datasets.files.unread import CLASSES
from bixt3d.datasets.scenes.computed import GEOMETRY
from bixt3d.datasets.scenes.folder import Classes, read_classes, split_files, unread_of
from bixt3d.io.bounds import counted, listed
from bixt3d.ops.voxels import voxel_grid
from bixt3d.types import InputError

LARGE = 20_000
"""Points from which on a cloud is taken for a scene, not for an object."""
SPACINGS = 3
"""Proposed side of a voxel, in spacings of the points."""

READ = ("rgb", "normal", "intensity", "return_number", "number_of_returns")
"""Columns that say something about a class in most scans."""


def given_classes(root: Path) -> tuple[str, Classes | None]:
    """Return the column of the labels and the classes of ``classes.yaml``; nothing if there is none."""
    return read_classes(root / CLASSES, "", set()) if (root / CLASSES).is_file() else ("", None)


def scene_listing(root: Path) -> Listing:
    """Return the files of a folder of scenes. Raises InputError if there are none to train or to test on."""
    files = split_files(root)
    entries = tuple(Entry(path, "", split) for split, paths in files.items() for path in paths)
    return Listing(entries, len(files["train"]), (), tuple(unread_of(root, files)))


def proposed_grid(spacing: float) -> float:
    """Return a side of voxels for points with this spacing: about three times as much, with one digit."""
    return float(f"{SPACINGS * spacing:.1g}")


def count_voxels(xyz: Float[np.ndarray, "N 3"], spacing: float | None) -> int:
    """Return the number of voxels of the proposed side; 0 for a cloud without a spacing, or that is too wide for it."""
    try:
        return len(voxel_grid(torch.from_numpy(xyz - xyz.min(0)), proposed_grid(spacing))) if spacing else 0
    except InputError:  # too many cells: equal points, or some that are far off
        return 0


def grid_words(spacing: float, voxels: Sequence[int]) -> str:
    """Return the proposed side, and how many voxels the scenes then have."""
    least, most = min(voxels), max(voxels)
    range_words = f"{most:,}" if least == most else f"{least:,} to {most:,}"
    return f"{proposed_grid(spacing):g} for scenes ({SPACINGS} x the spacing): {range_words} voxels"


def grid_lines(spacing: Sequence[float], voxels: Sequence[int]) -> list[str]:
    """Return a line on the side of a voxel."""
    voxels = [number for number in voxels if number]
    return [f"grid     {grid_words(float(np.median(spacing)), voxels)}"] if spacing and voxels else []


def label_shares(classes: Classes | None, train: Counter, labels: Counter) -> list[str]:
    """Return a line on points whose label is of no class: not among those given, or else in no training scene."""
    void = {word: number for word, number in labels.items() if word not in (classes.of_word if classes else train)}
    share = sum(void.values()) / max(1, sum(labels.values()))
    why = f"which {CLASSES} gives no class" if classes else "which no training scene has"
    return [f"no class {share:.1%} of the points: labels {listed(sorted(void))}, {why}"] if void else []


def absent_lines(classes: Classes, split: str, labels: Counter) -> list[str]:
    """Return a line on the classes that no point of a split has."""
    there = {classes.name(word) for word in labels}
    absent = [
        f"{name} ({listed(word for word, own in classes.of_word.items() if own == place)})"
        for place, name in enumerate(classes.names)
        if name not in there
    ]
    return [f"classes without points to {split} on: {listed(absent)}"] if absent else []


def scene_obstacle(root: Path, classes: Classes | None, train: Counter, test: Counter, faults: int) -> str | None:
    """Return why scenes with these labels cannot be trained on; None if they can."""
    try:
        split_files(root)
    except InputError as error:
        return str(error)
    names, known = (classes.names, classes.of_word) if classes else (sorted(train), train)
    if len(names) < 2:
        return f"there is one class alone ({listed(names)}): a model needs two or more"
    for split, labels in (("train", train), ("test", test)):
        if not any(word in known for word in labels):
            return f"no point to {split} on has one of the classes ({listed(names)}), but {listed(sorted(labels))}"
    return f"mend or remove {counted(faults, 'file')}: of scenes none are left out" if faults else None


def scene_commands(root: Path, label: str, spacing: Sequence[float], features: Sequence[str], path: Path) -> list[str]:
    """Return the commands that train, test and predict scenes of a folder; ``path``: one of its files."""
    read = [name for name in READ if name in features]
    words = ["bixt3d", "train", "scenes", "--cfg", "folder_scenes", "--data.root", str(root)]
    if spacing:
        words += ["--data.grid", f"{proposed_grid(float(np.median(spacing))):g}"]
    words += ["--data.shape", "cylinder"] if path.suffix.lower() in LAS else []
    words += ["--data.features", ",".join([*read, "height", *map(str, GEOMETRY)])] if read else []
    words += ["--data.label", label] if label else []
    test = next((root / name for name in ("test", "val") if (root / name).is_dir()), root)
    return [
        shlex.join(words),
        "bixt3d test scenes",
        shlex.join(["bixt3d", "predict", str(test), "--out", "predictions"]),
    ]
