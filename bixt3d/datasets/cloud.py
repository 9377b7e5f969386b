"""A cloud as people have it: any number of points, positions in double precision, features by name."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped
from torch import Tensor

from bixt3d.datasets.feature_columns import feature_name, unit_normals
from bixt3d.datasets.upright import Up
from bixt3d.types import InputError


@dataclass(frozen=True, eq=False)
class Cloud:
    """Points of one object.

    Args:
        xyz: positions, in the units and the frame of whoever gives them.
        columns: features by name, each with a row for each point: ``normal`` of length 1 (a few may be 0), ``rgb`` from
            0 to 1, 0 to 255 or 0 to 65535, and any other.
        name: what messages call it.
        from_mesh: the points were spread over a surface, and the normals are those of its faces.
        up: what is up, where the format of its file says so.
        notes: what was guessed, changed or left out when it was read, each in a few words.
    """

    xyz: Float[np.ndarray, "N 3"]
    columns: Mapping[str, Shaped[np.ndarray, "N _"]] = field(default_factory=dict)
    name: str = "the input"
    from_mesh: bool = False
    up: Up | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.xyz)


def as_array(values: Any, what: str = "clouds") -> np.ndarray:
    """Return an array or tensor, wherever it lies, as an array of numbers. Raises InputError for anything else."""
    if np.ma.is_masked(values):
        raise InputError(f"{what}: some numbers of this array are masked; give the points that are there alone")
    try:
        if isinstance(values, Tensor):
            values = values.detach()
            values = (values.float() if values.dtype.itemsize < 4 and values.is_floating_point() else values).cpu()
            values = values.numpy(force=True)  # conjugated and negated views too
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists; sparse tensors, and those without memory
        raise InputError(f"{what}: expected an array of numbers ({' '.join(str(error).split())})") from error
    if array.dtype.kind not in "fiub":
        raise InputError(f"{what}: expected an array of numbers, not of {array.dtype}")
    return array


def standard_cloud(cloud: Cloud) -> Cloud:
    """Return a cloud with the numbers and the names of features that `Cloud` promises; notes say what was changed.

    Raises InputError for positions or features that have no such shape, or are no numbers.
    """
    xyz = as_array(cloud.xyz, cloud.name)
    if xyz.ndim != 2 or xyz.shape[1] != 3 or not len(xyz) or xyz.dtype.kind == "b":
        raise InputError(f"{cloud.name} has positions of {xyz.dtype} of shape {xyz.shape}: they are numbers (N, 3)")
    columns = {}
    for name, values in cloud.columns.items():
        columns[feature_name(name)] = as_column(name, values, xyz.shape)
    xyz, notes = np.require(xyz, np.float64, ["C", "W"]), cloud.notes
    if columns.get("normal", xyz[:, :0]).shape[1] == 3:
        normals = unit_normals(given := columns.pop("normal"))
        if normals is None:
            notes += ("its normals left out, which have no direction or are not finite",)
        else:
            columns["normal"] = normals
            notes += ("normals scaled to length 1",) * (normals is not given)
    return replace(cloud, xyz=xyz, columns=columns, notes=notes)


def as_column(name: str, values: Any, shape: tuple[int, ...]) -> Shaped[np.ndarray, "*N _"]:
    """Return a feature of points of this shape as an array with columns. Raises InputError if it does not fit."""
    values = as_array(values, name)
    values = values[..., None] if values.shape == shape[:-1] else values
    if values.shape[:-1] != shape[:-1]:
        raise InputError(f"{name} of shape {values.shape} does not fit points of shape {shape}")
    return values
