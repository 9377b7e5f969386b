"""The processes of a run are started by torchrun, SLURM, or the first one; contradictions are refused."""

import pytest

from bixt3d.engine import launch as module
from bixt3d.engine.launch import Processes, check_launched, first_process, from_slurm
from bixt3d.types import InputError

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
SLURM = {
    "SLURM_JOB_ID": "1234567",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
}


@pytest.mark.parametrize("asked", [(None, None), (2, None), (None, 2), (2, 2)])
def test_what_torchrun_started_is_what_runs(asked):
    assert check_launched(TORCHRUN, *asked) == Processes(2, 2)


@pytest.mark.parametrize("asked", [(1, None), (4, None), (None, 1), (2, 4)])
def test_other_processes_than_torchrun_started_are_refused(asked):
    with pytest.raises(InputError, match="runtime.* is .*, but this program was started as 2 processes on each of 2"):
        check_launched(TORCHRUN, *asked)


def test_machines_with_different_numbers_of_processes_are_refused():
    with pytest.raises(InputError, match="start as many on every machine"):
        check_launched(TORCHRUN | {"WORLD_SIZE": "5"}, None, None)


def test_what_srun_started_is_what_torchrun_would_have_said():
    found = from_slurm(SLURM, None)
    assert {name: found[name] for name in TORCHRUN} == TORCHRUN
    assert (found["MASTER_ADDR"], found["MASTER_PORT"], found["GROUP_RANK"]) == ("gpu07", "19567", "1")


@pytest.mark.parametrize("other", [{}, SLURM | {"SLURM_STEP_NUM_TASKS": "1"}, SLURM | {"SLURM_JOB_NAME": "bash"}])
def test_a_single_task_or_an_interactive_job_is_no_launcher(other):
    assert from_slurm(other, None) == {}


def test_a_job_of_several_tasks_that_srun_did_not_start_is_refused_unless_it_says_its_devices():
    batch = {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "4"}
    with pytest.raises(InputError, match="SLURM gives this job 4 tasks, .* write srun before it"):
        from_slurm(batch, None)
    assert from_slurm(batch, 4) == {}


def test_the_first_process_of_a_machine_is_numbered_by_its_machine():
    where = {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500", "NODE_RANK": "1"}
    found = first_process(where, Processes(2, 3))
    assert found == where | {
        "RANK": "2", "LOCAL_RANK": "0", "GROUP_RANK": "1", "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "2"
    }  # fmt: skip
    assert first_process({}, Processes(2, 1))["MASTER_ADDR"] == "127.0.0.1"


def test_several_machines_need_the_address_of_the_first():
    with pytest.raises(InputError, match="needs the environment variables MASTER_ADDR, NODE_RANK on each"):
        first_process({"MASTER_PORT": "29500"}, Processes(1, 2))


def test_a_program_starts_several_processes_only_once(monkeypatch):
    environment, begun = {}, []
    monkeypatch.setattr(module.os, "environ", environment)
    monkeypatch.setattr(module, "this_program", lambda: ["program.py"])
    monkeypatch.setattr(module, "start_others", lambda processes, program: begun.append(processes))
    assert module.launch(2, None).number == 2
    for devices in (2, None):
        with pytest.raises(InputError, match="a program can start several processes only once: train the next run in"):
            module.launch(devices, None)
    monkeypatch.setattr(module.os, "getpid", lambda: 7)  # another program, started by this one
    monkeypatch.setattr(module, "end_with_parent", lambda parent: None)
    environment[module.PARENT] = "1"
    assert module.launch(2, None).number == 2 and len(begun) == 1
    with pytest.raises(InputError, match="only once"):
        module.launch(2, None)
