"""The report of a GPU: steps are cut at their limits, what they said is kept, and what travels is what was there."""

import json
from pathlib import Path

import gpu_report
import gpu_report_pack
import h5py
import numpy as np
import pytest
from gpu_report import Step
from gpu_report_page import floors, training

STUBBORN = """python -c "import signal, time; signal.signal(2, 1); print('began', flush=True); time.sleep(60)" """
"""Ignores SIGINT (1: SIG_IGN)."""


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder for a report; a step that is cut has little time to end by itself."""
    monkeypatch.setattr(gpu_report, "WORK", tmp_path / "work")
    monkeypatch.setattr(gpu_report, "GRACE", 2.1)
    return tmp_path / "out"


def run(out: Path, monkeypatch: pytest.MonkeyPatch, *steps: Step, budget: float = 60) -> dict:
    monkeypatch.setattr(gpu_report, "STEPS", steps)
    gpu_report.main([f"--out={out}", f"--budget={budget}", f"--pack={out}"])
    return {row["name"]: row for row in json.loads((out / "report.json").read_text())["steps"]}


def test_a_step_is_cut_at_its_limit_and_the_report_has_what_all_said(out: Path, monkeypatch: pytest.MonkeyPatch):
    fails = Step("fails", 20, "python -c \"exit('it is wrong')\"", "")
    other = Step("other", 20, "python -c \"print('in its place')\"", "", instead_of="fails")
    cut, late = Step("cut", 1, STUBBORN, ""), Step("late", 20, "no_such_program", "")
    rows = run(out, monkeypatch, fails, other, Step("spare", 20, "python -c 1", "", instead_of="other"), cut, late)
    assert {name: row["status"] for name, row in rows.items()} == {
        "fails": "failed with exit code 1",
        "other": "passed",
        "spare": "not needed: other did not fail",
        "cut": "cut after 1 s and killed",
        "late": "not run: no_such_program is not installed",
    }
    assert rows["cut"]["seconds"] < 20
    for words in ("it is wrong", "in its place", "began"):
        assert words in (out / "report.md").read_text() and words in (out / "output.txt").read_text()
    assert "| cut | cut after 1 s and killed |" in (out / "report.md").read_text()
    assert {path.name for path in out.iterdir()} == {"report.md", "report.json", "output.txt"}


def test_a_step_that_no_time_is_left_for_is_not_begun(out: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gpu_report, "machine", lambda *given: "a machine")  # it imports torch
    rows = run(out, monkeypatch, Step("one", 20, "python -c 1", ""), budget=3)
    assert rows["one"]["status"] == "not reached: the budget is spent"


def test_every_step_has_a_name_of_its_own_and_files_that_exist():
    names = [step.name for step in gpu_report.STEPS]
    assert len(set(names)) == len(names)
    assert {step.instead_of for step in gpu_report.STEPS} <= {*names, ""}
    words = [word for step in gpu_report.STEPS for word in f"{step.command} {step.dry}".split()]
    files = [word for word in words if word.startswith(("benchmarks/", "tests/"))]
    assert len(files) > 20 and all((gpu_report_pack.ROOT / file).exists() for file in files)


def test_what_a_training_reached_is_read_from_its_lines():
    line = "epoch {}  lr 0.1  loss 1.2  train_accuracy 0.5  clouds_per_second {}  test_accuracy {}  test_loss 2.7"
    lines = [(0.1, "run folder"), (3.0, line.format(1, 2000, 0.9)), (5.0, line.format(2, 1000, 0.95))]
    lines += [(7.0, line.format(3, 3000, 0.94))]
    assert training(lines) == (
        "94.00% at epoch 3, the last, after 7.0 s; 95 % first: after 5.0 s; median 2,000 clouds/s in training"
    )


def test_floors_of_attention_by_hand():
    """192 bytes at 4.3 TB/s take 45 ps for each of 6 x 1000 heads and tokens; 90 ps are 0.00054 ms."""
    case = "bi-directional attention, forward, 1 x 1000 tokens"
    rows = [{"case": case, "variant": name, "median_ms": 0.00054} for name in ("triton", "sdpa")]
    assert floors([*rows, {"case": "kNN", "variant": "torch", "median_ms": 1.0}])[2:4] == [
        "| forward, 1 x 1000 tokens | triton | 90 | 45 | 50% | 45 | 50% |",
        "| forward, 1 x 1000 tokens | sdpa | 90 | 60 | 67% | 45 | 50% |",
    ]


def test_packed_clouds_are_those_that_were_given_in_half_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gpu_report_pack, "WHEELS", ())  # nothing is downloaded
    given, found = tmp_path / "given", tmp_path / "pack" / "modelnet10"
    given.mkdir()
    (given / "train_files.txt").write_text("data/train0.h5\n")
    clouds = np.random.default_rng(0).uniform(-1, 1, (3, 50, 3)).astype(np.float32)
    with h5py.File(given / "train0.h5", "w") as file:
        file["data"], file["label"] = clouds, np.array([[1], [0], [2]], np.uint8)
    with pytest.raises(SystemExit, match="wheels of  are missing"):
        gpu_report.main(["pack", f"--data={given}", f"--out={tmp_path / 'pack'}"])
    assert (found / "train_files.txt").read_text() == "data/train0.h5\n"
    with h5py.File(found / "train0.h5") as file:
        assert np.abs(file["data"][:].astype(np.float32) - clouds).max() < 5e-4
        assert file["label"][:].tolist() == [[1], [0], [2]]
