"""What clouds of up to a million points cost the 12-layer naive encoder: time, memory, and whether time is linear."""

import time
from collections.abc import Iterator
from functools import partial
from math import log

import torch
from bench_case import Case, How, Row, Target, summarize
from bench_measure import (
    REASONS,
    CannotRunError,
    assert_near,
    first_line,
    free_memory,
    in_fresh_process,
    peak_memory,
    process_peak,
    time_calls,
)
from bench_models import answer, by_reference, cloud_batch, make_cloud_model
from torch import Tensor, nn

from bixt3d.engine.runtime import Runtime, keep_freed_memory
from bixt3d.tasks.backends import choose_backends

SIZES = (2**10, 2**12, 2**14, 2**16, 2**18, 1_000_000)
COMPARED = 2**14
"""Up to this size logits are compared with those of the reference."""

PATIENCE = 250.0
"""Seconds that the passes over one cloud may take in all; one is made whatever it takes."""

MB_OF_POINT = {"forward": 0.012, "forward + backward": 0.18, "forward + backward, checkpointing": 0.02}
"""The passes, and what a point takes on a CPU: a cloud that would not fit into the memory that is free is not tried."""


def bench_scale(how: How) -> Iterator[list[Row]]:
    """Measure each pass over one cloud of each size."""
    for name in MB_OF_POINT:
        yield scale_rows((64, 256) if how.small else SIZES, name, how)


def scale_rows(sizes: tuple[int, ...], kind: str, how: How) -> list[Row]:
    """Return a row for each size; speedups are of the time per point."""
    case = scale_case(sizes, kind, how)
    times: dict[str, list[float]] = {}
    columns: dict[str, Row] = {}
    for name, size in zip(case.items, sizes, strict=True):
        try:
            times[name], columns[name] = _measure_size(size, kind, how)
        except REASONS as reason:
            columns[name] = {"note": f"not run: {first_line(reason)}"}
    rows = summarize(case, times, columns, how)
    for i in range(1, len(rows)):
        if "median_ms" in rows[i] and "median_ms" in rows[i - 1]:
            rows[i]["slope"] = log(rows[i]["median_ms"] / rows[i - 1]["median_ms"]) / log(sizes[i] / sizes[i - 1])
    return rows


def scale_case(sizes: tuple[int, ...], kind: str, how: How) -> Case:
    """Return the case whose variants are sizes: from 64k points on, time per point should stay within 10 %."""
    names = [f"{size:,} points" for size in sizes]
    base = 0 if how.small else sizes.index(2**16 if how.on_gpu or kind != "forward + backward" else 2**14)
    targets = []
    if kind == "forward":
        targets = [Target(name, "speedup", 0.9) for name in names[base + 1 :]]
        limits = {"median_ms": 100, "memory_mb": 8000} if how.on_gpu else {"process_mb": 24_000}
        targets += [Target(names[-1], value, bound) for value, bound in limits.items()]
    return Case(
        f"modelnet40_naive, {kind}, one cloud",
        names[base],
        {},
        items=dict(zip(names, map(float, sizes), strict=True)),
        unit="points",
        targets=tuple(targets),
    )


def _measure_size(size: int, kind: str, how: How) -> tuple[list[float], Row]:
    if how.on_gpu or how.small:
        return time_size(size, kind, how)
    needed, free = size * MB_OF_POINT[kind], free_memory()
    if needed > free:
        raise CannotRunError(f"takes about {needed / 1e3:.0f} GB, and {free / 1e3:.0f} GB are free")
    return in_fresh_process(time_size, size, kind, how)


def time_size(size: int, kind: str, how: How) -> tuple[list[float], Row]:
    """Return times in ms, and columns about memory, of one cloud. A pass of many seconds is its own warm-up."""
    backward, checkpointing = "backward" in kind, "checkpointing" in kind
    if not checkpointing:
        keep_freed_memory()  # as our programs do
    torch.manual_seed(0)
    model, cloud = make_cloud_model("naive", how), cloud_batch(1, size, how)
    if size <= COMPARED:
        expected = by_reference(model, cloud)
        assert_near([answer(model.eval(), cloud, how).cpu()], [expected], 0.1 if how.on_gpu else 1e-3)
    choose_backends(model, Runtime(checkpointing=checkpointing))
    make = both if backward else answer
    make(model.train(backward), cloud_batch(1, 64, how), how)  # what only the first call needs
    run = partial(make, model, cloud, how)
    began = time.perf_counter()
    columns: Row = {"memory_mb": peak_memory(run, how)}
    first = time.perf_counter() - began
    if not how.on_gpu:
        columns["process_mb"] = process_peak()
    if first > how.seconds:
        turns = min(how.repeats, int(PATIENCE / first)) - 1
        return [1e3 * first, *(time_calls(run, 1, how, "wall") for _ in range(turns))], columns
    turns = max(1, min(how.repeats, int(PATIENCE / first)))
    return [time_calls(run, 1, how, "wall") for _ in range(turns)], columns


def both(model: nn.Module, inputs: tuple[Tensor, ...], how: How) -> Tensor:
    """Go forward and backward, as in training, and return the loss."""
    with how.precision():
        loss = model(*inputs).float().logsumexp(1).sum()
    loss.backward()
    model.zero_grad()
    return loss.detach()
