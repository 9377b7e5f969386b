"""On a device that is not the CPU a training step never waits, and clouds may lie anywhere: shown without a GPU."""

import pytest


@pytest.mark.slow
def test_steps_on_another_device(on_other_device):
    assert on_other_device("cases_on_other_device.py") > 30
