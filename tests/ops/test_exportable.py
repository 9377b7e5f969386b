"""Farthest point sampling and kNN under torch.export and in the ONNX exporter."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from bixt3d.ops.neighbors import farthest_points, knn

Run = Callable[[Tensor], tuple[Tensor, ...]]


class Search(nn.Module):
    """Nothing but the search for points: centroids, and their neighbors."""

    def __init__(self, num_points: int, num_neighbors: int):
        super().__init__()
        self.num_points, self.num_neighbors = num_points, num_neighbors

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor]:
        return farthest_points(points, self.num_points), knn(points, points, self.num_neighbors)


def any_number() -> dict[str, dict]:
    return {"points": {0: torch.export.Dim("batch", min=1)}}


def in_torch(search: Search, points: Tensor) -> Run:
    return torch.export.export(search, (points,), dynamic_shapes=any_number()).module()


def in_onnx(search: Search, points: Tensor) -> Run:
    pytest.importorskip("onnxscript", reason="onnxscript is not installed (pip install bixt3d[export])")
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (pip install bixt3d[export])")
    program = torch.onnx.export(search.eval(), (points,), dynamic_shapes=any_number(), dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda points: tuple(map(torch.from_numpy, session.run(None, {"points": points.numpy()})))


def check(run: Run, search: Search, points: Tensor) -> None:
    index, neighbor_index = run(points)
    assert torch.equal(index, farthest_points(points, search.num_points, "torch"))
    assert torch.equal(neighbor_index, knn(points, points, search.num_neighbors, "torch"))


@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated:FutureWarning")  # torch 2.11
@pytest.mark.parametrize("export", [in_torch, in_onnx])
def test_exported_points_are_those_of_the_reference_ties_included(export: Callable[[Search, Tensor], Run]):
    search = Search(num_points=20, num_neighbors=10)
    run = export(search, torch.randn(2, 64, 3))
    axis = torch.arange(4.0)
    grid = torch.cartesian_prod(axis, axis, axis)[torch.randperm(64)][None]  # nearly every distance is a tie
    for points in (torch.randn(5, 64, 3), grid, torch.randn(2, 16, 3).repeat(1, 4, 1), torch.ones(1, 64, 3)):
        check(run, search, points)


@pytest.mark.parametrize("num_points", [1, 64])
def test_one_point_and_every_point_can_be_exported(num_points: int):
    search = Search(num_points, num_neighbors=num_points)
    check(in_torch(search, torch.randn(2, 64, 3)), search, torch.randn(3, 64, 3))


def test_the_graph_does_not_grow_with_the_number_of_farthest_points():
    graphs = [in_torch(Search(num_points, 2), torch.randn(2, 64, 3)).graph for num_points in (4, 60)]
    assert len(graphs[0].nodes) == len(graphs[1].nodes)
