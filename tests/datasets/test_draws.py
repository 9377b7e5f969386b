"""Random numbers by key and index alone: the published generator, uniform and normal, uncorrelated."""

import pytest
import torch

from bixt3d.datasets.transforms.draws import GOLDEN, Draws, _mix, _signed, mix_key


def test_it_is_splitmix64():
    first = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]  # of seed 0, in the reference implementation
    counter = torch.arange(1, 4) * _signed(GOLDEN)
    assert _mix(counter).tolist() == [_signed(bits) for bits in first]
    assert mix_key(0) == first[0]


def test_what_a_sample_draws_depends_on_key_name_and_place_alone():
    index = torch.tensor([3, 0, 7])
    for draw in ("uniform", "normal"):
        whole = getattr(Draws(torch.arange(8), "train", 5, 1), draw)("shift", 3, 3)
        assert getattr(Draws(index, "train", 5, 1), draw)("shift", 3, 3).equal(whole[index])
        others = [
            getattr(Draws(index, *key), draw)("shift", 3, 3)
            for key in [("train", 5, 2), ("train", 1, 5), ("vote", 5, 1)]
        ]
        others.append(getattr(Draws(index, "train", 5, 1), draw)("jitter", 3, 3))
        assert not any((other == whole[index]).any() for other in others)


def test_no_generator_of_pytorch_is_used():
    state = torch.get_rng_state()
    Draws(torch.arange(3), "train").normal("jitter", 5)
    assert torch.get_rng_state().equal(state)


@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3)])
def test_shapes_are_those_asked_for(shape):
    draws = Draws(torch.arange(4), "train")
    assert draws.uniform("a", *shape).shape == draws.normal("a", *shape).shape == (4, *shape)
    assert draws.uniform("a", *shape).dtype == draws.normal("a", *shape).dtype == torch.float32


def test_uniform_and_normal_numbers_are_what_they_are_called():
    draws = Draws(torch.arange(1000), "train", 0, 1)
    uniform, normal = draws.uniform("a", 100), draws.normal("b", 101)
    assert uniform.min() >= 0 and uniform.max() < 1
    assert torch.histc(uniform, 10, 0, 1).sub(10_000).abs().max() < 450  # 4.7 deviations
    assert abs(normal.mean()) < 0.015 and abs(normal.var() - 1) < 0.025
    assert abs(normal.pow(3).mean()) < 0.04 and abs(normal.pow(4).mean() - 3) < 0.15


def test_neighboring_samples_epochs_and_names_are_not_correlated():
    index = torch.arange(4000)
    one, next_epoch, next_seed = (Draws(index, "train", *key).uniform("a", 4) for key in [(0, 1), (0, 2), (1, 1)])
    other_name = Draws(index, "train", 0, 1).uniform("b", 4)
    columns = [one[:-1], one[1:], next_epoch[1:], next_seed[1:], other_name[1:]]
    correlation = torch.corrcoef(torch.cat(columns, 1).T).fill_diagonal_(0)
    assert correlation.abs().max() < 4.5 / 4000**0.5
