"""Lengths of training: epochs, updates, and small sets."""

import pytest

from bixt3d.tasks.settings import Train
from bixt3d.types import InputError


def test_a_small_set_is_passed_over_several_times_in_an_epoch():
    train = Train(steps=1000, batch_size=16, epoch_steps=100)
    assert (train.passes(50), train.steps_per_epoch(50), train.num_epochs(50)) == (25, 100, 10)
    assert (train.passes(48), train.steps_per_epoch(48), train.num_epochs(48)) == (34, 102, 10)
    assert (train.passes(16_000), train.steps_per_epoch(16_000), train.num_epochs(16_000)) == (1, 1000, 1)
    assert Train(batch_size=16).steps_per_epoch(50) == 4
    with pytest.raises(InputError, match="train.epoch_steps must be at least 1, not 0"):
        Train(epoch_steps=0)
