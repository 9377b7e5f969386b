"""Settings of a resumed run: a launcher sets the number of processes, not the earlier run."""

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
