"""ScanNet: meshes of rooms with a label for each vertex, or the arrays of Pointcept; 20 classes."""

from functools import partial
from pathlib import Path

import numpy as np

from bixt3d.datasets.files.ply import read_ply
from bixt3d.datasets.scenes.files import SceneFiles, SceneList, folders_of, labelled, read_arrays
from bixt3d.datasets.scenes.stored import Labelled, SceneFile
from bixt3d.io.bounds import LIST_BYTES, counted, listed, printable, read_words
from bixt3d.types import VOID, InputError

IDS = {
    **{1: "wall", 2: "floor", 3: "cabinet", 4: "bed", 5: "chair", 6: "sofa", 7: "table", 8: "door", 9: "window"},
    **{10: "bookshelf", 11: "picture", 12: "counter", 14: "desk", 16: "curtain", 24: "refrigerator"},
    **{28: "shower curtain", 33: "toilet", 34: "sink", 36: "bathtub", 39: "other furniture"},
}
"""The classes of the benchmark by their NYU40 ids; all other ids are ignored."""
CLASSES = tuple(IDS.values())
PLACES = (".", "Tasks/Benchmark", "meta_data", "splits")
"""Where the lists of a split may be."""


class ScanNet(SceneFiles):
    """Rooms of ScanNet with the 20 classes of the benchmark; the validation scenes are the test set. Units are metres.

    ``scans/scene0000_00/scene0000_00_vh_clean_2.ply`` and ``..._vh_clean_2.labels.ply``, with ``scannetv2_train.txt``
    and ``scannetv2_val.txt`` in the folder or in ``Tasks/Benchmark`` (columns: ``rgb``), or Pointcept's
    ``train/scene0000_00/coord.npy``, ``color.npy``, ``normal.npy``, ``segment20.npy``, and ``val/``.

    Args:
        root: the folder.
        grid, num_points, crops, shape, balance, features: see `SceneSource`.
    """

    def find(self, root: Path) -> SceneList:
        if (root / "scans").is_dir():
            splits = [_listed_scans(root, split) for split in ("train", "val")]
        else:
            splits = [_arrays_of(root, split) for split in ("train", "val")]
        return SceneList(root, CLASSES, *splits)


def _arrays_of(root: Path, split: str) -> list[SceneFile]:
    scenes = []
    for folder in folders_of(root / split):
        paths = tuple(folder / f"{file}.npy" for file in ("coord", "color", "normal", "segment20"))
        read = partial(read_arrays, folder, "segment20", len(CLASSES), folder.name)
        scenes.append(SceneFile(folder.name, paths, read))
    if not scenes:
        raise InputError(
            f"{printable(root)} has neither scans/ with ScanNet's meshes nor {split}/ with Pointcept's arrays, "
            f"such as {split}/scene0000_00/coord.npy"
        )
    return scenes


def _listed_scans(root: Path, split: str) -> list[SceneFile]:
    """Return the scans of a list. Raises InputError if the list or one of them is missing."""
    name = f"scannetv2_{split}.txt"
    path = next((root / place / name for place in PLACES if (root / place / name).is_file()), None)
    if path is None:
        raise InputError(
            f"{name} is missing in {printable(root)}: it is in the folder Tasks/Benchmark of ScanNet's repository"
        )
    names = read_words(path, LIST_BYTES).split()
    scenes = []
    for scan in names:
        files = tuple(root / "scans" / scan / f"{scan}_vh_clean_2{end}.ply" for end in ("", ".labels"))
        scenes.append(SceneFile(scan, files, partial(_read_scan, *files, scan)))
    missing = [one.name for one in scenes if not all(file.is_file() for file in one.paths)]
    if missing or not scenes:
        raise InputError(
            f"{len(missing)} of {counted(len(scenes), 'scene')} of {printable(path)} lack their _vh_clean_2.ply or "
            f"_vh_clean_2.labels.ply in scans/: {listed(missing)}"
        )
    return scenes


def _read_scan(mesh: Path, labels: Path, name: str) -> Labelled:
    """Read the vertices of a mesh, and their labels. Raises InputError if they are not the same vertices."""
    polygons = []
    for path in (mesh, labels):
        try:
            polygons.append(read_ply(path))
        except InputError as error:
            shown = printable(path)
            raise InputError(str(error) if str(error).startswith(shown) else f"{shown} {error}") from error
    shape, other = (one.vertices for one in polygons)
    if not np.array_equal(shape, other):
        raise InputError(f"{printable(labels)} has {len(other)} vertices that are not the {len(shape)} of {mesh.name}")
    if "label" not in polygons[1].columns:
        raise InputError(f"{printable(labels)} has no property label (it has {listed(polygons[1].columns)})")
    of_id = {one: place for place, one in enumerate(IDS)}
    words, inverse = np.unique(polygons[1].columns["label"], return_inverse=True)
    classes = np.array([of_id.get(word, VOID) for word in words.tolist()], np.int64)
    rgb = polygons[0].vertex_rgb
    return labelled(shape, {} if rgb is None else {"rgb": rgb}, classes[inverse.reshape(-1)], name)
