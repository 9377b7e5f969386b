"""ModelNet10 and ModelNet40 in the three forms people have them in: HDF5 files, text files with normals, meshes."""

import hashlib
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from bixt3d.datasets.download import how_to_get
from bixt3d.datasets.source import CloudSource
from bixt3d.types import CloudSet, InputError


def normalize_clouds(xyz: Float[Tensor, "S N 3"], origin: str = "these clouds") -> Float[Tensor, "S N 3"]:
    """Centre every cloud on the mean of its points and scale it until its farthest point is at distance 1.

    ``origin`` says in errors where the clouds come from. Raises InputError for a cloud with a coordinate that is not
    finite, or with all its points in one place.
    """
    _check_each(torch.isfinite(xyz).flatten(1).all(dim=1), origin, "has coordinates that are not finite numbers")
    _check_each((xyz != xyz[:, :1]).flatten(1).any(dim=1), origin, "has all its points in one place")
    centred = xyz.double() - xyz.double().mean(dim=1, keepdim=True)
    return (centred / centred.norm(dim=2, keepdim=True).amax(dim=1, keepdim=True)).to(xyz.dtype)


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
        return _cloud_set(points, label, names)


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
        _check_stored(self.num_points, self.stored_points)
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
        key = _key(*listed, str(self.stored_points))
        cache = _cache_folder(root) / f"bixt3d_{self.subset}_{split}_{key}.npz"
        points = torch.from_numpy(_cached(cache, lambda: _read_texts(paths, self.stored_points)))
        label = torch.tensor([names.index(name) for name in classes])
        return _cloud_set(points if self.normals else points[..., :3], label, names)


class ModelNetMeshes(CloudSource):
    """Princeton's meshes, read and sampled with PyTorch Geometric (needs torch-geometric); sampled once, then cached.

    Args:
        root: folder with ``ModelNet10`` or ``ModelNet40``, as unpacked or as PyTorch Geometric keeps it (``raw``).
        name: 10 or 40 classes.
        num_points: points of each cloud that the model sees.
        normals: give the normals of the faces to the model as features of the points.
        val_fraction: share of the training clouds of each class set aside to select on (0: none).
        seed: which random points of the surfaces.
        stored_points: points sampled and kept for each mesh.
    """

    up = "z"

    def __init__(
        self,
        root: str = "data/ModelNet",
        name: Literal["10", "40"] = "10",
        num_points: int = 1024,
        normals: bool = False,
        val_fraction: float = 0.0,
        seed: int = 0,
        stored_points: int = 2048,
    ):
        super().__init__(num_points, normals, val_fraction)
        self.root, self.name, self.seed, self.stored_points = root, name, seed, stored_points

    def load(self) -> tuple[CloudSet, CloudSet]:
        """Return the training and the test set, in the order of the classes' and files' names."""
        _check_stored(self.num_points, self.stored_points)
        folder = Path(self.root).expanduser() / f"ModelNet{self.name}"
        raw = folder / "raw" if (folder / "raw").is_dir() else folder
        names = sorted(path.parent.name for path in raw.glob("*/train"))
        if not names:
            raise _missing(folder, "*/train/*.off", f"modelnet{self.name}_meshes")
        dataset = sampled_modelnet(raw, _cache_folder(folder), self.name, self.stored_points, self.seed)
        return self._stack(list(dataset(train=True)), names), self._stack(list(dataset(train=False)), names)

    def _stack(self, graphs: list, names: list[str]) -> CloudSet:
        kept = ("pos", "normal") if self.normals else ("pos",)
        points = torch.cat([torch.stack([graph[key] for graph in graphs]) for key in kept], dim=2)
        return _cloud_set(points, torch.cat([graph.y for graph in graphs]), names)


def sampled_modelnet(raw: Path, cache: Path, name: str, num_points: int, seed: int) -> Callable:
    """Return PyTorch Geometric's ``ModelNet``, to be called with ``train``, made repeatable and never downloading.

    Its own reads files in the disk's order, holds all meshes of a split in memory at once and leaves a broken cache
    when stopped half-way.
    """
    from torch_geometric.datasets import ModelNet
    from torch_geometric.transforms import SamplePoints

    files = {split: sorted(raw.glob(f"*/{split}/*.off")) for split in ("train", "test")}
    for split, paths in files.items():
        if not paths:
            raise InputError(f"{raw} has no meshes in */{split}/*.off")
    key = _key(*[path.relative_to(raw).as_posix() for paths in files.values() for path in paths])
    names = sorted(path.parent.name for path in raw.glob("*/train"))

    class SampledModelNet(ModelNet):
        raw_dir = str(raw)
        processed_dir = str(cache / f"processed_{num_points}_points_seed_{seed}_{key}")
        raw_file_names = names

        def process(self) -> None:
            for split, path in zip(("train", "test"), self.processed_paths, strict=True):
                partial = f"{path}.{os.getpid()}.part"
                self.save(self.process_set(split), partial)
                os.replace(partial, path)

        def process_set(self, dataset: str) -> list:
            progress = tqdm(files[dataset], desc=f"sampling {dataset} meshes")
            with torch.random.fork_rng(devices=[]), progress:  # SamplePoints draws from the global CPU generator
                torch.random.default_generator.manual_seed(seed)
                return [self._sample(path) for path in progress]

        def _sample(self, path: Path) -> Any:
            try:
                graph = self.pre_transform(_read_mesh(path))
            except (ValueError, IndexError, RuntimeError, AssertionError) as error:
                raise InputError(f"{path} is not a mesh that can be sampled: {error}") from error
            graph.pos = normalize_clouds(graph.pos.unsqueeze(0), str(path)).squeeze(0)
            graph.y = torch.tensor([names.index(path.parent.parent.name)])
            return graph

    sample = SamplePoints(num_points, include_normals=True)
    return lambda train: SampledModelNet(str(cache), name, train=train, pre_transform=sample)


def _read_mesh(path: Path) -> Any:
    from torch_geometric.io.off import parse_off

    lines = [line.strip() for line in path.read_text().splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines or not lines[0].startswith("OFF"):
        raise ValueError("it does not begin with OFF")
    if lines[0] != "OFF":  # "OFF6586 5534 0" on one line
        lines[:1] = ["OFF", lines[0][3:]]
    num_vertices, num_faces = (int(count) for count in lines[1].split()[:2])
    if len(lines) < 2 + num_vertices + num_faces:
        raise ValueError(f"it ends before its {num_vertices} vertices and {num_faces} faces")
    return parse_off(lines)


def _cloud_set(points: Float[Tensor, "S N P"], label: Int[Tensor, " S"], names: Sequence[str]) -> CloudSet:
    return CloudSet(points[..., :3].contiguous(), points[..., 3:].contiguous(), label, tuple(names))


def _read_hdf5(path: Path, num_classes: int, normals: bool) -> tuple[Float[Tensor, "S N P"], Int[Tensor, " S"]]:
    arrays = _read_arrays(path, ("data", "label", "normal") if normals else ("data", "label"))
    data, label = arrays["data"], arrays["label"].reshape(-1)
    if data.ndim != 3 or data.shape[2] != 3 or 0 in data.shape or data.dtype.kind != "f":
        raise InputError(f"{path} must hold data of shape (clouds, points, 3) as floats, not {data.dtype} {data.shape}")
    if len(label) != len(data) or label.dtype.kind not in "iu":
        raise InputError(f"{path} must hold one integer label for each of its {len(data)} clouds")
    label = torch.from_numpy(label.astype(np.int64))
    known_mask = (label >= 0) & (label < num_classes)
    _check_each(known_mask, str(path), f"has a label outside the {num_classes} classes of shape_names.txt")
    xyz = normalize_clouds(torch.from_numpy(data.astype(np.float32)), str(path))
    if not normals:
        return xyz, label
    if arrays["normal"].shape != data.shape:
        raise InputError(f"{path} has data of shape {data.shape}, but normal of shape {arrays['normal'].shape}")
    normal = torch.from_numpy(arrays["normal"].astype(np.float32))
    _check_each(torch.isfinite(normal).flatten(1).all(dim=1), str(path), "has normals that are not finite numbers")
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


def _cached(path: Path, build: Callable[[], Float[np.ndarray, "S N P"]]) -> Float[np.ndarray, "S N P"]:
    try:
        with path.open("rb") as raw, np.load(raw) as file:
            return file["points"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        points = build()
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            np.savez(file, points=points)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(f"cannot write the cache {path} ({error.strerror}): make room for it") from error
    return points


def _cache_folder(root: Path) -> Path:
    """Return ``root`` if one may write there, else a folder of the user's for it."""
    if os.access(root, os.W_OK):
        return root
    home = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "bixt3d"
    folder = home / f"{root.name}_{_key(str(root.resolve()))}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _key(*words: str) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:12]


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise InputError(f"{path} is missing")
    lines = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    if not lines:
        raise InputError(f"{path} is empty")
    return lines


def _check_each(good_mask: Tensor, origin: str, fault: str) -> None:
    if not good_mask.all():
        raise InputError(f"cloud {int((~good_mask).nonzero()[0])} of {origin} {fault}")


def _check_stored(num_points: int, stored_points: int) -> None:
    if num_points > stored_points:
        raise InputError(
            f"asked for {num_points} points, but {stored_points} are stored of each cloud; "
            f"set --data.stored_points to at least {num_points}"
        )


def _check_present(root: Path, file: str, archive: str) -> None:
    if not (root / file).is_file():
        raise _missing(root, file, archive)


def _missing(folder: Path, holds: str, archive: str) -> InputError:
    return InputError(
        f"{folder / holds} is missing: {how_to_get(archive, folder)}; cfgs/shapes_cls.yaml trains without any data set"
    )
