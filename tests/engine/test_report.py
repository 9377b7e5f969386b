"""Rows of metrics, and the commit of the code."""

import subprocess

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bixt3d.engine.report import RunLog, commit, commit_of, read_rows
from bixt3d.types import InputError

ROWS = [{"epoch": 1.0, "loss": 2.0}, {"epoch": 2.0, "loss": 0.123456789, "test_accuracy": 0.5}]


def test_rows_come_back_and_a_column_may_begin_late(tmp_path):
    log = RunLog(tmp_path, [])
    for row in ROWS:
        log.add(row)
    log.close()
    assert (tmp_path / "metrics.csv").read_text() == "epoch,loss,test_accuracy\n1,2,\n2,0.123457,0.5\n"
    assert read_rows(tmp_path / "metrics.csv") == [
        {"epoch": 1.0, "loss": 2.0},
        {"epoch": 2.0, "loss": 0.123457, "test_accuracy": 0.5},
    ]


def test_a_run_that_goes_on_keeps_its_rows(tmp_path):
    log = RunLog(tmp_path, ROWS)
    log.add({"epoch": 3.0, "loss": 0.1})
    log.close()
    assert [row["epoch"] for row in read_rows(tmp_path / "metrics.csv")] == [1, 2, 3]
    assert len(ROWS) == 2


def test_tensorboard_shows_each_value_at_its_epoch(tmp_path):
    log = RunLog(tmp_path, [])
    for row in ROWS:
        log.add(row)
    log.close()
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert [(event.step, round(event.value, 6)) for event in board.Scalars("loss")] == [(1, 2.0), (2, 0.123457)]
    assert [event.step for event in board.Scalars("test_accuracy")] == [2]


def test_a_log_that_is_not_to_write_writes_nothing(tmp_path):
    log = RunLog(tmp_path / "run", [], write=False)
    log.add(ROWS[0])
    log.close()
    assert log.rows == ROWS[:1]
    assert list(tmp_path.iterdir()) == []


def test_the_best_row_is_the_earliest_of_equals(tmp_path):
    log = RunLog(tmp_path, [{"epoch": float(i), "a": a} for i, a in enumerate([0.1, 0.5, 0.5, 0.2])], write=False)
    assert log.best("a")["epoch"] == 1
    assert log.best("b") is None
    assert log.best("a", more_is_better=False)["epoch"] == 0


def test_without_a_file_there_are_no_rows(tmp_path):
    assert read_rows(tmp_path / "metrics.csv") == []


@pytest.mark.parametrize(
    "damage",
    [
        b"epoch,loss\n1,2,3\n",
        b"epoch,loss\n1,3.9\x1157\n",
        b"epoch,loss\n1,\xff\n",
        b"epoch,loss\n1,nan\n",
        b"epoch,loss\n1,1e999\n",
        b"loss\n2\n",
        b"epoch,loss\n1,0\x00\n",
        b"epoch,loss\n1," + b"9" * 200_000 + b"\n",
        b"epoch,loss\n" + b'"' * 200_001 + b"\n",
        b"\xd0\xcf\x11\xe0" * 99,
        b"epoch\n" + b"1\n" * 2**22,
        b"epoch" + b",x" * 1000 + b"\n1\n",
    ],
    ids=[
        "longer",
        "control",
        "latin",
        "nan",
        "huge",
        "other columns",
        "nul",
        "long",
        "quotes",
        "office",
        "rows",
        "columns",
    ],
)
def test_damaged_metrics_are_named_in_one_sentence(tmp_path, damage):
    (tmp_path / "metrics.csv").write_bytes(damage)
    with pytest.raises(InputError, match=r"metrics\.csv is damaged: ") as caught:
        read_rows(tmp_path / "metrics.csv")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_scores_join_the_row_of_their_epoch(tmp_path):
    log = RunLog(tmp_path, ROWS[:1])
    log.add({"epoch": 2.0, "loss": 1.0})
    log.add({"epoch": 2.0, "test_accuracy": 0.5})
    log.close()
    assert log.rows == [ROWS[0], {"epoch": 2.0, "loss": 1.0, "test_accuracy": 0.5}] == read_rows(log.path)
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(one.step, one.value) for one in board.Scalars("loss")] == [(2, 1.0)]


def test_the_commit_is_that_of_a_file_in_the_repository_not_of_one_below_it(tmp_path):
    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", tmp_path, *who, *words], check=True, capture_output=True)

    installed, own = tmp_path / ".venv/report.py", tmp_path / "own.py"
    installed.parent.mkdir()
    for file in (installed, own):
        file.write_text("")
    git("init")
    git("add", "own.py")
    git("commit", "-m", "first")
    assert commit_of(own) and commit_of(installed) == ""


def test_the_commit_is_a_word_or_nothing():
    assert commit() == "" or commit().split() == [commit()]
