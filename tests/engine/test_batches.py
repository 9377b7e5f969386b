"""Batches of an epoch: every example once, for any number of processes and micro-batches."""

from itertools import chain

import pytest
import torch
from lightning_fabric import Fabric

from bixt3d.engine.batches import count_batches, in_passes, in_steps, make_batches
from bixt3d.types import CloudSet


class Process(Fabric):
    """The attributes of Fabric in one of several processes, without starting any."""

    def __init__(self, rank: int, world_size: int):
        self.rank, self.size = rank, world_size

    global_rank = property(lambda self: self.rank)
    world_size = property(lambda self: self.size)
    device = property(lambda self: torch.device("cpu"))


def batches(
    num_clouds: int, batch_size: int, rank: int = 0, world_size: int = 1, seed: int = 0, **options
) -> list[list[list[int]]]:
    """Return the micro-batches of each step."""
    generator = torch.Generator().manual_seed(seed)
    plan = make_batches(num_clouds, batch_size, Process(rank, world_size), generator, **options)
    return [[piece.tolist() for piece in pieces] for pieces in plan]


def flat(steps: list[list[list[int]]]) -> list[list[int]]:
    return [sum(pieces, []) for pieces in steps]


@pytest.mark.parametrize(
    ("num_clouds", "batch_size", "sizes"),
    [(48, 32, {24}), (10, 3, {2, 3}), (9, 3, {3}), (3, 3, {3}), (3, 32, {3}), (5, 1, {1}), (33, 32, {16, 17})],
)
def test_an_epoch_shows_every_cloud_once_in_batches_of_nearly_equal_size(num_clouds, batch_size, sizes):
    seen = flat(batches(num_clouds, batch_size))
    assert {len(batch) for batch in seen} == sizes
    assert len(seen) == count_batches(num_clouds, batch_size)
    assert sorted(chain(*seen)) == list(range(num_clouds))


def test_the_order_depends_on_the_generator():
    assert batches(20, 4, seed=1) == batches(20, 4, seed=1) != batches(20, 4, seed=2)


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_processes_and_micro_batches_share_the_batches_of_one(world_size, accumulate):
    alone = flat(batches(23, 8))
    shares = [batches(23, 8, rank, world_size, accumulate=accumulate) for rank in range(world_size)]
    assert [sum((flat([pieces])[0] for pieces in step), []) for step in zip(*shares, strict=True)] == alone
    for step in zip(*shares, strict=True):
        assert len({len(pieces) for pieces in step}) == 1  # or processes would wait for each other
        sizes = [len(piece) for pieces in step for piece in pieces]
        assert min(sizes) >= 1 and max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("world_size", "accumulate"), [(1, 1), (1, 3), (3, 1), (2, 2)])
def test_a_micro_batch_may_begin_with_the_example_that_precedes_it_in_the_whole_batch(world_size, accumulate):
    for rank in range(world_size):
        plain = batches(17, 9, rank, world_size, accumulate=accumulate)
        more = batches(17, 9, rank, world_size, accumulate=accumulate, with_previous=True)
        for whole, pieces, longer in zip(flat(batches(17, 9)), plain, more, strict=True):
            assert [piece[1:] for piece in longer] == pieces
            assert [piece[0] for piece in longer] == [whole[whole.index(piece[0]) - 1] for piece in pieces]


def test_batches_are_augmented_by_the_number_of_their_step():
    plan = [[torch.tensor([0])] * 2, [torch.tensor([1])]]
    batches = ({"index": index} for index in chain(*plan))
    steps = in_steps(batches, plan, lambda batch, step: batch | {"step": torch.tensor(step)})
    assert [[int(batch["step"]) for batch in pieces] for pieces in steps] == [[0, 0], [1]]


def test_a_later_pass_over_a_set_takes_the_same_clouds_under_other_numbers():
    clouds = CloudSet(torch.rand(3, 4, 3), torch.empty(3, 4, 0), torch.arange(3), ("a", "b", "c"))
    plan = in_passes([[[torch.tensor([2, 0])], [torch.tensor([1])]], [[torch.tensor([0, 1])], [torch.tensor([2])]]], 3)
    assert [step[0].tolist() for step in plan] == [[2, 0], [1], [3, 4], [5]]
    batches = list(clouds.batches(chain.from_iterable(plan)))
    assert [batch["label"].tolist() for batch in batches] == [[2, 0], [1], [0, 1], [2]]
    assert batches[2]["index"].tolist() == [3, 4]  # what augmentation is drawn from
