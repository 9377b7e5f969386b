"""Sampling of the meshes of a data set: points by area, with the normals of their faces, written to HDF5."""

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int

from bixt3d.datasets.files.off import read_off
from bixt3d.datasets.files.surface import sample_triangles
from bixt3d.datasets.transforms.normalize import normalize_clouds
from bixt3d.errors import InputError
from bixt3d.io.bounds import printable, shortened
from bixt3d.io.progress import progress

PartOfFace = Int[np.ndarray, " F"]
SEED = 0


def draws_of(*words: str) -> np.random.Generator:
    """Return the random generator of a mesh or class, seeded by its name alone."""
    return np.random.default_rng([SEED, zlib.crc32("/".join(words).encode())])


def write_sampled(
    path: Path,
    meshes: Sequence[Path],
    label: Sequence[int],
    num_points: int,
    parts_of: Callable[[Path, int], PartOfFace] | None = None,
) -> list[Path]:
    """Sample OFF files and write their clouds and labels to an HDF5 file; return the meshes with faces left out.

    ``parts_of(mesh, num_faces)`` returns the part of each face; faces with part -1 are left out. Raises InputError for
    a file that is not a mesh.
    """
    import h5py

    data, normal = (np.empty((len(meshes), num_points, 3), np.float32) for _ in range(2))
    pid, partial = np.empty((len(meshes), num_points), np.uint16), []
    for place, mesh in enumerate(progress(meshes, desc=f"sampling meshes for {path.name}")):
        try:
            found = read_off(mesh)
            corners, part = found.corners(), None
            if parts_of:
                part = parts_of(mesh, 1 + int(found.face_index.max()))[found.face_index]
                corners, part = corners[part >= 0], part[part >= 0]
            xyz, normal[place], triangle, _ = sample_triangles(corners, num_points, draws_of(*mesh.parts[-3:]))
            data[place] = normalize_clouds(torch.from_numpy(xyz[None]), str(mesh))[0].numpy()
        except (ValueError, IndexError, RuntimeError) as error:
            fault = shortened(printable(error), 300)
            raise InputError(f"{printable(mesh)} is not a mesh that can be sampled: {fault}") from error
        if part is not None:
            pid[place] = part[triangle]
            if len(part) < len(found.face_index):
                partial.append(mesh)
    columns = {"data": data, "normal": normal} | ({"pid": pid} if parts_of else {})
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            file.create_dataset(name, data=values, compression="gzip", shuffle=True)
        file["label"] = np.array(label, np.uint16)[:, None]
    return partial
