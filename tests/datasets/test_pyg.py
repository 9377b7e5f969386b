import pytest
import torch

from bixt3d.datasets.pyg import from_pyg, to_pyg
from bixt3d.types import CloudSet, InputError

data = pytest.importorskip("torch_geometric.data", reason="needs torch-geometric", exc_type=ImportError)


def clouds(num_feats: int) -> CloudSet:
    return CloudSet(torch.randn(4, 5, 3), torch.randn(4, 5, num_feats), torch.tensor([2, 0, 1, 1]), ("a", "b", "c"))


@pytest.mark.parametrize("num_feats", [0, 3])
def test_clouds_come_back_as_they_went(num_feats):
    before = clouds(num_feats)
    graphs = to_pyg(before)
    after = from_pyg(graphs)
    assert [graph.y.tolist() for graph in graphs] == [[2], [0], [1], [1]]
    assert torch.equal(torch.stack([xyz for xyz, _ in after]), before.xyz)
    assert torch.equal(torch.stack([feats for _, feats in after]), before.feats)


def test_feats_that_are_no_normals_stay_behind():
    assert "normal" not in to_pyg(clouds(4))[0]


def test_a_batch_of_graphs_of_different_sizes_comes_apart():
    graphs = [data.Data(pos=torch.randn(size, 3)) for size in (1, 4, 2)]
    parts = from_pyg(data.Batch.from_data_list(graphs))
    assert [(xyz.shape, feats.shape) for xyz, feats in parts] == [((1, 3), (1, 0)), ((4, 3), (4, 0)), ((2, 3), (2, 0))]
    assert torch.equal(parts[1][0], graphs[1].pos)


def test_one_graph_is_a_list_of_one_and_normals_come_before_x():
    graph = data.Data(pos=torch.zeros(2, 3), normal=torch.ones(2, 3), x=torch.zeros(2, 7))
    ((_, feats),) = from_pyg(graph)
    assert feats.tolist() == [[1, 1, 1], [1, 1, 1]]


def test_x_gives_features_and_doubles_become_floats():
    ((xyz, feats),) = from_pyg(data.Data(pos=torch.zeros(2, 3, dtype=torch.float64), x=torch.arange(2)))
    assert xyz.dtype == feats.dtype == torch.float32
    assert feats.tolist() == [[0], [1]]


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (data.Data(x=torch.zeros(3, 3)), "graph 0 has no pos"),
        (data.Data(pos=torch.zeros(3, 2)), "graph 0 has no pos"),
        (data.Data(pos=torch.zeros(3, 3), x=torch.zeros(2, 1)), "3 positions, but features of 2"),
        (7, "not int"),
    ],
)
def test_what_is_no_cloud_is_refused(graph, message):
    with pytest.raises(InputError, match=message):
        from_pyg(graph)
