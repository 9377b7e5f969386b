"""Facts about sums and maxima over neighbors: by hand, equal to gathering first, gradients included."""

import pytest
import torch
from torch import Tensor

from bixt3d.ops import gather, neighbor_max, neighbor_squares, neighbor_sum, neighborhoods

BY_GATHERING = {
    neighbor_sum: lambda values, index: gather(values, index).sum(2),
    neighbor_max: lambda values, index: gather(values, index).amax(2),
    neighbor_squares: lambda values, index: gather(values, index).square().sum((1, 2)),
}


def test_sum_maximum_and_squares_by_hand():
    values = torch.tensor([[[1.0, -1], [2, -2], [4, -4]]])
    index = torch.tensor([[[0, 2], [1, 1]]])
    assert neighbor_sum(values, index).tolist() == [[[5, -5], [4, -4]]]
    assert neighbor_max(values, index).tolist() == [[[4, -1], [2, -2]]]
    assert neighbor_squares(values, index).tolist() == [[1 + 16 + 4 + 4] * 2]


@pytest.mark.parametrize("num_groups", [1, 9, 63])
@pytest.mark.parametrize("num_neighbors", [1, 4, 300])
@pytest.mark.parametrize("function", BY_GATHERING)
def test_values_and_gradients_are_those_of_gathering_first(function, num_neighbors: int, num_groups: int):
    values = torch.randn(3, 7, 5, dtype=torch.float64, requires_grad=True)
    index = torch.randint(7, (3, num_groups, num_neighbors))
    found, expected = function(values, index), BY_GATHERING[function](values, index)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(found)
    for_found, for_expected = (torch.autograd.grad(out, values, weights)[0] for out in (found, expected))
    torch.testing.assert_close(for_found, for_expected)


@pytest.mark.parametrize("cached", [1, 100])
def test_chunks_change_no_maximum(cached: int, monkeypatch: pytest.MonkeyPatch):
    values, index = torch.randn(3, 7, 5, requires_grad=True), torch.randint(7, (3, 9, 4))
    expected = neighbor_max(values, index)
    monkeypatch.setattr(neighborhoods, "CACHED", cached)
    found = neighbor_max(values, index)
    assert torch.equal(found, expected)
    assert torch.equal(*(torch.autograd.grad(out.square().sum(), values)[0] for out in (found, expected)))


def test_the_first_of_equal_neighbors_gets_the_gradient():
    values = torch.zeros(1, 3, 1, requires_grad=True)
    neighbor_max(values, torch.tensor([[[2, 0, 1]]])).sum().backward()
    assert values.grad.flatten().tolist() == [0, 0, 1]


def test_a_point_that_is_in_no_group_gets_no_gradient():
    values = torch.randn(2, 4, 3, requires_grad=True)
    index = torch.tensor([[[1, 3]], [[1, 3]]])
    (neighbor_sum(values, index) + neighbor_max(values, index)).sum().backward()
    assert not values.grad[:, [0, 2]].any() and values.grad[:, [1, 3]].any()


def test_squares_are_exact_where_float32_would_lose_the_difference():
    values, index = 1e4 + torch.rand(2, 50, 3), torch.randint(50, (2, 20, 4))
    found = neighbor_squares(values, index)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, BY_GATHERING[neighbor_squares](values.double(), index), rtol=1e-14, atol=0)


@pytest.mark.parametrize("function", BY_GATHERING)
def test_nothing_as_large_as_all_neighbors_is_kept_for_the_gradients(function):
    values, index = torch.randn(2, 20, 64, requires_grad=True), torch.randint(20, (2, 20, 16))
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: (kept.append(tensor), tensor)[1], lambda t: t):
        function(values, index)
    assert kept and max(tensor.numel() for tensor in kept) <= values.numel()
