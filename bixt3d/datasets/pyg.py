"""Clouds as PyTorch Geometric's ``Data``, and back; torch_geometric is imported only when one of these is called."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from torch import Tensor

from bixt3d.types import CloudSet, InputError

if TYPE_CHECKING:
    from torch_geometric.data import Data


def to_pyg(clouds: CloudSet) -> "list[Data]":
    """Return a ``Data`` for every cloud: ``pos``, ``y`` (its class, shape (1,)) and, if feats are normals, ``normal``.

    Feats of another width than 3 are not normals and are left out.
    """
    from torch_geometric.data import Data

    graphs = [Data(pos=xyz, y=label) for xyz, label in zip(clouds.xyz, clouds.label.unsqueeze(1), strict=True)]
    if clouds.feats.shape[2] == 3:
        for graph, normal in zip(graphs, clouds.feats, strict=True):
            graph.normal = normal
    return graphs


def from_pyg(data: Any) -> list[tuple[Tensor, Tensor]]:
    """Return ``xyz (N, 3)`` and ``feats (N, F)`` of every graph of a ``Data``, a ``Batch``, a list or a PyG data set.

    Feats are ``normal`` where there is one, else ``x``, else of width 0; graphs may differ in size.
    """
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


def _cloud(graph: Any, index: int) -> tuple[Tensor, Tensor]:
    xyz = getattr(graph, "pos", None)
    if xyz is None or xyz.ndim != 2 or xyz.shape[1] != 3:
        raise InputError(f"graph {index} has no pos of shape (N, 3): points in space are what a cloud is made of")
    feats = getattr(graph, "normal", None)
    feats = getattr(graph, "x", None) if feats is None else feats
    feats = xyz.new_zeros(len(xyz), 0) if feats is None else feats
    feats = feats.unsqueeze(1) if feats.ndim == 1 else feats
    if len(feats) != len(xyz):
        raise InputError(f"graph {index} has {len(xyz)} positions, but features of {len(feats)} points")
    return xyz.float(), feats.float()
