"""What training costs: a step with and without freed memory kept, affine grouping, our model beside PointMLP."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial

import bench_textbook
import torch
from bench_case import Case, How, Row, Run, Target
from bench_measure import assert_near, compiled, measure, not_run
from bench_models import cloud_batch, make_cloud_model, training_step
from torch import Tensor

from bixt3d.engine.runtime import keep_freed_memory
from bixt3d.models.create import create_model
from bixt3d.nn.grouping import GroupBlock
from bixt3d.ops import knn
from bixt3d.types import Tokens

COMPILED = {"compiled": None, "CUDA graphs": "reduce-overhead"}
"""What `--runtime.compile` and `--runtime.cuda_graphs` ask torch.compile for."""


def bench_train(how: How) -> Iterator[list[Row]]:
    """Measure training steps and grouping; all but the first with freed memory kept, as in our programs."""
    if not how.on_gpu:
        yield measure(small_step(how), how)
    keep_freed_memory()
    for backward in (False, True):
        yield measure(grouping_case(*((2, 64, 16, 4) if how.small else (32, 1024, 192, 24)), backward, how), how)
    for num_clouds in (32, 128) if how.on_gpu else (2,) if how.small else (4,):
        yield measure(step_case(num_clouds, how), how)


def small_step(how: How) -> Case:
    """Return a step of `modelnet10_small` on 32 clouds, in programs whose C library does and does not keep memory."""
    num_clouds = 2 if how.small else 32
    apart = {
        name: partial(make_small_step, num_clouds, keep, how)
        for name, keep in {"as the C library comes": False, "keeping freed memory": True}.items()
    }
    step = make_small_step(num_clouds, False, how)
    return Case(
        f"training step, modelnet10_small, {num_clouds} clouds of 512 points, each in a process of its own",
        "as the C library comes",
        dict.fromkeys(apart, step),
        _is_finite,
        num_clouds,
        "clouds",
        clock="wall",
        apart=apart,
    )


def make_small_step(num_clouds: int, keep: bool, how: How) -> Run:
    """Return the training step, after the C library has been told to keep memory or not. For a fresh process."""
    if keep:
        keep_freed_memory()
    model = create_model("modelnet10_small", 10).to(how.device)
    return training_step(model, cloud_batch(num_clouds, 512, how), how)


def grouping_case(num_clouds: int, size: int, dim: int, num_neighbors: int, backward: bool, how: How) -> Case:
    """Return affine grouping around every point, as `modelnet40_grouping` does it in each of 11 layers."""
    xyz = torch.randn(num_clouds, size, 3, device=how.device)
    feats = torch.randn(num_clouds, size, dim, device=how.device, requires_grad=backward)
    upstream = torch.randn(num_clouds, size, dim, device=how.device)
    neighbor_index = knn(xyz, xyz, num_neighbors)
    block = GroupBlock(dim, dim, num_neighbors).to(how.device)
    torch.nn.init.uniform_(block.group.scale, 0.5, 1.5)
    torch.nn.init.normal_(block.group.shift)
    textbook = bench_textbook.Grouping(block).to(how.device)
    tokens = Tokens(feats, xyz, neighbor_index)

    def run(group: Callable[[], Tensor], module: torch.nn.Module, in_float32: bool) -> tuple[Tensor, ...]:
        with torch.set_grad_enabled(backward), nullcontext() if in_float32 else how.precision():
            out = group()
        if not backward:
            return (out,)
        # the gradient of the shift is zero: normalization takes away what is added to all
        trained = [parameter for name, parameter in module.named_parameters() if not name.endswith("shift")]
        grads = torch.autograd.grad(out, [feats, *trained], upstream.to(out.dtype))
        return (out, *(grad.squeeze(-1) if grad.ndim == 3 and grad.shape[2] == 1 else grad for grad in grads))

    implementations = {
        "textbook": partial(run, lambda: textbook(feats, neighbor_index), textbook),
        "GroupBlock": partial(run, lambda: block(tokens)[0].feats, block),
    }
    reference = implementations["textbook"](True)

    def check(name: str, result: tuple[Tensor, ...]) -> None:  # bfloat16 would give the gradient to other neighbors
        result = implementations[name](True) if how.on_gpu else result
        assert_near(result[:1], reference[:1], 1e-4)
        assert_near(result[1:], reference[1:], 1e-2, mean=True)  # of 6 million maxima float32 gives a few to others

    flops = 2.0 * num_clouds * size * dim * dim * 2 * (3 if backward else 1)
    moved = (2 + 3 * backward) * feats.nbytes / (2 if how.on_gpu else 1) + neighbor_index.nbytes * (1 + backward)
    return Case(
        f"affine grouping, {'forward + backward' if backward else 'forward'}, {num_clouds} x {size}, {dim} wide, "
        f"k {num_neighbors}",
        "textbook",
        {name: partial(implementation, False) for name, implementation in implementations.items()},
        check,
        num_clouds,
        "clouds",
        bytes=moved,
        flops=flops,
    )


def step_case(num_clouds: int, how: How) -> Case:
    """Return the training step of the model with grouping and of both PointMLPs, as they are and compiled."""
    inputs = cloud_batch(num_clouds, 512 if how.small else 1024, how)
    variants: dict[str, Run] = {}
    for name in ("PointMLP", "PointMLP-elite", "grouping"):
        variants[name] = training_step(make_cloud_model(name, how), inputs, how)
        for words, mode in COMPILED.items():
            variants[f"{name}, {words}"] = not_run("compiling a whole model takes minutes on a CPU")
            if how.on_gpu:
                model = make_cloud_model(name, how)
                variants[f"{name}, {words}"] = training_step(model, inputs, how, compiled(model, how, mode))
    targets = []
    if how.on_gpu:
        for name in ("grouping", *(f"grouping, {words}" for words in COMPILED)):
            targets += [Target(name, "per_second", 2000), Target(name, "speedup", 5)]
    return Case(
        f"training step, modelnet40, {num_clouds} clouds of {inputs[0].shape[1]} points",
        "PointMLP",
        variants,
        _is_finite,
        num_clouds,
        "clouds",
        clock="wall",
        targets=tuple(targets),
    )


def _is_finite(name: str, loss: Tensor) -> None:
    assert loss.isfinite(), "the loss is no number"
