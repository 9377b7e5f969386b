"""Rotating clouds upright."""

from itertools import product

import pytest
import torch

from bixt3d.datasets.transforms.upright import UPS, turn_upright
from bixt3d.types import InputError

DIRECTION = {"y": [0.0, 1, 0], "z": [0.0, 0, 1], "-y": [0.0, -1, 0], "-z": [0.0, 0, -1]}


@pytest.mark.parametrize(("up", "wanted"), list(product(UPS, UPS)))
def test_what_was_up_is_up_where_it_is_wanted_and_nothing_is_mirrored(up, wanted):
    assert turn_upright(torch.tensor([DIRECTION[up]]), up, wanted).tolist() == [DIRECTION[wanted]]
    turned = turn_upright(torch.eye(3), up, wanted)
    assert torch.linalg.det(turned) == 1
    assert turned[0].tolist() == [1, 0, 0]


def test_a_direction_that_nobody_knows_is_refused():
    with pytest.raises(InputError, match="up is one of y, z, -y, -z, not x"):
        turn_upright(torch.eye(3), "x", "y")
