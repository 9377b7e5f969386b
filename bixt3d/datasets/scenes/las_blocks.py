"""Large LAS and LAZ files: their points sorted into blocks on disk, in bounded memory."""

import json
import os
import shutil
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from tqdm import tqdm

from bixt3d.datasets.files.cloud import Cloud, has_position
from bixt3d.datasets.files.feature_columns import TRAIN_WITHOUT, columns_of, missing_features
from bixt3d.datasets.files.las import LasFile, open_las, standard_colors
from bixt3d.datasets.scenes.blocks import Block, plan_blocks, sample_index
from bixt3d.datasets.scenes.scene import from_origin, in_meters, unit_notes
from bixt3d.io.bounds import printable
from bixt3d.io.writing import WriteError, write_whole, writing
from bixt3d.types import Features, InputError

PLAN, SHOWN, LOCK = "plan.json", "sample.npy", "lock"
"""Files of the folder: written when all points are sorted; some positions, for pictures; locked by who works in it."""


@dataclass(frozen=True)
class LasBlocks:
    """The points of a LAS or LAZ file in blocks on disk.

    Args:
        folder: the folder of the blocks.
        key: what they were made from.
        total: number of points of the file.
        margin: how far outside of its block a point is in its part too.
        blocks: lowest and highest x and y of each block.
        columns: dtype and width of the columns that were kept.
        unread: names of the other columns.
        most: the largest color.
        notes: what was found, changed or left out.
    """

    folder: Path
    key: str
    total: int
    margin: float
    blocks: tuple[Block, ...]
    columns: Mapping[str, tuple[str, int]]
    unread: tuple[str, ...]
    most: float
    notes: tuple[str, ...]

    @property
    def dtype(self) -> np.dtype:
        """The dtype of a point on disk."""
        names = [(f"column {name}", *kind) for name, kind in self.columns.items()]
        return np.dtype([("index", "<i8"), ("xyz", "<f8", 3), *((name, kind, (width,)) for name, kind, width in names)])

    def path(self, number: int) -> Path:
        """Return the file of a block."""
        return self.folder / f"block_{number}"

    def read(self, number: int, name: str) -> tuple[Int[np.ndarray, " N"], Cloud]:
        """Return the points of a block and its margin: their indices in the file, and the cloud."""
        points = np.fromfile(self.path(number), self.dtype) if self.path(number).is_file() else np.empty(0, self.dtype)
        xyz = np.ascontiguousarray(points["xyz"])
        columns = {one: np.ascontiguousarray(points[f"column {one}"]) for one in self.columns}
        largest = {"rgb": self.most} if "rgb" in self.columns else {}
        cloud = Cloud(xyz, columns, name, up="z", notes=self.notes, largest=largest)
        return np.ascontiguousarray(points["index"]), cloud

    def sample(self) -> tuple[Int[np.ndarray, " S"], Float[np.ndarray, "S 3"]]:
        """Return the indices and the positions of some points, from the lowest coordinates of the file."""
        return sample_index(self.total), np.load(self.folder / SHOWN)


def sort_las(
    path: Path, folder: Path, key: str, features: Features, needed: Collection[str], sizes: tuple[float, int, int]
) -> LasBlocks:
    """Sort the points of a file into blocks, or return the parts that are there if they have the same key.

    ``features``: of the points, which are kept beside positions; ``needed``: names of those that the file must have;
    ``sizes``: side of a voxel, voxels of a window, points of a block. The file is read twice: for its bounds, and for
    its points. Raises InputError if it is damaged or lacks a feature, and WriteError if the disk is full.
    """
    if (found := _read_plan(folder, key)) is not None:
        return found
    for old in folder.iterdir():
        if old.name != LOCK:
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    try:
        with open_las(path) as las:
            columns = {feature.name: columns_of(feature, las.dims.names, path.name) for feature in features.columns}
            wanted = [feature for feature in features.columns if feature.name in needed]
            if fault := missing_features(wanted, las.dims.names, path.name):
                raise InputError(f"{fault}; {TRAIN_WITHOUT}")
            names = [one for found in columns.values() for one in found]
            low, sample, most = _bounds(las, names)
            with writing(folder / SHOWN):
                np.save(folder / SHOWN, sample)
            grid, window, size = sizes
            blocks, margin = plan_blocks(sample, len(las), size, window, grid)
            unread = tuple(name for name in las.dims.names if name not in names)
            notes = (*las.notes, *unit_notes(las.meters))
            parts = LasBlocks(folder, key, len(las), margin, tuple(blocks), {}, unread, most, notes)
            parts = _sort(las, parts, names, low)
    except WriteError:
        raise
    except InputError as error:
        raise InputError(f"{printable(path)} {error}") from error
    content = asdict(parts) | {"folder": ""}
    write_whole(folder / PLAN, lambda temporary: temporary.write_text(json.dumps(content)))
    return parts


def _read_plan(folder: Path, key: str) -> LasBlocks | None:
    try:
        plan: dict[str, Any] = json.loads((folder / PLAN).read_text())
        if plan["key"] != key:
            return None
        plan |= {"blocks": tuple(Block(tuple(one["low"]), tuple(one["high"])) for one in plan["blocks"])}
        columns = {name: (kind, width) for name, (kind, width) in plan["columns"].items()}
        more = {"folder": folder, "columns": columns, "unread": tuple(plan["unread"]), "notes": tuple(plan["notes"])}
        return LasBlocks(**plan | more)
    except (OSError, ValueError, TypeError, KeyError):  # not there yet, or of another version
        return None


def _bounds(las: LasFile, names: list[str]) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "S 3"], float]:
    """Return the lowest coordinates, some positions from there, and the largest color."""
    if not len(las):
        raise InputError("has 0 points: a cloud takes many")
    low, high, most, first = np.full(3, np.inf), np.full(3, -np.inf), 0.0, 0
    index, some = sample_index(len(las)), []
    for chunk in _chunks(las, [name for name in names if name == "rgb"], "bounds"):
        if not has_position(chunk.xyz).all():
            raise InputError("has points without a finite position: its scale is damaged")
        low, high = np.minimum(low, chunk.xyz.min(0)), np.maximum(high, chunk.xyz.max(0))
        if "rgb" in chunk.columns:
            most = max(most, float(chunk.columns["rgb"].max()))
        here = slice(*np.searchsorted(index, (first, first + len(chunk.xyz))))
        some.append(chunk.xyz[index[here] - first])
        first += len(chunk.xyz)
    if (low == high).all():
        raise InputError(f"has all its {len(las)} points in one place")
    return low, from_origin(np.concatenate(some), low), most


def _sort(las: LasFile, parts: LasBlocks, names: list[str], low: Float[np.ndarray, "3"]) -> LasBlocks:
    """Write the points to the files of their blocks."""
    first = 0
    for chunk in _chunks(las, names, "sorting"):
        colors, notes = standard_colors(chunk.columns, parts.most)
        columns = dict(chunk.columns) | colors
        if not first:
            kinds = {name: (values.dtype.str, values.shape[1]) for name, values in columns.items()}
            parts = LasBlocks(**vars(parts) | {"columns": kinds, "notes": parts.notes + notes})
        points = np.empty(len(chunk.xyz), parts.dtype)
        points["index"] = np.arange(first, first := first + len(points))
        points["xyz"] = xyz = from_origin(chunk.xyz, low)
        for name, values in columns.items():
            points[f"column {name}"] = values
        for number, block in enumerate(parts.blocks):
            if len(inside := np.flatnonzero(block.holds(xyz, parts.margin))):
                with writing(parts.path(number)), parts.path(number).open("ab") as file:
                    file.write(points[inside].data)
    for number in range(len(parts.blocks)):
        if parts.path(number).is_file():
            with writing(parts.path(number)), parts.path(number).open("rb+") as file:
                os.fsync(file.fileno())
    return parts


def _chunks(las: LasFile, names: list[str], what: str) -> Any:
    with tqdm(total=len(las), desc=what, unit=" points", unit_scale=True, leave=False, disable=None) as progress:
        for chunk in las.chunks(names):
            yield chunk._replace(xyz=in_meters(chunk.xyz, las.meters))
            progress.update(len(chunk.xyz))
