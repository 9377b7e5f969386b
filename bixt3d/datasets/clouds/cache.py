"""Caches of clouds that are slow to read or to sample: .safetensors files, mapped into memory."""

import hashlib
import os
import sys
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from bixt3d.datasets.files.feature_columns import unit_normals
from bixt3d.io.bounds import open_plain
from bixt3d.io.writing import remove_leftovers, write_whole
from bixt3d.types import InputError

LONGEST_HEADER = 10_000
"""Bytes of the header of a cache: it names a few tensors."""

Tensors = Mapping[str, Tensor]


def cached(path: Path, build: Callable[[], Tensors], fits: Callable[[Tensors], bool]) -> Tensors:
    """Return the tensors of a .safetensors file; if it is missing, damaged or does not fit, write it first.

    They are memory-mapped, copy on write: all processes of a machine share one copy, and see none of each other's
    changes.

    Args:
        path: the file.
        build: returns the tensors to write.
        fits: returns whether the tensors of an existing file are the right ones.
    """
    try:
        tensors = _mapped(path)
        if fits(tensors):
            return tensors
    except (InputError, KeyError):  # damaged, or of another program
        pass
    if (old := path.with_suffix(".npz")).is_file():
        tqdm.write(f"{old} is a cache of an earlier version, which is no longer read: delete it", file=sys.stderr)
    remove_leftovers(path.parent, path.name)
    _store(path, build())
    return _mapped(path)


def cached_clouds(
    path: Path, build: Callable[[], Float[np.ndarray, "S N 6"]], shape: tuple[int, int]
) -> tuple[Float[Tensor, "S N 3"], Float[Tensor, "S N 3"]]:
    """Return positions and unit normals of clouds, whose points ``build`` returns; see `cached`."""

    def split() -> Tensors:
        points = build()
        normal = torch.empty(len(points), points.shape[1], 3)
        for place, cloud in enumerate(points):  # one by one: a set may take half of the memory
            normal[place] = torch.from_numpy(unit_normals(cloud[:, 3:]))
        return {"xyz": torch.from_numpy(points[..., :3]), "normal": normal}

    clouds = cached(path, split, lambda tensors: are_clouds(tensors, shape))
    return clouds["xyz"], clouds["normal"]


def are_clouds(tensors: Tensors, shape: tuple[int, int]) -> bool:
    """Return whether the tensors are positions and normals of ``shape``, (clouds, points), and finite."""
    return all(
        each.shape == (*shape, 3) and each.dtype == torch.float32 and are_finite(each)
        for each in (tensors["xyz"], tensors["normal"])
    )


def are_finite(values: Float[Tensor, "*N"]) -> bool:
    """Return whether all values are finite, without a mask of their size."""
    return bool(torch.stack(values.aminmax()).isfinite().all())


def _mapped(path: Path) -> dict[str, Tensor]:
    """Map the tensors of a file into memory. Raises InputError if it is missing or damaged."""
    with open_plain(path) as file:
        if int.from_bytes(file.read(8), "little") > LONGEST_HEADER:
            raise InputError(f"{path} is no cache of clouds")
    try:
        with safe_open(path, "pt") as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (it is no mapping)
            if (stored.metadata() or {})["checksum"] != _checksum(tensors):
                raise ValueError("its content has another checksum")
    except Exception as error:  # noqa: BLE001 (safetensors and PyTorch raise many types for damaged files)
        raise InputError(f"{path} is no cache of clouds, or it is damaged") from error
    return tensors


def _store(path: Path, tensors: Tensors) -> None:
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}

    def write(temporary: Path) -> None:
        temporary.touch()
        mode = temporary.stat().st_mode & 0o777
        try:
            save_file(tensors, temporary, {"checksum": _checksum(tensors)})
        except SafetensorError as error:  # a full disk
            raise OSError(str(error)) from error
        temporary.chmod(mode)  # safetensors writes files that only their owner can read

    write_whole(path, write)


def _checksum(tensors: Tensors) -> str:
    number = 0
    for name in sorted(tensors):
        number = zlib.crc32(tensors[name].view(-1).view(torch.uint8).numpy(), number)
    return f"{number:08x}"


def cache_folder(root: Path) -> Path:
    """Return the folder for the caches of a data set: ``root`` if writable, else one in ``~/.cache/bixt3d``."""
    marked_read_only = not root.stat().st_mode & 0o222  # the superuser could write there, but should not
    if os.access(root, os.W_OK) and not marked_read_only:
        return root
    home = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "bixt3d"
    folder = home / f"{root.name}_{short_hash(str(root.resolve()))}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def short_hash(*words: str) -> str:
    """Return a short hash of what a cache was made from, for its file name."""
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:12]


def check_stored(num_points: int, stored_points: int) -> None:
    """Raise InputError if more points are asked for than are stored of each cloud."""
    if num_points > stored_points:
        raise InputError(
            f"asked for {num_points} points, but {stored_points} are stored of each cloud; "
            f"set --data.stored_points to at least {num_points}"
        )
