"""Settings of a resumed run: a launcher sets the number of processes, not the earlier run."""

import re
from pathlib import Path

import pytest

from bixt3d.engine.folder import record_now
from bixt3d.tasks.classification import Classification
from bixt3d.tasks.command import parse_command

LAUNCHED = {"RANK": "0", "WORLD_SIZE": "4", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "4"}


@pytest.fixture
def saved(tmp_path) -> str:
    """Return the folder of a run of 2 x 3 processes."""
    config = (Path(__file__).parents[2] / "cfgs/shapes_cls.yaml").read_text()
    (tmp_path / "config.yaml").write_text(f"{config}\nruntime: {{devices: 2, num_nodes: 3, threads: 1}}\n")
    (tmp_path / "run.json").write_text(record_now("classification", None).text())
    return str(tmp_path)


@pytest.mark.parametrize(
    ("environment", "more", "expected"),
    [
        ({}, [], (2, 3)),
        (LAUNCHED, [], (None, None)),
        (LAUNCHED, ["--runtime.devices=4"], (4, None)),
    ],
)
def test_a_launcher_sets_the_number_of_processes_of_a_resumed_run(saved, environment, more, expected, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    runtime = parse_command(Classification(), None, ["--resume", saved, *more])[2].runtime
    assert (runtime.devices, runtime.num_nodes) == expected
    assert runtime.threads == 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--train.epochs=3"], (None, None, 3)),
        (["--train.steps=9"], (9, None, 20)),
        (["--train.steps=9", "--train.epochs=3"], (9, None, 3)),
        (["--train.budget=5m"], (None, "5m", 20)),
        ([], (100, "1m", 20)),
    ],
    ids=str,
)
def test_the_length_on_the_command_line_replaces_steps_and_budget_of_the_config(tmp_path, given, expected):
    config = tmp_path / "config.yaml"
    text = (Path(__file__).parents[2] / "cfgs/shapes_cls.yaml").read_text()
    config.write_text(re.sub(r"^train: \{epochs: \d+", "train: {epochs: 20, steps: 100, budget: 1m", text, flags=re.M))
    length = parse_command(Classification(), None, [f"--cfg={config}", *given])[2].train
    assert (length.steps, length.budget, length.epochs) == expected


def test_the_epochs_of_a_run_to_resume_replace_its_steps(saved):
    config = Path(saved) / "config.yaml"
    config.write_text(config.read_text().replace("train: {", "train: {steps: 100, "))
    length = parse_command(Classification(), None, ["--resume", saved, "--train.epochs=3"])[2].train
    assert (length.steps, length.epochs) == (None, 3)
