"""Two processes give the result of one: losses, and evaluation to the last digit."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

PROGRAM = Path(__file__).with_name("four_tasks.py")
TASKS = ("classification", "part segmentation", "image classification", "image segmentation")


def draw_images(root: Path) -> None:
    """Make a folder of images of two classes, and images with labels for pixels, some without a class."""
    random = np.random.default_rng(0)
    for split, count in {"train": 13, "test": 5}.items():
        for level, name in ((60, "dark"), (180, "light")):
            folder = root / "folders" / split / name
            folder.mkdir(parents=True)
            for place in range(count):
                pixels = random.integers(level - 60, level + 60, (18, 17, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{place}.png")
    (root / "scenes").mkdir()
    (root / "scenes/objectInfo.txt").write_text("Idx\tName\n1\tdark\n2\tlight\n")
    for split, count in {"training": 25, "validation": 6}.items():
        for place in range(count):
            numbers = np.sort(random.integers(0, 3, (20, 18), dtype=np.uint8), axis=place % 2)
            pixels = random.integers(0, 60, (20, 18, 3), dtype=np.uint8) + 90 * numbers[..., None]
            for kind, image in (("images", pixels), ("annotations", numbers)):
                folder = root / "scenes" / kind / split
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(folder / f"{place}.png")


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[int, dict]:
    """Return what one and two processes found."""
    root = tmp_path_factory.mktemp("processes")
    draw_images(root)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def run(number: int) -> dict:
        command = [sys.executable, PROGRAM, root, root / f"{number}.pt", str(number)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        return torch.load(root / f"{number}.pt", weights_only=False)

    with ThreadPoolExecutor() as threads:
        return dict(zip((1, 2), threads.map(run, (1, 2)), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_two_processes_train_as_one_does_with_the_same_batches_augmentation_and_batch_norm_included(found, task):
    alone, together = found[1][task], found[2][task]
    torch.testing.assert_close(together["losses"], alone["losses"], rtol=0, atol=1e-5)
    assert abs(alone["losses"][-1][0] - alone["losses"][0][0]) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_two_processes_evaluate_to_the_last_digit_as_one_does(found, task):
    assert found[2][task]["evaluation"] == found[1][task]["evaluation"]
