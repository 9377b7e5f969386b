"""`read_file`: point clouds from files of any supported format; meshes are sampled."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from bixt3d.datasets.files.cloud import Cloud, has_position, no_positions, share_largest, standard_cloud
from bixt3d.datasets.files.columns import Points
from bixt3d.datasets.files.e57 import read_e57
from bixt3d.datasets.files.gltf import read_gltf
from bixt3d.datasets.files.hdf5_clouds import read_hdf5
from bixt3d.datasets.files.las import read_las
from bixt3d.datasets.files.mesh_points import points_of_polygons, sample_corners
from bixt3d.datasets.files.named_arrays import read_arrays
from bixt3d.datasets.files.obj import read_obj
from bixt3d.datasets.files.off import read_off_polygons
from bixt3d.datasets.files.pcd import read_pcd
from bixt3d.datasets.files.ply import read_ply
from bixt3d.datasets.files.stl import read_stl
from bixt3d.datasets.files.text import read_text
from bixt3d.io.bounds import counted, printable
from bixt3d.types import InputError

READERS = {".pcd": read_pcd, ".npy": read_arrays, ".npz": read_arrays, ".h5": read_hdf5, ".hdf5": read_hdf5}
READERS |= dict.fromkeys((".xyz", ".xyzn", ".xyzrgb", ".pts", ".asc", ".txt", ".csv", ".tsv"), read_text)
READERS |= {".las": read_las, ".laz": read_las, ".e57": read_e57}
MESHES = {".ply": read_ply, ".obj": read_obj, ".off": read_off_polygons, ".stl": read_stl}
SCENES = (".gltf", ".glb")
SUFFIXES = (*MESHES, *SCENES, *READERS)
"""Supported file extensions, in lower case."""

UPS = {".las": "z", ".laz": "z", ".e57": "z"}
"""What is up in a format."""

MESH_POINTS = 10_000
"""Default number of points sampled from a mesh."""


def read_file(path: str | Path, num_points: int = MESH_POINTS, viewpoint: bool = True) -> list[Cloud]:
    """Read the clouds of a file, with features by name: a list of one, or of several for arrays (S, N, 3).

    Formats: ply, pcd, xyz, xyzn, xyzrgb, pts, asc, txt, csv, tsv, npy, npz, h5, las, laz, e57; meshes (ply, obj, off,
    stl, gltf, glb) are sampled at ``num_points`` points uniformly by area, always the same ones. Positions stay as they
    are; see `normalize_clouds`. Points without a position (NaN, infinite) are dropped, and counted in ``notes``; see
    `Cloud.kept`. Raises InputError if the file is missing, of an unknown format or damaged, or if all its points
    coincide.

    ``viewpoint``: move the points of a .pcd by the pose of the sensor in its header.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no file {printable(path)}")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{printable(path)} has an unsupported format: supported are {', '.join(SUFFIXES)}")
    try:
        if not path.stat().st_size:
            raise InputError("is empty")
        found, num_faces = _read(path, num_points, viewpoint)
        for points in found:
            check_points(points.xyz)
    except InputError as error:
        shown, fault = printable(path), printable(error)
        raise InputError(fault if fault.startswith(shown) else f"{shown} {fault}") from error
    except OSError as error:
        raise InputError(f"{printable(path)} cannot be read: {error.strerror or error}") from error
    name = printable(path.name)
    names = [name] if len(found) == 1 else [f"{name}[{i}]" for i in range(len(found))]
    clouds = [
        Cloud(
            *(one.xyz, one.columns, name, num_faces > 0, one.up or UPS.get(suffix), one.notes),
            **{"num_faces": num_faces, "words": one.words, "meters": one.meters},
        )
        for name, one in zip(names, found, strict=True)
    ]
    return share_largest([standard_cloud(cloud) for cloud in clouds])


def _read(path: Path, num_points: int, viewpoint: bool) -> tuple[list[Points], int]:
    """Return the clouds of a file, and the number of triangles that one was sampled from."""
    suffix = path.suffix.lower()
    if suffix in READERS:
        return read_pcd(path, viewpoint) if suffix == ".pcd" else READERS[suffix](path), 0
    if suffix in MESHES:
        points, num_faces = points_of_polygons(MESHES[suffix](path), num_points)
        return [points], num_faces
    scene = read_gltf(path)
    spread = len(scene.corners) > 0
    points = sample_corners(scene.corners, num_points, scene.colors) if spread else Points(scene.xyz, scene.columns)
    return [points._replace(notes=scene.notes, up="y")], len(scene.corners)


def find_files(places: Sequence[str | Path]) -> list[Path]:
    """Return the given files, and the files of supported formats in the given folders (recursively, sorted by name).

    Hidden files are skipped. Raises InputError for a folder that contains no such file.
    """
    found: dict[Path, None] = {}
    for place in map(Path, places):
        files = sorted(_known_files(place)) if place.is_dir() else [place]
        if not files:
            raise InputError(
                f"the folder {printable(place)} contains no file of a supported format: {', '.join(SUFFIXES)}"
            )
        found |= dict.fromkeys(files)
    return list(found)


def _known_files(folder: Path) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()]
    return [path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def check_points(xyz: Float[np.ndarray, "N 3"]) -> None:
    """Raise InputError if fewer than two points have a position, or if these coincide."""
    placed = xyz[has_position(xyz)]
    if len(xyz) and not len(placed):
        raise InputError(no_positions(len(xyz)))
    if len(placed) < 2:
        raise InputError(f"has {counted(len(placed), 'point')}: a cloud takes many")
    if (placed == placed[0]).all():
        raise InputError(f"has all its {len(placed)} points in one place")
