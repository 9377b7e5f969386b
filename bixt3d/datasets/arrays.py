"""Clouds as Python programs hold them: arrays, files, PyG data, meshes of trimesh and Open3D, and lists of these."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bixt3d.datasets.cloud import Cloud
from bixt3d.datasets.files import MESH_POINTS, check_points, cloud_of_mesh, read_file, sample_corners
from bixt3d.datasets.pyg import from_pyg
from bixt3d.types import InputError


def as_clouds(clouds: Any, features: Mapping[str, Any] | None = None, batch: Any = None) -> tuple[bool, list[Cloud]]:
    """Return whether one cloud was given, and all of them.

    ``features``: arrays by name, with a row for each point. ``batch``: the number of the cloud that each point belongs
    to, as PyG has it, or a mask of shape (B, N) of the points of dense clouds that are not padding.
    Raises InputError for anything that is no cloud.
    """
    if isinstance(clouds, np.ndarray | Tensor):
        return _from_array(_as_array(clouds), features or {}, None if batch is None else _as_array(batch))
    if features is not None or batch is not None:
        raise InputError("features and batch are for arrays; other clouds bring their own features")
    if isinstance(clouds, list):
        return False, [cloud for one in clouds for cloud in as_clouds(one)[1]]
    found = _from_object(clouds)
    of_several = hasattr(clouds, "num_graphs") or hasattr(clouds, "indices")  # PyG's Batch, and its data sets
    return len(found) == 1 and not of_several, found


def _from_object(clouds: Any) -> list[Cloud]:
    """Return the clouds of a file, or of an object of another package."""
    if isinstance(clouds, Cloud):
        return [clouds]
    if isinstance(clouds, str | Path):
        return read_file(clouds)
    for parent in type(clouds).__mro__:
        if convert := FROM_PACKAGE.get(parent.__module__.partition(".")[0]):
            return convert(clouds)
    advice = ": give a list of clouds, or features={'normal': ...}" if isinstance(clouds, tuple) else ""
    raise InputError(
        "expected an array, a tensor, a file, PyG data, a mesh or cloud of trimesh or Open3D, or a list of these, not "
        f"{type(clouds).__name__}{advice}"
    )


def _from_array(xyz: np.ndarray, features: Mapping[str, Any], batch: np.ndarray | None) -> tuple[bool, list[Cloud]]:
    if xyz.ndim not in (2, 3) or xyz.shape[-1] != 3 or 0 in xyz.shape:
        turned = xyz.ndim in (2, 3) and xyz.shape[-2] == 3
        advice = ": coordinates come last, so swap the last two axes" if turned else ""
        raise InputError(f"clouds have the shape (N, 3) or (B, N, 3), not {xyz.shape}{advice}")
    columns = {name: _column(name, _as_array(values), xyz) for name, values in features.items()}
    xyz = xyz.astype(np.float64)
    if batch is None:
        if xyz.ndim == 2:
            return True, [Cloud(xyz, columns)]
        parts = [(place, slice(None)) for place in range(len(xyz))]
    elif batch.shape != xyz.shape[:-1] or batch.dtype.kind != ("i" if xyz.ndim == 2 else "b"):
        raise InputError(
            f"for points of shape {xyz.shape}, batch is {'integers' if xyz.ndim == 2 else 'a mask'} of shape "
            f"{xyz.shape[:-1]}, not {batch.dtype} of shape {batch.shape}"
        )
    elif xyz.ndim == 2:
        parts = [batch == number for number in np.unique(batch)]
    else:
        parts = [(place, mask) for place, mask in enumerate(batch)]
    return False, [
        Cloud(xyz[part], {name: values[part] for name, values in columns.items()}, name=f"cloud {place}")
        for place, part in enumerate(parts)
    ]


def _column(name: str, values: np.ndarray, xyz: np.ndarray) -> np.ndarray:
    values = values[..., None] if values.shape == xyz.shape[:-1] else values
    if values.shape[:-1] != xyz.shape[:-1]:
        raise InputError(f"{name} of shape {values.shape} does not fit points of shape {xyz.shape}")
    return values


def _as_array(values: Any) -> np.ndarray:
    try:
        if isinstance(values, Tensor):
            values = values.detach().cpu()
            values = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise InputError(f"clouds are arrays of numbers: {error}") from error
    if array.dtype.kind not in "fiub":
        raise InputError(f"clouds are arrays of numbers, not of {array.dtype}")
    return array


def _from_open3d(geometry: Any) -> Cloud:
    if hasattr(geometry, "triangles") and len(geometry.triangles):
        corners = np.asarray(geometry.vertices)[np.asarray(geometry.triangles)]
        return Cloud(*sample_corners(corners, MESH_POINTS), from_mesh=True)
    if not hasattr(geometry, "points"):
        raise InputError(f"expected a PointCloud or a TriangleMesh of Open3D, not {type(geometry).__name__}")
    columns = {}
    if geometry.has_normals():
        columns["normal"] = np.asarray(geometry.normals)
    if geometry.has_colors():
        columns["rgb"] = np.asarray(geometry.colors)
    xyz = np.asarray(geometry.points).astype(np.float64)
    check_points(xyz)
    return Cloud(xyz, columns)


FROM_PACKAGE: dict[str, Callable[[Any], list[Cloud]]] = {
    "open3d": lambda geometry: [_from_open3d(geometry)],
    "trimesh": lambda geometry: [cloud_of_mesh(geometry)],
    "torch_geometric": from_pyg,
}
"""What turns the objects of a package into clouds."""
