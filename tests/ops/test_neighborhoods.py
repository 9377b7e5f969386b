"""Sums, moments and maxima over neighbors: by hand, and against gathering first, gradients included."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from bixt3d.ops import gather, neighbor_max, neighbor_moments, neighbor_sum
from bixt3d.ops._backend import choose_neighborhood_backend
from bixt3d.types import InputError

BACKENDS = ["torch", "numba"]


def moments_by_gathering(values: Tensor, offsets: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    pairs = (gather(values, index) + offsets[:, :, None]).double()
    return pairs.sum((1, 2)), pairs.square().sum((1, 2))


OPERATORS: dict[str, tuple[Callable, Callable]] = {
    "sum": (neighbor_sum, lambda values, index: gather(values, index).sum(2)),
    **{
        f"max, {backend}": (partial(neighbor_max, backend=backend), lambda values, index: gather(values, index).amax(2))
        for backend in BACKENDS
    },
    **{
        f"moments, {backend}": (partial(neighbor_moments, backend=backend), moments_by_gathering)
        for backend in BACKENDS
    },
}
"""Each operator with each backend, and a function that it must equal."""


def random_inputs(
    name: str, num_groups: int = 9, num_neighbors: int = 4, width: int = 5
) -> tuple[list[Tensor], Tensor]:
    """Return the inputs with gradients (values of 3 clouds of 7 points; offsets of groups), and the neighbor index."""
    values = torch.randn(3, 7, width, dtype=torch.float64, requires_grad=True)
    offsets = torch.randn(3, num_groups, width, dtype=torch.float64, requires_grad=True)
    index = torch.randint(7, (3, num_groups, num_neighbors))
    return ([values, offsets] if name.startswith("moments") else [values]), index


@pytest.mark.parametrize("backend", BACKENDS)
def test_sum_maximum_and_moments_by_hand(backend: str):
    values = torch.tensor([[[1.0, -1], [2, -2], [4, -4]]])
    index = torch.tensor([[[0, 2], [1, 1]]])
    offsets = torch.tensor([[[10.0, 0], [0, 100]]])
    assert neighbor_sum(values, index).tolist() == [[[5, -5], [4, -4]]]
    assert neighbor_max(values, index, backend).tolist() == [[[4, -1], [2, -2]]]
    sums, squares = neighbor_moments(values, offsets, index, backend)
    assert sums.tolist() == [[11 + 14 + 2 + 2, -1 - 4 + 98 + 98]]
    assert squares.tolist() == [[121 + 196 + 4 + 4, 1 + 16 + 2 * 98**2]]


@pytest.mark.parametrize("num_groups", [1, 9, 63])
@pytest.mark.parametrize("num_neighbors", [1, 4, 300])
@pytest.mark.parametrize("name", OPERATORS)
def test_values_and_gradients_are_those_of_gathering_first(name: str, num_neighbors: int, num_groups: int):
    leaves, index = random_inputs(name, num_groups, num_neighbors)
    found, expected = (function(*leaves, index) for function in OPERATORS[name])
    torch.testing.assert_close(found, expected)
    outs = found if isinstance(found, tuple) else (found,)
    weights = [torch.randn_like(out) for out in outs]
    torch.testing.assert_close(*(torch.autograd.grad(result, leaves, weights) for result in (found, expected)))


def run(name: str, leaves: list[Tensor], index: Tensor) -> tuple:
    """Return outputs, and the gradients for output gradients that all differ."""
    out = OPERATORS[name][0](*leaves, index)
    outs = out if isinstance(out, tuple) else (out,)
    weights = [torch.arange(one.numel()).view_as(one).to(one) for one in outs]
    return outs, torch.autograd.grad(outs, leaves, weights)


@pytest.mark.parametrize("name", OPERATORS)
def test_inputs_may_be_non_contiguous(name: str):
    leaves, index = random_inputs(name)
    strided = [leaf.detach().mT.contiguous().mT.requires_grad_() for leaf in leaves]
    assert not any(leaf.is_contiguous() for leaf in strided)
    found = run(name, strided, index.mT.contiguous().mT)
    torch.testing.assert_close(found, run(name, leaves, index), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", OPERATORS)
def test_two_threads_compute_what_one_does(name: str):
    leaves, index = random_inputs(name)
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(run(name, leaves, index))
    torch.set_num_threads(1)
    torch.testing.assert_close(*found, rtol=0, atol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_first_of_equal_neighbors_gets_the_gradient(backend: str):
    values = torch.zeros(1, 3, 1, requires_grad=True)
    neighbor_max(values, torch.tensor([[[2, 0, 1]]]), backend).sum().backward()
    assert values.grad.flatten().tolist() == [0, 0, 1]


@pytest.mark.parametrize("place", [0, 1, 3])
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_maximum_with_a_nan_is_nan(backend: str, place: int):
    values = torch.tensor([1.0, 2, 3, torch.inf])[None, :, None].clone()
    values[0, place] = torch.nan
    assert neighbor_max(values, torch.tensor([[[0, 1, 3, 2]]]), backend).isnan().all()


@pytest.mark.parametrize("name", OPERATORS)
def test_a_point_that_is_in_no_group_gets_no_gradient(name: str):
    (values, *offsets), _ = random_inputs(name, num_groups=1)
    out = OPERATORS[name][0](values, *offsets, torch.tensor([[[1, 3]]] * 3))
    (out if isinstance(out, Tensor) else out[1]).sum().backward()
    assert not values.grad[:, [0, 2, 4, 5, 6]].any() and values.grad[:, [1, 3]].any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_moments_are_exact_where_float32_would_lose_the_variance(backend: str):
    values, offsets, index = 1e4 + torch.rand(2, 50, 3), torch.zeros(2, 20, 3), torch.randint(50, (2, 20, 4))
    sums, squares = neighbor_moments(values, offsets, index, backend)
    assert sums.dtype == squares.dtype == torch.float64
    for found, expected in zip((sums, squares), moments_by_gathering(values, offsets, index), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-14 if backend == "numba" else 1e-7, atol=0)


@pytest.mark.parametrize("name", OPERATORS)
def test_no_tensor_of_all_neighbors_is_saved_for_the_backward_pass(name: str):
    values, offsets = (torch.randn(2, 20, 64, requires_grad=True) for _ in range(2))
    inputs = (values, offsets) if name.startswith("moments") else (values,)
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: (saved.append(tensor), tensor)[1], lambda t: t):
        OPERATORS[name][0](*inputs, torch.randint(20, (2, 20, 16)))
    assert saved and max(tensor.numel() for tensor in saved) <= values.numel()


def test_numba_operators_are_registered_with_torch():
    from bixt3d.ops.numba import neighborhoods

    values, offsets, index = torch.randn(2, 9, 5), torch.randn(2, 4, 5), torch.randint(9, (2, 4, 3))
    factors = torch.randn(2, 5), torch.randn(2, 5)
    winner = neighborhoods.neighbor_max(values, index)[1]
    for operator, inputs in (
        (neighborhoods.neighbor_moments, (values, offsets, index)),
        (neighborhoods.neighbor_moments_backward, (*factors, values, offsets, index)),
        (neighborhoods.neighbor_max, (values, index)),
        (neighborhoods.neighbor_max_backward, (offsets, winner, 9)),
    ):
        torch.library.opcheck(operator.default, inputs, test_utils=("test_schema", "test_faketensor"))


def test_a_backend_that_cannot_run_is_an_error_that_says_why():
    values, index = torch.zeros(1, 2, 1), torch.zeros(1, 1, 1, dtype=torch.int64)
    for backend, device, reason in (
        ("numba", "meta", "runs on CPU tensors only"),
        ("triton", "cpu", "runs on CUDA tensors, these are on cpu"),
    ):
        with pytest.raises(InputError, match=reason):
            choose_neighborhood_backend(backend, values.to(device))
    assert torch.equal(neighbor_max(values, index, "cluster"), neighbor_max(values, index, "auto"))
    assert neighbor_max(values.half(), index).dtype == torch.float16  # by torch: Numba has no float16


@pytest.mark.parametrize("name", [name for name in OPERATORS if "numba" in name])
@pytest.mark.parametrize("wrong", [-1, 7])
def test_a_neighbor_index_out_of_range_is_an_error(name: str, wrong: int):
    leaves, index = random_inputs(name)
    index[1, 2, 3] = wrong
    with pytest.raises(IndexError, match=f"neighbor_index goes from .*{wrong}.* in clouds of 7 points"):
        OPERATORS[name][0](*leaves, index)


def test_a_group_without_neighbors_is_an_error():
    for operator in (neighbor_max, lambda values, index: neighbor_moments(values, values, index)):
        with pytest.raises(IndexError, match="a group needs at least 1 neighbor"):
            operator(torch.zeros(1, 3, 2), torch.zeros(1, 3, 0, dtype=torch.int64))
