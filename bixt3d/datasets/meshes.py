"""ModelNet10 and ModelNet40 as meshes, sampled with PyTorch Geometric."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from tqdm import tqdm

from bixt3d.datasets.archives import missing_data
from bixt3d.datasets.cache import cache_folder, check_stored, short_hash
from bixt3d.datasets.normalize import normalize_clouds
from bixt3d.datasets.source import CloudSource, cloud_set, only_normals
from bixt3d.types import CloudSet, InputError


class ModelNetMeshes(CloudSource):
    """Princeton's meshes, read and sampled with PyTorch Geometric (needs torch-geometric); sampled once, then cached.

    Args:
        root: folder with ``ModelNet10`` or ``ModelNet40``, as unpacked or as PyTorch Geometric keeps it (``raw``).
        name: 10 or 40 classes.
        num_points: points of each cloud that the model sees.
        features: ``normal`` gives the normals of the faces to the model.
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
        features: str = "",
        val_fraction: float = 0.0,
        seed: int = 0,
        stored_points: int = 2048,
    ):
        super().__init__(num_points, features, val_fraction)
        self.root, self.name, self.seed, self.stored_points = root, name, seed, stored_points

    def load(self) -> tuple[CloudSet, CloudSet]:
        """Return the training and the test set, in the order of the classes' and files' names."""
        check_stored(self.num_points, self.stored_points)
        folder = Path(self.root).expanduser() / f"ModelNet{self.name}"
        raw = folder / "raw" if (folder / "raw").is_dir() else folder
        names = sorted(path.parent.name for path in raw.glob("*/train"))
        if not names:
            raise missing_data(folder, "*/train/*.off", f"modelnet{self.name}_meshes")
        dataset = sampled_modelnet(raw, cache_folder(folder), self.name, self.stored_points, self.seed)
        return self._stack(list(dataset(train=True)), names), self._stack(list(dataset(train=False)), names)

    def _stack(self, graphs: list, names: list[str]) -> CloudSet:
        kept = ("pos", "normal") if only_normals(self.features, self.root) else ("pos",)
        points = torch.cat([torch.stack([graph[key] for graph in graphs]) for key in kept], dim=2)
        return cloud_set(points, torch.cat([graph.y for graph in graphs]), names, self.features)


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
    key = short_hash(*[path.relative_to(raw).as_posix() for paths in files.values() for path in paths])
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
