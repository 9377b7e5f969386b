"""What bi-directional attention costs, forward and backward, in each implementation: 64 latents, 6 heads of 32."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import torch
from bench_case import Case, How, Row, Run, Target
from bench_measure import assert_near, compiled, in_fresh_process, measure, not_run, peak_memory
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from bixt3d.engine.runtime import keep_freed_memory
from bixt3d.ops import bi_attention

Parts = list[Tensor]
Attend = Callable[[Parts], tuple[Tensor, Tensor]]

NUM_LATENTS, NUM_HEADS, HEAD_DIM = 64, 6, 32
MILLION = 1_000_000
FORWARD_BYTES, BACKWARD_BYTES = 6, 10
"""Bytes that every number of a head and token costs in bfloat16 if nothing is stored that need not be: refs and values
read and the output written; backward reads refs, values and the output's gradient, and writes two gradients."""


def bench_attention(how: How) -> Iterator[list[Row]]:
    """Measure all implementations at several numbers of clouds and tokens."""
    for num_clouds, num_tokens in attention_sizes(how):
        parts = make_parts(num_clouds, num_tokens, how)
        both = how.on_gpu or num_tokens < MILLION
        grads = [torch.randn(num_clouds, part.shape[1], NUM_HEADS * HEAD_DIM).to(parts[0]) for part in parts[1:3]]
        reference = by_heads(parts, grads if both else None)
        passes = ["forward", *["backward"] * how.on_gpu, *["forward + backward"] * both]
        for name in passes:
            case = attention_case(name, parts, grads, reference, how)
            if how.on_gpu or num_tokens >= MILLION:
                yield measure(case, how)
                continue
            for memory in ("as the C library comes", "freed memory kept"):
                yield measure(in_own_processes(case, name, num_clouds, num_tokens, memory, how), how)


def attention_sizes(how: How) -> list[tuple[int, int]]:
    """Return numbers of clouds and of tokens of each."""
    if how.small:
        return [(2, 64)]
    if not how.on_gpu:
        return [(32, 1024), (1, 65_536), (1, MILLION)]
    return [(32, 1024), *((1, num_tokens) for num_tokens in (1024, 16_384, 65_536, 262_144, MILLION))]


def make_parts(num_clouds: int, num_tokens: int, how: How) -> Parts:
    """Return refs and values of latents and tokens: in float32 on a CPU, in bfloat16 on a GPU."""
    dtype = torch.bfloat16 if how.on_gpu else torch.float32
    sizes = (NUM_LATENTS, NUM_LATENTS, num_tokens, num_tokens)
    make = partial(torch.randn, device=how.device, dtype=dtype, requires_grad=True)
    return [make(num_clouds, size, NUM_HEADS, HEAD_DIM) for size in sizes]


def by_heads(parts: Parts, grads: Parts | None) -> Parts:
    """Return outputs, and gradients of the parts, by the reference in float32, head after head to save memory."""
    found: list[Parts] = []
    for head in range(NUM_HEADS):
        some = [part.detach()[:, :, head : head + 1].float().requires_grad_(grads is not None) for part in parts]
        outs = bi_attention(*some, "torch")
        columns = slice(head * HEAD_DIM, (head + 1) * HEAD_DIM)
        upstream = [grad[..., columns].float() for grad in grads or []]
        back = torch.autograd.grad(outs, some, upstream) if grads else []
        found.append([*(out.detach() for out in outs), *(grad.flatten(2) for grad in back)])
    return [torch.cat(columns, 2) for columns in zip(*found, strict=True)]


def implementations(how: How) -> dict[str, Attend]:
    """Return all implementations by name; the first is the baseline."""

    def attend(backend: str, parts: Parts, autocast: bool = False) -> tuple[Tensor, Tensor]:
        with torch.autocast("cuda", torch.bfloat16) if autocast else nullcontext():
            return bi_attention(*parts, backend)

    textbook: dict[str, Attend] = {"textbook": partial(attend, "torch")}
    if how.on_gpu:
        textbook = {
            "textbook, autocast": partial(attend, "torch", autocast=True),
            "textbook, pure bf16": partial(attend, "torch"),
        }
    ours = {name: partial(attend, name) for name in ("sdpa", "chunked", "triton", "auto")}
    return textbook | {"textbook, compiled": compiled(lambda parts: bi_attention(*parts, "torch"), how)} | ours


def attention_case(name: str, parts: Parts, grads: Parts, reference: Parts, how: How) -> Case:
    """Return one pass over all implementations."""
    num_clouds, num_tokens, _, _ = parts[2].shape
    first, last = {"forward": (0, 2), "backward": (2, 6), "forward + backward": (0, 6)}[name]
    expected, tolerance = reference[first:last], 0.03 if how.on_gpu else 1e-4
    attends = implementations(how)
    too_large = not how.on_gpu and num_tokens >= MILLION
    variants = {variant: _pass(name, attend, parts, grads) for variant, attend in attends.items()}
    for variant in variants:
        if too_large and variant.startswith("textbook"):
            variants[variant] = not_run("the similarity and two softmaxes of it take over 5 GB")
    if name == "backward":
        variants["textbook, compiled"] = not_run("what is compiled gives up its memory as it goes backward, once")

    def check(variant: str, results: Parts) -> None:
        rounded = how.on_gpu and variant.startswith("textbook")  # the similarity itself, to bfloat16
        assert_near([result.flatten(2) for result in results], expected, 0.1 if rounded else tolerance)

    def more(variant: str) -> Row:
        if too_large:
            return {"memory_mb": in_fresh_process(memory_of, variant, num_clouds, num_tokens, how)}
        return (
            {}
            if name == "forward" or "compiled" in variant
            else {"kept_mb": kept_for_backward(attends[variant], parts)}
        )

    numbers = num_clouds * num_tokens * NUM_HEADS * HEAD_DIM
    products = {"forward": 3, "backward": 6, "forward + backward": 9}[name]
    moved = {"forward": FORWARD_BYTES, "backward": BACKWARD_BYTES}.get(name, FORWARD_BYTES + BACKWARD_BYTES)
    return Case(
        f"bi-directional attention, {name}, {num_clouds} x {num_tokens} tokens",
        "sdpa" if too_large else next(iter(variants)),
        variants,
        check,
        num_clouds * num_tokens,
        "tokens",
        bytes=moved * numbers * parts[2].itemsize / 2,
        flops=2.0 * products * numbers * NUM_LATENTS,
        more=more,
        targets=_gpu_targets(name, num_clouds, num_tokens) if how.on_gpu else _cpu_targets(name, num_tokens),
    )


def in_own_processes(case: Case, name: str, num_clouds: int, num_tokens: int, memory: str, how: How) -> Case:
    """Return a case each of whose implementations is timed in a process of its own.

    On a CPU, large temporaries are new pages or not by what a process did before. Targets are for the C library as it
    comes.
    """
    keep = memory == "freed memory kept"
    apart = {variant: partial(make_pass, name, variant, num_clouds, num_tokens, keep, how) for variant in case.variants}
    title = f"{case.title}, each in a process of its own, {memory}"
    return replace(case, title=title, apart=apart, targets=() if keep else case.targets)


def make_pass(name: str, variant: str, num_clouds: int, num_tokens: int, keep: bool, how: How) -> Run:
    """Return a pass of one variant over data of its own. For a fresh process."""
    if keep:
        keep_freed_memory()
    parts = make_parts(num_clouds, num_tokens, how)
    grads = [torch.randn(num_clouds, part.shape[1], NUM_HEADS * HEAD_DIM) for part in parts[1:3]]
    return _pass(name, implementations(how)[variant], parts, grads)


def _cpu_targets(name: str, num_tokens: int) -> tuple[Target, ...]:
    if num_tokens >= MILLION:
        return (Target("auto", "memory_mb", 2000),)
    return (Target("auto", "speedup", {"forward": 2.5}.get(name, 1.7)),)


def _gpu_targets(name: str, num_clouds: int, num_tokens: int) -> tuple[Target, ...]:
    if num_tokens < 65_536:
        return ()
    if name == "forward + backward":
        return (Target("triton", "speedup", 10), Target("triton", "speedup", 2, "sdpa"))
    statistics = 4e-6 * num_clouds * NUM_HEADS * (num_tokens + NUM_LATENTS)  # MB: one float32 for each row and column
    kept = [Target("triton", "kept_mb", 1.01 * statistics)] if name == "backward" else []
    return (Target("triton", "copy_percent", {"forward": 70}.get(name, 55)), *kept)


def _pass(name: str, attend: Attend, parts: Parts, grads: Parts) -> Run:
    """Return a function that makes one pass; backward alone keeps what its first call went forward with."""
    outs: list[tuple[Tensor, Tensor]] = []

    def forward() -> Parts:
        with torch.no_grad():
            return list(attend(parts))

    def backward() -> Parts:
        if not outs:
            outs.append(attend(parts))
        return list(torch.autograd.grad(outs[0], parts, grads, retain_graph=True))

    def both() -> Parts:
        out = attend(parts)
        return [*out, *torch.autograd.grad(out, parts, grads)]

    return {"forward": forward, "backward": backward, "forward + backward": both}[name]


def kept_for_backward(attend: Attend, parts: Parts) -> float:
    """Return what a forward pass keeps for backward in MB, beyond its inputs and outputs."""
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        outs = attend(parts)
    known = {tensor.untyped_storage().data_ptr() for tensor in (*parts, *outs)}
    return sum(size for place, size in kept.items() if place not in known) / 1e6


def memory_of(variant: str, num_clouds: int, num_tokens: int, how: How) -> float | None:
    """Return the most memory that a forward pass takes, in MB, beyond inputs and outputs. For a fresh process."""
    attend = implementations(how)[variant]
    _pass("forward", attend, make_parts(num_clouds, 64, how), [])()  # what only the first call needs
    return peak_memory(_pass("forward", attend, make_parts(num_clouds, num_tokens, how), []), how)
