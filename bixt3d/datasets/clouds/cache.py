"""Caches of data sets of clouds: .safetensors files, mapped into memory."""

import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, distributed
from tqdm import tqdm

from bixt3d.datasets.clouds.mapped import (
    Allocate,
    Build,
    Layout,
    Tensors,
    in_memory,
    read_mapped,
    size_of,
    write_mapped,
)
from bixt3d.datasets.files.feature_columns import unit_normals
from bixt3d.io.memory import memory_limit
from bixt3d.io.writing import remove_leftovers
from bixt3d.types import InputError

LARGEST_IN_MEMORY = 0.4
"""Part of the machine's memory that a split may take without being mapped from disk."""


def cached(path: Path, build: Build, fits: Callable[[Tensors], bool], source: str = "") -> Tensors:
    """Return the tensors of a .safetensors file; if it is missing, damaged or does not fit, write it first.

    They are memory-mapped, copy on write: all processes of a machine share one copy, and see none of each other's
    changes.

    Args:
        path: the file.
        build: fills the tensors to write.
        fits: returns whether the tensors of an existing file are the right ones.
        source: what they are made from, such as the `stamp` of files: a cache of another source is written again.
    """
    try:
        tensors = read_mapped(path, source)
        if fits(tensors):
            return tensors
    except (InputError, KeyError):  # damaged, of other files, or of another program
        pass
    if (old := path.with_suffix(".npz")).is_file():
        tqdm.write(f"{old} is a cache of an earlier version, which is no longer read: delete it", file=sys.stderr)
    remove_leftovers(path.parent, path.name)
    write_mapped(path, build, source)
    return read_mapped(path, source)


def cached_clouds(
    path: Path, clouds: Callable[[], Iterable[Float[np.ndarray, "N 6"]]], shape: tuple[int, int], source: str = ""
) -> tuple[Float[Tensor, "S N 3"], Float[Tensor, "S N 3"]]:
    """Return positions and unit normals of the clouds that ``clouds`` yields, one by one; see `cached`."""
    vectors = (torch.float32, (*shape, 3))

    def build(allocate: Allocate) -> None:
        tensors = allocate({"xyz": vectors, "normal": vectors})
        for place, cloud in enumerate(clouds()):
            tensors["xyz"][place] = torch.from_numpy(cloud[:, :3])
            tensors["normal"][place] = torch.from_numpy(unit_normals(cloud[:, 3:]))

    found = cached(path, build, lambda tensors: are_clouds(tensors, shape), source)
    return found["xyz"], found["normal"]


def shared(
    path: Callable[[], Path],
    layout: Layout,
    fill: Callable[[Tensors], None],
    fits: Callable[[Tensors], bool],
    source: str,
) -> tuple[Tensors, tuple[str, ...]]:
    """Return tensors that are quick to read, and a note on where they are.

    If the run has several processes, or they would take more than `LARGEST_IN_MEMORY` of the memory, they are cached
    and mapped (see `cached`); else they are in the memory of this process, and nothing is written.
    Raises InputError if they are too large and cannot be cached.
    """
    too_large = size_of(layout) > LARGEST_IN_MEMORY * memory_limit()
    note = ()
    if too_large or several_processes():
        size = f"{size_of(layout) / 1e9:.1f} GB"
        try:
            place = path()
            found = cached(place, lambda allocate: fill(allocate(layout)), fits, source)
            return found, (f"{size} of the data set are mapped from {place}",)
        except InputError as error:  # it cannot be written; or the data are wrong, which is raised again below
            if too_large:
                raise
            note = (f"{error}: each process reads {size} into its own memory",)
    return in_memory(lambda allocate: fill(allocate(layout))), note


def several_processes() -> bool:
    """Return whether this process is one of several of a run."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def stamp(paths: Sequence[Path], *words: str) -> str:
    """Return a hash of the sizes and times of files, and of words; ``""`` if all files are missing: any cache fits."""
    found = [_stat(path) for path in paths]
    return short_hash(*found, *words) if any(found) else ""


def _stat(path: Path) -> str:
    try:
        found = path.stat()
    except OSError:
        return ""
    return f"{found.st_size} {found.st_mtime_ns}"


def are_clouds(tensors: Tensors, shape: tuple[int, int]) -> bool:
    """Return whether the tensors are positions and normals of ``shape``, (clouds, points), and finite."""
    return all(
        each.shape == (*shape, 3) and each.dtype == torch.float32 and are_finite(each)
        for each in (tensors["xyz"], tensors["normal"])
    )


def are_finite(values: Float[Tensor, "*N"]) -> bool:
    """Return whether all values are finite, without a mask of their size."""
    return not values.numel() or bool(torch.stack(values.aminmax()).isfinite().all())


def fit_layout(layout: Layout, limits: Mapping[str, range], tensors: Tensors) -> bool:
    """Return whether the tensors have this layout, finite values, and integers within their ``limits``."""
    for name, (dtype, shape) in layout.items():
        values = tensors[name]
        if (values.dtype, tuple(values.shape)) != (dtype, shape):
            return False
        if values.is_floating_point() and not are_finite(values):
            return False
        if name in limits and not are_within(values, limits[name]):
            return False
    return True


def are_within(values: Int[Tensor, "*N"] | UInt8[Tensor, "*N"], limits: range) -> bool:
    """Return whether all values are in a range."""
    return bool(values.min() >= limits.start and values.max() < limits.stop)


def cache_folder(root: Path) -> Path:
    """Return the folder for the caches of a data set: ``root`` if writable, else one in ``~/.cache/bixt3d``."""
    marked_read_only = not root.stat().st_mode & 0o222  # the superuser could write there, but should not
    if os.access(root, os.W_OK) and not marked_read_only:
        return root
    home = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "bixt3d"
    folder = home / f"{root.name}_{short_hash(str(root.resolve()))}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{root} is read-only, and {folder} cannot be made for its cache ({error.strerror}): set XDG_CACHE_HOME to "
            "a folder that is writable"
        ) from error
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
