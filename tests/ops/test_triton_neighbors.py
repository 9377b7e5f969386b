"""Triton kernels of farthest point sampling, kNN and neighborhoods, on a GPU, or on a CPU in Triton's interpreter.

A kernel is interpreted if TRITON_INTERPRET is set when its file is first imported: this file sets it for that import,
and for its own tests. Triton itself is imported without it, as in all other tests.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from bixt3d.ops import _backend
from bixt3d.ops.neighborhoods import neighbor_max, neighbor_moments
from bixt3d.ops.neighbors import farthest_points, gather, knn
from bixt3d.types import InputError

ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"
pytest.importorskip("triton", reason="Triton is not installed")
with pytest.MonkeyPatch.context() as patch:
    if not ON_GPU:
        patch.setenv("TRITON_INTERPRET", "1")
    from bixt3d.ops.triton import farthest_points as sample_kernels
    from bixt3d.ops.triton import grid_knn, neighborhoods, trial
    from bixt3d.ops.triton import knn as knn_kernels

pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array with ndim:DeprecationWarning")  # Triton 3.6
DEFAULT_BLOCKS = knn_kernels.BLOCK_QUERIES, knn_kernels.BLOCK_POINTS
sample = partial(farthest_points, backend="triton")
find = partial(knn, backend="triton")


@pytest.fixture(autouse=True, scope="module")
def interpreter() -> Iterator[None]:
    """Run the kernels in the interpreter if there is no GPU; skip where Triton 3.6 does not support numpy (2.4)."""
    for kernels in (sample_kernels, knn_kernels, grid_knn, neighborhoods):
        assert kernels.INTERPRETED == (not ON_GPU), "the kernels were imported before this file was"  # noqa: SIM300
    with pytest.MonkeyPatch.context() as patch:
        if not ON_GPU:
            patch.setenv("TRITON_INTERPRET", "1")
        try:
            sample_kernels.farthest_points(torch.zeros(1, 2, 3, device=DEVICE), 2)
        except Exception as error:
            if "only 0-dimensional arrays" not in str(error):
                raise
            pytest.skip(f"Triton's interpreter does not work with this numpy: {error}")
        yield


@pytest.fixture(autouse=True)
def unwritten_memory_is_nan() -> Iterator[None]:
    """Let torch fill uninitialized tensors with NaN, and integers with their largest value."""
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def larger_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use larger blocks in the interpreter, whose time depends on the number of blocks, not on their size."""
    if not ON_GPU:
        monkeypatch.setattr(knn_kernels, "BLOCK_QUERIES", 128)
        monkeypatch.setattr(knn_kernels, "BLOCK_POINTS", 512)
        monkeypatch.setattr(grid_knn, "BLOCK_QUERIES", 512)


def check_samples(points: Tensor, num_points: int) -> None:
    """Compare with the reference."""
    found = sample(points, num_points)
    assert found.dtype == torch.int64 and found.is_contiguous()
    assert torch.equal(found, farthest_points(points, num_points, "torch"))


def check_neighbors(queries: Tensor, points: Tensor, num_neighbors: int) -> None:
    """Compare with the reference."""
    found = find(queries, points, num_neighbors)
    assert found.dtype == torch.int64 and found.is_contiguous()
    assert torch.equal(found, knn(queries, points, num_neighbors, "torch"))


def special(name: str) -> Tensor:
    """Return two clouds with many exact ties."""
    axis = torch.arange(4.0)
    grid = torch.cartesian_prod(axis, axis, axis)
    clouds = {
        "grid": torch.stack([grid, grid[torch.randperm(64)]]),
        "duplicates": torch.randn(2, 20, 3).repeat(1, 3, 1)[:, torch.randperm(60)],
        "all the same": torch.ones(2, 70, 3),
    }
    return clouds[name].to(DEVICE)


def test_farthest_points_and_neighbors_of_a_line():
    line = torch.tensor([[[0.0], [1], [2], [10]], [[5], [6], [1], [5.5]]], device=DEVICE)
    assert sample(line, 3).tolist() == [[0, 3, 2], [0, 2, 1]]
    assert find(line[:, 1:2], line, 3).tolist() == [[[1, 0, 2]], [[1, 3, 0]]]


@pytest.mark.parametrize("program_numbers", [sample_kernels.PROGRAM_NUMBERS, 0], ids=["in one launch", "in steps"])
class TestFarthestPoints:
    @pytest.fixture(autouse=True)
    def force(self, program_numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """Force one launch for all samples, or one launch for each sample, as for large clouds."""
        monkeypatch.setattr(sample_kernels, "PROGRAM_NUMBERS", program_numbers)

    @pytest.mark.parametrize(("size", "num_points"), [(1, 1), (2, 2), (63, 12), (65, 12), (100, 12), (1000, 20)])
    def test_they_are_those_of_the_reference(self, size: int, num_points: int):
        check_samples(torch.randn(2, size, 3, device=DEVICE), num_points)

    @pytest.mark.parametrize("num_axes", [1, 2, 6, 8])
    def test_points_may_have_any_number_of_axes(self, num_axes: int):
        check_samples(torch.randn(2, 50, num_axes, device=DEVICE), 5)

    @pytest.mark.parametrize("name", ["grid", "duplicates", "all the same"])
    def test_ties_go_to_the_lower_index(self, name: str):
        check_samples(special(name), 12)

    @pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # numpy's, in the interpreter
    def test_points_infinitely_far_apart_are_ties(self):
        check_samples(torch.randn(1, 30, 3, device=DEVICE) * 1e25, 10)

    def test_inputs_may_be_non_contiguous(self):
        check_samples(torch.randn(2, 4, 100, device=DEVICE)[:, 1:].transpose(1, 2)[:, ::2], 10)
        check_samples(torch.randn(1, 40, 1, device=DEVICE).expand(2, 40, 3), 5)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_the_kernels_themselves_compute_in_float32(self, dtype: torch.dtype):
        points = torch.randn(2, 40, 3, device=DEVICE).to(dtype)
        found = sample_kernels.farthest_points(points, 5)
        assert torch.equal(found, farthest_points(points.float(), 5, "torch"))


def test_a_cloud_too_large_for_a_program_is_sampled_in_steps():
    points = torch.randn(1, 20_000, 3, device=DEVICE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample_kernels, "_sample_in_programs", None)
        check_samples(points, 3)


KNN_CASES = [  # queries, points, axes, neighbors
    (1, 1, 3, 1),
    (2, 2, 3, 2),
    (63, 65, 3, 5),
    (65, 63, 3, 63),
    (10, 64, 3, 64),
    (7, 100, 3, 33),
    (70, 1000, 3, 24),
    (9, 700, 3, 64),
    (20, 100, 1, 5),
    (20, 100, 2, 5),
    (20, 100, 6, 24),
    (20, 100, 8, 1),
]


@pytest.mark.parametrize("case", KNN_CASES, ids=str)
def test_neighbors_are_those_of_the_reference(case: tuple[int, int, int, int]):
    num_queries, size, num_axes, num_neighbors = case
    points = torch.randn(2, size, num_axes, device=DEVICE)
    check_neighbors(torch.randn(2, num_queries, num_axes, device=DEVICE), points, num_neighbors)


@pytest.mark.parametrize("order", ["random", "closest last", "many ties"])
def test_neighbors_with_the_default_block_size(order: str, monkeypatch: pytest.MonkeyPatch):
    """Closest last is the worst case: every block updates the list. Of ties the highest index is replaced."""
    monkeypatch.setattr(knn_kernels, "BLOCK_QUERIES", DEFAULT_BLOCKS[0])
    monkeypatch.setattr(knn_kernels, "BLOCK_POINTS", DEFAULT_BLOCKS[1])
    points = torch.randn(1, 300, 3, device=DEVICE)
    if order == "closest last":
        points = points[:, points[0].norm(dim=1).argsort(descending=True)]
    if order == "many ties":
        points = points.round()
    check_neighbors(points[:, -6:] * 0.01, points, 24)


@pytest.mark.parametrize("num_neighbors", [1, 24, 60])
@pytest.mark.parametrize("name", ["grid", "duplicates", "all the same"])
def test_ties_of_neighbors_go_to_the_lower_index(name: str, num_neighbors: int):
    points = special(name)
    check_neighbors(points, points, num_neighbors)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # numpy's, in the interpreter
def test_neighbors_infinitely_far_away_are_ties():
    points = torch.randn(1, 40, 3, device=DEVICE) * 1e25
    check_neighbors(points[:, :5], points, 9)


def test_points_and_queries_may_be_non_contiguous():
    points = torch.randn(2, 4, 100, device=DEVICE)[:, 1:].transpose(1, 2)
    queries = torch.randn(2, 40, 5, device=DEVICE)[:, ::2, 1:4]
    check_neighbors(queries, points, 5)
    check_neighbors(points[:, :9], queries, 5)
    check_neighbors(queries[:1].expand(2, 20, 3), points, 5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_knn_kernel_computes_in_float32(dtype: torch.dtype):
    points = torch.randn(2, 60, 3, device=DEVICE).to(dtype)
    found = knn_kernels.knn(points[:, :9], points, 5)
    assert torch.equal(found, knn(points[:, :9].float(), points.float(), 5, "torch"))


def run_max(backend: str, values: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Return maxima, and the gradient of the values for different output gradients."""
    values = values.detach().requires_grad_()
    out = neighbor_max(values, index, backend)
    weights = (
        torch.arange(out.numel(), device=DEVICE).to(out).view_as(out) % 7 - 3
    )  # integers: sums do not depend on their order
    return out, torch.autograd.grad(out, values, weights)[0]


def check_max(values: Tensor, index: Tensor) -> None:
    """Compare with the reference: bitwise equal."""
    torch.use_deterministic_algorithms(False)  # the reference is not deterministic on GPUs
    for found, expected in zip(run_max("triton", values, index), run_max("torch", values, index), strict=True):
        assert found.shape == expected.shape and torch.equal(found, expected)


@pytest.mark.parametrize(
    ("size", "num_groups", "num_neighbors", "width"),
    [(1, 1, 1, 1), (7, 1, 3, 5), (63, 65, 5, 64), (100, 9, 24, 65), (65, 63, 64, 192)],
)
def test_maxima_over_neighbors_are_those_of_the_reference(size: int, num_groups: int, num_neighbors: int, width: int):
    values = torch.randn(2, size, width, device=DEVICE)
    check_max(values, torch.randint(size, (2, num_groups, num_neighbors), device=DEVICE))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_maxima_are_exact_in_every_dtype(dtype: torch.dtype):
    check_max(torch.randn(2, 40, 20, device=DEVICE).to(dtype), torch.randint(40, (2, 30, 6), device=DEVICE))


def test_of_equal_neighbors_the_first_is_taken_and_nan_stays_nan():
    values = torch.randint(3, (2, 30, 20), device=DEVICE).float()
    values[:, 4, :7], values[:, :, 9], values[:, 5, 3] = -torch.inf, -torch.inf, torch.inf
    index = torch.randint(30, (2, 25, 12), device=DEVICE)
    check_max(values, index)
    values[:, 7, :5] = torch.nan
    found, expected = (run_max(backend, values, index)[0] for backend in ("triton", "torch"))
    assert found.isnan().any() and torch.equal(found.nan_to_num(9), expected.nan_to_num(9))


def test_values_and_index_of_maxima_may_be_non_contiguous():
    check_max(torch.randn(2, 20, 30, device=DEVICE).mT, torch.randint(30, (2, 6, 9), device=DEVICE).mT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("size", "num_groups", "num_neighbors", "width"),
    [(1, 1, 1, 1), (7, 1, 3, 5), (63, 65, 5, 64), (100, 9, 24, 65), (65, 63, 64, 192)],
)
def test_moments_over_neighbors_are_exact_and_gradients_those_of_torch(
    size: int, num_groups: int, num_neighbors: int, width: int, dtype: torch.dtype
):
    """Values are nearly equal: in float32 their variance would be noise."""
    values, offsets = (10 + 0.01 * torch.randn(2, n, width, device=DEVICE).to(dtype) for n in (size, num_groups))
    index = torch.randint(size, (2, num_groups, num_neighbors), device=DEVICE)
    pairs = (gather(values, index) + offsets[:, :, None]).double()
    leaves = [values.requires_grad_(), offsets.requires_grad_()]
    found = neighbor_moments(*leaves, index, "triton")
    assert {moment.dtype for moment in found} == {torch.float64}
    torch.testing.assert_close(found, (pairs.sum((1, 2)), pairs.square().sum((1, 2))), rtol=1e-13, atol=0)
    torch.use_deterministic_algorithms(False)  # the torch backend is not deterministic on GPUs
    grads = [
        torch.autograd.grad(neighbor_moments(*leaves, index, backend), leaves, [torch.ones_like(found[0])] * 2)
        for backend in ("triton", "torch")
    ]
    torch.testing.assert_close(*grads)


def test_points_may_require_gradients_under_autocast():
    points = torch.randn(2, 50, 3, device=DEVICE)
    with_grad = points.clone().requires_grad_()
    with torch.autocast(DEVICE, torch.bfloat16):
        found = sample(with_grad, 5), find(with_grad, with_grad, 4)
    for index, expected in zip(found, (sample(points, 5), find(points, points, 4)), strict=True):
        assert torch.equal(index, expected) and not index.requires_grad


def test_operators_are_registered_with_torch_and_can_be_compiled():
    torch.use_deterministic_algorithms(False)  # compiled code does not fill uninitialized memory
    points = torch.randn(2, 30, 3, device=DEVICE)
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(sample_kernels.farthest_points, (points, 5), test_utils=tests)
    torch.library.opcheck(knn_kernels.knn, (points[:, :4], points, 3), test_utils=tests)
    index = torch.randint(30, (2, 4, 3), device=DEVICE)
    torch.library.opcheck(neighborhoods.neighbor_max, (points, index), test_utils=tests)
    torch.library.opcheck(neighborhoods.neighbor_moments, (points, points[:, :4], index), test_utils=tests)

    def choose(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = knn_kernels.knn(points[:, :4], points, 3)
        return sample_kernels.farthest_points(points, 5), found, neighborhoods.neighbor_max(points, found)[0]

    compiled = torch.compile(choose, backend="aot_eager", fullgraph=True)
    for one, other in zip(compiled(points), choose(points), strict=True):
        assert torch.equal(one, other)


def test_inputs_that_the_kernels_do_not_support_are_an_error_that_says_why(monkeypatch: pytest.MonkeyPatch):
    points = torch.zeros(1, 70, 9, device=DEVICE)
    with pytest.raises(InputError, match="backend 'triton' takes points with up to 8 axes, not 9: use auto"):
        sample(points, 2)
    with pytest.raises(InputError, match="backend 'triton' finds up to 64 neighbors, not 65: use auto"):
        find(points[..., :3], points[..., :3], 65)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(InputError, match="backend 'triton' runs on CUDA tensors, these are on meta"):
        sample(torch.zeros(1, 4, 3, device="meta"), 2)
    with pytest.raises(InputError, match="backend 'triton' runs on CUDA tensors, these are on cpu"):
        neighbor_max(torch.zeros(1, 4, 3), torch.zeros(1, 1, 1, dtype=torch.int64), "triton")
    monkeypatch.setattr(_backend, "is_installed", lambda package: False)
    with pytest.raises(InputError, match="backend 'triton' needs the package triton"):
        sample(points, 2)


@pytest.mark.parametrize(
    ("passed", "installed", "axes_and_neighbors", "taken"),
    [
        (True, ["triton", "torch_cluster"], (3, 24), ("triton", "triton", "torch")),
        (True, ["triton", "torch_cluster"], (3, 65), ("triton", "torch", "torch")),
        (True, ["triton", "torch_cluster"], (9, 24), ("cluster", "torch", "torch")),
        (True, ["torch_cluster"], (3, 24), ("cluster", "torch", "torch")),
        (False, ["triton", "torch_cluster"], (3, 24), ("cluster", "torch", "torch")),
        (False, ["triton"], (3, 24), ("torch", "torch", "torch")),
    ],
)
def test_on_a_gpu_auto_takes_kernels_that_passed_their_test(
    passed: bool, installed: list[str], axes_and_neighbors: tuple[int, int], taken: tuple[str, ...], monkeypatch
):
    monkeypatch.setattr(trial, "_PASSED", {torch.device("cuda", 0): passed})
    monkeypatch.setattr(_backend, "is_installed", installed.__contains__)
    num_axes, num_neighbors = axes_and_neighbors
    with FakeTensorMode():
        points = torch.empty(1, 100, num_axes, device="cuda:0")
        found = (
            _backend.choose_point_backend("auto", points, True),
            _backend.choose_point_backend("auto", points, False, num_neighbors),
            _backend.choose_neighborhood_backend("auto", points),
        )
    assert found == taken


def test_the_kernels_are_tested_once_per_device(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trial, "_PASSED", {})
    device = torch.device(DEVICE)
    assert trial.points_pass(device)
    monkeypatch.setattr(trial, "_try_points", lambda device: "tried again")
    assert trial.points_pass(device)


def choose_others(*arguments, right=knn_kernels.knn) -> Tensor:
    return right(*arguments).flip(-1)


def no_kernel(*arguments) -> Tensor:
    raise RuntimeError("PTXAS error:\n  no such GPU")


@pytest.mark.parametrize(
    ("kernels", "name", "wrong", "reason"),
    [
        (sample_kernels, "farthest_points", lambda points, count: torch.zeros(len(points), count).long(), "of 300 poi"),
        (knn_kernels, "knn", choose_others, "among 300 points they find other neighbors"),
        (grid_knn, "knn", partial(choose_others, right=grid_knn.knn), "among 300 points they find other neighbors"),
        (knn_kernels, "knn", no_kernel, "RuntimeError: PTXAS error: no such GPU"),
    ],
)
def test_kernels_that_fail_their_test_are_not_used_and_a_warning_says_why(kernels, name, wrong, reason, monkeypatch):
    monkeypatch.setattr(trial, "_PASSED", {})
    monkeypatch.setattr(kernels, name, wrong)
    with pytest.warns(RuntimeWarning, match=f"fail their test on {DEVICE}, a slower backend is used: {reason}"):
        assert not trial.points_pass(torch.device(DEVICE))
    assert not trial.points_pass(torch.device(DEVICE))


def test_kernels_are_not_tested_under_torch_compile(monkeypatch: pytest.MonkeyPatch):
    torch.use_deterministic_algorithms(False)  # compiled code does not fill uninitialized memory
    device = torch.device(DEVICE)

    @torch.compile(backend="aot_eager", fullgraph=True)
    def add_result(points: Tensor) -> Tensor:
        return points + trial.points_pass(points.device)

    monkeypatch.setattr(trial, "_PASSED", {})
    assert add_result(torch.zeros(3, device=device)).sum() == 0
    assert not trial._PASSED
    monkeypatch.setattr(trial, "_PASSED", {device: True})
    assert add_result(torch.zeros(3, device=device)).sum() == 3


def test_compiled_kernels_have_no_fused_multiply_adds_and_fit_in_the_registers_of_a_hopper_gpu():
    """kNN and maximum also use no shared memory, for any number of axes."""
    code = (
        "from bixt3d.ops.triton.resources import *\n"
        "for num_points, num_axes, num_neighbors in [(1024, 3, 24), (2048, 6, 64)]:\n"
        "    for name, found in point_kernels(num_points, num_axes, num_neighbors):\n"
        "        print(name, found['spilled'], found['fused_instructions'], found['shared'] > 0)\n"
        "launch = farthest_points.launch_of(32, 3) | {'axis_stride': 1, 'enable_fp_fusion': True}\n"
        "kernel = farthest_points.sample_kernel\n"
        "print(resources(compile_ahead(kernel, point_types(kernel), launch))['fused_instructions'] > 0)\n"
    )
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    shared = {"sample": True, "step": True, "nearest": False, "grid": False, "largest": False, "moments": True}
    expected = [f"{kernel}_kernel 0 0 {memory}" for kernel, memory in shared.items()] * 2
    assert found.stdout.splitlines() == [*expected, "True"]


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("num_clouds", "size", "num_points"),
    [(32, 1024, 512), (32, 2048, 512), (2, 8192, 1000), (2, 16384, 1000), (1, 100_000, 1000), (3, 1_000_000, 20)],
)
def test_farthest_points_on_a_gpu_are_those_of_the_reference(num_clouds: int, size: int, num_points: int):
    check_samples(torch.randn(num_clouds, size, 3, device=DEVICE), num_points)


@pytest.mark.gpu
@pytest.mark.parametrize(("num_clouds", "num_queries", "size"), [(32, 2048, 2048), (1, 10_000, 100_000)])
@pytest.mark.parametrize("num_axes", [3, 6])
def test_neighbors_on_a_gpu_are_those_of_the_reference(num_clouds: int, num_queries: int, size: int, num_axes: int):
    points = torch.randn(num_clouds, size, num_axes, device=DEVICE)
    check_neighbors(points[:, torch.randperm(size)[:num_queries]], points, 32)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_maxima_and_moments_on_a_gpu_are_those_of_the_reference(dtype: torch.dtype):
    values, offsets = torch.randn(32, 1024, 192, device=DEVICE).to(dtype), torch.randn(32, 512, 192, device=DEVICE)
    index = torch.randint(1024, (32, 512, 24), device=DEVICE)
    check_max(values, index)
    found, expected = (neighbor_moments(values.float(), offsets, index, backend) for backend in ("triton", "torch"))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-3)
