"""Layers with batch normalization of the last axis."""

import pytest
import torch
from torch import Tensor, nn

from bixt3d.nn.mlp import ChannelsLastBatchNorm, LinearBatchNormReLU, ResidualMLP


def functions(grad_fn: torch.autograd.graph.Node | None) -> set[str]:
    """Return the names of all nodes of the autograd graph."""
    if grad_fn is None:
        return set()
    return {grad_fn.name()}.union(*(functions(following) for following, _ in grad_fn.next_functions))


@pytest.mark.parametrize(
    "layer", [LinearBatchNormReLU(6, 6), ResidualMLP(6, 0.5)], ids=["LinearBatchNormReLU", "ResidualMLP"]
)
@pytest.mark.parametrize("shape", [(5, 6), (2, 5, 6), (2, 5, 3, 6)])
def test_no_gradient_is_copied_for_a_view_changed_in_place(layer: nn.Module, shape: tuple[int, ...]):
    out = layer(torch.randn(shape, requires_grad=True))
    assert out.shape == shape
    assert "torch::autograd::CopySlices" not in functions(out.grad_fn)


@pytest.mark.parametrize("shape", [(5, 6), (2, 5, 3, 6)])
def test_a_residual_block_is_relu_of_input_plus_branch(shape: tuple[int, ...]):
    block, feats = ResidualMLP(6, 0.5), torch.randn(shape)
    assert torch.equal(block(feats), torch.relu(feats + block.inner(feats.flatten(0, -2)).view(shape)))


def test_a_residual_block_keeps_the_precision_of_its_input_under_autocast():
    feats = torch.full((4, 6), 1 + 2**-20) * torch.arange(1, 5)[:, None]
    block = ResidualMLP(6).eval()
    nn.init.zeros_(block.inner[3].weight)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(block(feats), feats)


def test_channels_are_normalized_over_all_other_axes():
    feats = torch.randn(2, 5, 3, 6)
    out: Tensor = ChannelsLastBatchNorm(6)(feats)
    rows = out.flatten(0, -2)
    assert out.shape == feats.shape
    torch.testing.assert_close(rows.mean(0), torch.zeros(6), rtol=0, atol=1e-6)
    torch.testing.assert_close(rows.var(0, correction=0), torch.ones(6), rtol=0, atol=1e-3)
