"""A budget of training: a time, whose steps are measured, or a number of steps."""

import itertools
import json
import re
from pathlib import Path

import pytest
import torch
from same_runs import state_of

from bixt3d.cli.compare_run import budget_words, length_of
from bixt3d.cli.main import call
from bixt3d.tasks import budget
from bixt3d.tasks.classification import Classification
from bixt3d.tasks.epochs import train_one_epoch
from bixt3d.types import InputError


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch):
    """Draw no report: it takes longer than all the rest."""
    monkeypatch.setattr(Classification, "write_report", lambda *_: None)


def result_of(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


@pytest.mark.parametrize(
    ("budget", "setting", "words"),
    [
        ("15m", "--train.budget=15m", "15 minutes"),
        ("1min", "--train.budget=1m", "1 minute"),
        ("60.0s", "--train.budget=1m", "1 minute"),
        ("90s", "--train.budget=90s", "90 seconds"),
        ("1.5h", "--train.budget=90m", "90 minutes"),
        ("0.05s", "--train.budget=0.05s", "0.05 seconds"),
        ("2000", "--train.steps=2000", "2000 steps"),
        ("2000 steps", "--train.steps=2000", "2000 steps"),
        ("tiny", "--train.steps=4", "4 steps"),
    ],
)
def test_a_budget_is_a_time_or_a_number_of_steps(budget, setting, words):
    assert (length_of(budget), budget_words(budget)) == (setting, words)


def test_a_budget_of_time_measures_other_batches_each_time(train, tmp_path, monkeypatch):
    epochs = []

    def noted(task, fabric, state, run, epoch, *more):
        epochs.append(epoch)
        return train_one_epoch(task, fabric, state, run, epoch, *more)

    monkeypatch.setattr(budget, "train_one_epoch", noted)
    train(tmp_path, "--train.budget=0.5s")
    assert len(epochs) > 1 and epochs == list(range(1, len(epochs) + 1))


def test_a_budget_of_time_measures_the_number_of_steps_and_changes_nothing_else(train, tmp_path, capsys):
    timed = train(tmp_path / "timed", "--train.budget=0.05s")
    result = result_of(timed)
    steps, measured, seconds = re.search(
        r"budget of 0.05s: (\d+) steps?, as (\d+) steps took (\S+) s each", capsys.readouterr().out
    ).groups()
    least, most = (max(1, int(0.05 / (float(seconds) * rounded))) for rounded in (1.005, 0.995))
    assert least <= result["steps"] == int(steps) <= most and int(measured) >= 4
    counted = train(tmp_path / "counted", f"--train.steps={steps}")
    one, other = state_of(timed), state_of(counted)
    assert one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)
    assert (result["budget"], result_of(counted).get("budget")) == ("0.05s", None)
    assert call(["train", "cls", f"--resume={timed}", f"--train.steps={int(steps) + 1}"]) == timed
    assert result_of(timed)["steps"] == int(steps) + 1 and "budget" not in result_of(timed)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the processor does not wait for a GPU")
def test_other_work_on_the_machine_takes_no_steps_from_a_budget_on_one_thread(train, tmp_path, monkeypatch, capsys):
    clock = itertools.count(0.0, 1000.0)
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    train(tmp_path / "run", "--train.budget=0.05s", "--runtime.threads=1")
    seconds = re.search(r"steps? took (\S+) s each", capsys.readouterr().out)[1]
    assert float(seconds) < 100


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--train.budget=3s", "--train.steps=5"], "--train.steps sets the length too: leave --train.budget out"),
        (["--train.budget=3"], "a budget of time is a number with s, m or h, such as 15m, not '3'"),
        (["--train.budget=0s"], "a budget of time is a number with s, m or h"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_budget_that_cannot_be_is_a_sentence(train, tmp_path, options, sentence):
    with pytest.raises(InputError, match=re.escape(sentence)):
        train(tmp_path / "run", *options)


def test_a_run_to_resume_takes_no_budget(tiny_run):
    with pytest.raises(InputError, match="a run to resume has its number of steps: leave --train.budget out"):
        call(["train", "cls", f"--resume={tiny_run}", "--train.budget=9s"])
