"""`read_file`: point clouds from files of any supported format; meshes are sampled."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from bixt3d.datasets.files.cloud import FARTHEST, Cloud, has_position, no_positions, share_largest, standard_cloud
from bixt3d.datasets.files.columns import Points, named_columns
from bixt3d.datasets.files.e57 import read_e57
from bixt3d.datasets.files.gltf import read_gltf
from bixt3d.datasets.files.hdf5_clouds import read_hdf5
from bixt3d.datasets.files.las import read_las
from bixt3d.datasets.files.mesh_bounds import check_mesh, without_materials
from bixt3d.datasets.files.named_arrays import read_arrays
from bixt3d.datasets.files.pcd import read_pcd
from bixt3d.datasets.files.surface import sample_triangles
from bixt3d.datasets.files.text import read_text
from bixt3d.io.bounds import counted, listed, printable, read_plain, shortened
from bixt3d.types import InputError

READERS = {".pcd": read_pcd, ".npy": read_arrays, ".npz": read_arrays, ".h5": read_hdf5, ".hdf5": read_hdf5}
READERS |= dict.fromkeys((".xyz", ".xyzn", ".xyzrgb", ".pts", ".asc", ".txt", ".csv", ".tsv"), read_text)
READERS |= {".las": read_las, ".laz": read_las, ".e57": read_e57}
MESHES, SCENES = (".ply", ".obj", ".off", ".stl"), (".gltf", ".glb")
SUFFIXES = (*MESHES, *SCENES, *READERS)
"""Supported file extensions, in lower case."""

UPS = {".las": "z", ".laz": "z", ".e57": "z"}
"""What is up in a format."""

MESH_POINTS = 10_000
"""Default number of points sampled from a mesh."""

READ_OF_VERTICES = ("x", "y", "z", "nx", "ny", "nz", "red", "green", "blue", "alpha", "color", "normal", "uv")
"""Vertex properties of a mesh that no note reports as unread; normals are computed from the faces."""


def read_file(path: str | Path, num_points: int = MESH_POINTS, viewpoint: bool = True) -> list[Cloud]:
    """Read the clouds of a file, with features by name: a list of one, or of several for arrays (S, N, 3).

    Formats: ply, pcd, xyz, xyzn, xyzrgb, pts, asc, txt, csv, tsv, npy, npz, h5, las, laz, e57; meshes (ply, obj, off,
    stl, gltf, glb) are sampled at ``num_points`` points uniformly by area, always the same ones. Positions stay as they
    are; see `normalize_clouds`. Points without a position (NaN, infinite) are dropped, and counted in ``notes``; see
    `Cloud.kept`. ``viewpoint``: move the points of a .pcd by the pose of the sensor in its header. Raises InputError if
    the file is missing, of an unknown format or damaged, or if all its points coincide.
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
            **{"num_faces": num_faces, "words": one.words},
        )
        for name, one in zip(names, found, strict=True)
    ]
    return share_largest([standard_cloud(cloud) for cloud in clouds])


def _read(path: Path, num_points: int, viewpoint: bool) -> tuple[list[Points], int]:
    """Return the clouds of a file, and the number of triangles that one was sampled from."""
    suffix = path.suffix.lower()
    if suffix in SCENES:
        return _read_scene(path, num_points)
    if suffix in MESHES:
        return _read_mesh(path, num_points)
    return (read_pcd(path, viewpoint) if suffix == ".pcd" else READERS[suffix](path)), 0


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


def check_corners(xyz: Float[np.ndarray, "N 3"]) -> None:
    """Raise InputError for corners of triangles that have no position, or that all coincide."""
    broken = np.flatnonzero(~has_position(xyz))
    if len(broken):
        raise InputError(
            f"has {len(xyz)} corners, {len(broken)} of which contain NaN, infinity or more than {FARTHEST:g} "
            f"(the first is number {broken[0] + 1}): remove them"
        )
    if (xyz == xyz[0]).all():
        raise InputError(f"has all its {len(xyz)} corners in one place")


def _read_scene(path: Path, num_points: int) -> tuple[list[Points], int]:
    """Return the points of a glTF file, and its number of triangles."""
    found = read_gltf(path)
    given = (found.corners, num_points, found.colors)
    points = sample_corners(*given) if len(found.corners) else Points(found.xyz, found.columns)
    return [points._replace(notes=found.notes, up="y")], len(found.corners)


_HINT = "it is damaged, or its format does not match its extension"
_HINTS = {
    ".ply": "it is damaged, or no PLY file, or a binary one with faces of several sizes (export it as triangles)",
}


def _read_mesh(path: Path, num_points: int) -> tuple[list[Points], int]:
    """Return the points of a file that may be a mesh, and its number of triangles: 0 for a cloud."""
    import trimesh

    suffix, raw = path.suffix.lower(), read_plain(path)
    raw = without_materials(raw) if suffix == ".obj" else raw.removeprefix(b"\xef\xbb\xbf")
    try:
        check_mesh(raw, path)
        scene = trimesh.load_scene(io.BytesIO(raw), suffix[1:], process=False, skip_materials=True)
        pieces = scene.dump()
        meshes = [piece for piece in pieces if isinstance(piece, trimesh.Trimesh) and len(piece.faces)]
        corners = [np.asarray(mesh.vertices, np.float64)[mesh.faces] for mesh in meshes]
        if any(triangles.shape[1:] != (3, 3) for triangles in corners):
            raise ValueError("a vertex takes three coordinates")
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 (trimesh raises many types for damaged files)
        reason = shortened(" ".join(str(error).split()), 300) or type(error).__name__
        raise InputError(f"cannot be read ({reason}): {_HINTS.get(suffix, _HINT)}") from error
    if corners:
        colors, notes = _colors_of(meshes)
        points = sample_corners(np.concatenate(corners), num_points, colors)
        return [points._replace(notes=notes)], sum(map(len, corners))
    vertices = [piece for piece in pieces if len(piece.vertices)]
    if suffix == ".ply" and vertices:
        return [_cloud_of_ply(vertices[0])], 0
    if vertices:
        raise InputError("is a mesh without faces: give it faces, or write its points as .ply or .xyz")
    raise InputError(f"contains no mesh: {_HINT}")


def cloud_of_mesh(mesh: Any, num_points: int = MESH_POINTS) -> Cloud:
    """Return the cloud of a mesh, scene or point cloud of trimesh, sampled as by `read_file`. Raises InputError."""
    pieces = [piece for piece in (mesh.dump() if hasattr(mesh, "dump") else [mesh]) if not hasattr(piece, "entities")]
    meshes = [piece for piece in pieces if len(getattr(piece, "faces", ()))]
    if meshes:
        corners = np.concatenate([np.asarray(piece.vertices, np.float64)[piece.faces] for piece in meshes])
        colors, notes = _colors_of(meshes)
        return Cloud(*sample_corners(corners, num_points, colors)[:2], from_mesh=True, notes=notes)
    vertices = np.concatenate([np.zeros((0, 3)), *(np.asarray(piece.vertices, np.float64) for piece in pieces)])
    check_points(vertices)
    colors = [np.asarray(getattr(piece, "colors", ()))[:, :3] for piece in pieces if len(getattr(piece, "colors", ()))]
    return Cloud(vertices, {"rgb": np.concatenate(colors)} if sum(map(len, colors)) == len(vertices) else {})


def _colors_of(meshes: Sequence[Any]) -> tuple[Float[np.ndarray, "T 3 3"] | None, tuple[str, ...]]:
    """Return the colors (0 to 1) of the triangle corners if all meshes have colors, and notes on what is not read."""
    colors = []
    for mesh in meshes:
        if mesh.visual.kind == "vertex":
            colors.append(np.asarray(mesh.visual.vertex_colors)[mesh.faces][..., :3] / 255)
        elif mesh.visual.kind == "face":
            colors.append(np.repeat(np.asarray(mesh.visual.face_colors)[:, None, :3] / 255, 3, axis=1))
    textured = any(mesh.visual.kind == "texture" for mesh in meshes)
    notes = ("its texture not read",) if textured else ()
    if unread := dict.fromkeys(name for mesh in meshes for name in _values_of(mesh)):
        notes += (f"{listed(unread)} of its vertices not read",)
    if len(colors) == len(meshes):
        return np.concatenate(colors), notes
    if colors:
        notes += ("colors not read, which not all of its pieces have",)
    return None, notes


def _values_of(mesh: Any) -> list[str]:
    """Return the names of the vertex properties of a mesh besides positions, normals and colors."""
    vertex = mesh.metadata.get("_ply_raw", {}).get("vertex", {})
    return [name for name in (*mesh.vertex_attributes, *vertex.get("properties", ())) if name not in READ_OF_VERTICES]


def sample_corners(
    corners: Float[np.ndarray, "T 3 3"], num_points: int, colors: Float[np.ndarray, "T 3 3"] | None = None
) -> Points:
    """Sample points from triangles uniformly by area, with the normals of the faces and interpolated colors."""
    check_corners(corners.reshape(-1, 3))
    xyz, normal, triangle, weight = sample_triangles(corners, num_points, np.random.default_rng(0))
    columns = {"normal": normal}
    if colors is not None:
        columns["rgb"] = (weight @ colors[triangle])[:, 0].clip(0, 1)
    return Points(xyz, columns)


def _cloud_of_ply(cloud: Any) -> Points:
    elements = cloud.metadata["_ply_raw"]  # trimesh keeps the normals of points only here
    vertex = elements["vertex"]
    if len(cloud.vertices) < vertex["length"]:
        raise InputError(f"announces {vertex['length']} points, but it ends after {len(cloud.vertices)}")
    columns, lists = {}, []
    for name in vertex["properties"]:
        values = np.asarray(vertex["data"][name])
        values = (
            values[values.dtype.names[1]] if values.dtype.names else values
        )  # a list property: its length, then the list
        if values.dtype.kind in "fiu" and len(values) == vertex["length"]:
            columns[name] = values
        else:
            lists.append(name)
    points = named_columns(columns)
    others = [name for name, element in elements.items() if name != "vertex" and element["length"]]
    notes = [f"its elements '{printable(shortened(name))}' not read" for name in others]
    if lists:
        notes.append(f"the lists {listed(lists)} of its points not read")
    return points._replace(notes=tuple(notes))
