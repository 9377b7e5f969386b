"""Conversion from and to PyTorch Geometric's ``Data``; torch_geometric is imported on the first call."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from bixt3d.datasets.files.cloud import Cloud, as_array
from bixt3d.datasets.files.precision import coarse_notes
from bixt3d.io.extras import need
from bixt3d.types import CloudSet, InputError

if TYPE_CHECKING:
    from torch_geometric.data import Data

NOT_FEATURES = ("pos", "batch", "ptr", "y", "edge_index", "edge_attr", "face")
"""Attributes of a ``Data`` that are not point features."""


def to_pyg(clouds: CloudSet) -> "list[Data]":
    """Return a ``Data`` for every cloud of a set: ``pos``, ``y`` (its class, shape (1,)) and each feature by name."""
    need("PyTorch Geometric's Data", "torch_geometric")
    from torch_geometric.data import Data

    graphs = [Data(pos=xyz, y=label) for xyz, label in zip(clouds.xyz, clouds.label.unsqueeze(1), strict=True)]
    for name in clouds.features.names:
        for graph, values in zip(graphs, clouds.features.take(clouds.feats, name), strict=True):
            graph[name] = values
    return graphs


def from_pyg(data: Any) -> list[Cloud]:
    """Return the clouds of a ``Data``, a ``Batch``, or an iterable of ``Data`` such as a PyG data set.

    Positions are ``pos``; every other tensor with a row for each point is a feature of the same name (``normal``,
    ``rgb``, ``intensity``; ``x`` too). Clouds may differ in size.
    """
    need("PyTorch Geometric's Data", "torch_geometric")
    from torch_geometric.data import Batch, Data

    if isinstance(data, Batch):
        graphs = data.to_data_list()
    elif isinstance(data, Data):
        graphs = [data]
    elif isinstance(data, Iterable):
        graphs = list(data)
    else:
        raise InputError(f"expected a torch_geometric Data, Batch or list of Data, not {type(data).__name__}")
    return [_cloud(graph, index) for index, graph in enumerate(graphs)]


def _cloud(graph: Any, index: int) -> Cloud:
    xyz = getattr(graph, "pos", None)
    if xyz is None or xyz.ndim != 2 or xyz.shape[1] != 3:
        raise InputError(f"graph {index} has no pos of shape (N, 3): points in space are what a cloud is made of")
    for name in ("normal", "x"):
        values = getattr(graph, name, None)
        if isinstance(values, Tensor) and len(values) != len(xyz):
            raise InputError(f"graph {index} has {len(xyz)} positions, but {name} of {len(values)} points")
    columns = {
        name: as_array(values, f"graph {index}: {name}").reshape(len(xyz), -1)
        for name, values in graph.to_dict().items()
        if isinstance(values, Tensor) and name not in NOT_FEATURES and values.ndim in (1, 2) and len(values) == len(xyz)
    }
    given = as_array(xyz)
    notes = coarse_notes(given.astype(np.float64), [given.dtype] * 3)
    return Cloud(given.astype(np.float64), columns, name=f"graph {index}", notes=notes)
