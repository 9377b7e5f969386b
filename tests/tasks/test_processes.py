"""Two processes give the result of one: losses, and evaluation to the last digit."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from groups import join_group
from PIL import Image
from torch import distributed, nn

from bixt3d.datasets import Rooms
from bixt3d.datasets.scenes.crops import SceneSet
from bixt3d.datasets.scenes.scene import make_scene
from bixt3d.engine.optim import Optim
from bixt3d.engine.runtime import Runtime
from bixt3d.tasks.scene_segmentation import SceneSegmentation, SceneTrain
from bixt3d.tasks.settings import Run
from bixt3d.types import Features

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
    options = {"env": os.environ | {"OMP_NUM_THREADS": "1"}, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, PROGRAM, root, root / "2.pt", "2"], **options) as two:
        runpy.run_path(str(PROGRAM))["main"](root, root / "1.pt", 1)
        _, errors = two.communicate(timeout=300)
    assert two.returncode == 0, errors[-3000:]
    return {number: torch.load(root / f"{number}.pt", weights_only=False) for number in (1, 2)}


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_two_processes_train_as_one_does_with_the_same_batches_augmentation_and_batch_norm_included(found, task):
    alone, together = found[1][task], found[2][task]
    torch.testing.assert_close(together["losses"], alone["losses"], rtol=0, atol=1e-5)
    assert abs(alone["losses"][-1][0] - alone["losses"][0][0]) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_two_processes_evaluate_to_the_last_digit_as_one_does(found, task):
    alone, together = found[1][task]["evaluation"], found[2][task]["evaluation"]
    errors = [[one.pop("expected_calibration_error") for one in facts] for facts in (alone, together)]
    assert together == alone
    assert errors[1] == pytest.approx(errors[0], abs=1e-6)  # of probabilities, which depend on the size of batches


class Normalized(nn.Module):
    """Label voxels by their positions, less the running mean."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)

    def forward(self, xyz: torch.Tensor, feats: torch.Tensor) -> torch.Tensor:
        return self.norm(xyz.flatten(0, 1)).view_as(xyz)


def evaluate_in_group(rank: int, number: int, folder: Path) -> None:
    """Let one of so many processes label five scenes, and the last one save what it gets."""
    fabric, rng = join_group(rank, number, folder), np.random.default_rng(0)
    scenes = [make_scene(rng.random((50, 3)) * 4, {}, rng.integers(0, 3, 50), Features(), 1.0) for _ in range(5)]
    model = Normalized()
    model.norm.running_mean += 4 * rank * torch.tensor([1, -1, 0])  # only those of the first process count
    run = Run(0, Rooms(num_points=64), None, SceneTrain(), None, Optim(), Runtime())
    found = SceneSegmentation().evaluate(model, SceneSet(scenes, ("a", "b", "c")), run, fabric)
    if rank == number - 1:
        torch.save((found.predicted, found.facts()), folder / f"{number}.pt")
    distributed.destroy_process_group()


def test_any_number_of_processes_labels_scenes_by_the_running_statistics_of_the_first(tmp_path):
    for number in (1, 2, 3):
        torch.multiprocessing.start_processes(evaluate_in_group, (number, tmp_path), number, start_method="fork")
    (alone, facts), *others = (torch.load(tmp_path / f"{number}.pt") for number in (1, 2, 3))
    assert len(torch.cat(alone).unique()) == 3
    for predicted, same in others:
        assert all(map(torch.equal, predicted, alone)) and same == facts
