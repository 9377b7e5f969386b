"""Scenes in caches on disk, mapped into memory when they are needed: a set may be larger than the memory."""

import json
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from tqdm import tqdm

from bixt3d.datasets.clouds.cache import Tensors, cached, short_hash, stamp
from bixt3d.datasets.clouds.mapped import Allocate
from bixt3d.datasets.files.cloud import Cloud, with_features
from bixt3d.datasets.scenes.computed import note_columns
from bixt3d.datasets.scenes.scene import MADE, Scene, make_scene
from bixt3d.io.bounds import counted
from bixt3d.types import Features
from bixt3d.version import __version__

OPEN = 20_000_000
"""Voxels of the scenes that stay open; with their k-d trees they take about a gigabyte."""
MAX_NOTES = 6
"""Number of different notes on files that are printed; the others are counted."""

Labelled = tuple[Cloud, Int[np.ndarray, " _"]]
"""A cloud and the class of each of its points; -1: ignored."""


@dataclass(frozen=True)
class SceneFile:
    """A scene that can be read.

    Args:
        name: name in messages.
        paths: the files that it is made of.
        read: reads them. Raises InputError if they are missing or damaged.
    """

    name: str
    paths: tuple[Path, ...]
    read: Callable[[], Labelled]


@dataclass(frozen=True, eq=False)
class StoredScenes(Sequence[Scene]):
    """Scenes that are read from their files once: a cache of each is mapped into memory when it is needed.

    Args:
        split: train or test, for messages.
        files: the scenes.
        folder: the folder of the caches.
        features, grid: of the voxels.
        num_classes: number of classes.
        key: what else the classes of the points depend on.
    """

    split: str
    files: tuple[SceneFile, ...]
    folder: Path
    features: Features
    grid: float
    num_classes: int
    key: str = ""
    opened: OrderedDict[int, Scene] = field(default_factory=OrderedDict, init=False, repr=False)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, place: int) -> Scene:
        if place not in self.opened:
            tensors = {name: tensor for name, tensor in self._tensors(place).items() if name != "notes"}
            self.opened[place] = Scene(**tensors, grid=self.grid, name=self.files[place].name)
            while len(self.opened) > 1 and sum(map(len, self.opened.values())) > OPEN:
                self.opened.popitem(last=False)
        self.opened.move_to_end(place)
        return self.opened[place]

    @property
    def sizes(self) -> Int[np.ndarray, " S"]:
        """The number of voxels of each scene."""
        return self._summary["sizes"].numpy()

    @property
    def counts(self) -> Int[np.ndarray, "S C"]:
        """The number of voxels of each class in each scene."""
        return self._summary["counts"].numpy()

    @property
    def point_counts(self) -> Int[np.ndarray, "S C"]:
        """The number of points in the voxels of each class in each scene."""
        return self._summary["point_counts"].numpy()

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what was found, changed or left out when the files were read."""
        total, void = self._summary["points"].sum(0).tolist()
        notes = [f"{self.split}: {void / total:.1%} of {total:,} points have no class, and are ignored"] if void else []
        found = Counter(note for scene in json.loads(bytes(self._summary["notes"].numpy())) for note in scene)
        for note, times in found.most_common(MAX_NOTES):
            notes.append(
                f"{self.split}: {note}" + (f": in {times} of {counted(len(self), 'scene')}" if times > 1 else "")
            )
        more = len(found) - MAX_NOTES
        return (*notes, f"{self.split}: {counted(more, 'other note')} on its files") if more > 0 else tuple(notes)

    @cached_property
    def _summary(self) -> Tensors:
        """Sizes, counts, points with and without a class, and notes of all scenes, so that these can stay closed."""
        names = (ascii(str(path)) for file in self.files for path in file.paths)
        path = self.folder / f"bixt3d_scenes_{short_hash(self._settings, *names)}.safetensors"
        size = len(self)
        by_class = (size, self.num_classes)
        shapes = {"sizes": (size,), "counts": by_class, "point_counts": by_class, "points": (size, 2)}

        def build(allocate: Allocate) -> None:
            notes = []
            rows = {name: torch.zeros(shape, dtype=torch.int64) for name, shape in shapes.items()}
            with tqdm(range(size), desc=f"reading {self.split}", unit="scene") as progress:
                for place in progress:
                    scene = self._tensors(place)
                    label, of_points = scene["label"], scene["point_label"]
                    rows["sizes"][place] = len(label)
                    rows["counts"][place] = torch.bincount(label[label >= 0], minlength=self.num_classes)
                    of_voxel = label[scene["inverse"].long()]
                    rows["point_counts"][place] = torch.bincount(of_voxel[of_voxel >= 0], minlength=self.num_classes)
                    rows["points"][place] = torch.tensor([len(of_points), int((of_points < 0).sum())])
                    notes.append(json.loads(bytes(scene["notes"].numpy())))
            _fill(allocate, rows | {"notes": _text(notes)})

        return cached(
            path,
            build,
            lambda found: all(found[name].shape == shape for name, shape in shapes.items()),
            stamp([path for file in self.files for path in file.paths]),
        )

    @property
    def _settings(self) -> str:
        return "\n".join((str(self.grid), str(self.features), self.key, str(MADE), __version__))

    def _tensors(self, place: int) -> Tensors:
        """Return the tensors of a scene and its notes, from its cache if its files have not changed."""
        file = self.files[place]
        name = short_hash(self._settings, *(ascii(str(path)) for path in file.paths))
        path = self.folder / "bixt3d_scenes" / name[:2] / f"{name}.safetensors"  # few files in each folder
        path.parent.mkdir(parents=True, exist_ok=True)

        def build(allocate: Allocate) -> None:
            cloud, label = file.read()
            shown = f"{self.split} scene {file.name}"
            cloud = note_columns(with_features(replace(cloud, name=shown), self.features), self.features)
            scene = make_scene(cloud.xyz, cloud.columns, label, self.features, self.grid, shown)
            _fill(allocate, scene.tensors() | {"notes": _text(cloud.notes)})

        return cached(path, build, lambda found: _fits(found, self.features.width, self.num_classes), stamp(file.paths))


def _text(content: object) -> Tensor:
    return torch.frombuffer(bytearray(json.dumps(content).encode()), dtype=torch.uint8)


def _fill(allocate: Allocate, made: Tensors) -> None:
    tensors = allocate({name: (one.dtype, tuple(one.shape)) for name, one in made.items()})
    for name, one in made.items():
        tensors[name].copy_(one)


def _fits(tensors: Tensors, width: int, num_classes: int) -> bool:
    """Return whether cached tensors are a scene."""
    size = len(tensors["xyz"])
    return (
        size > 0
        and tensors["xyz"].shape == (size, 3)
        and tensors["feats"].shape == (size, width)
        and tensors["label"].shape == tensors["floor"].shape == (size,)
        and tensors["point_label"].shape == tensors["inverse"].shape
        and tensors["notes"].dtype == torch.uint8
        and int(tensors["inverse"].min()) >= 0
        and int(tensors["inverse"].max()) < size
        and int(tensors["label"].max()) < num_classes
        and int(tensors["point_label"].max()) < num_classes
        and bool(torch.isfinite(tensors["xyz"]).all() and torch.isfinite(tensors["feats"]).all())
    )
