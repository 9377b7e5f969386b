"""What holds for the whole test session: one thread, no trap in the first exponential, no tests of what is not here."""

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

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
    """Skip tests marked ``gpu`` without a CUDA device, and ``cluster`` without torch-cluster; begin with slow files.

    One that began last would keep a process busy while the others have nothing left to do.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    missing = {}
    if not torch.cuda.is_available():
        missing["gpu"] = "needs a CUDA device, and torch sees none here"
    if find_spec("torch_cluster") is None:
        missing["cluster"] = "needs torch-cluster: make test-cluster builds it"
    for item in items:
        for mark, reason in missing.items():
            if item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def seed():
    """Start every test from the same random state, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture
def on_emulated_device() -> Callable[..., int]:
    """Return a function that runs tests on an emulated device (emulated_device.py), and says how many passed.

    In a process of its own: PyTorch does not forget a device that it was told of.
    """
    tests = Path(__file__).parent

    def run(*arguments: str) -> int:
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent)]),
            "OMP_NUM_THREADS": "1",
        }
        plugins = ["-p", "emulated_device", "-p", "no:cacheprovider"]
        command = [sys.executable, "-m", "pytest", *plugins, "-q", "--tb=short"]
        done = subprocess.run([*command, *arguments], cwd=tests, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-4000:]
        return int(done.stdout.rpartition(" passed")[0].split()[-1])

    return run
