"""What operators on clouds of different sizes cost, as PyTorch Geometric batches them, beside torch-cluster."""

import math
from collections.abc import Iterator
from functools import partial

import torch
from bench_case import Case, How, Row, Run, Target
from bench_measure import CannotRunError, measure
from torch import Tensor

import bixt3d.pyg
from bixt3d.ops import farthest_points, knn
from bixt3d.ops.reference import squared_distances

NEIGHBORS, MOST = 16, 64
"""Neighbors of a kNN, and the most of a radius search."""

COMPARED = 200
"""Queries of a cloud whose neighbors are compared with those of the reference."""


def bench_ragged(how: How) -> Iterator[list[Row]]:
    """Measure farthest points, kNN and radius search on a batch and on one large cloud."""
    sizes = torch.randint(1024, 2049, (32,)).tolist()
    batches = [("32 x 1024..2048", sizes, (0.5, 0.25), 0.15), ("1 x 100000", [100_000], (0.01,), 0.035)]
    if how.on_gpu:
        batches.append(("1 x 1000000", [1_000_000], (0.001,), 0.016))
    for title, sizes, ratios, r in [("3 x 20..60", [60, 20, 45], (0.25,), 0.3)] if how.small else batches:
        batch = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)).to(how.device)
        points = torch.rand(len(batch), 3, device=how.device)
        for ratio in ratios:
            yield measure(_fps_case(f"ragged farthest points, {title}, ratio {ratio}", points, batch, ratio, how), how)
        yield measure(_knn_case(f"ragged kNN, {title}, k {NEIGHBORS}", points, batch, how), how)
        yield measure(_radius_case(f"ragged radius search, {title}, r {r}", points, batch, r), how)


def _variants(name: str, points: Tensor, *others: object) -> dict[str, Run]:
    """Return a function of both packages; where torch-cluster is missing its row says so."""
    arguments = (points, *others)

    def theirs() -> Tensor:
        import torch_cluster

        if points.is_cuda and len(points) >= 100_000 and name != "fps":
            raise CannotRunError("torch-cluster took 145 s on one cloud of 100k points on an H200")

        return getattr(torch_cluster, name)(*arguments)

    return {"torch-cluster": theirs, "bixt3d.pyg": partial(getattr(bixt3d.pyg, name), *arguments)}


def _split(points: Tensor, batch: Tensor) -> list[Tensor]:
    return list(points.split(torch.bincount(batch).tolist()))


def _fps_case(title: str, points: Tensor, batch: Tensor, ratio: float, how: How) -> Case:
    start, expected = 0, []
    for cloud in _split(points, batch):
        expected.append(farthest_points(cloud[None], math.ceil(ratio * len(cloud)), "torch")[0] + start)
        start += len(cloud)
    reference = torch.cat(expected)

    def check(name: str, index: Tensor) -> None:
        assert index.shape == reference.shape, f"shape {tuple(index.shape)}"
        if name == "bixt3d.pyg":
            assert index.equal(reference), f"{(index != reference).sum()} of {len(reference)} points are others"
        else:  # rounded in another way it may choose another of points that are equally far
            assert batch[index].equal(batch[reference]), "points of other clouds"

    targets = () if how.on_gpu else (Target("bixt3d.pyg", "speedup", 10, "torch-cluster"),)
    variants = _variants("fps", points, batch, ratio, False)
    return Case(title, "bixt3d.pyg", variants, check, int(batch[-1]) + 1, "clouds", targets=targets)


def _knn_case(title: str, points: Tensor, batch: Tensor, how: How) -> Case:
    start, expected = 0, []
    for cloud in _split(points, batch):
        expected.append(knn(cloud[None, :COMPARED], cloud[None], NEIGHBORS, "torch")[0] + start)
        start += len(cloud)
    reference = torch.cat(expected)
    compared = torch.cat([place < COMPARED for place in _places(batch)])

    def check(name: str, pairs: Tensor) -> None:
        index = pairs[1].view(-1, NEIGHBORS)[compared]
        if name == "bixt3d.pyg":
            assert index.equal(reference), f"{(index != reference).sum()} of {reference.numel()} neighbors are others"
        found, right = (squared_distances(points[compared][:, None], points[one]) for one in (index, reference))
        torch.testing.assert_close(found, right, rtol=1e-3, atol=1e-6)

    targets = () if how.on_gpu else (Target("bixt3d.pyg", "speedup", 4, "torch-cluster"),)
    variants = _variants("knn", points, points, NEIGHBORS, batch, batch)
    return Case(title, "bixt3d.pyg", variants, check, len(points), "queries", targets=targets)


def _places(batch: Tensor) -> list[Tensor]:
    return [torch.arange(number, device=batch.device) for number in torch.bincount(batch).tolist()]


def _radius_case(title: str, points: Tensor, batch: Tensor, r: float) -> Case:
    """Return the radius search of all points; it is so small that few have more neighbors than are kept."""

    def check(name: str, pairs: Tensor) -> None:
        assert batch[pairs[0]].equal(batch[pairs[1]]), "neighbors in other clouds"
        distance = squared_distances(points[pairs[0]], points[pairs[1]])
        assert (distance <= (1 + 1e-5) * r * r).all(), "neighbors outside of the radius"
        share = pairs.shape[1] / number
        assert abs(share - 1) < 1e-4, f"{share:.5f} of the neighbors"

    number = bixt3d.pyg.radius(points, points, r, batch, batch, 2 * MOST).shape[1]
    variants = _variants("radius", points, points, r, batch, batch, MOST)
    return Case(title, "bixt3d.pyg", variants, check, len(points), "queries")
