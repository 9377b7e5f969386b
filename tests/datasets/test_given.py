"""Data sets that a program gives: samples of (xyz, feats, label)."""

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from bixt3d.datasets import GivenClouds
from bixt3d.types import InputError


class Own(Dataset):
    """Clouds of different sizes, with a color for each point."""

    classes = ("cup", "mug")
    features = "rgb"

    def __init__(self, number: int = 6):
        self.number = number

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> tuple[np.ndarray, torch.Tensor, int]:
        rng = np.random.default_rng(index)
        return 5e6 + rng.random((20 + index, 3)), torch.full((20 + index, 3), 51, dtype=torch.uint8), index % 2


def load(data, **options):
    source = GivenClouds(**{"num_points": 16, "stored_points": 24} | options)
    source.give(data)
    return source.load()


def test_samples_of_any_size_become_clouds_in_the_unit_sphere():
    train, test = load((Own(), Own(3)), features="rgb")
    assert train.xyz.shape == (6, 24, 3) and len(test) == 3 and train.class_names == ("cup", "mug")
    assert train.label.tolist() == [0, 1] * 3
    assert torch.allclose(train.feats, torch.tensor(0.2)) and 0.99 < train.xyz.norm(dim=2).max() <= 1 + 1e-6


def test_one_data_set_is_split_and_that_is_said():
    train, test = load(Own(10), features="rgb")
    assert (len(train), len(test)) == (8, 2)
    assert train.notes == ("20% of each class, drawn with seed 0, are the test set",)


@pytest.mark.parametrize(
    ("sample", "fault"),
    [
        ((np.zeros((4, 3)), None), "should be .xyz, feats, label."),
        ((np.eye(3), None, 1.5), "should have the number of a class"),
        ((np.eye(3), None, 7), "has the label 7, but there are 2 classes"),
        ((np.eye(3), np.ones((3, 2)), 0), "feats of 2 columns, but the features .none. take 0"),
        ((np.full((3, 3), np.nan), None, 0), "sample 0 of the data"),
    ],
)
def test_a_wrong_sample_is_named(sample, fault: str):
    class Wrong(Own):
        def __getitem__(self, index: int):
            return sample

    with pytest.raises(InputError, match=fault):
        load(Wrong())


def test_without_data_the_run_says_what_to_name():
    with pytest.raises(InputError, match="were given by a Python program: name a data set, such as --data CloudFolder"):
        GivenClouds().load()
    with pytest.raises(InputError, match="should be a data set with __len__ and __getitem__, not int"):
        load(3)
