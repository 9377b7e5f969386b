"""Processes of a run end together, with a sentence: when one is killed, ends with an error, or stops."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from bixt3d.engine import watch
from bixt3d.engine.runtime import Runtime, check_shared, finish, start
from bixt3d.program import run_program
from bixt3d.types import InputError

watch.TICK, watch.PATIENCE = 0.1, 40
what = sys.argv[1]

def main():
    fabric = start(Runtime(accelerator="cpu", devices=2, threads=1))
    if what == "in private":
        os.chdir(Path(sys.argv[2]) / str(fabric.global_rank))
        check_shared(fabric, Path("run"))
    if fabric.global_rank == 1 and what == "error":
        raise InputError("this process does not like its data")
    if fabric.global_rank == 1 and what in ("SIGKILL", "SIGSTOP"):
        os.kill(os.getpid(), getattr(signal, what))
    fabric.barrier()
    if fabric.global_rank == 0:
        time.sleep(5)  # longer than the patience of the others: it is alive, and draws its report
        print("done", flush=True)
    finish(fabric)

run_program(main)
"""


def run(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Return exit code, output and errors of the first of two processes, both of which have ended."""
    program = folder / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, str(program), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    output, errors = process.communicate(timeout=100)  # waits until both have closed them
    return process.returncode, output, errors


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "sentences"),
    [
        ("SIGKILL", ["error: process 0 ends, for process 1 ended with code -9"]),
        ("SIGSTOP", ["error: process 0 ends, for process 1 on .* has not answered for 4 seconds"]),
        ("error", ["error: this process does not like its data", "error: process 0 ends, for process 1 .*ended"]),
    ],
)
def test_when_one_process_fails_the_other_ends_with_a_sentence(tmp_path, what, sentences):
    code, output, errors = run(tmp_path, what)
    assert code == 1 and "done" not in output
    for sentence in sentences:
        assert re.search(sentence, errors), errors


@pytest.mark.slow
def test_processes_wait_for_the_slowest_that_is_alive_and_end_in_peace(tmp_path):
    code, output, errors = run(tmp_path, "nothing")
    assert (code, output.split(), "error" in errors) == (0, ["done"], False)


@pytest.mark.slow
def test_a_run_folder_that_processes_do_not_share_is_refused(tmp_path):
    for rank in "01":
        (tmp_path / rank).mkdir()
    code, _, errors = run(tmp_path, "in private", str(tmp_path))
    assert code == 2
    assert (
        "process 1 does not see the run folder run of process 0: give all machines a folder that they share" in errors
    )
    assert not list((tmp_path / "0" / "run").iterdir())
