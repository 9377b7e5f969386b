"""Who sees which example when: an epoch in batches, shared among processes and pieces."""

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
    """Return how many examples the batches of an epoch have, in all processes: they are nearly equal."""
    return [last - first for first, last in _cut(0, num_examples, count_batches(num_examples, batch_size))]


def make_batches(
    num_examples: int,
    batch_size: int,
    fabric: Fabric,
    generator: torch.Generator,
    accumulate: int = 1,
    with_previous: bool = False,
) -> list[list[Int[Tensor, " _"]]]:
    """Return for each step of a shuffled epoch this process's examples, in the pieces that gradients accumulate over.

    An epoch shows every example once, in batches of nearly equal size; processes and pieces share a batch as evenly.
    ``with_previous``: each piece begins with the example that comes before it in the batch of all processes (before the
    first one: the last).
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


def _cut(first: int, last: int, parts: int) -> list[tuple[int, int]]:
    """Return where ``parts`` intervals of nearly equal length begin and end that make up the one given."""
    return list(pairwise(first + (last - first) * part // parts for part in range(parts + 1)))


def in_steps(
    batches: Iterable[Batch], plan: Iterable[Sequence[Tensor]], augment: Callable[[Batch, int], Batch]
) -> Iterator[list[Batch]]:
    """Yield the batches of each step of the plan, which holds their indices; ``augment`` is told the step's number."""
    stream = iter(batches)
    for number, pieces in enumerate(plan):
        yield [augment(next(stream), number) for _ in pieces]
