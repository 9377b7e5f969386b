"""Shuffle an epoch into batches, and split them among processes and steps of gradient accumulation."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

import torch
from jaxtyping import Int
from torch import Tensor

from bixt3d.engine.fabric import Fabric

Batch = dict[str, Tensor]


def count_batches(num_examples: int, batch_size: int) -> int:
    """Return the number of batches of an epoch, of at most ``batch_size`` examples each."""
    return math.ceil(num_examples / batch_size)


def batch_sizes(num_examples: int, batch_size: int) -> list[int]:
    """Return the sizes of the batches of an epoch, over all processes; they differ by at most 1."""
    return [last - first for first, last in _cut(0, num_examples, count_batches(num_examples, batch_size))]


def make_batches(
    num_examples: int,
    batch_size: int,
    fabric: Fabric,
    generator: torch.Generator,
    accumulate: int = 1,
    with_previous: bool = False,
) -> list[list[Int[Tensor, " _"]]]:
    """Return for each step of a shuffled epoch the indices of this process's examples, one tensor per micro-batch.

    Every example comes once in an epoch. Batches have nearly equal sizes; so have the shares of the processes, and the
    micro-batches over which gradients accumulate.

    Args:
        num_examples: size of the training set.
        batch_size: examples of a step, at most, over all processes.
        fabric: gives rank, number of processes and device.
        generator: draws the order of the examples.
        accumulate: micro-batches of a step (gradient accumulation).
        with_previous: begin each micro-batch with the example that precedes it in the batch of all processes; the
            first example follows the last.
    """
    order = torch.randperm(num_examples, generator=generator).to(fabric.device)
    steps = []
    for first, last in _cut(0, num_examples, count_batches(num_examples, batch_size)):
        share = _cut(first, last, fabric.world_size)[fabric.global_rank]
        pieces = _cut(*share, min(accumulate, (last - first) // fabric.world_size))
        if with_previous:
            ring = torch.cat([order[last - 1 : last], order[first:last]])
            steps.append([ring[start - first : end - first + 1] for start, end in pieces])
        else:
            steps.append([order[start:end] for start, end in pieces])
    return steps


def in_passes(plans: Sequence[list[list[Int[Tensor, " _"]]]], num_examples: int) -> list[list[Int[Tensor, " _"]]]:
    """Join the steps of several passes over a set; in pass p, ``p * num_examples`` is added to the indices.

    So augmentation, which is drawn from the index, differs between the passes; `CloudSet.batches` takes the remainder.
    """
    return [[index + place * num_examples for index in step] for place, plan in enumerate(plans) for step in plan]


def _cut(first: int, last: int, num: int) -> list[tuple[int, int]]:
    """Split the interval from ``first`` to ``last`` into ``num`` intervals of nearly equal length."""
    return list(pairwise(first + (last - first) * i // num for i in range(num + 1)))


def in_steps(
    batches: Iterable[Batch], plan: Iterable[Sequence[Tensor]], augment: Callable[[Batch, int], Batch]
) -> Iterator[list[Batch]]:
    """Yield the micro-batches of each step of the plan (see `make_batches`), augmented by ``augment(batch, step)``."""
    stream = iter(batches)
    for number, pieces in enumerate(plan):
        yield [augment(next(stream), number) for _ in pieces]
