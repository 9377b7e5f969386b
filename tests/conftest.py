"""What holds for the whole test session: one thread, no trap in the first exponential, no CUDA tests without CUDA."""

import pytest
import torch


def pytest_sessionstart():
    """Compute on one thread, and take one tiny exponential: the first multi-threaded one may be inaccurate.

    On the tests' tiny tensors several threads only wait for each other: where they outnumber the free cores, the suite
    takes many times longer.
    """
    torch.set_num_threads(1)
    torch.zeros(8).exp()


def pytest_collection_modifyitems(items: list[pytest.Item]):
    """Skip tests marked ``gpu`` where there is no CUDA device."""
    if torch.cuda.is_available():
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and torch sees none here"))


@pytest.fixture(autouse=True)
def seed():
    """Start every test from the same random state, whatever ran before it."""
    torch.manual_seed(0)
