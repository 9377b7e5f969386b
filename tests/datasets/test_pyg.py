import numpy as np
import pytest
import torch

from bixt3d.datasets.files.pyg import from_pyg, to_pyg
from bixt3d.types import CloudSet, Features, InputError

data = pytest.importorskip("torch_geometric.data", reason="needs torch-geometric", exc_type=ImportError)


def clouds(text: str) -> CloudSet:
    features = Features.parse(text)
    feats, label = torch.randn(4, 5, features.width), torch.tensor([2, 0, 1, 1])
    return CloudSet(torch.randn(4, 5, 3), feats, label, ("a", "b", "c"), features=features)


@pytest.mark.parametrize("features", ["", "normal", "rgb,intensity,fpfh:4"])
def test_clouds_come_back_as_they_went_each_feature_by_its_name(features):
    before = clouds(features)
    graphs = to_pyg(before)
    after = from_pyg(graphs)
    assert [graph.y.tolist() for graph in graphs] == [[2], [0], [1], [1]]
    assert all(tuple(cloud.columns) == before.features.names for cloud in after)
    for place, cloud in enumerate(after):
        assert (cloud.xyz == before.xyz[place].numpy()).all()
        for name, values in cloud.columns.items():
            assert (values == before.features.take(before.feats, name)[place].numpy()).all()


def test_a_batch_of_graphs_of_different_sizes_comes_apart():
    graphs = [data.Data(pos=torch.randn(size, 3)) for size in (1, 4, 2)]
    parts = from_pyg(data.Batch.from_data_list(graphs))
    assert [cloud.xyz.shape for cloud in parts] == [(1, 3), (4, 3), (2, 3)]
    assert (parts[1].xyz == graphs[1].pos.numpy()).all()


def test_positions_far_from_the_origin_lose_no_digit():
    pos = torch.tensor([[500000.125, 5400000.25, 1.0], [500001.0, 5400000.0, 2.0]], dtype=torch.float64)
    (cloud,) = from_pyg(data.Data(pos=pos, x=torch.arange(2)))
    assert cloud.xyz.dtype == np.float64 and (cloud.xyz == pos.numpy()).all()
    assert cloud.columns["x"].tolist() == [[0], [1]]


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (data.Data(x=torch.zeros(3, 3)), "graph 0 has no pos"),
        (data.Data(pos=torch.zeros(3, 2)), "graph 0 has no pos"),
        (data.Data(pos=torch.zeros(3, 3), x=torch.zeros(2, 1)), "3 positions, but x of 2"),
        (7, "not int"),
    ],
)
def test_what_is_no_cloud_is_refused(graph, message):
    with pytest.raises(InputError, match=message):
        from_pyg(graph)
