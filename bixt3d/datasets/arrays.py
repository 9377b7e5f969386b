"""Clouds as Python programs hold them: arrays, tensors, PyG data, and lists of these."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bixt3d.datasets.pyg import from_pyg
from bixt3d.types import InputError


def as_clouds(clouds: Any, normals: Any) -> tuple[bool, list[tuple[Tensor, Tensor]]]:
    """Return whether one cloud was given, and every cloud as (xyz, feats), on the CPU.

    ``feats`` have width 0 where there are none.
    """
    if isinstance(clouds, (np.ndarray, Tensor)):
        xyz = _as_tensor(clouds)
        if xyz.ndim not in (2, 3) or xyz.shape[-1] != 3 or 0 in xyz.shape:
            raise InputError(f"clouds have the shape (N, 3) or (B, N, 3), not {tuple(xyz.shape)}")
        feats = xyz[..., :0] if normals is None else _as_tensor(normals)
        if feats.shape[:-1] != xyz.shape[:-1]:
            raise InputError(f"normals of shape {tuple(feats.shape)} do not fit points of shape {tuple(xyz.shape)}")
        return (True, [(xyz, feats)]) if xyz.ndim == 2 else (False, list(zip(xyz, feats, strict=True)))
    if isinstance(clouds, (list, tuple)):
        each = normals if normals is not None else [None] * len(clouds)
        if len(each) != len(clouds):
            raise InputError(f"got {len(each)} normals for {len(clouds)} clouds")
        return False, [pair for cloud, its in zip(clouds, each, strict=True) for pair in as_clouds(cloud, its)[1]]
    if clouds is None or isinstance(clouds, (str, bytes, Path)):
        raise InputError(f"expected an array, a tensor, PyG data or a list of these, not {type(clouds).__name__}")
    from torch_geometric.data import Batch, Data

    pairs = [(xyz.cpu(), feats.cpu()) for xyz, feats in from_pyg(clouds)]
    return isinstance(clouds, Data) and not isinstance(clouds, Batch), pairs


def _as_tensor(array: np.ndarray | Tensor) -> Tensor:
    try:
        return torch.as_tensor(array).detach().cpu()
    except TypeError as error:
        raise InputError(f"clouds are arrays of numbers, not of {array.dtype}") from error
