"""kNN and radius search by a grid of cells, on a GPU, or on a CPU in Triton's interpreter: those of the reference."""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

import bixt3d.pyg as pyg
from bixt3d.ops import knn
from bixt3d.ops.ragged import ragged_knn, squared_reach

ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"
pytest.importorskip("triton", reason="Triton is not installed")
with pytest.MonkeyPatch.context() as patch:
    if not ON_GPU:
        patch.setenv("TRITON_INTERPRET", "1")
    from bixt3d.ops.triton import grid_knn
    from bixt3d.ops.triton import knn as knn_kernels

pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array with ndim:DeprecationWarning")  # Triton 3.6
DEFAULT_BLOCK = grid_knn.BLOCK_QUERIES


@pytest.fixture(autouse=True)
def interpreter(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run the kernel in the interpreter if there is no GPU, with large blocks; fill uninitialized tensors with NaN."""
    assert grid_knn.INTERPRETED == (not ON_GPU), "the kernel was imported before this file was"  # noqa: SIM300
    torch.use_deterministic_algorithms(True)
    if not ON_GPU:
        monkeypatch.setenv("TRITON_INTERPRET", "1")
        monkeypatch.setattr(grid_knn, "BLOCK_QUERIES", 512)
    try:
        grid_knn.search(torch.zeros(1, 3, device=DEVICE), torch.zeros(1, 3, device=DEVICE), 1)
    except Exception as error:
        if "only 0-dimensional arrays" not in str(error):
            raise
        pytest.skip(f"Triton's interpreter does not work with this numpy: {error}")
    yield
    torch.use_deterministic_algorithms(False)


def cloud(name: str, size: int = 200) -> Tensor:
    axis = torch.arange(6.0)
    uniform, spread = torch.rand(size, 3), torch.randn(size, 3)
    clouds = {
        "uniform": uniform,
        "two scales": torch.where(torch.arange(size)[:, None] % 2 > 0, 0.001 * spread, 10 * spread + 5),
        "line": uniform[:, :1] * torch.tensor([1.0, 2, 0]),
        "surface": uniform * torch.tensor([9.0, 5, 0.01]),
        "duplicates": spread[:20].repeat(size // 20, 1),
        "all the same": torch.ones(size, 3),
        "lattice": torch.cartesian_prod(axis, axis, axis),  # full of ties
        "one far away": torch.cat([uniform, torch.tensor([[1e6, -1e6, 3]])]),
        "far from the origin": 100 * uniform + torch.tensor([5e5, 5e6, 0]),
        "huge": 1e20 * spread,  # squared distances overflow
        "tiny": 1e-23 * spread,  # and underflow
        "one axis": uniform[:, :1],
        "two axes": uniform[:, :2],
    }
    return clouds[name].to(DEVICE)


NAMES = ["uniform", "two scales", "line", "surface", "duplicates", "all the same", "lattice", "one far away"]
NAMES += ["far from the origin", "huge", "tiny", "one axis", "two axes"]


def check(queries: Tensor, points: Tensor, num_neighbors: int) -> None:
    found = grid_knn.knn(queries[None], points[None], num_neighbors)
    assert torch.equal(found, knn(queries[None], points[None], num_neighbors, "torch"))


@pytest.mark.filterwarnings("ignore:(over|under)flow encountered:RuntimeWarning")  # numpy's, in the interpreter
@pytest.mark.parametrize("num_neighbors", [1, 7])
@pytest.mark.parametrize("name", NAMES)
def test_neighbors_are_those_of_the_reference_and_ties_go_to_the_lower_index(name: str, num_neighbors: int):
    points = cloud(name)
    check(points, points, num_neighbors)


@pytest.mark.parametrize("num_neighbors", [33, 64])
def test_many_neighbors_are_those_of_the_reference(num_neighbors: int):
    points = cloud("two scales", 100)
    check(points[::9], points, num_neighbors)


def test_queries_may_lie_outside_of_the_grid():
    points = cloud("uniform")
    queries = torch.cat([10 * torch.randn(20, 3), 1e9 * torch.randn(3, 3)]).to(DEVICE)
    check(queries, points, 5)


def test_neighbors_with_the_default_block_size(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(grid_knn, "BLOCK_QUERIES", DEFAULT_BLOCK)
    points = cloud("uniform", 100)
    check(points[:5], points, 7)


def test_queries_in_chunks_find_the_same(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(grid_knn, "CHUNK", 25)
    points = cloud("uniform", 60)
    check(points, points, 5)


def test_most_queries_are_done_in_the_first_round(monkeypatch: pytest.MonkeyPatch):
    search, rounds = grid_knn._search, []
    monkeypatch.setattr(grid_knn, "_search", lambda *given: rounds.append(len(given[2])) or search(*given))
    points = cloud("one far away", 2000)
    check(points[-300:], points, 5)
    assert rounds[0] == 300 and rounds[1] < 30 and len(rounds) < 8


@pytest.mark.parametrize("radius", [math.inf, 0.5, 0.0])
@pytest.mark.parametrize("sizes", [[90], [40, 0, 3, 60], [1, 1, 0]], ids=str)
def test_clouds_of_a_batch_have_their_own_neighbors_within_a_radius(sizes: list[int], radius: float):
    points = (torch.rand(sum(sizes), 3) * 8).round() / 8
    batch = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    given = [one.to(DEVICE) for one in (batch[::2], batch)]
    found = grid_knn.search(points[::2].to(DEVICE), points.to(DEVICE), 7, *given, squared_reach(radius))
    assert torch.equal(found.cpu(), ragged_knn(points[::2], points, 7, batch[::2], batch, radius))


def test_clouds_without_points_have_no_neighbors():
    points, batch = torch.rand(4, 3, device=DEVICE), torch.tensor([1, 1, 1, 1], device=DEVICE)
    found = grid_knn.search(points, points, 2, torch.tensor([0, 1, 1, 2], device=DEVICE), batch)
    assert (found[[0, 3]] == -1).all() and (found[1:3] >= 0).all()
    assert (grid_knn.search(points, points[:0], 2) == -1).all() and grid_knn.search(points[:0], points, 2).shape == (
        0,
        2,
    )


def test_backend_triton_searches_large_finite_clouds_by_a_grid(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(knn_kernels, "GRID_POINTS", 100)
    if not ON_GPU:
        monkeypatch.setattr(knn_kernels, "BLOCK_QUERIES", 128)
    search, searched = grid_knn.search, []
    monkeypatch.setattr(grid_knn, "search", lambda *given: searched.append(len(given[1])) or search(*given))
    points = torch.rand(2, 100, 3, device=DEVICE)
    for some in (points, points[:, :99], torch.rand(1, 100, 4, device=DEVICE)):
        assert torch.equal(knn(some[:, :9], some, 5, "triton"), knn(some[:, :9], some, 5, "torch"))
    points[0, 0] = math.inf
    knn(points[:, 1:9], points, 5, "triton")
    assert searched == [200]


@pytest.mark.gpu
@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("all the same", "lattice")])
def test_neighbors_on_a_gpu_are_those_of_the_reference(name: str):
    points = cloud(name, 1_000_000)
    queries = points[torch.randperm(len(points))[:1000].to(DEVICE)]
    if name == "duplicates":
        points, queries = points[:50_000], points[:1000]
    check(queries, points, 16)


@pytest.mark.gpu
def test_pyg_finds_on_a_gpu_what_it_finds_on_a_cpu():
    points, batch = torch.rand(200_000, 3), torch.arange(200_000) // 50_000
    for search in (lambda x, b: pyg.knn(x, x, 16, b, b), lambda x, b: pyg.radius(x, x, 0.03, b, b, 64)):
        assert torch.equal(search(points.to(DEVICE), batch.to(DEVICE)).cpu(), search(points, batch))
