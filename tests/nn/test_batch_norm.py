"""Synchronized batch norm: by hand on one process, and equal to PyTorch's of the whole batch on two."""

import pytest
import torch
from torch import distributed, multiprocessing, nn

from bixt3d.nn.batch_norm import ImageNorm
from bixt3d.nn.grouping import GroupBlock
from bixt3d.nn.mlp import ChannelNorm
from bixt3d.types import Tokens


@pytest.fixture
def one_process(tmp_path):
    """Join a group of one process, in which sums are those of this process."""
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def norms(dim: int) -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    """Return batch norms, and shapes of what they read."""
    return {
        "rows": (ChannelNorm(dim), (6, dim)),
        "points": (ChannelNorm(dim), (2, 4, dim)),
        "image": (ImageNorm(dim), (3, dim, 5, 4)),
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
    norm = ChannelNorm(3).eval()
    norm.synchronized = True  # and yet there is no process group
    assert norm(torch.ones(2, 3)).shape == (2, 3)


def two_halves(rank: int, folder: str) -> None:
    """Let each of two processes normalize its half of a batch, of 4 and 2 clouds, and save what it found."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    torch.save(normalize(rank, synchronized=True), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def normalize(rank: int | None, synchronized: bool = False) -> list[torch.Tensor]:
    """Return outputs, gradients of inputs and of weights, and running statistics: of a half, or (None) of all."""
    found = []
    for make in (
        lambda: ChannelNorm(3),
        lambda: GroupBlock(3, 4, 3, num_groups=5),
        lambda: GroupBlock(3, 4, 3, num_pre=1),
    ):
        torch.manual_seed(0)
        module = make().train()
        for part in module.modules():
            if isinstance(part, ChannelNorm):
                nn.init.normal_(part.weight)
                part.synchronized = synchronized
        half = {None: slice(None), 0: slice(0, 4), 1: slice(4, 6)}[rank]
        feats, pos = torch.randn(6, 8, 3)[half].requires_grad_(), torch.randn(6, 8, 3)[half]
        out = module(feats) if isinstance(module, ChannelNorm) else module(Tokens(feats, pos))[0].feats
        out.backward(torch.randn(6, *out.shape[1:])[half])
        weights = [parameter.grad for parameter in module.parameters()]
        found.append([out.detach(), feats.grad, *weights, *module.buffers()])
    return found


def test_two_processes_normalize_as_one_does_the_whole_batch(tmp_path):
    multiprocessing.spawn(two_halves, (str(tmp_path),), nprocs=2)
    halves = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    for whole, first, second in zip(normalize(None), *halves, strict=True):
        for place, (one, a, b) in enumerate(zip(whole, first, second, strict=True)):
            if place < 2:  # what belongs to clouds
                torch.testing.assert_close(torch.cat([a, b]), one, atol=1e-5, rtol=1e-4)
            elif one.shape == a.shape and not a.equal(b):  # gradients of weights, each of its half
                torch.testing.assert_close(a + b, one, atol=1e-4, rtol=1e-4)
            else:  # running statistics: the same in both
                torch.testing.assert_close(a, one, atol=1e-5, rtol=1e-4)
