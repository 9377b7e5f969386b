"""Large LAS and LAZ files: a random part of their points, in bounded memory."""

import struct
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, Shaped

from bixt3d.datasets.files.cloud import Cloud, Extent
from bixt3d.datasets.files.las import LasFile, open_las, standard_colors
from bixt3d.io.bounds import printable
from bixt3d.types import InputError, feature_name

LARGE = 5_000_000
"""Files with more points than this are read in chunks where a part of their points is enough."""
LAS = (".las", ".laz")
RUNS = 10
"""Number of places of a large file that `read_runs` reads."""


def is_large(path: Path, most: int | None = None) -> bool:
    """Return whether a file is a LAS or LAZ of more than ``most`` points, by default `LARGE`."""
    most = LARGE if most is None else most
    if path.suffix.lower() not in LAS or not path.is_file():
        return False
    try:
        with open_las(path) as las:
            return len(las) > most
    except InputError:
        return False  # whoever reads it says why


def read_part(path: Path, choose: Callable[[int], Int[np.ndarray, " M"]], names: Collection[str]) -> Cloud:
    """Read some points of a file, in the order chosen, with the columns that ``names`` mean.

    ``choose``: returns the indices of the points to keep, given how many there are. The cloud knows number, mean and
    radius of all points (`Cloud.extent`), which are read twice: for the mean, and for the largest distance from it.
    Raises InputError if the file is damaged.
    """
    try:
        with open_las(path) as las:
            return _read_part(las, choose(len(las)), names, printable(path.name))
    except InputError as error:
        raise InputError(f"{printable(path)} {error}") from error


def _read_part(las: LasFile, index: Int[np.ndarray, " M"], names: Collection[str], name: str) -> Cloud:
    wanted = [own for own in las.dims.names if feature_name(own) in names]
    order = np.argsort(index)
    xyz, columns = np.empty((len(index), 3)), {}
    first, done, total, most = 0, 0, np.zeros(3), 0.0
    for chunk in las.chunks(wanted):
        total += chunk.xyz.sum(axis=0)
        if "rgb" in chunk.columns:
            most = max(most, float(chunk.columns["rgb"].max()))
        end = np.searchsorted(index[order], first + len(chunk.xyz))
        places = order[done:end]
        rows = index[places] - first
        xyz[places] = chunk.xyz[rows]
        for own, values in chunk.columns.items():
            columns.setdefault(own, np.empty((len(index), values.shape[1]), values.dtype))[places] = values[rows]
        first, done = first + len(chunk.xyz), end
    mean = total / len(las)
    squared = max(float(np.square(chunk.xyz - mean).sum(axis=1).max()) for chunk in las.chunks(()))
    if not squared:
        raise InputError(f"has all its {len(las)} points in one place")
    colors, color_notes = standard_colors(columns, most)
    notes = las.notes + color_notes + _notes(las, wanted)
    largest = {"rgb": most} if "rgb" in columns else {}
    extent = Extent(len(las), mean, float(np.sqrt(squared)))
    return Cloud(xyz, columns | colors, name, up="z", notes=notes, largest=largest, extent=extent)


def read_runs(path: Path) -> tuple[list[Cloud], int, Float[np.ndarray, "3 2"]]:
    """Read runs of points spread evenly over a large file, each as a cloud.

    Returns also the number of all points, and the box that the header says they lie in: greatest and least x, y, z.
    Raises InputError if the file is damaged.
    """
    try:
        with open_las(path) as las:
            size = min(LARGE, len(las)) // RUNS
            starts = np.linspace(0, len(las) - size, RUNS).astype(int)
            runs = [las.run(int(first), size) for first in starts]
            most = max((float(run.columns["rgb"].max()) for run in runs if "rgb" in run.columns), default=0.0)
            found = []
            for run in runs:
                colors, notes = standard_colors(run.columns, most)
                found.append(
                    Cloud(run.xyz, run.columns | colors, printable(path.name), up="z", notes=las.notes + notes)
                )
            box = np.reshape(struct.unpack_from("<6d", las.header.raw, 179), (3, 2))
            return found, len(las), box
    except InputError as error:
        raise InputError(f"{printable(path)} {error}") from error


def _notes(las: LasFile, wanted: Collection[str]) -> tuple[str, ...]:
    left = len(las.dims.names) - len(wanted)
    return (f"{left} columns not read",) if left else ()


def all_points(values: Shaped[np.ndarray, " M"], extent: Extent) -> Shaped[np.ndarray, " N"]:
    """Return the one value that all points of a large cloud share, once for each, without taking memory for them.

    It has the type in which LAS stores it, as any conversion would take memory.
    """
    one = values[:1].astype(np.float32 if values.dtype.kind == "f" else np.min_scalar_type(int(values[0])))
    return np.broadcast_to(one, (extent.num_points,))
