"""The sets of a run: what is said of classes without clouds."""

import torch

from bixt3d.tasks.sets import empty_classes
from bixt3d.types import CloudSet


def clouds_of(*labels: int) -> CloudSet:
    """Return clouds with these labels, of three classes."""
    xyz = torch.zeros(len(labels), 4, 3)
    return CloudSet(xyz, xyz[..., :0], torch.tensor(labels), ("cup", "box", "ball"))


def test_a_class_without_clouds_is_named_with_its_split():
    assert empty_classes([clouds_of(0, 2), clouds_of(0, 1, 2)]) == ["warning: the training set has no clouds of box"]
    assert empty_classes([clouds_of(0, 1, 2), clouds_of(1)]) == ["warning: the test set has no clouds of cup, ball"]
    assert empty_classes([clouds_of(0, 1, 2), clouds_of(2, 1, 0)]) == []
