"""On a device that is not the CPU a training step never waits, and clouds may lie anywhere: shown without a GPU."""

import pytest


@pytest.mark.slow
def test_steps_on_an_emulated_device(on_emulated_device):
    assert on_emulated_device("cases_on_emulated_device.py") > 30
