"""Base class of data sets of scenes that lie in files, and what their layouts share."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, Shaped

from bixt3d.datasets.clouds.cache import cache_folder
from bixt3d.datasets.files.cloud import Cloud, standard_cloud
from bixt3d.datasets.files.numpy_files import load_arrays
from bixt3d.datasets.scenes.crops import CropSize, SceneSet, Shape
from bixt3d.datasets.scenes.source import SceneSource
from bixt3d.datasets.scenes.stored import Labelled, SceneFile, StoredScenes
from bixt3d.io.bounds import check_names, listed, printable
from bixt3d.types import VOID, InputError


@dataclass(frozen=True)
class SceneList:
    """The scenes of a folder.

    Args:
        root: the folder.
        class_names: names of the classes.
        train, test: the scenes.
        notes: what was found or left out.
        codes: LAS classification of each class, if the labels are such.
        key: what the classes of the points depend on, besides the files.
    """

    root: Path
    class_names: tuple[str, ...]
    train: Sequence[SceneFile]
    test: Sequence[SceneFile]
    notes: tuple[str, ...] = ()
    codes: tuple[int, ...] | None = None
    key: str = ""


class SceneFiles(SceneSource):
    """Base class of data sets of scenes in files: derive from it and define `find`.

    A scene is read once. Its voxels are cached beside the data (``bixt3d_scenes``) and mapped into memory when they are
    needed, so a set may be larger than the memory.

    Args:
        root: the folder.
        grid, num_points, crops, shape, balance, features: see `SceneSource`.
    """

    def __init__(  # noqa: PLR0913 (one argument for each line of a config)
        self,
        root: str,
        grid: float = 0.05,
        num_points: CropSize = 4096,
        crops: int = 1000,
        shape: Shape = "sphere",
        balance: float = 0.0,
        features: str = "",
    ):
        super().__init__(grid, num_points, crops, shape, balance, features)
        self.root = root

    @abstractmethod
    def find(self, root: Path) -> SceneList:
        """Return the scenes of a folder. Raises InputError if there are none."""

    def load(self) -> tuple[SceneSet, SceneSet]:
        """Return the training and the test set."""
        found = self.find(Path(self.root).expanduser())
        check_names(found.class_names, found.root)
        folder, number, sets = cache_folder(found.root), len(found.class_names), []
        for split, files in (("train", found.train), ("test", found.test)):
            sets.append(StoredScenes(split, tuple(files), folder, self.features, self.grid, number, found.key))
            if not sets[-1].counts.sum():
                raise InputError(f"no point of the {split} scenes of {printable(found.root)} has one of the classes")
        number_of = zip(found.class_names, sets[0].counts.sum(0), strict=True)
        missing = [name for name, voxels in number_of if not voxels]
        untrained = (f"train: no voxels to learn the classes from: {listed(missing)}",) if missing else ()
        notes = (*found.notes, *sets[0].notes, *sets[1].notes, *untrained)
        train, test = (self.as_set(scenes, found.class_names, notes, found.codes) for scenes in sets)
        return train, test


def labelled(
    xyz: Shaped[np.ndarray, "N 3"],
    columns: Mapping[str, Shaped[np.ndarray, "N _"]],
    label: Int[np.ndarray, " N"],
    name: str,
    notes: Sequence[str] = (),
) -> Labelled:
    """Return a cloud and the class of each of its points, without points that have no position."""
    cloud = standard_cloud(Cloud(xyz, columns, printable(name), up="z", notes=tuple(notes)))
    return cloud, label if cloud.kept is None else label[cloud.kept]


def read_arrays(folder: Path, label: str, num_classes: int, name: str) -> Labelled:
    """Read a scene as Pointcept stores it: ``coord.npy``, ``color.npy``, ``normal.npy``, and classes, -1 for none.

    Raises InputError if an array is missing, of another size or damaged, or for a label that is no class.
    """
    arrays = {}
    for column, file in (("xyz", "coord"), ("rgb", "color"), ("normal", "normal"), ("label", label)):
        path = folder / f"{file}.npy"
        if path.is_file() or column in ("xyz", "label"):
            array = _load_array(path)
            arrays[column] = array[:, None] if array.ndim == 1 else array
            if len(array) != len(arrays["xyz"]) or arrays[column].shape[1:] != ((1 if column == "label" else 3),):
                raise InputError(
                    f"{printable(path)} has the shape {array.shape}, which does not fit {len(arrays['xyz'])} points"
                )
    return labelled(
        arrays.pop("xyz"),
        arrays,
        class_labels(arrays.pop("label")[:, 0], {VOID: VOID} | {k: k for k in range(num_classes)}, str(folder)),
        name,
    )


def _load_array(path: Path) -> Shaped[np.ndarray, "..."]:
    try:
        return load_arrays(path)["arr_0"]
    except InputError as error:
        shown = printable(path)
        raise InputError(str(error) if str(error).startswith(shown) else f"{shown} {error}") from error


def class_labels(values: Shaped[np.ndarray, " N"], class_of: Mapping[int, int], where: str) -> Int[np.ndarray, " N"]:
    """Return the class of each label, by a table. Raises InputError for labels that are not in it."""
    words, inverse = np.unique(values, return_inverse=True)
    unknown = [one for one in words.tolist() if one not in class_of]
    if unknown:
        raise InputError(f"{printable(where)} has labels that are none of this data set: {listed(unknown)}")
    return np.array([class_of[one] for one in words.tolist()], np.int64)[inverse.reshape(-1)]


def folders_of(root: Path) -> list[Path]:
    """Return the folders in a folder, without hidden ones and caches, by name; none if it is missing."""
    found = root.iterdir() if root.is_dir() else ()
    return sorted(one for one in found if one.is_dir() and not one.name.startswith((".", "bixt3d_")))
