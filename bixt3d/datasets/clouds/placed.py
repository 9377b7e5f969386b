"""Clouds of one size in HDF5, some of whose points have no position (NaN): other points of the cloud replace these."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Shaped

from bixt3d.datasets.files.cloud import has_position
from bixt3d.datasets.files.hdf5 import blocks
from bixt3d.types import InputError


def placed_blocks(dataset: Any) -> Iterator[tuple[slice, Shaped[np.ndarray, "B N ..."], int]]:
    """Yield a dataset of points, such as ``data``, ``rgb`` or ``pid``, in blocks of clouds, and the number replaced.

    The rows of points whose position in ``data`` is NaN or infinite are replaced by those of other points of the cloud,
    of each about equally often. Raises InputError for a cloud without any other point.
    """
    for place, block in blocks(dataset):
        placed_mask = has_position(block if dataset.name == "/data" else dataset.file["data"][place])
        for number, own_mask in enumerate(placed_mask):
            if not own_mask.all():
                block[number] = block[number][other_points(own_mask, f"cloud {place.start + number}", dataset)]
        yield place, block, int((~placed_mask).sum())


def other_points(placed_mask: Bool[np.ndarray, " N"], name: str, dataset: Any) -> Int[np.ndarray, " N"]:
    """Return for each point its own index if it has a position, else that of one that has."""
    placed, index = np.flatnonzero(placed_mask), np.arange(len(placed_mask))
    if not len(placed):
        raise InputError(f"{name} of {dataset.file.filename} has no point with a position: all are NaN or infinite")
    index[~placed_mask] = np.resize(placed, len(index) - len(placed))
    return index
