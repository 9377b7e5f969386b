import pytest
import torch

from bixt3d.datasets.clouds.folder import CloudFolder
from bixt3d.datasets.clouds.given import GivenClouds
from bixt3d.datasets.clouds.part_folder import PartFolder
from bixt3d.datasets.clouds.split import stratified_split
from bixt3d.types import InputError


def test_every_class_is_split_by_the_same_share():
    label = torch.tensor([0] * 10 + [1] * 20)
    train_index, val_index = stratified_split(label, 0.1, seed=0)
    assert label[val_index].bincount().tolist() == [1, 2]
    assert label[train_index].bincount().tolist() == [9, 18]


def test_the_split_is_disjoint_and_complete():
    label = torch.arange(50) % 7
    train_index, val_index = stratified_split(label, 0.3, seed=1)
    assert sorted(train_index.tolist() + val_index.tolist()) == list(range(50))


@pytest.mark.parametrize("fraction", [0.01, 0.99])
def test_small_classes_are_on_both_sides_and_single_clouds_are_trained_on(fraction):
    label = torch.tensor([0, 0, 1, 2, 2, 2])
    train_index, val_index = stratified_split(label, fraction, seed=0)
    assert set(label[train_index].tolist()) == {0, 1, 2}
    assert set(label[val_index].tolist()) == {0, 2}


def test_the_seed_decides():
    label = torch.zeros(100, dtype=torch.int64)
    first, same, other = (stratified_split(label, 0.5, seed)[1].tolist() for seed in (3, 3, 4))
    assert first == same
    assert first != other


def test_the_global_generator_is_left_alone():
    state = torch.get_rng_state()
    stratified_split(torch.arange(10) % 2, 0.5, seed=0)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 2.0])
def test_a_fraction_that_leaves_one_side_empty_is_refused(fraction):
    with pytest.raises(InputError, match="between 0 and 1"):
        stratified_split(torch.zeros(4, dtype=torch.int64), fraction, seed=0)


@pytest.mark.parametrize("source", [CloudFolder, PartFolder, GivenClouds], ids=lambda one: one.__name__)
@pytest.mark.parametrize("wrong", [{"test_fraction": 1.0}, {"test_fraction": -0.1}, {"seed": -1}], ids=str)
def test_an_impossible_split_is_refused_when_the_source_is_made(source, wrong):
    with pytest.raises(InputError, match=f"{next(iter(wrong))} must"):
        source(**wrong)
