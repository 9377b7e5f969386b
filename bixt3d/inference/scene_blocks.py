"""Label scenes of any size: whole, in blocks of a cloud in memory, or in blocks of a LAS or LAZ file on disk."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped

from bixt3d.datasets.files.cloud import Cloud
from bixt3d.datasets.scenes.blocks import SAMPLE, plan_blocks, sample_index
from bixt3d.datasets.scenes.computed import COMPUTED
from bixt3d.datasets.scenes.las_blocks import LasBlocks, sort_las
from bixt3d.datasets.scenes.scene import MADE, from_origin, make_scene
from bixt3d.inference.predictions import check_finite
from bixt3d.inference.windows import scene_probabilities
from bixt3d.io.bounds import printable
from bixt3d.io.writing import reserve, write_whole, writing
from bixt3d.types import VOID
from bixt3d.version import __version__

BLOCK = 1_200_000
"""Points of a block with its margin (see `plan_blocks`); scenes with fewer are labelled as a whole."""
RING = 0.5
"""Part of the margin that windows are laid over too: they reach into the block, and lie as in the block beside it."""
CHUNK = 4_000_000
"""Points whose results are written at a time."""
ORIGIN = np.zeros(3)

Progress = Callable[[int], Any] | None


class Labels(NamedTuple):
    """Class, its probability and the entropy of all probabilities (0 to 1) of points."""

    label: Int[np.ndarray, " N"]
    confidence: Float[np.ndarray, " N"]
    entropy: Float[np.ndarray, " N"]


@dataclass(frozen=True)
class NumbersOnDisk:
    """A number for each point of a large file, on disk: slices are read when they are taken.

    Of an array that is mapped from a file, all that was ever read counts as memory of the process.
    """

    path: Path
    dtype: np.dtype

    def __len__(self) -> int:
        return self.path.stat().st_size // self.dtype.itemsize

    def __getitem__(self, place: slice) -> Shaped[np.ndarray, " _"]:
        first, end, _ = place.indices(len(self))
        return np.fromfile(self.path, self.dtype, end - first, offset=first * self.dtype.itemsize)

    def take(self, index: Int[np.ndarray, " M"]) -> Shaped[np.ndarray, " M"]:
        """Return the numbers of some points, whose indices are in order."""
        return np.concatenate([self[first : first + CHUNK][index[here] - first] for first, here in self._parts(index)])

    def put(self, index: Int[np.ndarray, " M"], values: Shaped[np.ndarray, " M"]) -> None:
        """Write the numbers of some points, whose indices are in order; a part of the file is mapped at a time."""
        for first, here in self._parts(index):
            shape = (min(CHUNK, len(self) - first),)
            mapped = np.memmap(self.path, self.dtype, "r+", first * self.dtype.itemsize, shape)
            mapped[index[here] - first] = values[here]
            mapped.flush()

    def _parts(self, index: Int[np.ndarray, " M"]) -> Iterator[tuple[int, slice]]:
        """Yield the start of each part of the file that has some of the points, and which these are."""
        for first in range(0, len(self), CHUNK):
            here = slice(*np.searchsorted(index, (first, first + CHUNK)))
            if here.start < here.stop:
                yield first, here


def label_cloud(predictor: Any, cloud: Cloud, progress: Progress = None) -> Labels:
    """Label a cloud in memory, with the features that the model reads; in blocks if it is large."""
    if len(cloud) <= predictor.block:
        every = np.ones(len(cloud), bool)
        return label_points(predictor, cloud, every, every, cloud.xyz.min(0), progress)
    xyz = from_origin(cloud.xyz, cloud.xyz.min(0))
    sample = xyz[sample_index(len(xyz))]
    blocks, margin = plan_blocks(sample, len(xyz), predictor.block, predictor.window, predictor.grid)
    found = Labels(np.empty(len(xyz), np.int64), *(np.empty(len(xyz), np.float32) for _ in range(2)))
    for block in blocks:
        index = np.flatnonzero(block.holds(xyz, margin))
        columns = {name: cloud.columns[name][index] for name in cloud.columns if name in predictor.features.names}
        part = replace(cloud, xyz=xyz[index], columns=columns)
        core, near = block.holds(part.xyz), block.holds(part.xyz, RING * margin)
        if not core.any():
            continue
        for whole, values in zip(found, label_points(predictor, part, core, near, ORIGIN, progress), strict=True):
            whole[index[core]] = values
    return found


def label_points(
    predictor: Any,
    cloud: Cloud,
    core: Bool[np.ndarray, " N"],
    near: Bool[np.ndarray, " N"],
    origin: Float[np.ndarray, "3"],
    progress: Progress = None,
) -> Labels:
    """Label some points of a cloud (the mask ``core``); the others lie around them.

    ``near``: mask of the points that windows are laid over, those to label and some around them; ``origin``: lowest
    coordinates of the scene; ``progress``: called with the number of points done.
    """
    unlabelled = np.full(len(cloud), VOID)
    scene = make_scene(cloud.xyz, cloud.columns, unlabelled, predictor.features, predictor.grid, cloud.name, origin)
    inverse = scene.inverse.long()[torch.from_numpy(core)]
    needed = np.zeros(len(scene), bool)
    needed[scene.inverse.numpy()[near]] = True
    report = _points_of(progress, len(inverse), int(needed.sum())) if progress else None
    probability = scene_probabilities(
        predictor.model,
        scene,
        predictor.window,
        predictor.shape,
        device=predictor.device,
        needed=needed,
        progress=report,
    )
    check_finite(probability, cloud.name)
    confidence, labels = probability.max(1)
    entropy = -(probability * probability.clamp(min=1e-12).log()).sum(1) / np.log(max(2, probability.shape[1]))
    return Labels(*(values[inverse].numpy() for values in (labels, confidence, entropy)))


def _points_of(progress: Callable[[int], Any], points: int, voxels: int) -> Callable[[int], None]:
    """Return a function of newly done voxels that reports as many points, all in all ``points``."""
    done = 0

    def report(number: int) -> None:
        nonlocal done
        before, done = done, done + number
        progress(points * done // voxels - points * before // voxels)

    return report


def numbers_in(folder: Path, predictor: Any) -> list[NumbersOnDisk]:
    """Return the results of `label_las` in a folder, in the order of `Labels`."""
    kinds = np.min_scalar_type(-max(1, len(predictor.class_names))), np.dtype("f4"), np.dtype("f4")
    return [NumbersOnDisk(folder / name, kind) for name, kind in zip(Labels._fields, kinds, strict=True)]


def label_las(predictor: Any, path: Path, folder: Path, progress: Progress = None) -> tuple[Cloud, LasBlocks]:
    """Label a LAS or LAZ file in bounded memory; the results are files in ``folder`` (see `numbers_in`).

    What is done is kept in the folder: after an interruption the same call goes on where it was. Returns also a cloud
    without points, whose notes say what was filled or converted, and the parts of the file. Raises InputError if the
    file is damaged or lacks a feature, and WriteError if the disk is full, before the first point is labelled. No
    other process may work in the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sizes = (predictor.grid, predictor.window, predictor.block)
    needed = {one.name for one in predictor.features.columns if one not in COMPUTED} - set(predictor.fill)
    parts = sort_las(path, folder, _key(predictor, path), predictor.features, needed, sizes)
    for found in numbers_in(folder, predictor):
        with writing(found.path):
            found.path.touch()
            with found.path.open("r+b") as file:
                reserve(file, parts.total * found.dtype.itemsize)
    for number in range(len(parts.blocks)):
        _label_block(predictor, parts, number, progress, printable(path.name))
    return predictor.prepare(_few(parts, printable(path.name))), parts


def _label_block(predictor: Any, parts: LasBlocks, number: int, progress: Progress, name: str) -> None:
    """Write the results of a block to the files, and a file that says so; or report the points if it is there."""
    mark = parts.folder / f"done_{number}"
    if mark.is_file():
        if progress:
            progress(int(mark.read_text()))
        return
    index, cloud = parts.read(number, name)
    core, near = (parts.blocks[number].holds(cloud.xyz, margin) for margin in (0.0, RING * parts.margin))
    if core.any():
        found = label_points(predictor, predictor.prepare(cloud), core, near, ORIGIN, progress)
        del cloud
        for numbers, values in zip(numbers_in(parts.folder, predictor), found, strict=True):
            numbers.put(index[core], values)
    write_whole(mark, lambda temporary: temporary.write_text(str(int(core.sum()))))


def _few(parts: LasBlocks, name: str) -> Cloud:
    """Return the first points of a file, with the columns that were kept."""
    for number in range(len(parts.blocks)):
        if parts.path(number).is_file():
            points = np.fromfile(parts.path(number), parts.dtype, SAMPLE)
            largest = {"rgb": parts.most} if "rgb" in parts.columns else {}
            columns = {one: np.ascontiguousarray(points[f"column {one}"]) for one in parts.columns}
            return Cloud(np.ascontiguousarray(points["xyz"]), columns, name, notes=parts.notes, largest=largest)
    raise AssertionError("a file has points")


def _key(predictor: Any, path: Path) -> str:
    """Return a hash of the file's state, the weights and all settings: what the results depend on."""
    status = path.stat()
    facts = {"file": [str(path.absolute()), status.st_size, status.st_mtime_ns], "version": __version__}
    facts |= {"made": MADE}  # features that are computed otherwise are others
    facts |= {"classes": predictor.class_names, "grid": predictor.grid, "window": predictor.window}
    facts |= {"shape": predictor.shape, "fill": {name: list(values) for name, values in predictor.fill.items()}}
    facts |= {"features": str(predictor.features), "block": predictor.block, "model": repr(predictor.model)}
    found = hashlib.sha256(json.dumps(facts).encode())
    for name, tensor in predictor.model.state_dict().items():
        found.update(name.encode() + tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
