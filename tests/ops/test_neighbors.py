"""Farthest point sampling and kNN: by hand, properties, and every backend against the reference."""

import sys
import weakref
from collections.abc import Callable
from inspect import unwrap

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bixt3d.ops import _backend, neighbors, reference
from bixt3d.ops.neighbors import farthest_points, gather, knn
from bixt3d.ops.reference import squared_distances
from bixt3d.types import InputError

SIZES = [1, 2, 63, 64, 65, 100, 1000, 3000]
CLUSTER = pytest.param("cluster", marks=pytest.mark.cluster)
BACKENDS = ["torch", "numba", CLUSTER]


def line(*x: float) -> Tensor:
    """Return one cloud of points on the first axis."""
    return torch.tensor(x)[None, :, None] * torch.tensor([1.0, 0, 0])


def grid(side: int) -> Tensor:
    """Return one cloud: the integer points of a cube, where nearly every distance is a tie."""
    axis = torch.arange(float(side))
    return torch.cartesian_prod(axis, axis, axis)[None]


class PeakMemory(TorchDispatchMode):
    """Measure the peak memory of the tensors that are created inside, in bytes."""

    def __init__(self):
        super().__init__()
        self.alive = self.peak = 0
        self.seen = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage(), args)
        return result

    def _count(self, storage: torch.UntypedStorage, args: tuple) -> None:
        inputs = {arg.untyped_storage().data_ptr() for arg in args if isinstance(arg, Tensor)}
        if storage.data_ptr() in inputs:
            return  # a view, or written in place
        size = storage.nbytes()
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.alive -= size


def test_gather_takes_entries_of_each_cloud_in_the_shape_of_the_index():
    values = torch.tensor([[[1.0, 2], [3, 4], [5, 6]], [[10, 20], [30, 40], [50, 60]]])
    assert gather(values, torch.tensor([[2, 0], [1, 1]])).tolist() == [[[5, 6], [1, 2]], [[30, 40], [30, 40]]]
    assert gather(values, torch.tensor([[[2], [0]], [[1], [1]]])).tolist() == [
        [[[5, 6]], [[1, 2]]],
        [[[30, 40]], [[30, 40]]],
    ]
    assert gather(values[..., 0], torch.tensor([[2, 2], [0, 1]])).tolist() == [[5, 5], [10, 30]]


def test_gather_sends_gradients_back_to_the_entries_it_took():
    values = torch.zeros(1, 3, 1, requires_grad=True)
    gather(values, torch.tensor([[2, 0, 2]])).sum().backward()
    assert values.grad.flatten().tolist() == [1, 0, 2]


@pytest.mark.parametrize("backend", BACKENDS)
def test_farthest_points_of_a_line(backend: str):
    clouds = torch.cat([line(0, 1, 2, 10), line(5, 6, 1, 5.5)])
    assert farthest_points(clouds, 3, backend).tolist() == [[0, 3, 2], [0, 2, 1]]


def test_farthest_points_takes_the_lowest_index_of_a_tie():
    assert farthest_points(line(0, 1, -1, 1, -1), 3, "torch").tolist() == [[0, 1, 2]]
    assert farthest_points(line(0, 0, 0), 2, "torch").tolist() == [[0, 0]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_knn_of_a_line_is_closest_first(backend: str):
    queries, points = torch.cat([line(0.1, 9), line(2.2, 2.6)]), torch.cat([line(0, 1, 3, 10), line(4, 3, 2, 1)])
    assert knn(queries, points, 3, backend).tolist() == [[[0, 1, 2], [3, 2, 1]], [[2, 1, 3], [1, 2, 0]]]


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_knn_gives_ties_to_the_lower_index(backend: str):
    points = line(1, -1, 5, 1, -1, -5)
    assert knn(line(0), points, 3, backend).tolist() == [[[0, 1, 3]]]
    assert knn(line(0), points, 6, backend).tolist() == [[[0, 1, 3, 4, 2, 5]]]
    assert knn(line(0), points.flip(1), 3, backend).tolist() == [[[1, 2, 4]]]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("backend", ["numba", CLUSTER])
def test_farthest_points_of_every_backend_are_those_of_the_reference(backend: str, size: int):
    points = torch.randn(3, size, 3)
    for num_points in {1, (size + 1) // 2, size}:
        expected = farthest_points(points, num_points, "torch")
        assert torch.equal(farthest_points(points, num_points, backend), expected)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("backend", ["numba", CLUSTER])
def test_knn_of_every_backend_is_that_of_the_reference(backend: str, size: int):
    queries, points = torch.randn(2, 9, 3), torch.randn(2, size, 3)
    for num_neighbors in {1, min(24, size)}:
        expected = knn(queries, points, num_neighbors, "torch")
        assert torch.equal(knn(queries, points, num_neighbors, backend), expected)


CLOUDS = {
    "grid": lambda: grid(9),  # nearly every distance is a tie
    "small grid": lambda: grid(5),
    "equal points": lambda: torch.ones(1, 300, 3),
    "duplicates": lambda: torch.randn(2, 100, 3).repeat(1, 3, 1)[:, torch.randperm(300)],
    "near duplicates": lambda: torch.rand(2, 100, 3).repeat(1, 4, 1) + torch.rand(2, 400, 3) * 1e-7,
    "far from the origin": lambda: torch.rand(1, 700, 3) + 1e4,
    "clusters": lambda: torch.randn(2, 700, 3) * 10 ** torch.randint(-6, 3, (2, 700, 1)),
    "infinite distances": lambda: torch.randn(1, 300, 3) * 10.0 ** torch.randint(17, 22, (1, 300, 1)),
    "subnormal distances": lambda: torch.randn(1, 300, 3) * 1e-21,
    "a line": lambda: line(*torch.randn(600)),
    "one axis": lambda: torch.randn(2, 300, 1),
    "two axes": lambda: torch.randint(0, 20, (2, 600, 2)).float(),
    "five axes": lambda: torch.randn(2, 600, 5),
}


@pytest.mark.parametrize("name", CLOUDS)
def test_numba_chooses_the_points_of_the_reference_in_special_clouds(name: str):
    torch.manual_seed(0)
    points = CLOUDS[name]()
    for num_points in (1, 40, points.shape[1]):
        expected = farthest_points(points, num_points, "torch")
        assert torch.equal(farthest_points(points, num_points, "numba"), expected)
    for num_neighbors in (1, 5, 26, 27, 124, 125):
        assert torch.equal(knn(points, points, num_neighbors, "numba"), knn(points, points, num_neighbors, "torch"))


def test_numba_finds_neighbors_of_queries_outside_the_cloud():
    torch.manual_seed(0)
    points = torch.randn(2, 500, 3)
    for queries in (10 * torch.randn(2, 60, 3), 1e3 + torch.randn(2, 60, 3), torch.randn(2, 0, 3)):
        assert torch.equal(knn(queries, points, 7, "numba"), knn(queries, points, 7, "torch"))


def test_numba_operators_are_registered_with_torch_and_can_be_compiled():
    from bixt3d.ops.numba import points as kernels

    torch.use_deterministic_algorithms(False)  # compiled code does not fill memory
    points = torch.randn(2, 60, 3)
    torch.library.opcheck(kernels.farthest_points, (points, 5))
    torch.library.opcheck(kernels.knn, (points[:, :4], points, 5))

    def choose(points: Tensor) -> tuple[Tensor, Tensor]:
        return kernels.farthest_points(points, 20), kernels.knn(points[:, :4], points, 3)

    compiled = torch.compile(choose, backend="aot_eager", fullgraph=True)
    for one, other in zip(compiled(points), choose(points), strict=True):
        assert torch.equal(one, other)


def test_torch_compile_sees_one_operator_instead_of_a_loop_over_samples():
    graphs = []

    def record(graph: torch.fx.GraphModule, inputs: list) -> Callable:
        graphs.append(graph)
        return graph.forward

    points = torch.randn(2, 100, 3)
    sample = unwrap(neighbors._farthest_points_torch)  # without beartype's checks, which cannot be compiled
    compiled = torch.compile(lambda points: sample(points, 50), backend=record, fullgraph=True)
    assert torch.equal(compiled(points), farthest_points(points, 50, "torch"))
    assert len(graphs) == 1
    assert len(graphs[0].graph.nodes) < 10
    operator = torch.ops.bixt3d.farthest_points_loop
    torch.library.opcheck(operator, (points, 5), test_utils=("test_schema", "test_faketensor"))


def test_a_kernel_is_compiled_without_a_writable_cache():
    from bixt3d.ops.numba.jit import kernel

    made: dict = {}
    exec("def double(x): return 2 * x", made)  # Numba does not cache functions without a file
    assert kernel(made["double"])(4) == 8


@pytest.mark.parametrize("num_clouds", [1, 2, 7])
def test_numba_gives_the_same_points_with_any_number_of_threads(num_clouds: int):
    torch.manual_seed(0)
    points = torch.rand(num_clouds, 100, 3)
    one_thread = farthest_points(points, 20, "numba"), knn(points, points, 5, "numba")
    torch.set_num_threads(3)
    try:
        three_threads = farthest_points(points, 20, "numba"), knn(points, points, 5, "numba")
    finally:
        torch.set_num_threads(1)
    assert torch.equal(one_thread[0], three_threads[0]) and torch.equal(one_thread[1], three_threads[1])


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_knn_is_what_a_stable_sort_of_distances_gives(backend: str):
    points = torch.cat([grid(3), torch.randint(0, 3, (1, 27, 3)).float()])
    distance = torch.cdist(points.double(), points.double()).square().round()
    expected = distance.argsort(dim=-1, stable=True)[..., :8]
    assert torch.equal(knn(points, points, 8, backend), expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("side", [3, 5])
def test_farthest_points_of_a_grid_are_farthest_however_ties_are_broken(backend: str, side: int):
    points = grid(side)
    chosen = farthest_points(points, side**3 // 2, backend)[0]
    distance = squared_distances(points[0][:, None], points)
    assert chosen[0] == 0
    for step in range(1, len(chosen)):
        nearest = distance[:, chosen[:step]].amin(1)
        assert nearest[chosen[step]] == nearest.max() > 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_neighbors_are_the_same_under_autocast(backend: str):
    points = torch.randn(2, 200, 3) + 10
    expected = farthest_points(points, 50, backend), knn(points, points, 8, backend)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(farthest_points(points, 50, backend), expected[0])
        assert torch.equal(knn(points, points, 8, backend), expected[1])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_neighbors_are_computed_in_float32_for_points_of_any_dtype(backend: str, dtype: torch.dtype):
    points = torch.randn(1, 40, 3).to(dtype)
    assert torch.equal(farthest_points(points, 20, backend), farthest_points(points.float(), 20, "torch"))
    expected = knn(points.float()[:, :9], points.float(), 1, "torch")
    assert torch.equal(knn(points[:, :9], points, 1, backend), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_neighbors_of_points_with_six_axes(backend: str):
    points = torch.randn(2, 100, 6)
    points[..., :3] = 1  # points differ in the other axes only
    assert torch.equal(farthest_points(points, 30, backend), farthest_points(points[..., 3:], 30, "torch"))
    assert torch.equal(knn(points[:, :9], points, 5, backend), knn(points[:, :9, 3:], points[..., 3:], 5, "torch"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_points_and_queries_may_be_non_contiguous(backend: str):
    points = torch.randn(2, 3, 100).transpose(1, 2)
    queries = torch.randn(2, 18, 5)[:, ::2, 1:4]
    assert torch.equal(farthest_points(points, 30, backend), farthest_points(points.contiguous(), 30, backend))
    expected = knn(queries.contiguous(), points.contiguous(), 5, backend)
    assert torch.equal(knn(queries, points, 5, backend), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_points_may_require_gradients(backend: str):
    points = torch.randn(2, 50, 3)
    with_grad = points.clone().requires_grad_()
    for index, expected in [
        (farthest_points(with_grad, 10, backend), farthest_points(points, 10, backend)),
        (knn(with_grad, with_grad, 4, backend), knn(points, points, 4, backend)),
    ]:
        assert torch.equal(index, expected) and not index.requires_grad


def test_knn_in_chunks_is_the_same(monkeypatch: pytest.MonkeyPatch):
    queries, points = torch.randn(3, 37, 3), torch.randn(3, 100, 3)
    expected = knn(queries, points, 7, "torch")
    for budget in (1, 20_000, 100_000):
        monkeypatch.setattr(reference, "KNN_BYTE_BUDGET", budget)
        assert torch.equal(knn(queries, points, 7, "torch"), expected)


def test_knn_stays_within_its_memory_budget(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reference, "KNN_BYTE_BUDGET", 200_000)
    queries, points = torch.randn(2, 100, 3), torch.randn(2, 500, 3)
    with PeakMemory() as memory:
        index = knn(queries, points, 4, "torch")
    assert 100_000 < memory.peak - 2 * index.nbytes <= 200_000  # the result exists once in chunks, once concatenated


def test_more_points_than_the_cloud_has_are_an_error():
    points = torch.randn(1, 4, 3)
    with pytest.raises(InputError, match="asked for 5 farthest points of clouds of 4 points"):
        farthest_points(points, 5)
    with pytest.raises(InputError, match="asked for 5 neighbors in clouds of 4 points"):
        knn(points, points, 5)
    for call in (lambda: farthest_points(points, 0), lambda: knn(points, points, 0)):
        with pytest.raises(InputError, match="asked for 0"):
            call()


def test_an_unknown_backend_is_an_error_that_lists_the_choices():
    with pytest.raises(InputError, match="unknown backend 'fast': choose auto, torch, numba, cluster or triton"):
        unwrap(_backend.choose_point_backend)("fast", torch.zeros(1, 2, 3), cluster_on_cuda=True)


@pytest.mark.parametrize(
    "backend, wanted",
    [
        ("numba", "numba: pip install numba"),
        ("cluster", "torch_cluster: pip install --no-build-isolation torch-cluster"),
    ],
)
def test_a_requested_backend_that_is_not_installed_is_an_error_with_its_pip_line(
    backend: str, wanted: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_backend, "is_installed", lambda package: False)
    with pytest.raises(InputError, match=f"backend '{backend}' needs the package {wanted}"):
        farthest_points(torch.randn(1, 4, 3), 2, backend)


def test_auto_falls_back_to_torch_without_numba(monkeypatch: pytest.MonkeyPatch):
    points = torch.zeros(1, 2, 3)
    assert _backend.choose_point_backend("auto", points, cluster_on_cuda=True) == "numba"
    monkeypatch.setattr(_backend, "is_installed", lambda package: False)
    assert _backend.choose_point_backend("auto", points, cluster_on_cuda=True) == "torch"


def test_is_installed_does_not_import_the_package():
    assert _backend.is_installed("this") and "this" not in sys.modules
    assert not _backend.is_installed("no_such_package")


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_numba_refuses_coordinates_that_are_not_finite(value: float):
    right, wrong = torch.rand(2, 20, 3), torch.rand(2, 20, 3)
    wrong[1, 3, 2] = value
    for choose in (
        lambda: farthest_points(wrong, 4, "numba"),
        lambda: knn(wrong, right, 4, "numba"),
        lambda: knn(right, wrong, 4, "numba"),
    ):
        with pytest.raises(InputError, match="points must have finite coordinates: some are NaN or infinite"):
            choose()


def test_numba_on_another_device_than_the_cpu_is_an_error():
    with pytest.raises(InputError, match="runs on CPU tensors only, these are on meta"):
        knn(torch.zeros(1, 2, 3, device="meta"), torch.zeros(1, 2, 3, device="meta"), 1, "numba")


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["auto", "torch", CLUSTER, "triton"])
def test_neighbors_on_a_gpu_are_those_of_the_cpu(backend: str):
    points = torch.randn(3, 1000, 3)
    on_gpu = points.cuda()
    assert torch.equal(farthest_points(on_gpu, 300, backend).cpu(), farthest_points(points, 300, "torch"))
    assert torch.equal(knn(on_gpu, on_gpu, 24, backend).cpu(), knn(points, points, 24, "torch"))
