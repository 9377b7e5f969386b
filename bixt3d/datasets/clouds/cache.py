"""Clouds that are slow to read or to sample: made once, stored in a file, whole or not at all."""

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from bixt3d.datasets.files.numpy_files import load_arrays
from bixt3d.io.writing import remove_leftovers, write_whole
from bixt3d.types import InputError


def cached(
    path: Path, build: Callable[[], Float[np.ndarray, "S N P"]], shape: tuple[int, int, int]
) -> Float[np.ndarray, "S N P"]:
    """Return the points stored in the file; where it is absent or broken, build them and store them there."""

    def fits(arrays: Mapping[str, np.ndarray]) -> bool:
        points = arrays["points"]
        return points.shape == shape and points.dtype == np.float32 and bool(np.isfinite(points).all())

    return cached_arrays(path, lambda: {"points": build()}, fits)["points"]


def cached_arrays(
    path: Path, build: Callable[[], Mapping[str, np.ndarray]], fits: Callable[[Mapping[str, np.ndarray]], bool]
) -> Mapping[str, np.ndarray]:
    """Return the arrays stored in the file; where it is absent, broken or does not fit, build and store them there."""
    try:
        arrays = load_arrays(path)
        if fits(arrays):
            return arrays
    except (InputError, KeyError):  # damaged, or of another program
        pass
    arrays = build()

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # of a path, NumPy would make another that ends with .npz
            np.savez(file, **arrays)

    remove_leftovers(path.parent, path.name)
    write_whole(path, write)
    return arrays


def cache_folder(root: Path) -> Path:
    """Return ``root`` if one may write there, else a folder of the user's for it."""
    marked_read_only = not root.stat().st_mode & 0o222  # the superuser may write there all the same, but should not
    if os.access(root, os.W_OK) and not marked_read_only:
        return root
    home = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "bixt3d"
    folder = home / f"{root.name}_{short_hash(str(root.resolve()))}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def short_hash(*words: str) -> str:
    """Return a short name for what a cache was made from: other words, another name."""
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:12]


def check_stored(num_points: int, stored_points: int) -> None:
    """Raise InputError if more points are asked for than are stored of each cloud."""
    if num_points > stored_points:
        raise InputError(
            f"asked for {num_points} points, but {stored_points} are stored of each cloud; "
            f"set --data.stored_points to at least {num_points}"
        )
