"""ModelNet10 and ModelNet40 as people have them without their meshes: HDF5 files, or text files with normals."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from bixt3d.datasets.archives import missing_data
from bixt3d.datasets.cache import cache_folder, cached, check_stored, short_hash
from bixt3d.datasets.normalize import check_each, normalize_clouds
from bixt3d.datasets.source import CloudSource, cloud_set
from bixt3d.types import CloudSet, InputError


class ModelNetHDF5(CloudSource):
    """A folder laid out like ``modelnet40_ply_hdf5_2048``: ModelNet40, ModelNet10 or clouds of your own.

    Args:
        root: folder with ``shape_names.txt``, ``train_files.txt``, ``test_files.txt`` and the HDF5 files they name.
        num_points: points of each cloud that the model sees.
        normals: give the surface normals (``normal`` in the files) to the model as features of the points.
        val_fraction: share of the training clouds of each class set aside to select on (0: none).
        up: the axis that points up (y in modelnet40_ply_hdf5_2048).
    """

    def __init__(
        self,
        root: str = "data/modelnet40_ply_hdf5_2048",
        num_points: int = 1024,
        normals: bool = False,
        val_fraction: float = 0.0,
        up: Literal["y", "z"] = "y",
    ):
        super().__init__(num_points, normals, val_fraction)
        self.root, self.up = root, up

    def load(self) -> tuple[CloudSet, CloudSet]:
        """Return the training and the test set, in the order of the files."""
        root = Path(self.root).expanduser()
        _check_present(root, "train_files.txt", "modelnet40")
        names = _lines(root / "shape_names.txt")
        return self._read(root, "train", names), self._read(root, "test", names)

    def _read(self, root: Path, split: str, names: list[str]) -> CloudSet:
        # the lists give the paths on their author's disk
        paths = [root / PurePosixPath(line).name for line in _lines(root / f"{split}_files.txt")]
        pieces = []
        for path in paths:
            data, label = _read_hdf5(path, len(names), self.normals)
            if data.shape[1] < self.num_points:
                raise InputError(
                    f"asked for {self.num_points} points, but the clouds of {path} have {data.shape[1]}; "
                    f"set --data.num_points to at most {data.shape[1]}"
                )
            if pieces and data.shape[1] != pieces[0][0].shape[1]:
                others = pieces[0][0].shape[1]
                raise InputError(
                    f"the clouds of {path} have {data.shape[1]} points, but those of {paths[0]} have {others}"
                )
            pieces.append((data, label))
        points, label = (torch.cat(column) for column in zip(*pieces, strict=True))
        return cloud_set(points, label, names)


class ModelNetNormals(CloudSource):
    """The text files of ``modelnet40_normal_resampled``; read once, then kept in a cache beside them.

    Args:
        root: folder with the lists (``modelnet40_train.txt``, ...) and a folder of text files for each class.
        num_points: points of each cloud that the model sees.
        normals: give the surface normals to the model as features of the points.
        val_fraction: share of the training clouds of each class set aside to select on (0: none).
        stored_points: points kept of the 10000 in each file; a random choice, always the same.
        subset: which lists to read.
    """

    def __init__(
        self,
        root: str = "data/modelnet40_normal_resampled",
        num_points: int = 1024,
        normals: bool = True,
        val_fraction: float = 0.0,
        stored_points: int = 2048,
        subset: Literal["modelnet40", "modelnet10"] = "modelnet40",
    ):
        super().__init__(num_points, normals, val_fraction)
        self.root, self.stored_points, self.subset = root, stored_points, subset

    def load(self) -> tuple[CloudSet, CloudSet]:
        """Return the training and the test set, in the order of the lists."""
        root = Path(self.root).expanduser()
        check_stored(self.num_points, self.stored_points)
        _check_present(root, f"{self.subset}_train.txt", "modelnet40_normals")
        names = _lines(root / f"{self.subset}_shape_names.txt")
        return self._read(root, "train", names), self._read(root, "test", names)

    def _read(self, root: Path, split: str, names: list[str]) -> CloudSet:
        listed = _lines(root / f"{self.subset}_{split}.txt")
        classes = [cloud.rpartition("_")[0] for cloud in listed]
        for cloud, name in zip(listed, classes, strict=True):
            if name not in names:
                raise InputError(f"{root}/{self.subset}_{split}.txt lists {cloud}, but {name!r} is not a class name")
        paths = [root / name / f"{cloud}.txt" for name, cloud in zip(classes, listed, strict=True)]
        key = short_hash(*listed, str(self.stored_points))
        cache = cache_folder(root) / f"bixt3d_{self.subset}_{split}_{key}.npz"
        points = torch.from_numpy(cached(cache, lambda: _read_texts(paths, self.stored_points)))
        label = torch.tensor([names.index(name) for name in classes])
        return cloud_set(points if self.normals else points[..., :3], label, names)


def _read_hdf5(path: Path, num_classes: int, normals: bool) -> tuple[Float[Tensor, "S N P"], Int[Tensor, " S"]]:
    arrays = _read_arrays(path, ("data", "label", "normal") if normals else ("data", "label"))
    data, label = arrays["data"], arrays["label"].reshape(-1)
    if data.ndim != 3 or data.shape[2] != 3 or 0 in data.shape or data.dtype.kind != "f":
        raise InputError(f"{path} must hold data of shape (clouds, points, 3) as floats, not {data.dtype} {data.shape}")
    if len(label) != len(data) or label.dtype.kind not in "iu":
        raise InputError(f"{path} must hold one integer label for each of its {len(data)} clouds")
    label = torch.from_numpy(label.astype(np.int64))
    known_mask = (label >= 0) & (label < num_classes)
    check_each(known_mask, str(path), f"has a label outside the {num_classes} classes of shape_names.txt")
    xyz = normalize_clouds(torch.from_numpy(data.astype(np.float32)), str(path))
    if not normals:
        return xyz, label
    if arrays["normal"].shape != data.shape:
        raise InputError(f"{path} has data of shape {data.shape}, but normal of shape {arrays['normal'].shape}")
    normal = torch.from_numpy(arrays["normal"].astype(np.float32))
    check_each(torch.isfinite(normal).flatten(1).all(dim=1), str(path), "has normals that are not finite numbers")
    return torch.cat([xyz, normal], dim=2), label


def _read_arrays(path: Path, wanted: Sequence[str]) -> dict[str, np.ndarray]:
    import h5py

    if not path.is_file():
        raise InputError(f"{path} is missing, though the list of files names it")
    try:
        with h5py.File(path, "r") as file:
            held = sorted(name for name in file if isinstance(file[name], h5py.Dataset))
            arrays = {name: file[name][()] for name in wanted if name in held}
    except OSError as error:
        raise InputError(f"{path} cannot be read as HDF5 ({error}): fetch or write it again") from error
    for name in wanted:
        if name not in arrays:
            advice = "; set --data.normals false to do without" if name == "normal" else ""
            raise InputError(f"{path} has no dataset {name!r} (it has {', '.join(held) or 'none'}){advice}")
    return arrays


def _read_texts(paths: Sequence[Path], num_points: int) -> Float[np.ndarray, "S N 6"]:
    with tqdm(paths, desc=f"reading {paths[0].parents[1]}") as progress:
        return np.stack([_read_text(path, num_points) for path in progress])


def _read_text(path: Path, num_points: int) -> Float[np.ndarray, "N 6"]:
    if not path.is_file():
        raise InputError(f"{path} is missing, though its list names it")
    lines = [line for line in path.read_text().splitlines() if line.strip()]
    if len(lines) < num_points:
        raise InputError(
            f"asked for {num_points} stored points, but {path} has {len(lines)}; "
            f"set --data.stored_points to at most {len(lines)}"
        )
    # nobody promises that the first lines are spread over the surface
    chosen = np.random.default_rng(0).permutation(len(lines))[:num_points]
    try:
        points = np.loadtxt([lines[line] for line in chosen], dtype=np.float32, delimiter=",", ndmin=2)
    except ValueError as error:
        raise InputError(f"{path} must hold lines of x,y,z,nx,ny,nz: {error}") from error
    if points.shape[1] != 6 or not np.isfinite(points).all():
        raise InputError(f"{path} must hold lines of six finite numbers x,y,z,nx,ny,nz")
    points[:, :3] = normalize_clouds(torch.from_numpy(points[None, :, :3]), str(path))[0].numpy()
    return points


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise InputError(f"{path} is missing")
    lines = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    if not lines:
        raise InputError(f"{path} is empty")
    return lines


def _check_present(root: Path, file: str, archive: str) -> None:
    if not (root / file).is_file():
        raise missing_data(root, file, archive)
