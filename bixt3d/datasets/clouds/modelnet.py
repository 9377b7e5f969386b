"""ModelNet10 and ModelNet40 as point clouds: HDF5 files, or text files with normals."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from tqdm import tqdm

from bixt3d.datasets.clouds.cache import (
    cache_folder,
    cached_clouds,
    check_stored,
    fit_layout,
    shared,
    short_hash,
    stamp,
)
from bixt3d.datasets.clouds.reading import (
    cache_of_files,
    clouds_layout,
    coarse_positions,
    fill_clouds,
    largest_colors,
    read_file_list,
    read_lines,
    say_missing,
)
from bixt3d.datasets.clouds.source import CloudSource, only_normals
from bixt3d.datasets.download.archives import missing_data
from bixt3d.datasets.transforms.normalize import normalize_clouds
from bixt3d.io.bounds import printable, read_plain, shortened
from bixt3d.types import CloudSet, InputError

SPLITS = ("train", "test")


class ModelNetHDF5(CloudSource):
    """HDF5 files in the layout of ``modelnet40_ply_hdf5_2048``: ModelNet40, ModelNet10 or your own clouds.

    ``data/README.md`` describes the layout.

    Args:
        root: folder with ``shape_names.txt``, ``train_files.txt``, ``test_files.txt`` and the HDF5 files they name.
        num_points: points of each cloud that the model sees.
        features: HDF5 datasets that the model reads besides positions, such as ``normal,rgb``.
        val_fraction: share of the training clouds of each class split off for validation (0: none).
        up: the axis that points up (y in modelnet40_ply_hdf5_2048).
    """

    def __init__(
        self,
        root: str = "data/modelnet40_ply_hdf5_2048",
        num_points: int = 1024,
        features: str = "",
        val_fraction: float = 0.0,
        up: Literal["y", "z"] = "y",
    ):
        super().__init__(num_points, features, val_fraction)
        self.root, self.up = root, up

    def load(self) -> tuple[CloudSet, CloudSet]:
        """Return the training and the test set, in the order of the files."""
        root = Path(self.root).expanduser()
        _check_present(root, "train_files.txt", "modelnet40")
        names = read_lines(root / "shape_names.txt")
        paths = [read_file_list(root / f"{split}_files.txt") for split in SPLITS]
        most, notes = largest_colors([*paths[0], *paths[1]], self.features)
        train, test = (self._read(root, split, some, names, most) for split, some in zip(SPLITS, paths, strict=True))
        return replace(train, notes=(*notes, *train.notes)), replace(test, notes=(*notes, *test.notes))

    def _read(
        self, root: Path, split: str, paths: Sequence[Path], names: list[str], most: Mapping[str, float]
    ) -> CloudSet:
        layout = clouds_layout(paths, self.num_points, self.features)
        fill = partial(fill_clouds, paths, self.features, (len(names), "shape_names.txt"), most)
        source = stamp(paths, str(len(names)), str(most))
        found, notes = shared(
            partial(cache_of_files, root, split, paths, self.features),
            layout,
            fill,
            partial(fit_layout, layout, {"label": range(len(names))}),
            source,
        )
        say_missing(paths, found["missing"])
        sizes = (found["xyz"], found["feats"], found["label"], tuple(names))
        return CloudSet(*sizes, features=self.features, notes=(*notes, *coarse_positions(paths)))


class ModelNetNormals(CloudSource):
    """The text files of ``modelnet40_normal_resampled``, read once and then cached.

    Args:
        root: folder with the lists (``modelnet40_train.txt``, ...) and a folder of text files for each class.
        num_points: points of each cloud that the model sees.
        features: ``normal``: the model reads the surface normals too.
        val_fraction: share of the training clouds of each class split off for validation (0: none).
        stored_points: points cached of the 10000 in each file: a random subset, always the same.
        subset: which lists to read.
    """

    def __init__(
        self,
        root: str = "data/modelnet40_normal_resampled",
        num_points: int = 1024,
        features: str = "",
        val_fraction: float = 0.0,
        stored_points: int = 2048,
        subset: Literal["modelnet40", "modelnet10"] = "modelnet40",
    ):
        super().__init__(num_points, features, val_fraction)
        self.root, self.stored_points, self.subset = root, stored_points, subset

    def load(self) -> tuple[CloudSet, CloudSet]:
        """Return the training and the test set, in the order of the lists."""
        root = Path(self.root).expanduser()
        check_stored(self.num_points, self.stored_points)
        only_normals(self.features, self.root)
        _check_present(root, f"{self.subset}_train.txt", "modelnet40_normals")
        names = read_lines(root / f"{self.subset}_shape_names.txt")
        return self._read(root, "train", names), self._read(root, "test", names)

    def _read(self, root: Path, split: str, names: list[str]) -> CloudSet:
        listed = read_lines(root / f"{self.subset}_{split}.txt")
        if wrong := next((name for name in (*names, *listed) if "/" in name or "\\" in name), None):
            raise InputError(f"{root}/{self.subset}_{split}.txt names {wrong!r}: a class or cloud has no slash in it")
        classes = [cloud.rpartition("_")[0] for cloud in listed]
        for cloud, name in zip(listed, classes, strict=True):
            if name not in names:
                where = f"{root}/{self.subset}_{split}.txt"
                raise InputError(f"{where} lists {shortened(cloud)}, but {shortened(name)!r} is not a class name")
        paths = [root / name / f"{cloud}.txt" for name, cloud in zip(classes, listed, strict=True)]
        key = short_hash(*listed, str(self.stored_points))
        cache = cache_folder(root) / f"bixt3d_{self.subset}_{split}_{key}.safetensors"
        shape = (len(paths), self.stored_points)
        clouds = partial(_read_texts, paths, self.stored_points)
        xyz, normal = cached_clouds(cache, clouds, shape, stamp(paths))
        label = torch.tensor([names.index(name) for name in classes])
        return CloudSet(xyz, normal[..., : self.features.width], label, tuple(names), features=self.features)


def _read_texts(paths: Sequence[Path], num_points: int) -> Iterator[Float[np.ndarray, "N 6"]]:
    with tqdm(paths, desc=f"reading {paths[0].parents[1]}") as progress:
        for path in progress:
            yield _read_text(path, num_points)


def _read_text(path: Path, num_points: int) -> Float[np.ndarray, "N 6"]:
    lines = [line for line in read_plain(path).decode(errors="replace").splitlines() if line.strip()]
    if len(lines) < num_points:
        raise InputError(
            f"asked for {num_points} stored points, but {path} has {len(lines)}; "
            f"set --data.stored_points to at most {len(lines)}"
        )
    # a random subset: the first lines may not cover the surface evenly
    chosen = np.random.default_rng(0).permutation(len(lines))[:num_points]
    try:
        points = np.loadtxt([lines[line] for line in chosen], delimiter=",", ndmin=2)
    except ValueError as error:
        raise InputError(f"{path} must contain lines of x,y,z,nx,ny,nz: {printable(error)}") from error
    if points.shape[1] != 6 or not np.isfinite(points).all() or np.abs(points[:, 3:]).max() > 1e18:
        raise InputError(f"{path} must contain lines of six finite numbers x,y,z,nx,ny,nz")
    points[:, :3] = normalize_clouds(torch.from_numpy(points[None, :, :3]), str(path))[0].numpy()
    return points.astype(np.float32)


def _check_present(root: Path, file: str, archive: str) -> None:
    if not (root / file).is_file():
        raise missing_data(root, file, archive)
