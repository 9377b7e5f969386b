"""Runs killed and interrupted at random moments, of one process and of two, end as if they had not been."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import forks
import pytest
from same_runs import assert_same_run

from bixt3d.cli import test as test_command
from bixt3d.cli import train as train_command
from bixt3d.engine.checkpoint import load_checkpoint
from bixt3d.engine.report import read_rows
from bixt3d.tasks.classification import Classification

PROGRAM = """
import json, os, sys
import numba, torch._inductor.config, torch.utils.tensorboard  # what training imports when it begins
from bixt3d.cli.main import run
from bixt3d.tasks import classification, training
from forks import end_fork, fork_others
classification.Classification.write_report = lambda *_: None

def train():
    run("train", "cls")

for line in sys.stdin:
    arguments, outputs = json.loads(line)
    if not (pid := os.fork()):
        break
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
else:
    sys.exit()
os.setsid()
for number, path in enumerate([os.devnull, *outputs]):
    os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
sys.argv[1:] = arguments
fork_others(train)
end_fork(train)
"""
"""A program that forks one that is `bixt3d train cls`, without pictures, for each line that it reads."""
KILLS = {1: "1,1,0", 2: "1,0,1"}
"""How often a run of so many processes is killed, terminated and interrupted: BIXT3D_KILLS=20,5,5 takes minutes."""

SETTINGS = ["--data.train_per_class=10", "--train.batch_size=4", "--train.eval_every=100"]
NORMALIZED = ["--model.tokenizer=GroupTokenizer", "--model.tokenizer.dim=16", "--model.tokenizer.points=PointTokenizer"]
NORMALIZED += ["--model.tokenizer.num_neighbors=4", "--model.tokenizer.num_groups=8", "--runtime.devices=2"]
"""Two processes, and a model with batch norm."""

pytestmark = pytest.mark.slow


def kills_of(devices: int) -> list[signal.Signals]:
    """Return the signals that a run of so many processes gets, in random order."""
    counts = os.environ.get("BIXT3D_KILLS", KILLS[devices]).split(",")
    numbers = [signal.SIGKILL] * int(counts[0]) + [signal.SIGTERM] * int(counts[1]) + [signal.SIGINT] * int(counts[2])
    random.Random(devices).shuffle(numbers)
    return numbers


class Programs:
    """Starts `bixt3d train cls`, one at a time; ``folder`` is where output and errors go."""

    def __init__(self, folder: Path):
        self.outputs = [folder / "output", folder / "errors"]
        (program := folder / "program.py").write_text(PROGRAM)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        command = [sys.executable, "-W", "ignore", str(program)]
        path = os.pathsep.join([str(Path(forks.__file__).parent), *sys.path])
        self.parent = subprocess.Popen(command, **pipes, env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path})

    def start(self, *arguments: object) -> int:
        """Start a program, and return its process, which leads a group of its own."""
        for path in self.outputs:
            path.write_text("")
        self.parent.stdin.write(json.dumps([[*map(str, arguments)], [*map(str, self.outputs)]]) + "\n")
        self.parent.stdin.flush()
        return int(self.parent.stdout.readline())

    def end(self) -> tuple[int, str, str]:
        """Wait for its end; return exit code, output and errors."""
        return int(self.parent.stdout.readline()), *(path.read_text() for path in self.outputs)


@pytest.fixture(scope="module")
def programs(tmp_path_factory) -> Iterator[Programs]:
    programs = Programs(tmp_path_factory.mktemp("programs"))
    yield programs
    programs.parent.communicate()


@pytest.fixture(scope="module")
def run_of_two(programs: Programs, tiny: Path, tmp_path_factory) -> tuple[Path, str]:
    """Return a run of two processes that nobody stopped, and its output."""
    run = tmp_path_factory.mktemp("runs") / "two"
    epochs = f"--train.epochs={2 + len(kills_of(2))}"
    programs.start("--cfg", tiny, "--run_dir", run, *SETTINGS, *NORMALIZED, epochs)
    code, output, errors = programs.end()
    assert code == 0, errors
    return run, output


def test_a_run_stopped_at_random_moments_ends_as_if_it_had_not_been(tmp_path, tiny, programs, monkeypatch):
    monkeypatch.setattr(Classification, "write_report", lambda *_: None)
    settings = [*SETTINGS, f"--train.epochs={2 + len(kills_of(1))}"]
    whole = train_command.main(["cls", f"--cfg={tiny}", f"--run_dir={tmp_path / 'whole'}", *settings])
    run = stop_and_go_on(programs, tiny, tmp_path / "run", settings, kills_of(1))
    assert_same_run(whole, run)
    results = [json.loads((one / "result.json").read_text()) for one in (whole, run)]
    for name in ("overall_accuracy", "per_class", "best_on_test"):
        assert results[0][name] == results[1][name]


def test_a_run_of_two_processes_stopped_at_random_moments_ends_as_if_it_had_not_been(
    tmp_path, tiny, programs, run_of_two
):
    settings = [*SETTINGS, *NORMALIZED, f"--train.epochs={2 + len(kills_of(2))}"]
    assert_same_run(run_of_two[0], stop_and_go_on(programs, tiny, tmp_path / "run", settings, kills_of(2)))


def test_two_processes_write_one_set_of_files_and_agree_with_one_that_evaluates(run_of_two, monkeypatch, capsys):
    (run, output), rows = run_of_two, read_rows(run_of_two[0] / "metrics.csv")
    assert len(list((run / "tensorboard").glob("events.*"))) == 1
    assert output.count("report: ") == 1
    assert [row["epoch"] for row in rows] == [*range(1, 3 + len(kills_of(2)))]
    state = load_checkpoint(run / "checkpoint.pt")["learner"]["average"]
    assert any(name.endswith("running_mean") for name in state)
    seen = []
    with monkeypatch.context() as patch:
        patch.setattr(Classification, "write_results", lambda *given: seen.append(given[2].scores))
        alone = test_command.main(["cls", f"--checkpoint={run}", "--runtime.devices=1"])
    assert alone["overall_accuracy"] == json.loads((run / "result.json").read_text())["overall_accuracy"]
    assert rows[-1]["test_accuracy"] == pytest.approx(alone["overall_accuracy"], rel=1e-5)
    assert rows[-1]["test_loss"] == pytest.approx(seen[0].loss, rel=1e-5)  # batch norm's statistics are the kept ones
    capsys.readouterr()
    monkeypatch.setattr(Classification, "write_report", lambda *_: None)
    more = f"--train.epochs={len(rows) + 1}"
    train_command.main(["cls", "--resume", str(run), "--runtime.devices=1", more])
    assert f"{run} is resumed with 1 process; its last epoch was trained by 2" in capsys.readouterr().out


def stop_and_go_on(
    programs: Programs, tiny: Path, run: Path, settings: list[str], numbers: list[signal.Signals]
) -> Path:
    """Run a program to its end, but stop it by each of these signals, at a random moment of another epoch."""
    rng = random.Random(len(settings))
    for i, number in enumerate(numbers):
        pid = programs.start(*(["--resume", run] if i else ["--cfg", tiny, "--run_dir", run, *settings]))
        wait_for(pid, programs, run, i + 1)
        time.sleep(rng.random() * 0.1)
        if number == signal.SIGKILL:  # all processes at once: what a machine does that loses its power
            os.killpg(pid, number)
        else:
            os.kill(pid, number)  # the first process alone: the others learn of it
        code, _, errors = programs.end()
        assert code == (-number if number == signal.SIGKILL else 128 + number), errors
        assert not (run / "result.json").exists()
        assert "Traceback" not in errors, errors
        assert number == signal.SIGKILL or f"stopped by {number.name}: " in errors and f"--resume {run}`" in errors
    programs.start("--resume", run)
    code, _, errors = programs.end()
    assert code == 0, errors
    print({number.name: numbers.count(number) for number in numbers})
    return run


def wait_for(pid: int, programs: Programs, run: Path, epoch: int) -> None:
    """Wait until a run has so many epochs behind it."""
    deadline = time.monotonic() + 300
    while not ((run / "metrics.csv").exists() and len(read_rows(run / "metrics.csv")) >= epoch):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            pytest.fail(f"it ended too early: {programs.end()}")
        assert time.monotonic() < deadline
        time.sleep(0.01)
