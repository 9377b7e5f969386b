"""SemanticKITTI: scans of a rotating laser scanner on a car, with the 19 classes of the benchmark."""

from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from bixt3d.datasets.scenes.files import SceneFiles, SceneList, class_labels, labelled
from bixt3d.datasets.scenes.stored import Labelled, SceneFile
from bixt3d.io.bounds import listed, printable, read_plain
from bixt3d.types import VOID, InputError

IDS = {
    **{"car": (10, 252), "bicycle": (11,), "motorcycle": (15,), "truck": (18, 258)},
    **{"other-vehicle": (13, 16, 20, 256, 257, 259), "person": (30, 254), "bicyclist": (31, 253)},
    **{"motorcyclist": (32, 255), "road": (40, 60), "parking": (44,), "sidewalk": (48,), "other-ground": (49,)},
    **{"building": (50,), "fence": (51,), "vegetation": (70,), "trunk": (71,), "terrain": (72,), "pole": (80,)},
    "traffic-sign": (81,),
}
"""The labels of each class: things that move are the same class as those that do not."""
CLASSES = tuple(IDS)
CLASS_OF = {one: VOID for one in (0, 1, 52, 99)} | {one: k for k, own in enumerate(IDS.values()) for one in own}
"""The class of each label; unlabelled, outlier, other-structure and other-object are ignored."""
TRAIN, TEST = (0, 1, 2, 3, 4, 5, 6, 7, 9, 10), (8,)
"""The sequences for training and for validation; those for the benchmark have no labels."""


class SemanticKITTI(SceneFiles):
    """Scans of SemanticKITTI with 19 classes; sequence 08, for validation, is the test set. Units are metres.

    ``dataset/sequences/00/velodyne/000000.bin`` and ``labels/000000.label``. Column: ``intensity`` (the remission, 0 to
    1). Take ``shape="cylinder"`` and ``grid=0.1``. The caches of the 23,201 scans take about as much space as they do.

    Args:
        root: the folder of ``dataset/sequences`` or ``sequences``.
        grid, num_points, crops, shape, balance, features: see `SceneSource`.
    """

    def find(self, root: Path) -> SceneList:
        sequences = next((root / one for one in ("dataset/sequences", "sequences") if (root / one).is_dir()), None)
        if sequences is None:
            raise InputError(f"{printable(root)} has no folder dataset/sequences with 00/velodyne, 00/labels and so on")
        scans = {number: _scans_of(sequences / f"{number:02}") for number in (*TRAIN, *TEST)}
        missing = [f"{number:02}" for number, own in scans.items() if not own]
        train, test = ([scan for number in numbers for scan in scans[number]] for numbers in (TRAIN, TEST))
        if not train or not test:
            raise InputError(f"{printable(sequences)} has no scans velodyne/*.bin in its sequences {listed(missing)}")
        notes = (f"sequences {listed(missing)} not there: published figures use 00 to 10",) if missing else ()
        return SceneList(root, CLASSES, train, test, notes)


def _scans_of(sequence: Path) -> list[SceneFile]:
    """Return the scans of a sequence. Raises InputError for one without labels."""
    scans, there = [], {path.stem for path in (sequence / "labels").glob("*.label")}
    for path in sorted((sequence / "velodyne").glob("*.bin")):
        label, name = sequence / "labels" / f"{path.stem}.label", f"{sequence.name}/{path.stem}"
        if path.stem not in there:
            raise InputError(f"{printable(label)} is missing: all sequences from 00 to 10 have labels")
        scans.append(SceneFile(name, (path, label), partial(_read_scan, path, label, name)))
    return scans


def _read_scan(path: Path, label: Path, name: str) -> Labelled:
    points = _numbers(path, "<f4", 4)
    labels = _numbers(label, "<u4", 1)[:, 0]
    if len(labels) != len(points):
        raise InputError(f"{printable(label)} has {len(labels)} labels for {len(points)} points")
    classes = class_labels(labels & 0xFFFF, CLASS_OF, str(label))  # the upper 16 bits are the number of the object
    return labelled(points[:, :3], {"intensity": points[:, 3:]}, classes, name)


def _numbers(path: Path, kind: str, width: int) -> Shaped[np.ndarray, "N W"]:
    raw = read_plain(path)
    if not raw or len(raw) % (4 * width):
        raise InputError(f"{printable(path)} has {len(raw)} bytes, not {4 * width} for each point: it is damaged")
    return np.frombuffer(raw, kind).reshape(-1, width)
