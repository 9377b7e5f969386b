"""Files of published data sets, read such that every fault is one sentence with the name of its file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bixt3d.datasets.feature_columns import feature_name, select_features
from bixt3d.datasets.normalize import check_each, normalize_clouds
from bixt3d.types import Features, InputError


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file that are not blank. Raises InputError if there are none."""
    if not path.is_file():
        raise InputError(f"{path} is missing")
    lines = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    if not lines:
        raise InputError(f"{path} is empty")
    return lines


def read_json(path: Path) -> Any:
    """Return what a JSON file holds. Raises InputError if it is missing or holds something else."""
    if not path.is_file():
        raise InputError(f"{path} is missing")
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path} cannot be read as JSON ({error}): fetch or write it again") from error


def read_arrays(path: Path, wanted: Sequence[str], features: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Return the wanted datasets of an HDF5 file, and the features by the names they have here.

    Raises InputError if the file or one of them is missing.
    """
    import h5py

    if not path.is_file():
        raise InputError(f"{path} is missing, though the list of files names it")
    try:
        with h5py.File(path, "r") as file:
            held = sorted(name for name in file if isinstance(file[name], h5py.Dataset))
            arrays = {name: file[name][()] for name in wanted if name in held}
            arrays |= {feature_name(name): file[name][()] for name in held if feature_name(name) in features}
    except OSError as error:
        raise InputError(f"{path} cannot be read as HDF5 ({error}): fetch or write it again") from error
    for name in (*wanted, *features):
        if name not in arrays:
            advice = "; leave it out of --data.features to do without" if name in features else ""
            raise InputError(f"{path} has no dataset {name!r} (it has {', '.join(held) or 'none'}){advice}")
    return arrays


def read_clouds(
    paths: Sequence[Path], num_points: int, features: Features, num_classes: int, classes_in: str
) -> list[tuple[Float[Tensor, "S N P"], Int[Tensor, " S"]]]:
    """Return normalized points (x, y, z and these features) and labels of each HDF5 file of clouds.

    ``classes_in`` says in errors where the classes are listed. Raises InputError for a broken file, fewer than
    ``num_points`` points, or files whose clouds differ in size.
    """
    pieces = []
    for path in paths:
        points, label = _read_file(path, features, num_classes, classes_in)
        size, first_size = points.shape[1], (pieces[0][0] if pieces else points).shape[1]
        if size < num_points:
            raise InputError(
                f"asked for {num_points} points, but the clouds of {path} have {size}; "
                f"set --data.num_points to at most {size}"
            )
        if size != first_size:
            raise InputError(f"the clouds of {path} have {size} points, but those of {paths[0]} have {first_size}")
        pieces.append((points, label))
    return pieces


def _read_file(
    path: Path, features: Features, num_classes: int, classes_in: str
) -> tuple[Float[Tensor, "S N P"], Int[Tensor, " S"]]:
    arrays = read_arrays(path, ("data", "label"), features.names)
    data, label = arrays["data"], arrays["label"].reshape(-1)
    if data.ndim != 3 or data.shape[2] != 3 or 0 in data.shape or data.dtype.kind != "f":
        raise InputError(f"{path} must hold data of shape (clouds, points, 3) as floats, not {data.dtype} {data.shape}")
    if len(label) != len(data) or label.dtype.kind not in "iu":
        raise InputError(f"{path} must hold one integer label for each of its {len(data)} clouds")
    label = torch.from_numpy(label.astype(np.int64))
    known_mask = (label >= 0) & (label < num_classes)
    check_each(known_mask, str(path), f"has a label outside the {num_classes} classes of {classes_in}")
    xyz = normalize_clouds(torch.from_numpy(data.astype(np.float32)), str(path))
    columns = {}
    for name in features.names:
        columns[name] = arrays[name][..., None] if arrays[name].ndim == 2 else arrays[name]
        if columns[name].shape[:-1] != data.shape[:-1]:
            raise InputError(f"{path} has data of shape {data.shape}, but {name} of shape {arrays[name].shape}")
    feats = [torch.from_numpy(select_features(columns, features, str(path)))] if features else []
    return torch.cat([xyz, *feats], dim=2), label
