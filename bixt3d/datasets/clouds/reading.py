"""Readers for the lists and HDF5 files of published data sets; every error names its file."""

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from bixt3d.datasets.clouds.cache import cache_folder, short_hash
from bixt3d.datasets.clouds.mapped import Layout, Tensors
from bixt3d.datasets.clouds.placed import placed_blocks
from bixt3d.datasets.files.cloud import NO_POSITION
from bixt3d.datasets.files.feature_columns import UNITS, color_notes, feature_numbers, largest_of
from bixt3d.datasets.files.hdf5 import find_dataset, open_hdf5
from bixt3d.datasets.files.precision import coarse_notes
from bixt3d.datasets.transforms.normalize import check_each, normalize_clouds
from bixt3d.io.bounds import LIST_BYTES, check_names, listed, printable, read_plain, read_words, shortened
from bixt3d.types import Feature, Features, InputError, feature_name

FEWEST_STEPS = 256
"""The least number of float32 steps between the smallest and the largest value of a scalar feature that varies."""


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file that are not blank. Raises InputError if there are none, or for duplicates."""
    lines = [line.strip() for line in read_words(path, LIST_BYTES).splitlines() if line.strip()]
    if not lines:
        raise InputError(f"{path} is empty")
    check_names([line.replace("\t", " ") for line in lines], path)  # some lists have columns
    check_once(lines, path)
    return lines


def read_file_list(path: Path) -> list[Path]:
    """Return the files of a list, which are in the folder of the list: directories in it are ignored."""
    names = [PurePosixPath(line.replace("\\", "/")).name for line in read_lines(path)]
    check_once(names, path)
    return [path.parent / name for name in names]


def check_once(names: Sequence[str], path: Path) -> None:
    """Raise InputError for a name that a list contains twice."""
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise InputError(f"{path} lists {shortened(name)!r} {times} times: keep one of them")


def read_json(path: Path) -> Any:
    """Return the content of a JSON file. Raises InputError if it is missing or not JSON."""
    try:
        return json.loads(read_plain(path, LIST_BYTES))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        reason = shortened(printable(error))
        raise InputError(f"{path} cannot be read as JSON ({reason}): fetch or write it again") from error


def clouds_layout(paths: Sequence[Path], num_points: int, features: Features) -> Layout:
    """Return the layout of ``xyz``, ``feats`` and ``label`` of all clouds in HDF5 files, and of `say_missing`.

    Raises InputError for a damaged file, clouds of fewer than ``num_points`` points, or of different sizes.
    """
    sizes = [_cloud_sizes(path, features) for path in paths]
    first_size = sizes[0][1]
    for path, (_, size) in zip(paths, sizes, strict=True):
        if size < num_points:
            raise InputError(
                f"asked for {num_points} points, but the clouds of {path} have {size}; "
                f"set --data.num_points to at most {size}"
            )
        if size != first_size:
            raise InputError(f"the clouds of {path} have {size} points, but those of {paths[0]} have {first_size}")
    num_clouds = sum(count for count, _ in sizes)
    return {
        "xyz": (torch.float32, (num_clouds, first_size, 3)),
        "feats": (torch.float32, (num_clouds, first_size, features.width)),
        "label": (torch.int64, (num_clouds,)),
        "missing": (torch.int64, (len(paths), 2)),
    }


def fill_clouds(
    paths: Sequence[Path], features: Features, classes: tuple[int, str], most: Mapping[str, float], tensors: Tensors
) -> None:
    """Fill the tensors of `clouds_layout` with normalized positions, features and labels, block by block.

    ``classes``: their number, and where they are listed, for errors. ``most``: the result of `largest_colors` for all
    files of the set, of all splits.
    """
    labels = [_read_labels(path, *classes) for path in paths]
    torch.cat(labels, out=tensors["label"])
    start = 0
    for path, count, missing in zip(paths, map(len, labels), tensors["missing"], strict=True):
        xyz, feats = (tensors[name][start : start + count] for name in ("xyz", "feats"))
        with open_hdf5(path) as file:
            num_missing = _fill_positions(find_dataset(file, "data"), xyz, str(path))
            missing.copy_(torch.tensor([num_missing, xyz[..., 0].numel()]))
            for feature, columns in zip(features.columns, features.slices(), strict=True):
                dataset, place = _find_feature(file, feature), feats[..., columns]
                _fill_feature(dataset, feature, place, str(path), most.get(feature.name))
        start += count


def say_missing(paths: Sequence[Path], missing: Int[Tensor, "S 2"]) -> None:
    """Print how many points of each file have no position, from a cache too."""
    for path, (number, total) in zip(paths, missing.tolist(), strict=True):
        if number:
            fault = f"{number} of the {total} points of {path} are {NO_POSITION}"
            tqdm.write(f"{fault}: other points of their clouds take their place", file=sys.stderr)


def cache_of_files(root: Path, split: str, paths: Sequence[Path], features: Features) -> Path:
    """Return the path of the cache of a split that HDF5 files contain."""
    key = short_hash(*(path.name for path in paths), str(features))
    return cache_folder(root) / f"bixt3d_hdf5_{split}_{key}.safetensors"


def _cloud_sizes(path: Path, features: Features) -> tuple[int, int]:
    """Return the number of clouds of a file, and the number of points of each."""
    with open_hdf5(path) as file:
        data, label = (find_dataset(file, name) for name in ("data", "label"))
        shape, kind = data.shape, data.dtype
        if len(shape) != 3 or shape[2] != 3 or 0 in shape or kind.kind != "f":
            raise InputError(f"{path} must contain data of shape (clouds, points, 3) as floats, not {kind} {shape}")
        if label.size != shape[0] or label.dtype.kind not in "iu":
            raise InputError(f"{path} must contain one integer label for each of its {shape[0]} clouds")
        for feature in features.columns:
            found = _find_feature(file, feature).shape
            if found[:2] != shape[:2] or len(found) > 3:
                raise InputError(f"{path} has data of shape {shape}, but {feature.name} of shape {found}")
    return shape[0], shape[1]


def _find_feature(file: Any, feature: Feature) -> Any:
    found = [name for name in file if feature_name(name) == feature.name]
    if len(found) > 1:
        raise InputError(f"{file.filename} has {listed(found)}, which all mean {feature.name}: keep one of them")
    return find_dataset(file, found[0] if found else feature.name, "; leave it out of --data.features to do without")


def _read_labels(path: Path, num_classes: int, classes_in: str) -> Int[Tensor, " S"]:
    with open_hdf5(path) as file:
        label = torch.from_numpy(find_dataset(file, "label")[()].reshape(-1).astype(np.int64))
    known_mask = (label >= 0) & (label < num_classes)
    check_each(known_mask, str(path), f"has a label outside the {num_classes} classes of {classes_in}")
    return label


def _fill_positions(data: Any, xyz: Float[Tensor, "S N 3"], path: str) -> int:
    """Fill positions; return how many points have none."""
    num_missing = 0
    for place, block, missing in placed_blocks(data):
        # in double precision until they are centred: float32 has steps of 0.5 m at 5,000 km
        xyz[place] = normalize_clouds(torch.from_numpy(block.astype(np.float64)), path, place.start)
        num_missing += missing
    return num_missing


def largest_colors(paths: Sequence[Path], features: Features) -> tuple[dict[str, float], tuple[str, ...]]:
    """Return the largest value of each color feature whose dtype does not determine its range, and notes on the guess.

    ``paths``: all files of a set, as all its splits use the same range.
    """
    most: dict[str, float] = {}
    notes: dict[str, tuple[str, ...]] = {}
    colors = [feature for feature in features.columns if feature.kind == "color"]
    for path in paths if colors else ():
        with open_hdf5(path) as file:
            for feature in colors:
                if (dataset := _find_feature(file, feature)).dtype not in UNITS:
                    here = max((largest_of(block) for _, block, _ in placed_blocks(dataset)), default=0.0)
                    most[feature.name] = float(np.maximum(here, most.get(feature.name, 0)))  # NaN stays
                    notes[feature.name] = color_notes(np.empty(0, dataset.dtype), most[feature.name])
    return most, tuple(f"{name}: {note} in all files of the set" for name, its in notes.items() for note in its)


def coarse_positions(paths: Sequence[Path]) -> tuple[str, ...]:
    """Return a note if the first cloud of one of the files of a set is float32 and far from the origin."""
    for path in paths:
        with open_hdf5(path) as file:
            data = find_dataset(file, "data")
            if found := coarse_notes(data[0].astype(np.float64), [data.dtype] * 3):
                return tuple(f"{path.name}: {note}" for note in found)
    return ()


def _fill_feature(dataset: Any, feature: Feature, feats: Float[Tensor, "S N W"], path: str, most: float | None) -> None:
    least, greatest = np.inf, -np.inf
    for place, block, _ in placed_blocks(dataset):
        columns = block[..., None] if block.ndim == 2 else block
        numbers = feature_numbers(columns, feature, path, most)
        least, greatest = np.minimum(least, numbers.min((0, 1))), np.maximum(greatest, numbers.max((0, 1)))
        feats[place] = torch.from_numpy(numbers.astype(np.float32))
    steps = (greatest - least) / np.spacing(np.maximum(np.abs(least), np.abs(greatest)).astype(np.float32))
    if feature.kind == "scalar" and ((steps > 0) & (steps < FEWEST_STEPS)).any():
        raise InputError(
            f"{path} has {feature.name} from {np.min(least):.10g} to {np.max(greatest):.10g}, too far from 0 for its "
            "spread: subtract an offset"
        )
