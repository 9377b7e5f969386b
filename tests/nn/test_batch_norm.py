"""Synchronized batch norm equals PyTorch's: here with one process, in tasks/test_processes.py with several."""

import inspect

import jaxtyping
import pytest
import torch
from torch import distributed, nn

from bixt3d.models.encoder import frozen_running_statistics
from bixt3d.nn.batch_norm import ImageBatchNorm
from bixt3d.nn.grouping import GroupBlock
from bixt3d.nn.mlp import ChannelsLastBatchNorm
from bixt3d.types import Tokens


@pytest.fixture
def one_process(tmp_path):
    """Start a process group of one process."""
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def norms(dim: int) -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    """Return batch norms, and shapes of their inputs."""
    return {
        "rows": (ChannelsLastBatchNorm(dim), (6, dim)),
        "points": (ChannelsLastBatchNorm(dim), (2, 4, dim)),
        "image": (ImageBatchNorm(dim), (3, dim, 5, 4)),
    }


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["rows", "points", "image"])
def test_outputs_gradients_and_running_statistics_are_those_of_pytorch(kind, dtype):
    found = []
    for synchronized in (False, True):
        norm, shape = norms(5)[kind]
        torch.manual_seed(0)
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
        norm.synchronized = synchronized
        feats = (3 * torch.randn(shape) + 7).to(dtype).requires_grad_()
        out = norm(feats)
        assert out.dtype == dtype
        out.backward(torch.randn(shape).to(dtype))
        found.append([out, feats.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var])
        assert norm.num_batches_tracked == 1
    exact = {"atol": 1e-5, "rtol": 1e-4} if dtype == torch.float32 else {"atol": 0.05, "rtol": 0.02}
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, **exact)


def test_in_evaluation_nothing_is_synchronized():
    norm = ChannelsLastBatchNorm(3).eval()
    norm.synchronized = True  # although there is no process group
    assert norm(torch.ones(2, 3)).shape == (2, 3)


def test_sums_of_one_process_can_be_compiled():
    unchecked = inspect.unwrap(
        ChannelsLastBatchNorm.sum_over_processes, stop=lambda one: hasattr(one, "_torchdynamo_disable")
    )
    sums = torch.compile(unchecked, backend="eager", fullgraph=True)
    assert sums(ChannelsLastBatchNorm(3), *torch.ones(2, 3), 5)[2] == 5


@pytest.mark.parametrize("norm", [ChannelsLastBatchNorm(3), ImageBatchNorm(3)])
def test_frozen_running_statistics_do_not_change(norm):
    with frozen_running_statistics(norm):
        norm(torch.randn(4, 3, 2, 2) if isinstance(norm, ImageBatchNorm) else torch.randn(4, 3))
    assert norm.running_mean.tolist() == [0, 0, 0]
    assert norm.num_batches_tracked == 0


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("num_pre", [0, 1])
def test_moments_over_neighbors_are_synchronized_too(num_pre):
    found = []
    for synchronized in (False, True):
        torch.manual_seed(0)
        block = GroupBlock(3, 4, 3, num_groups=5, num_pre=num_pre)
        for module in block.modules():
            if isinstance(module, ChannelsLastBatchNorm):
                module.synchronized = synchronized
        feats, pos = torch.randn(2, 8, 3, requires_grad=True), torch.randn(2, 8, 3)
        out = block(Tokens(feats, pos))[0].feats
        out.backward(torch.randn(out.shape))
        found.append([out, feats.grad, *(weight.grad for weight in block.parameters()), *block.buffers()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_outputs_and_gradients_are_bitwise_those_of_pytorch_without_constant_channels(dtype):
    found = []
    for norm in (ChannelsLastBatchNorm(5), nn.BatchNorm1d(5)):
        torch.manual_seed(0)
        nn.init.normal_(norm.weight)
        feats = (3 * torch.randn(40, 5) + 7).to(dtype).requires_grad_()
        out = norm(feats)
        out.backward(torch.randn(40, 5).to(dtype))
        found.append([out, feats.grad, norm.weight.grad, norm.bias.grad, *norm.buffers()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("synchronized", [False, True])
def test_constant_channels_get_no_gradient_but_channels_of_zeros_do(synchronized):
    norm, grad = ChannelsLastBatchNorm(4), torch.randn(50, 4)
    norm.synchronized = synchronized
    rounding = 1 + torch.randint(2, (50,)) * torch.finfo(torch.float32).eps
    feats = torch.stack([torch.ones(50), 300 * rounding, torch.zeros(50), torch.randn(50)], 1).requires_grad_()
    norm(feats).backward(grad)
    assert feats.grad.abs().amax(0).gt(0).tolist() == [False, False, True, True]
    assert norm.weight.grad[:3].abs().max() < 1e-6
    torch.testing.assert_close(norm.bias.grad, grad.sum(0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiled_it_has_the_outputs_gradients_and_statistics_that_it_has_otherwise(dtype, monkeypatch):
    """Constant channels too: a dozen layers whose gradient PyTorch's batch norm multiplies by 300 overflow float32."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # checks of shapes cannot be compiled
    rounding = 1 + torch.randint(2, (50,)) * torch.finfo(torch.float32).eps
    columns = [torch.ones(50), 300 * rounding, torch.zeros(50), torch.randn(50), 3 * torch.randn(50) + 7]
    grad, found = torch.randn(50, 5).to(dtype), []
    for compiled in (False, True):
        torch.manual_seed(0)
        norm = ChannelsLastBatchNorm(5)
        nn.init.normal_(norm.weight)
        feats = torch.stack(columns, 1).to(dtype).requires_grad_()
        out = torch.compile(norm, backend="aot_eager", fullgraph=True)(feats) if compiled else norm(feats)
        out.backward(grad)
        found.append([out, feats.grad, norm.weight.grad, norm.bias.grad, *norm.buffers()])
    assert found[1][1].abs().amax(0).gt(0).tolist() == [False, False, True, True, True]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one)
