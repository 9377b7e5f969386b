"""Clouds of different sizes one after another: the results of single clouds, and of torch-cluster."""

import math
import os
import sys
from inspect import unwrap

import pytest
import torch

import bixt3d.pyg as pyg
from bixt3d.ops import farthest_points, knn
from bixt3d.ops.ragged import ragged_farthest_points, ragged_knn, ragged_pairs
from bixt3d.types import InputError

SIZES = ([1000], [5, 1, 300, 2, 47], [1] * 20, [0, 7, 0, 0, 3], [2500, 1])


def clouds(sizes: list[int], axes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(sum(sizes))
    points = (torch.rand(sum(sizes), axes, generator=generator) * 8).round() / 8  # many ties
    return points, torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))


def split(points: torch.Tensor, sizes: list[int]) -> list[torch.Tensor]:
    return list(points.split(sizes))


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_farthest_points_are_those_of_each_cloud_alone(sizes):
    points, batch = clouds(sizes)
    counts = [math.ceil(size / 3) for size in sizes]
    start, expected = 0, []
    for cloud, count in zip(split(points, sizes), counts, strict=True):
        expected += (farthest_points(cloud[None], count, "torch")[0] + start).tolist() if count else []
        start += len(cloud)
    assert ragged_farthest_points(points, counts, batch).tolist() == expected


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("k", [1, 4, 40])
def test_neighbors_are_those_of_each_cloud_alone_and_minus_1_where_there_are_no_more(sizes, k):
    points, batch = clouds(sizes)
    start, rows = 0, []
    for cloud in split(points, sizes):
        most = min(k, len(cloud))
        own = torch.full((len(cloud), k), -1)
        if most:
            own[:, :most] = knn(cloud[None], cloud[None], most, "torch")[0] + start
        rows.append(own)
        start += len(cloud)
    assert torch.equal(ragged_knn(points, points, k, batch, batch), torch.cat(rows))


@pytest.mark.parametrize("num_clouds", [*map(int, os.environ.get("BIXT3D_CLOUDS", "1,30").split(","))])
def test_up_to_1000_clouds_of_up_to_5000_points_have_the_results_of_single_clouds(num_clouds):
    """BIXT3D_CLOUDS=1000 takes a minute."""
    generator = torch.Generator().manual_seed(num_clouds)
    sizes = (5001 * torch.rand(num_clouds, generator=generator) ** 3).long()
    sizes[0], sizes[num_clouds // 2 :: 7] = 5000, 0 if num_clouds > 1 else 5000
    points = torch.randn(int(sizes.sum()), 3, generator=generator)
    points[::3] = points[::3].round()  # many ties
    batch = torch.repeat_interleave(torch.arange(num_clouds), sizes)
    counts = (sizes * 0.02).ceil().long().tolist()
    neighbors, within = (ragged_knn(points, points, 16, batch, batch, radius) for radius in (math.inf, 0.3))
    chosen, start = ragged_farthest_points(points, counts, batch).split(counts), 0
    for size, count, own in zip(sizes.tolist(), counts, chosen, strict=True):
        cloud, rows = points[None, start : start + size], slice(start, start + size, 50)
        if size:
            assert torch.equal(own - start, farthest_points(cloud, count, "torch")[0])
            most = min(16, size)
            index = knn(cloud[:, ::50], cloud, most, "torch")[0]
            near = (cloud[0, index] - cloud[0, ::50, None]).square().sum(2) < 0.3**2
            assert torch.equal(neighbors[rows, :most], index + start) and (neighbors[rows, most:] < 0).all()
            assert torch.equal(within[rows, :most], torch.where(near, index + start, -1))
            alone = knn(cloud, cloud, most)[0] + start
            assert torch.equal(neighbors[start : start + size, :most], alone)
        start += size


@pytest.mark.parametrize("with_numba", [True, False])
@pytest.mark.parametrize("sizes", [*SIZES[1:4], [500, 1]], ids=str)
@pytest.mark.parametrize("axes", [3, 5])
def test_many_neighbors_found_without_a_table_are_those_of_the_table(monkeypatch, with_numba, sizes, axes):
    monkeypatch.setattr("bixt3d.ops.ragged.is_installed", lambda _: with_numba)
    points, batch = clouds(sizes, axes)
    y, of_y = points[::3] + 0.01, batch[::3]
    for k, r in ((1, math.inf), (40, math.inf), (40, 0.3), (10_000, 0.3), (10_000, 0.0)):
        table = ragged_knn(y, points, min(k, max(sizes)), of_y, batch, r)
        row, place = (table >= 0).nonzero(as_tuple=True)
        for many, numbers in ((1_000_000, 2**22), (0, 2**22), (0, 500)):
            if k < 10_000 or not many:
                monkeypatch.setattr("bixt3d.ops.ragged.MANY_NEIGHBORS", many)
                monkeypatch.setattr("bixt3d.ops.ragged.TABLE", numbers)
                assert torch.equal(ragged_pairs(y, points, k, of_y, batch, r), torch.stack([row, table[row, place]]))


def test_a_limit_above_the_number_of_points_takes_no_memory_for_it(monkeypatch):
    points = torch.rand(20_000, 3, generator=torch.Generator().manual_seed(0))
    expected = pyg.radius(points, points, 0.02, max_num_neighbors=64)
    assert torch.equal(pyg.radius(points, points, 0.02, max_num_neighbors=10**8), expected)
    line = torch.arange(30.0)[:, None]
    monkeypatch.setattr("bixt3d.ops.ragged.is_installed", lambda _: False)
    assert pyg.knn(line, line, 10**12).shape == (2, 900)


def test_a_radius_keeps_the_neighbors_nearer_than_it_nearest_first():
    points, batch = clouds([400, 30])
    found = ragged_knn(points, points, 500, batch, batch, radius=0.5)
    distance = (points[:, None] - points).square().sum(2)
    within = (distance < 0.25) & (batch[:, None] == batch)
    assert torch.equal((found >= 0).sum(1), within.sum(1))
    for row in (0, 200, 420):
        kept = found[row][found[row] >= 0]
        assert distance[row, kept].tolist() == sorted(distance[row, kept].tolist())


def test_other_devices_compute_the_same_with_the_reference_operators(monkeypatch):
    points, batch = clouds([50, 1, 9])
    here = (
        ragged_knn(points, points, 5, batch, batch, 1.0),
        ragged_farthest_points(points, [7, 1, 3], batch, [4, 0, 2]),
    )
    monkeypatch.setattr("bixt3d.ops.ragged.is_installed", lambda _: False)
    there = (
        ragged_knn(points, points, 5, batch, batch, 1.0),
        ragged_farthest_points(points, [7, 1, 3], batch, [4, 0, 2]),
    )
    assert all(torch.equal(one, other) for one, other in zip(here, there, strict=True))


@pytest.mark.parametrize("with_numba", [True, False])
def test_a_batch_without_points_has_no_result(monkeypatch, with_numba):
    monkeypatch.setattr("bixt3d.ops.ragged.is_installed", lambda _: with_numba)
    for none in (torch.zeros(0, dtype=torch.long), None):
        x, y, of_y = torch.zeros(0, 3), torch.rand(5, 3), None if none is None else torch.zeros(5, dtype=torch.long)
        for is_random in (True, False):
            assert pyg.fps(x, none, random_start=is_random).shape == (0,)
        pairs = [pyg.knn_graph(x, 2, none), pyg.radius_graph(x, 0.2, none)]
        for one, number in ((pyg.knn, 2), (pyg.radius, 2.0)):
            pairs += [one(x, y, number, none, of_y), one(y, x, number, of_y, none), one(x, x, number, none, none)]
        assert {tuple(found.shape) for found in pairs} == {(2, 0)}
        assert pyg.nearest(x, y, none, of_y).shape == (0,)


def test_a_random_start_is_a_point_of_its_cloud_and_the_rest_follows_from_it():
    points, batch = clouds([60, 25])
    torch.manual_seed(0)
    chosen = pyg.fps(points, batch, 0.2)
    assert len(chosen) == 12 + 5 and len(chosen.unique()) == 17
    assert (batch[chosen[:12]] == 0).all() and (batch[chosen[12:]] == 1).all()
    first = int(chosen[0])
    moved = torch.cat([points[first : first + 1], points[:60]])
    expected = farthest_points(moved[None], 12)[0]
    assert torch.equal(moved[expected], points[chosen[:12]])


@pytest.mark.parametrize("sizes", SIZES[:3], ids=str)
@pytest.mark.cluster
def test_results_are_those_of_torch_cluster(sizes):
    torch_cluster = pytest.importorskip("torch_cluster", reason="torch-cluster is not built: make test-cluster")
    points, batch = clouds(sizes)
    points = torch.rand(points.shape, generator=torch.Generator().manual_seed(0))  # without ties
    for ratio in (0.1, 0.25, 1.0):
        assert torch.equal(
            pyg.fps(points, batch, ratio, random_start=False), torch_cluster.fps(points, batch, ratio, False)
        )
    index = pyg.fps(points, batch, 0.3, random_start=False)
    y, of_y = points[index], batch[index]
    for k in (1, 3, 16):
        assert torch.equal(pyg.knn(points, y, k, batch, of_y), torch_cluster.knn(points, y, k, batch, of_y))
        assert torch.equal(pyg.knn_graph(points, k, batch), torch_cluster.knn_graph(points, k, batch))
    raster, of_raster = clouds(sizes)
    for r in (0.125, 0.5, 20.0):
        ours, theirs = (one.radius(raster, raster, r, of_raster, of_raster, 3000) for one in (pyg, torch_cluster))
        assert sorted(ours.T.tolist()) == sorted(theirs.T.tolist())
        ours, theirs = (one.radius(points, y, r, batch, of_y, 3000) for one in (pyg, torch_cluster))
        assert sorted(ours.T.tolist()) == sorted(theirs.T.tolist())
    assert torch.equal(pyg.nearest(points, y, batch, of_y), torch_cluster.nearest(points, y, batch, of_y))


def test_graphs_have_no_loops_unless_asked_for_and_the_direction_that_is_asked_for():
    points, batch = clouds([30, 3])
    edges = pyg.knn_graph(points, 4, batch)
    assert (edges[0] != edges[1]).all() and (batch[edges[0]] == batch[edges[1]]).all()
    assert torch.bincount(edges[1]).tolist() == [4] * 30 + [2] * 3
    assert torch.equal(pyg.knn_graph(points, 4, batch, flow="target_to_source"), edges.flip(0))
    loops = pyg.radius_graph(points, 1e-6, batch, loop=True)
    assert (loops[0] == loops[1]).sum() == 33


@pytest.mark.parametrize("with_numba", [True, False])
def test_a_graph_of_0_neighbors_has_no_edges(monkeypatch, with_numba):
    monkeypatch.setattr("bixt3d.ops.ragged.is_installed", lambda _: with_numba)
    x, batch = clouds([5, 3])
    found = [pyg.knn(x, x, 0, batch, batch), pyg.radius(x, x, 1.0, batch, batch, 0)]
    for loop in (True, False):
        found += [pyg.knn_graph(x, 0, batch, loop), pyg.radius_graph(x, 1.0, batch, loop, 0)]
    assert {tuple(pairs.shape) for pairs in found} == {(2, 0)}


def test_a_radius_graph_has_the_nearest_up_to_its_limit():
    x = torch.tensor([0.0, 1.0, 1.5, 4.0])[:, None]
    assert pyg.radius_graph(x, 9.0, max_num_neighbors=1).T.tolist() == [[1, 0], [2, 1], [1, 2], [2, 3]]
    same = torch.zeros(4, 1)  # the point itself is not among its first two
    assert pyg.radius_graph(same, 9.0, max_num_neighbors=1).T.tolist() == [[1, 0], [0, 1], [0, 2], [0, 3]]


def test_points_at_the_radius_itself_are_no_neighbors_as_in_torch_cluster(monkeypatch):
    line = torch.arange(3.0)[:, None].repeat(1, 3) * torch.tensor([1.0, 0, 0])
    for is_there in (True, False):
        monkeypatch.setattr("bixt3d.ops.ragged.is_installed", lambda _, there=is_there: there)
        assert pyg.radius_graph(line, 1.0).shape == (2, 0) and pyg.radius(line, line, 0.0).shape == (2, 0)
        assert pyg.radius_graph(line, 1.001).T.tolist() == [[1, 0], [0, 1], [2, 1], [1, 2]]
        assert pyg.radius(line, line, 1e30).shape == pyg.radius(line, line, math.inf).shape == (2, 9)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda x, b: pyg.fps(x, b.flip(0)), "sorted"),
        (lambda x, b: pyg.fps(x, b, ratio=0.0), "ratio"),
        (lambda x, b: pyg.knn(x, x, -1, b, b), "k is at least 0, not -1"),
        (lambda x, b: pyg.knn_graph(x, -1, b), "k is at least 0, not -1"),
        (lambda x, b: pyg.radius_graph(x, 1.0, b, max_num_neighbors=-1), "max_num_neighbors is at least 0, not -1"),
        (lambda x, b: unwrap(pyg.knn)(x, x, 2.5, b, b), "k is a whole number, not 2.5"),
        (lambda x, b: unwrap(pyg.knn_graph)(x, 2.5, b), "k is a whole number, not 2.5"),
        (lambda x, b: unwrap(pyg.radius)(x, x, 1.0, b, b, None), "max_num_neighbors is a whole number, not None"),
        (lambda x, b: pyg.radius(x, x, math.nan, b, b), "the radius is a number, not NaN"),
        (lambda x, b: pyg.radius_graph(x, math.nan, b, max_num_neighbors=1000), "the radius is a number, not NaN"),
        (lambda x, b: pyg.knn(x, x[:, :2], 1, b, b), "axes"),
        (lambda x, b: pyg.knn(x * math.nan, x, 1, b, b), "finite"),
        (lambda x, b: pyg.knn(x, x, 1, b[:-1], b), "batch has the cloud"),
        (lambda x, b: pyg.knn(x, x, 1, b), "2 clouds, but no batch vector says which of them the queries"),
        (lambda x, b: pyg.radius(x, x, 0.1, None, b), "no batch vector says which of them the points"),
        (lambda x, b: pyg.nearest(x, x[b == 0], b, b[b == 0]), "none in y"),
    ],
)
def test_wrong_input_is_refused_in_a_sentence(call, sentence):
    with pytest.raises(InputError, match=sentence):
        call(*clouds([10, 10]))


class PointNet2(torch.nn.Module):
    """The segmentation example of torch_geometric: set abstraction, global pooling, feature propagation."""

    def __init__(self):
        super().__init__()
        from torch_geometric.nn import MLP, PointNetConv

        self.sa1 = PointNetConv(MLP([3 + 3, 16, 16]), add_self_loops=False)
        self.sa2 = PointNetConv(MLP([16 + 3, 32]), add_self_loops=False)
        self.sa3, self.fp3 = MLP([32 + 3, 32]), MLP([32 + 32, 32])
        self.fp2, self.fp1 = MLP([32 + 16, 16]), MLP([16 + 3, 8])

    def forward(self, pos: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        import torch_geometric.nn as pyg_nn  # at each call: functions may have been replaced

        levels = [(pos, pos, batch)]
        for conv, ratio, r in ((self.sa1, 0.5, 0.3), (self.sa2, 0.25, 0.6)):
            x, pos, batch = levels[-1]
            index = pyg_nn.fps(pos, batch, ratio=ratio, random_start=False)
            row, col = pyg_nn.radius(pos, pos[index], r, batch, batch[index], max_num_neighbors=64)
            feats = conv((x, x[index]), (pos, pos[index]), torch.stack([col, row]))
            levels.append((feats, pos[index], batch[index]))
        x, pos, batch = levels[-1]
        feats = pyg_nn.global_max_pool(self.sa3(torch.cat([x, pos], 1)), batch)
        place = pos.new_zeros(len(feats), 3), torch.arange(len(feats))
        for mlp, k in ((self.fp3, 1), (self.fp2, 3), (self.fp1, 3)):
            x, pos, batch = levels.pop()
            feats = pyg_nn.knn_interpolate(feats, place[0], pos, place[1], batch, k=k)
            feats, place = mlp(torch.cat([feats, x], 1)), (pos, batch)
        return feats


def run_pointnet2() -> list[torch.Tensor]:
    """Return logits and gradients of the example, in float64."""
    torch.manual_seed(0)
    points, batch = torch.rand(224, 3).double(), torch.arange(224) // 128
    model = PointNet2().double()
    logits = model(points, batch)
    logits.square().sum().backward()
    return [logits.detach(), *(one.grad for one in model.parameters())]


def test_the_pointnet2_example_of_pyg_trains_with_these_functions():
    pyg.use_in_pyg()
    logits, *grads = run_pointnet2()
    assert logits.shape == (224, 8)
    assert all(one is not None and one.isfinite().all() for one in grads) and any(one.any() for one in grads)


@pytest.mark.cluster
def test_the_pointnet2_example_of_pyg_has_the_same_logits_and_gradients_with_torch_cluster(monkeypatch):
    torch_cluster = pytest.importorskip("torch_cluster", reason="torch-cluster is not built: make test-cluster")
    import torch_geometric.nn as pyg_nn

    pyg.use_in_pyg()
    ours, calls = run_pointnet2(), []

    def counted(function):
        return lambda *arguments, **named: calls.append(function.__name__) or function(*arguments, **named)

    for module, name in ((pyg_nn, "fps"), (pyg_nn, "radius"), (sys.modules[pyg_nn.knn_interpolate.__module__], "knn")):
        assert vars(module)[name] is getattr(pyg, name)
        monkeypatch.setattr(module, name, counted(getattr(torch_cluster, name)))
    torch.testing.assert_close(run_pointnet2(), ours)
    assert calls == ["fps", "radius"] * 2 + ["knn"] * 3
