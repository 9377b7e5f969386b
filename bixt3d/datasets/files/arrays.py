"""Clouds from Python objects: arrays, tensors, files, PyG data, trimesh, Open3D, and lists of these."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from bixt3d.datasets.files.cloud import Cloud, as_array, as_column, share_largest, standard_cloud
from bixt3d.datasets.files.mesh_points import sample_corners
from bixt3d.datasets.files.pyg import from_pyg
from bixt3d.datasets.files.reader import MESH_POINTS, check_points, read_file
from bixt3d.datasets.files.scenes import points_of_scene
from bixt3d.types import InputError


def as_clouds(
    clouds: Any, features: Mapping[str, Any] | None = None, batch: Any = None, mesh_points: int = MESH_POINTS
) -> tuple[bool, list[Cloud]]:
    """Convert the input to clouds; return whether it is a single cloud, and the list of clouds.

    Raises InputError for input of any other type or shape.

    Args:
        clouds: a `Cloud`, an array or tensor of shape (N, 3) or (B, N, 3), a path, an object of PyG, trimesh or Open3D,
            or a list of these.
        features: for an array, its features by name: arrays with a row for each point.
        batch: for an array (N, 3), the index of the cloud of each point, as in PyG; for (B, N, 3), a mask (B, N) that
            is False for padding.
        mesh_points: number of points sampled from a mesh.
    """
    if isinstance(clouds, np.ndarray | Tensor):
        single, found = _from_array(as_array(clouds), features or {}, None if batch is None else as_array(batch))
        return single, share_largest([standard_cloud(cloud) for cloud in found])
    if features is not None or batch is not None:
        raise InputError("features and batch are for arrays; other clouds bring their own features")
    if isinstance(clouds, list):
        return False, _from_list(clouds, mesh_points)
    found = share_largest([standard_cloud(cloud) for cloud in _from_object(clouds, mesh_points)])
    of_several = hasattr(clouds, "num_graphs") or hasattr(clouds, "indices")  # PyG's Batch, and its data sets
    return len(found) == 1 and not of_several, found


def _from_list(several: list[Any], mesh_points: int) -> list[Cloud]:
    """Return the clouds of all entries; those without a name are named by their position."""
    found: list[Cloud] = []
    for place, one in enumerate(several):
        try:
            found += as_clouds(one, mesh_points=mesh_points)[1]
        except InputError as error:
            raise InputError(f"entry {place} of the list: {error}") from error
    unnamed = re.compile(r"the input|(cloud|graph) \d+")
    return [
        replace(cloud, name=f"cloud {place}") if unnamed.fullmatch(cloud.name) else cloud
        for place, cloud in enumerate(found)
    ]


def _from_object(clouds: Any, mesh_points: int) -> list[Cloud]:
    """Return the clouds of a file, or of an object of another package."""
    if isinstance(clouds, Cloud):
        return [clouds]
    if isinstance(clouds, str | Path):
        return read_file(clouds, mesh_points)
    for parent in type(clouds).__mro__:
        if convert := FROM_PACKAGE.get(parent.__module__.partition(".")[0]):
            return convert(clouds, mesh_points)
    advice = ": give a list of clouds, or features={'normal': ...}" if isinstance(clouds, tuple) else ""
    raise InputError(
        "expected an array, a tensor, a file, PyG data, a mesh or cloud of trimesh or Open3D, or a list of these, not "
        f"{type(clouds).__name__}{advice}"
    )


def _from_array(xyz: np.ndarray, features: Mapping[str, Any], batch: np.ndarray | None) -> tuple[bool, list[Cloud]]:
    if xyz.ndim not in (2, 3) or xyz.shape[-1] != 3 or 0 in xyz.shape or xyz.dtype.kind == "b":
        turned = xyz.ndim in (2, 3) and xyz.shape[-2] == 3
        advice = ": coordinates come last, so swap the last two axes" if turned else ""
        raise InputError(f"clouds are numbers of shape (N, 3) or (B, N, 3), not {xyz.dtype} of {xyz.shape}{advice}")
    columns = {name: as_column(name, values, xyz.shape) for name, values in features.items()}
    xyz = xyz.astype(np.float64)
    if batch is None and xyz.ndim == 2:
        return True, [Cloud(xyz, columns)]
    indices = _cloud_indices(xyz, batch)
    return False, [
        Cloud(xyz[index], {name: values[index] for name, values in columns.items()}, name=f"cloud {place}")
        for place, index in enumerate(indices)
    ]


def _cloud_indices(xyz: np.ndarray, batch: np.ndarray | None) -> list[Any]:
    """Return an index for each cloud of an array."""
    if batch is None:
        return list(range(len(xyz)))
    if batch.shape != xyz.shape[:-1] or batch.dtype.kind not in ("iu" if xyz.ndim == 2 else "b"):
        raise InputError(
            f"for points of shape {xyz.shape}, batch is {'integers' if xyz.ndim == 2 else 'a mask'} of shape "
            f"{xyz.shape[:-1]}, not {batch.dtype} of shape {batch.shape}"
        )
    if xyz.ndim == 3:
        return [(place, mask) for place, mask in enumerate(batch)]
    numbers = np.unique(batch)
    if len(missing := np.setdiff1d(np.arange(len(numbers)), numbers)):
        raise InputError(f"batch numbers clouds from 0 on, but no point is of cloud {missing[0]}")
    return [batch == number for number in numbers]


def _from_open3d(geometry: Any, mesh_points: int) -> Cloud:
    if hasattr(geometry, "point"):  # a point cloud of open3d.t, with any features
        values = {name: value.cpu().numpy() for name, value in geometry.point.items()}
        xyz, columns = values.pop("positions").astype(np.float64), values
    elif hasattr(geometry, "vertex"):
        return _from_open3d(geometry.to_legacy(), mesh_points)
    elif hasattr(geometry, "triangles") and len(geometry.triangles):
        triangles = np.asarray(geometry.triangles)
        colors = np.asarray(geometry.vertex_colors)[triangles] if geometry.has_vertex_colors() else None
        return Cloud(*sample_corners(np.asarray(geometry.vertices)[triangles], mesh_points, colors)[:2], from_mesh=True)
    elif hasattr(geometry, "points"):
        xyz = np.asarray(geometry.points).astype(np.float64)
        columns = {name: np.asarray(getattr(geometry, name)) for name in ("normals", "colors")}
        columns = {name: values for name, values in columns.items() if len(values)}
    else:
        raise InputError(f"expected a PointCloud or a TriangleMesh of Open3D, not {type(geometry).__name__}")
    check_points(xyz)
    return Cloud(xyz, columns)


def _from_trimesh(mesh: Any, mesh_points: int) -> Cloud:
    points, has_faces = points_of_scene(mesh, mesh_points)
    check_points(points.xyz)
    return Cloud(points.xyz, points.columns, from_mesh=has_faces, notes=points.notes)


FROM_PACKAGE: dict[str, Callable[[Any, int], list[Cloud]]] = {
    "open3d": lambda geometry, mesh_points: [_from_open3d(geometry, mesh_points)],
    "trimesh": lambda geometry, mesh_points: [_from_trimesh(geometry, mesh_points)],
    "torch_geometric": lambda data, _: from_pyg(data),
}
"""The function that converts the objects of each package to clouds."""
