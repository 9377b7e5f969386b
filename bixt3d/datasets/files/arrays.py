"""Clouds from Python objects: arrays, tensors, files, data frames, PyG, trimesh, Open3D, laspy, and lists of these."""

import numbers
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from bixt3d.datasets.files.array_layout import looks_organized
from bixt3d.datasets.files.cloud import Cloud, as_array, as_column, share_largest, standard_cloud
from bixt3d.datasets.files.columns import Points, split_columns
from bixt3d.datasets.files.fields import points_of_fields
from bixt3d.datasets.files.las import read_laspy
from bixt3d.datasets.files.mesh_points import sample_corners
from bixt3d.datasets.files.precision import coarse_notes, rounded_notes
from bixt3d.datasets.files.pyg import from_pyg
from bixt3d.datasets.files.reader import MESH_POINTS, check_points, read_file
from bixt3d.datasets.files.records import structured_fields
from bixt3d.datasets.files.trimesh_objects import points_of_scene
from bixt3d.io.bounds import listed
from bixt3d.types import InputError


def as_clouds(
    clouds: Any, features: Mapping[str, Any] | None = None, batch: Any = None, mesh_points: int = MESH_POINTS
) -> tuple[bool, list[Cloud]]:
    """Convert the input to clouds; return whether it is a single cloud, and the list of clouds.

    Raises InputError for input of any other type or shape.

    Args:
        clouds: a `Cloud`, an array or tensor of shape (N, 3) or (B, N, 3), a structured array or a data frame with
            columns x, y, z, a path, an object of PyG, trimesh, Open3D or laspy, or a list of these.
        features: for an array, its features by name: arrays with a row for each point.
        batch: for an array (N, 3), the index of the cloud of each point, as in PyG; for (B, N, 3), a mask (B, N) that
            is False for padding.
        mesh_points: number of points sampled from a mesh.
    """
    if _are_rows(clouds):
        clouds = as_array(clouds)
    if isinstance(clouds, np.ndarray | Tensor) and not getattr(clouds.dtype, "names", None):
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
    if isinstance(clouds, np.ndarray):
        return [_of_table(*structured_fields(clouds.reshape(-1)))]
    if hasattr(clouds, "columns") and hasattr(clouds, "__getitem__"):
        return [_from_frame(clouds)]
    for parent in type(clouds).__mro__:
        if convert := FROM_PACKAGE.get(parent.__module__.partition(".")[0]):
            return convert(clouds, mesh_points)
    advice = ": give a list of clouds, or features={'normal': ...}" if isinstance(clouds, tuple) else ""
    raise InputError(
        "expected an array, a tensor, a file, a data frame, PyG data, a mesh or cloud of trimesh, Open3D or laspy, or "
        f"a list of these, not {type(clouds).__name__}{advice}"
    )


def _are_rows(clouds: Any) -> bool:
    """Return whether this is a list of points, each a list of numbers."""
    first = clouds[0] if isinstance(clouds, list) and clouds else None
    return isinstance(first, list | tuple) and all(isinstance(one, numbers.Real) for one in first)


def _of_points(points: Points) -> Cloud:
    return Cloud(points.xyz, points.columns, notes=points.notes, meters=points.meters)


def _from_frame(frame: Any) -> Cloud:
    """Return the cloud of a data frame (pandas, polars) with columns x, y, z; columns of words are not read."""
    values = {str(name): np.asarray(frame[name]) for name in frame.columns}
    unread = [name for name, column in values.items() if column.dtype.kind not in "fiub"]
    if all(name.isdigit() for name in values) and not unread:  # a table without names
        table = np.stack(list(values.values()), 1)
        whole = {f"column{place + 1}": one for place, one in enumerate(values.values()) if one.dtype.kind in "iu"}
        notes = rounded_notes(whole) if table.dtype.kind == "f" else ()
        points = split_columns(table)
        return _of_points(points._replace(notes=points.notes + notes))
    return _of_table({name: column for name, column in values.items() if name not in unread}, unread)


def _of_table(fields: Mapping[str, np.ndarray], unread: Sequence[str]) -> Cloud:
    points = points_of_fields(fields)
    return _of_points(points._replace(notes=points.notes + ((f"{listed(unread)} not read",) if unread else ())))


def _from_array(xyz: np.ndarray, features: Mapping[str, Any], batch: np.ndarray | None) -> tuple[bool, list[Cloud]]:
    if xyz.size == 0 and xyz.ndim in (2, 3) and xyz.shape[-1] == 3:
        raise InputError(f"the input has 0 points ({xyz.dtype} of {xyz.shape}): a cloud takes many")
    if xyz.ndim not in (2, 3) or xyz.shape[-1] != 3 or xyz.dtype.kind == "b":
        raise InputError(
            f"clouds are numbers of shape (N, 3) or (B, N, 3), not {xyz.dtype} of {xyz.shape}{_advice(xyz.shape)}"
        )
    columns = {name: as_column(name, values, xyz.shape) for name, values in features.items()}
    kinds, xyz = [xyz.dtype] * 3, xyz.astype(np.float64)
    if batch is None and xyz.ndim == 2:
        return True, [Cloud(xyz, columns, notes=coarse_notes(xyz, kinds))]
    indices = _cloud_indices(xyz, batch)
    notes = (f"{xyz.shape} taken for {len(xyz)} clouds: if it is one organized cloud, give xyz.reshape(-1, 3)",)
    notes *= batch is None and looks_organized(xyz)
    return False, [
        Cloud(
            own := xyz[index],
            {name: values[index] for name, values in columns.items()},
            name=f"cloud {place}",
            notes=notes + coarse_notes(own, kinds),
        )
        for place, index in enumerate(indices)
    ]


def _advice(shape: tuple[int, ...]) -> str:
    if len(shape) in (2, 3) and shape[-2] == 3 and shape[-1] != 3:
        return ": coordinates come last, so swap the last two axes"
    if len(shape) in (2, 3) and 3 < shape[-1] <= 16:
        return ": give xyz[..., :3], and the other columns as features by name"
    depth = len(shape) in (2, 3) and min(shape[-2:]) > 16
    return ": turn depth maps into points first, such as by Open3D's create_from_depth_image" if depth else ""


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
        given, columns = values.pop("positions"), values
    elif hasattr(geometry, "vertex"):
        return _from_open3d(geometry.to_legacy(), mesh_points)
    elif hasattr(geometry, "triangles") and len(geometry.triangles):
        triangles = np.asarray(geometry.triangles)
        colors = np.asarray(geometry.vertex_colors)[triangles] if geometry.has_vertex_colors() else None
        return Cloud(*sample_corners(np.asarray(geometry.vertices)[triangles], mesh_points, colors)[:2], from_mesh=True)
    elif hasattr(geometry, "points"):
        given = np.asarray(geometry.points)
        columns = {name: np.asarray(getattr(geometry, name)) for name in ("normals", "colors")}
        columns = {name: values for name, values in columns.items() if len(values)}
    else:
        raise InputError(f"expected a PointCloud or a TriangleMesh of Open3D, not {type(geometry).__name__}")
    check_points(xyz := given.astype(np.float64))
    return Cloud(xyz, columns, notes=coarse_notes(xyz, [given.dtype] * 3))


def _from_trimesh(mesh: Any, mesh_points: int) -> Cloud:
    points, has_faces = points_of_scene(mesh, mesh_points)
    check_points(points.xyz)
    return Cloud(points.xyz, points.columns, from_mesh=has_faces, notes=points.notes)


FROM_PACKAGE: dict[str, Callable[[Any, int], list[Cloud]]] = {
    "open3d": lambda geometry, mesh_points: [_from_open3d(geometry, mesh_points)],
    "trimesh": lambda geometry, mesh_points: [_from_trimesh(geometry, mesh_points)],
    "torch_geometric": lambda data, _: from_pyg(data),
    "laspy": lambda las, _: [replace(_of_points(read_laspy(las)), up="z")],
}
"""The function that converts the objects of each package to clouds."""
