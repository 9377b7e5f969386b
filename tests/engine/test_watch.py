"""Processes of a run end together, with a sentence: when one is killed, ends with an error, or stops."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

pytestmark = pytest.mark.slow

PROGRAM = '''
import atexit, json, os, signal, sys, time
from pathlib import Path
import torch
from forks import end_fork, fork_others
from lightning_fabric.utilities import distributed
from bixt3d.engine import launch, runtime, watch
from bixt3d.engine.ending import Stop
from bixt3d.engine.loop import TrainingState, train_epoch
from bixt3d.engine.runtime import Runtime, check_shared, finish, start
from bixt3d.engine.sums import EpochSums
from bixt3d.cli.program import run_program
from bixt3d.types import InputError

launch.POLL_SECONDS, watch.TICK, watch.PATIENCE, runtime.APPEARS_WITHIN = 0.1, 0.1, 20, 1.0
join = runtime.init_process_group

# as NCCL does, with gloo: a group is destroyed together, and without a watch Lightning would do so at the very end
destroy, initialized = torch.distributed.destroy_process_group, torch.distributed.init_process_group
torch.distributed.destroy_process_group = lambda: (torch.distributed.barrier(), destroy())

def init_process_group(*arguments, **named):
    initialized(*arguments, **named)
    if sys._getframe(1).f_globals["__name__"] == distributed.__name__:
        atexit.register(distributed._destroy_dist_connection)

torch.distributed.init_process_group = init_process_group

def outcome(pid, what, folder, errors):
    """Return exit code, output and errors of the first of two processes, both of which have ended."""
    found = ""
    with open(errors) as lines:  # until both have closed them
        for line in lines:
            found += line
            if what == "rank 0 SIGSTOP" and "error" in line:  # of the second process: it is not stopped
                os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), (folder / "output").read_text(), found

def run_cases(root, cases):
    """Run one case after the other, each in a fork, and write what came of it."""
    global what, folder
    for what in cases:
        folder = root / what.replace(" ", "_")
        for place in "01":
            (folder / place).mkdir(parents=True)
        errors, writes = os.pipe()
        if not (pid := os.fork()):
            os.dup2(writes, 2), os.dup2(os.open(folder / "output", os.O_WRONLY | os.O_CREAT), 1)
            os.close(writes), os.close(errors)
            fork_others(begin)
            end_fork(begin)
        os.close(writes)
        (folder / "outcome.json").write_text(json.dumps(outcome(pid, what, folder, errors)))

def begin():
    """Run a process of a case."""
    global rank
    rank = int(os.environ.get("RANK", 0))
    runtime.init_process_group = join
    if what == "child dies at start" and rank == 1:
        os._exit(3)
    if what == "first dies at start":
        runtime.init_process_group = lambda fabric: os.kill(os.getpid(), signal.SIGKILL) if rank == 0 else join(fabric)
    if what == "first stopped at start" and rank == 0:
        runtime.init_process_group = lambda fabric: os.kill(os.getpid(), signal.SIGTERM)
    run_program(main)

def train(fabric):
    sums, module = EpochSums(fabric.device), torch.nn.Linear(1, 1)
    model, optimizer = fabric.setup(module, torch.optim.SGD(module.parameters(), 0.1))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    state = TrainingState(module, model, optimizer, schedule, None)
    value = float("nan") if rank == 1 else 1.0
    steps = [[{"value": torch.full((2, 1), value)}]] * 1000
    with Stop(fabric) as stop:
        step = lambda model, batch: (model(batch["value"]).mean(), torch.zeros(()))
        train_epoch(state, fabric, stop.watch(steps, sums), [4] * 1000, step, 0.0, "epoch", sums)

def main():
    fabric = start(Runtime(accelerator="cpu", devices=2, threads=1))
    if rank == 1 and what in ("in private", "nan"):
        atexit.register(time.sleep, 1.0)  # the others wait for the slowest, also where all end with an error
    if what == "in private":
        os.chdir(folder / str(fabric.global_rank))
        try:
            check_shared(fabric, Path("run"))
        finally:
            if rank == 0:
                print(os.listdir("run"), flush=True)
    if fabric.global_rank == 1 and what == "error":
        raise InputError("this process does not like its data")
    if what == f"rank {rank} SIGKILL" or what == f"rank {rank} SIGSTOP":
        os.kill(os.getpid(), getattr(signal, what.split()[2]))
    if what == "nan":
        return train(fabric)
    fabric.barrier()
    if fabric.global_rank == 0:
        time.sleep(2.5)  # longer than the patience of the others: it is alive, and draws its report
        print("done", flush=True)
    finish(fabric)

root, *cases = sys.argv[1:]
LANES = 3  # so many cases run at a time
lanes = []
for lane in range(LANES):
    if pid := os.fork():
        lanes.append(pid)
    else:
        end_fork(lambda: run_cases(Path(root), cases[lane::LANES]))
sys.exit(any([os.waitpid(pid, 0)[1] for pid in lanes]))
'''


FAILS = {
    "rank 1 SIGKILL": (1, ["error: process 0 ends, because process 1 ended with code -9"]),
    "rank 1 SIGSTOP": (1, ["error: process 0 ends, because process 1 on .* has not answered for 2 seconds"]),
    "rank 0 SIGKILL": (-9, ["error: process 1 ends, because (process 0|the process that started it) is gone"]),
    "rank 0 SIGSTOP": (-9, ["error: process 1 ends, because process 0 .*has not answered for 2 seconds"]),
    "error": (1, ["error: this process does not like its data", "error: process 0 ends, because process 1 .*ended"]),
    "child dies at start": (1, ["error: process 0 ends, because process 1 ended with code 3 before it met the others"]),
    "first dies at start": (-9, ["error: process 1 ends, because the process that started it is gone"]),
    "first stopped at start": (143, ["stopped by SIGTERM"]),
}


OTHERS = ("nothing", "in private", "nan")


@pytest.fixture(scope="module")
def ended(tmp_path_factory) -> dict[str, tuple[int, str, str]]:
    """Return exit code, output and errors of each case. All processes are forks of one."""
    folder = tmp_path_factory.mktemp("runs")
    (program := folder / "program.py").write_text(PROGRAM)
    path = os.pathsep.join(map(str, (TESTS.parent, TESTS / "support")))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    cases = [*FAILS, *OTHERS]
    command = [sys.executable, str(program), str(folder), *cases]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr
    return {what: json.loads((folder / what.replace(" ", "_") / "outcome.json").read_text()) for what in cases}


@pytest.mark.parametrize("what", FAILS)
def test_when_one_process_fails_the_other_ends_with_a_sentence(ended, what):
    (code, output, errors), (expected, sentences) = ended[what], FAILS[what]
    assert code == expected and "done" not in output, errors
    for sentence in sentences:
        assert re.search(sentence, errors), errors


def test_processes_wait_for_the_slowest_that_is_alive_and_end_without_error(ended):
    code, output, errors = ended["nothing"]
    assert (code, output.split(), "error" in errors) == (0, ["done"], False)


def test_a_run_folder_that_processes_do_not_share_is_refused(ended):
    code, output, errors = ended["in private"]
    assert code == 2
    assert (
        "process 1 does not see the run folder run of process 0: give all machines a folder that they share" in errors
    )
    assert "error: process" not in errors.replace("error: process 1 does not see", "")
    assert output == "[]\n"  # what process 0 finds in it


def test_a_loss_that_is_no_number_in_one_process_ends_all_with_the_same_sentence(ended):
    code, _, errors = ended["nan"]
    assert code == 2
    assert errors.count("error: the loss was not a number at step 0 of this epoch") == 2
    assert "error: process" not in errors
