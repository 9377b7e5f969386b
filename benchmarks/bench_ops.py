"""What point operators cost: farthest point sampling and nearest neighbors, beside what others offer."""

import math
from collections.abc import Iterator
from functools import partial

import bench_textbook
import numpy as np
import torch
from bench_case import Case, How, Row, Run, Target
from bench_measure import CannotRunError, measure, not_run
from bench_ragged import bench_ragged
from torch import Tensor

from bixt3d.ops import farthest_points, gather, knn
from bixt3d.ops.reference import squared_distances

EXACT = ("torch", "numba", "triton", "auto")
"""Backends of ours whose choice is that of the reference, index for index."""


def bench_ops(how: How) -> Iterator[list[Row]]:
    """Measure all point operators, on dense batches and on clouds of different sizes."""
    for num_clouds, size, num_points in sampling_sizes(how):
        yield measure(sampling_case(num_clouds, size, num_points, how), how)
    for num_clouds, groups, size, num_neighbors in neighbor_sizes(how):
        yield measure(neighbor_case(num_clouds, groups, size, num_neighbors, how), how)
    yield from bench_ragged(how)


def sampling_sizes(how: How) -> list[tuple[int, int, int]]:
    """Return numbers of clouds, of their points, and of points to choose."""
    if how.small:
        return [(2, 64, 16)]
    batches = [(num_clouds, 1024, 512) for num_clouds in ((1, 8, 32, 128) if how.on_gpu else (32,))]
    return [*batches, (32, 2048, 512), (1, 100_000, 1000)]


def neighbor_sizes(how: How) -> list[tuple[int, int, int, int]]:
    """Return numbers of clouds, of queries, of points, and of neighbors."""
    if how.small:
        return [(2, 16, 64, 4)]
    million = [(1, 100_000, 1_000_000, 16)] if how.on_gpu else []
    return [(32, 512, 1024, 24), (32, 2048, 2048, 32), (1, 10_000, 100_000, 32), *million]


def sampling_case(num_clouds: int, size: int, num_points: int, how: How) -> Case:
    """Return farthest point sampling of random clouds."""
    xyz = torch.randn(num_clouds, size, 3, device=how.device)
    reference = farthest_points(xyz, num_points, "torch")
    reach = _reach(xyz, reference)
    variants: dict[str, Run] = {"textbook": partial(bench_textbook.farthest_points, xyz, num_points)}
    for backend in ("torch", "cluster", "numba", "triton", "auto"):
        variants[backend] = partial(farthest_points, xyz, num_points, backend)
    variants |= {"torch-quickfps": _quickfps(xyz, num_points), "Open3D": _open3d_sampling(xyz, num_points)}

    def check(name: str, index: Tensor) -> None:
        assert index.shape == reference.shape, f"shape {tuple(index.shape)}"
        if name in EXACT:
            assert index.equal(reference), f"{(index != reference).sum()} of {reference.numel()} points are others"
        else:  # float64, or another order of a sum, may choose another of points equally far but for rounding
            torch.testing.assert_close(_reach(xyz, index), reach, rtol=0.05, atol=0)

    title = f"farthest points, {num_clouds} x {size} -> {num_points}"
    fast = [Target("triton", "median_ms", 1.0)] if size == 1024 else []
    targets = fast if how.on_gpu else [Target("auto", "speedup", 20)]
    return Case(title, "textbook", variants, check, num_clouds, "clouds", targets=tuple(targets))


def _reach(xyz: Tensor, index: Tensor) -> Tensor:
    """Return for each cloud how far its farthest point is from the nearest of those chosen."""
    chosen = gather(xyz, index)
    return squared_distances(xyz, gather(chosen, knn(xyz, chosen, 1))[:, :, 0]).amax(1).sqrt()


def neighbor_case(num_clouds: int, groups: int, size: int, num_neighbors: int, how: How) -> Case:
    """Return the search for nearest neighbors of some points of random clouds."""
    points = torch.randn(num_clouds, size, 3, device=how.device)
    queries = points[:, :groups].contiguous()
    reference = knn(queries, points, num_neighbors, "torch")
    distance = squared_distances(queries[:, :, None], gather(points, reference))
    variants: dict[str, Run] = {
        "textbook": partial(bench_textbook.knn, queries, points, num_neighbors),
        "cdist + topk": partial(bench_textbook.knn_by_cdist, queries, points, num_neighbors),
    }
    for backend in ("torch", "cluster", "numba", "triton", "auto"):
        variants[backend] = partial(knn, queries, points, num_neighbors, backend)
    if how.on_gpu and size > 10_000:
        variants["cluster"] = not_run("torch-cluster took 145 s on one cloud of 100k points on an H200")
    variants["scipy"] = _scipy(queries, points, num_neighbors)
    variants["pykdtree"] = _pykdtree(queries, points, num_neighbors)
    variants["Open3D"] = _open3d_neighbors(queries, points, num_neighbors)

    def check(name: str, index: Tensor) -> None:
        assert index.shape == reference.shape, f"shape {tuple(index.shape)}"
        if name in EXACT:
            assert index.equal(reference), f"{(index != reference).sum()} of {reference.numel()} neighbors are others"
        else:  # they may order neighbors that are equally far but for rounding in another way
            found = squared_distances(queries[:, :, None], gather(points, index))
            torch.testing.assert_close(found, distance, rtol=1e-3, atol=1e-4)

    title = f"kNN, {num_clouds} x ({groups} of {size}), k {num_neighbors}"
    targets = () if how.on_gpu else (Target("auto", "speedup", 4),)
    return Case(title, "textbook", variants, check, num_clouds, "clouds", targets=targets)


def _on_cpu_only(package: str, points: Tensor) -> None:
    if points.is_cuda:
        raise CannotRunError(f"{package} works on the CPU: see the table of a CPU")


def _quickfps(xyz: Tensor, num_points: int) -> Run:
    height = max(1, round(math.log2(xyz.shape[1]) / 2 - 2))  # of its tree: about sqrt(N) / 4 leaves were fastest

    def run() -> Tensor:
        _on_cpu_only("torch-quickfps", xyz)
        import torch_quickfps

        return torch_quickfps.sample_idx(xyz, num_points, h=height, start_idx=0)

    return run


def _open3d_sampling(xyz: Tensor, num_points: int) -> Run:
    """Open3D returns the chosen points in the order of the cloud; their indices are looked up after the first call."""
    ready: list = []

    def run() -> object:
        _on_cpu_only("Open3D's sampling", xyz)
        import open3d

        if ready:
            return [cloud.farthest_point_down_sample(num_points) for cloud in ready]
        for cloud in xyz.double().numpy():
            ready.append(open3d.geometry.PointCloud(open3d.utility.Vector3dVector(cloud)))
        chosen = np.stack([np.asarray(cloud.farthest_point_down_sample(num_points).points) for cloud in ready])
        return knn(torch.from_numpy(chosen), xyz, 1)[:, :, 0]

    return run


def _scipy(queries: Tensor, points: Tensor, num_neighbors: int) -> Run:
    def run() -> Tensor:
        _on_cpu_only("scipy", points)
        from scipy.spatial import cKDTree

        pairs = zip(queries.numpy(), points.numpy(), strict=True)
        index = [cKDTree(cloud).query(some, num_neighbors, workers=torch.get_num_threads())[1] for some, cloud in pairs]
        return torch.from_numpy(np.stack(index))

    return run


def _pykdtree(queries: Tensor, points: Tensor, num_neighbors: int) -> Run:
    """Each cloud's tree is searched by all threads that OpenMP has."""

    def run() -> Tensor:
        _on_cpu_only("pykdtree", points)
        from pykdtree.kdtree import KDTree

        pairs = zip(queries.numpy(), points.numpy(), strict=True)
        index = [KDTree(cloud).query(some, num_neighbors)[1].astype(np.int64) for some, cloud in pairs]
        return torch.from_numpy(np.stack(index))

    return run


def _open3d_neighbors(queries: Tensor, points: Tensor, num_neighbors: int) -> Run:
    def run() -> Tensor:
        _on_cpu_only("Open3D's search", points)
        import open3d

        index = []
        for some, cloud in zip(queries.numpy(), points.numpy(), strict=True):
            search = open3d.core.nns.NearestNeighborSearch(open3d.core.Tensor(cloud))
            search.knn_index()
            index.append(search.knn_search(open3d.core.Tensor(some), num_neighbors)[0].numpy())
        return torch.from_numpy(np.stack(index)).long()

    return run
