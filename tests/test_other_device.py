"""Everything runs on a device that is not the CPU, and training never waits for it: shown where there is no GPU.

In a process of its own, for PyTorch does not forget a device that it was told of; see other_device.py.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


FILES = [
    "cases_on_other_device.py",
    *(f"tools/test_{name}.py" for name in ("test_cls", "test_partseg", "train_imgcls", "train_imgseg", "visualize")),
]
TOOLS = "figures or repeat or interrupted or all_that_one_needs or windows or pyramid or attention_of or of_classes"


@pytest.mark.slow
def test_on_another_device():
    environment = os.environ | {"PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "other_device", "-p", "no:cacheprovider", "-q", "--tb=short"]
    command += [*FILES, "-k", f"cases or {TOOLS}"]
    done = subprocess.run(command, cwd=TESTS, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:]
    assert int(done.stdout.rpartition(" passed")[0].split()[-1]) > 50
