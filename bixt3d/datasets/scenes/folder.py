"""Scenes from a folder of people's own files, with a label for each point in a column."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Int
from tqdm import tqdm

from bixt3d.datasets.clouds.cache import cache_folder, short_hash, stamp
from bixt3d.datasets.clouds.point_labels import (
    NO_LABEL,
    count_gaps,
    gap_notes,
    label_columns,
    label_order,
    label_words,
    mixed_notes,
)
from bixt3d.datasets.files.cloud import Cloud
from bixt3d.datasets.files.column_names import is_unnamed
from bixt3d.datasets.files.reader import SUFFIXES, find_files, read_file
from bixt3d.datasets.files.unread import CLASSES, other_files, unread_notes
from bixt3d.datasets.scenes.crops import CropSize, Draw, Shape, las_codes
from bixt3d.datasets.scenes.files import SceneFiles, SceneList
from bixt3d.datasets.scenes.labels_beside import labels_beside, with_labels_beside, with_labels_of
from bixt3d.datasets.scenes.scene import check_scene, cloud_in_meters
from bixt3d.datasets.scenes.stored import Labelled, SceneFile
from bixt3d.io.bounds import LIST_BYTES, counted, listed, printable, read_plain, read_words
from bixt3d.io.untrusted import check_different_names, read_yaml
from bixt3d.io.writing import replace_file
from bixt3d.types import VOID, InputError
from bixt3d.version import __version__

SPLITS = {"train": ("train", "training"), "test": ("test", "val", "validation", "testing")}
KEYS = ("names", "labels", "label", "ignore")
LAYOUT = "put labelled scenes into train/ and test/ (or val/), see docs/scenes.md"


@dataclass(frozen=True)
class Classes:
    """The classes of a set of scenes.

    Args:
        names: names of the classes, in the order of the logits.
        of_word: the class of each label of the files; labels that are not there are ignored.
    """

    names: tuple[str, ...]
    of_word: dict[str, int]

    @property
    def las_codes(self) -> tuple[int, ...] | None:
        """The LAS classification of each class, if the labels are such: the first of its labels."""
        return las_codes([[word for word, own in self.of_word.items() if own == k] for k in range(len(self.names))])

    def name(self, word: str) -> str:
        """Return the name of the class of a label; "-" if it is ignored."""
        return self.names[self.of_word[word]] if word in self.of_word else "-"

    def codes(self, words: Sequence[str]) -> Int[np.ndarray, " W"]:
        """Return the class of each label."""
        return np.array([self.of_word.get(word, VOID) for word in words], np.int64)


class SceneFolder(SceneFiles):
    """Files of any format in ``train/`` and ``test/`` (or ``val/``), with sub-folders or without; one file, one scene.

    The labels are a column of the files, of whole numbers or words, or lie beside them: ``a.labels`` for ``a.txt``.
    Points without a label (an empty cell, NaN) are ignored.
    ``classes.yaml`` in the folder may say what they mean: ``names``: the classes; ``labels``: the class of each label
    (``2: ground``), all others are ignored; ``label``: the column. Without it each label of the training files is a
    class.

    Args:
        root: the folder.
        grid, num_points, crops, shape, balance, features: see `SceneSource`.
        label: the column of the labels; by default found by its name: label, class, classification ...
        ignore: labels of points that count nowhere, such as ``0`` or ``0,unlabelled``.
        draw: a scene is drawn in proportion to its number of ``voxels``; or of ``points`` that have a class, for sets
            whose scenes differ much in density; ``scenes``: all that have labels alike, for sets of a few scenes
            that differ much in size. Crops that are drawn by class are drawn by the share of the class in each scene.
        classes: the labels of each class, in place of ``classes.yaml``: ``{ground: 2, vegetation: [3, 4, 5]}``.
    """

    def __init__(  # noqa: PLR0913 (one argument for each line of a config)
        self,
        root: str = "data/my_scenes",
        grid: float = 0.05,
        num_points: CropSize = 4096,
        crops: int = 1000,
        shape: Shape = "sphere",
        balance: float = 0.0,
        features: str = "",
        label: str = "",
        ignore: int | str = "",
        draw: Draw = "voxels",
        classes: dict[str, int | str | list[int | str]] | None = None,
    ):
        super().__init__(root, grid, num_points, crops, shape, balance, features)
        self.label, self.draw, self.classes = label, draw, classes or {}
        self.ignore = {word.strip() for word in str(ignore).split(",") if word.strip()}

    def find(self, root: Path) -> SceneList:
        files = split_files(root)
        beside = labels_beside([*files["train"], *files["test"]])
        label, classes = self._classes(root, files["train"], beside)
        train, test = (
            [
                SceneFile(
                    printable(path.name), with_labels_of(path), partial(_read_labelled, path, label, classes, beside)
                )
                for path in paths
            ]
            for paths in files.values()
        )
        key = f"{label} {json.dumps(classes.of_word)}{' beside' if beside else ''}"
        notes = (*unread_of(root, files), *([] if self._are_given(root) else mixed_notes(classes.names)))
        return SceneList(root, classes.names, train, test, notes, classes.las_codes, key)

    def _are_given(self, root: Path) -> bool:
        """Return whether the classes are given by the setting or by ``classes.yaml``."""
        return bool(self.classes) or (root / CLASSES).is_file()

    def _classes(self, root: Path, train: Sequence[Path], beside: Path | None) -> tuple[str, Classes]:
        """Return the column of the labels and the classes."""
        if self.classes:
            return self.label, Classes(tuple(self.classes), self._given_classes())
        path = root / CLASSES
        if path.is_file():
            return read_classes(path, self.label, self.ignore)
        words = sorted(self._words(root, train, beside) - self.ignore - {NO_LABEL}, key=label_order)
        if not words:
            raise InputError(f"{printable(root)} has no labels that are not ignored")
        return self.label, Classes(tuple(words), {word: place for place, word in enumerate(words)})

    def _given_classes(self) -> dict[str, int]:
        """Return the class of each label of the setting ``classes``."""
        of_word: dict[str, int] = {}
        for place, (name, words) in enumerate(self.classes.items()):
            for word in map(str, words if isinstance(words, list) else [words]):
                if of_word.setdefault(word, place) != place:
                    raise InputError(f"data.classes has the label {printable(word)} twice, the second time as {name}")
        return {word: place for word, place in of_word.items() if word not in self.ignore}

    def _words(self, root: Path, train: Sequence[Path], beside: Path | None) -> set[str]:
        """Return the labels that occur in the training files; the list is kept until a file changes."""
        files = [file for one in train for file in with_labels_of(one)]
        key = short_hash(self.label, __version__, stamp(files), *(ascii(str(one)) for one in files))
        path = cache_folder(root) / f"bixt3d_labels_{key}.json"
        try:
            words = json.loads(read_plain(path, LIST_BYTES))
            if isinstance(words, list) and all(isinstance(word, str) for word in words):
                return set(words)
        except (OSError, ValueError):  # InputError is a ValueError: not there yet, or damaged
            pass
        found: set[str] = set()
        with tqdm(train, desc=f"labels of {printable(root)}", unit="scene") as progress:
            for one in progress:
                found |= set(_with_label(one, self.label, beside)[2])
        replace_file(path, json.dumps(sorted(found)).encode())
        return found


def _read_labelled(path: Path, label: str, classes: Classes, beside: Path | None) -> Labelled:
    cloud, name, words, codes = _with_label(path, label, beside)
    cloud = replace(cloud, notes=(*cloud.notes, *gap_notes(count_gaps(words, codes), len(cloud))))
    others = [one for one in label_columns(cloud.columns) if one != name]
    if not label and (others or is_unnamed(name)):
        what = f", not {listed(others)}" if others else ""
        note = f"{name} taken for the labels{what}: --data.label names another column"
        cloud = replace(cloud, notes=(*cloud.notes, note))
    return cloud, classes.codes(words)[codes]


def _with_label(path: Path, label: str, beside: Path | None) -> tuple[Cloud, str, list[str], Int[np.ndarray, " N"]]:
    """Return a scene and its labels, as `label_words` does.

    Raises InputError for one that has none, also if ``beside``, labels of another scene, shows where they should lie.
    """
    cloud = read_scene_file(path)
    name, words, codes = label_words(cloud, label)
    if beside and not label and is_unnamed(name):
        raise InputError(f"{printable(path)} has no labels beside it, as {printable(beside.name)}, and no named column")
    return cloud, name, words, codes


def read_scene_file(path: Path) -> Cloud:
    """Read one scene, in meters. Raises InputError for a file of several clouds, and as `check_scene` does."""
    clouds = read_file(path)
    if len(clouds) != 1:
        raise InputError(f"{printable(path)} has {counted(len(clouds), 'cloud')}: a scene is one cloud of points")
    check_scene(clouds[0], printable(path))
    return with_labels_beside(cloud_in_meters(clouds[0]), path)


def split_files(root: Path) -> dict[str, list[Path]]:
    """Return the files of the scenes to train and to test on. Raises InputError if a folder is missing or empty."""
    return {split: _files_of(root, names) for split, names in SPLITS.items()}


def unread_of(root: Path, files: Mapping[str, Sequence[Path]]) -> list[str]:
    """Return notes on what of a folder is not read; ``files``: those of the scenes, a result of `split_files`."""
    return unread_notes(root, other_files(root, {path for paths in files.values() for path in paths}), SUFFIXES)


def _files_of(root: Path, names: Sequence[str]) -> list[Path]:
    """Return the files of the first folder of these names. Raises InputError if there is none."""
    for name in names:
        if (root / name).is_dir():
            return find_files([root / name])
    raise InputError(f"there is no folder {printable(root / names[0])}: {LAYOUT}")


def read_classes(path: Path, label: str, ignore: set[str]) -> tuple[str, Classes]:
    """Read ``classes.yaml``: return the column of the labels and the classes, without the labels to ``ignore``."""
    given = read_yaml(read_words(path, LIST_BYTES), str(path), settings=False)
    if not isinstance(given, dict) or set(given) - set(KEYS) or "labels" not in given:
        raise InputError(f"{printable(path)} should have the entry labels, and no others than {listed(KEYS)}")
    labels = given["labels"]
    if not isinstance(labels, dict) or not labels or not all(isinstance(name, str) for name in labels.values()):
        raise InputError(f"{printable(path)} should have labels such as 2: ground")
    names = given.get("names") or list(dict.fromkeys(labels.values()))
    check_different_names(names, f"names of {path}")
    if unknown := [name for name in labels.values() if name not in names]:
        raise InputError(f"{printable(path)} has the label {unknown[0]!r}, which is not among its names")
    more = given.get("ignore") or []
    ignore = ignore | {str(word) for word in (more if isinstance(more, list) else [more])}
    of_word = {str(word): names.index(name) for word, name in labels.items() if str(word) not in ignore}
    return label or str(given.get("label") or ""), Classes(tuple(names), of_word)
