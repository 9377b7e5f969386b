"""ModelNet10 and ModelNet40 as meshes, sampled by PyTorch Geometric."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from tqdm import tqdm

from bixt3d.datasets.clouds.cache import cache_folder, cached_clouds, check_stored, short_hash, stamp
from bixt3d.datasets.clouds.source import CloudSource, only_normals
from bixt3d.datasets.download.archives import missing_data
from bixt3d.datasets.files.off import read_off
from bixt3d.datasets.transforms.normalize import normalize_clouds
from bixt3d.io.bounds import check_names, listed, printable, shortened
from bixt3d.io.extras import need
from bixt3d.types import CloudSet, InputError


class ModelNetMeshes(CloudSource):
    """ModelNet from its meshes (.off), sampled by PyTorch Geometric (needs torch-geometric) once and then cached.

    Args:
        root: folder with ``ModelNet10`` or ``ModelNet40``, as unpacked or as PyTorch Geometric keeps it (``raw``).
        name: number of classes.
        num_points: points of each cloud that the model sees.
        features: ``normal``: the model reads the normals of the faces too.
        val_fraction: share of the training clouds of each class split off for validation (0: none).
        seed: seed of the sampling of the surfaces.
        stored_points: points sampled and cached for each mesh.
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
        """Return the training and the test set, in the order of the names of classes and files."""
        check_stored(self.num_points, self.stored_points)
        folder = Path(self.root).expanduser() / f"ModelNet{self.name}"
        raw = folder / "raw" if (folder / "raw").is_dir() else folder
        names = sorted(path.parent.name for path in raw.glob("*/train"))
        if not names:
            raise missing_data(folder, "*/train/*.off", f"modelnet{self.name}_meshes")
        check_names(names, raw)
        files = {split: sorted(raw.glob(f"*/{split}/*.[oO][fF][fF]")) for split in ("train", "test")}
        for split, paths in files.items():
            if not paths:
                raise InputError(f"{raw} has no meshes in */{split}/*.off")
            if unknown := {path.parent.parent.name for path in paths} - set(names):
                raise InputError(f"{raw} has meshes of {listed(unknown)} to test on, but none to train on")
        train, test = (self._sampled(split, paths, raw, names) for split, paths in files.items())
        return train, test

    def _sampled(self, split: str, paths: Sequence[Path], raw: Path, names: list[str]) -> CloudSet:
        only_normals(self.features, self.root)
        words = [path.relative_to(raw).as_posix() for path in paths] + [str(self.stored_points), str(self.seed)]
        folder = raw.parent if raw.name == "raw" else raw
        cache = cache_folder(folder) / f"bixt3d_modelnet{self.name}_meshes_{split}_{short_hash(*words)}.safetensors"
        shape = (len(paths), self.stored_points)
        clouds = partial(sample_meshes, paths, self.stored_points, self.seed)
        xyz, normal = cached_clouds(cache, clouds, shape, stamp(paths))
        label = torch.tensor([names.index(path.parent.parent.name) for path in paths])
        return CloudSet(xyz, normal[..., : self.features.width], label, tuple(names), features=self.features)


def sample_meshes(paths: Sequence[Path], num_points: int, seed: int) -> Iterator[Float[np.ndarray, "N 6"]]:
    """Yield points, with the normals of their faces, of every mesh, sampled by PyTorch Geometric's `SamplePoints`.

    Each cloud is normalized to the unit sphere. Raises InputError for a file that is not a mesh.
    """
    need("sampling meshes of ModelNet", "torch_geometric")
    from torch_geometric.data import Data
    from torch_geometric.transforms import SamplePoints

    sample = SamplePoints(num_points, include_normals=True)
    with torch.random.fork_rng(devices=[]), tqdm(paths, desc="sampling meshes") as progress:
        torch.random.default_generator.manual_seed(seed)  # SamplePoints draws from the global CPU generator
        for path in progress:
            try:
                mesh = read_off(path)
                face = torch.from_numpy(mesh.corner_index).t().contiguous()
                graph = sample(Data(pos=torch.from_numpy(mesh.vertices), face=face))
            except (ValueError, IndexError, RuntimeError) as error:
                fault = shortened(printable(error))
                raise InputError(f"{path} is not a mesh that can be sampled: {fault}") from error
            xyz = normalize_clouds(graph.pos.unsqueeze(0), str(path)).squeeze(0)
            yield torch.cat([xyz, graph.normal], 1).float().numpy()
