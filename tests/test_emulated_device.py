"""On a device that is not the CPU a step never waits, clouds may lie anywhere, and programs do what they do on the CPU.

Shown without a GPU, on an emulated device (emulated_device.py).
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
CASES = "cases_on_emulated_device.py"
PROGRAMS = [
    f"tools/test_{name}.py" for name in ("test_cls", "test_partseg", "train_imgcls", "train_imgseg", "visualize")
]
SOME = "figures or votes_repeat or (interrupted and imgseg) or all_that_one_needs"
SOME += " or windows or attention_of or classes_are_files"
"""Resuming is the same loop for all tasks: one of them shows it."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def passed() -> list[str]:
    """Return the files of the tests that passed on the emulated device, once for each test; none may fail.

    In one other process for all: PyTorch does not forget a device that it was told of.
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]), "OMP_NUM_THREADS": "1"}
    plugins = ["-p", "emulated_device", "-p", "no:cacheprovider", "-p", "no:dash"]
    plugins += ["-o", "addopts=--import-mode=importlib"]  # types are checked by the tests of the CPU
    command = [sys.executable, "-m", "pytest", *plugins, "-v", "--tb=short", "-k", f"{SOME} or {Path(CASES).stem}"]
    done = subprocess.run([*command, CASES, *PROGRAMS], cwd=TESTS, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:]
    return re.findall(r"^(?:tests/)?([\w/]+\.py)::.* PASSED", done.stdout, flags=re.MULTILINE)


def test_steps_on_an_emulated_device(passed):
    assert passed.count(CASES) > 30


def test_programs_on_an_emulated_device(passed):
    assert {*passed} == {CASES, *PROGRAMS}
    assert len(passed) - passed.count(CASES) >= 11
