"""Start the processes of distributed training, or find those that torchrun or SLURM started."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from bixt3d.types import InputError

PARENT = "BIXT3D_PARENT"
"""Environment variable with the id of the parent process."""
STARTED = "BIXT3D_STARTED"
"""Environment variable with the id of a process that has started others, or was started by one, for a run."""
POLL_SECONDS = 0.5
"""Seconds between two checks whether the other processes are alive."""


@dataclass
class Processes:
    """The processes of a run.

    Args:
        devices: processes on each machine.
        num_nodes: machines.
        children: the processes that this one started, by rank.
        met: whether all processes have joined the process group.
    """

    devices: int = 1
    num_nodes: int = 1
    children: dict[int, subprocess.Popen] = field(default_factory=dict)
    met: bool = False

    @property
    def number(self) -> int:
        """Processes on all machines together."""
        return self.devices * self.num_nodes

    def end(self) -> None:
        """Kill the processes that this one has started."""
        self.met = True  # `guard` need not wait any more
        for child in self.children.values():
            child.kill()

    def guard(self) -> None:
        """End this process and its children if a child ends before all have joined the process group."""
        while not self.met:
            for rank, child in self.children.items():
                if (code := child.poll()) is not None and not self.met:
                    self.end()
                    end_at_once(f"process {rank} ended with code {code} before it met the others")
            time.sleep(POLL_SECONDS)


def launch(devices: int | None, num_nodes: int | None) -> Processes:
    """Return the processes of this run; without a launcher, start those that are asked for on this machine.

    Sets RANK, WORLD_SIZE and so on in the environment, as torchrun does. Raises InputError if a launcher started
    another number of processes than is asked for, and for a second run of a program that started processes itself.
    """
    environment = os.environ
    if environment.get(STARTED) == str(os.getpid()):
        raise InputError("a program can start several processes only once: train the next run in a program of its own")
    if PARENT in environment:
        environment[STARTED] = str(os.getpid())
        if os.name == "posix":  # elsewhere a process keeps the number of its dead parent
            threading.Thread(target=end_with_parent, args=[int(environment[PARENT])], daemon=True).start()
    if "RANK" not in environment and (found := from_slurm(environment, devices)):
        environment.update(found)
    if was_launched(environment):
        return check_launched(environment, devices, num_nodes)
    processes = Processes(devices or 1, num_nodes or 1)
    if processes.number > 1:
        program = this_program()
        environment.update(first_process(environment, processes) | {STARTED: str(os.getpid())})
        start_others(processes, program)
    return processes


def was_launched(environment: Mapping[str, str]) -> bool:
    """Say whether torchrun or SLURM started this process; then they set the number of processes."""
    return ("RANK" in environment and "WORLD_SIZE" in environment) or bool(from_slurm(environment, devices=1))


def check_launched(environment: Mapping[str, str], devices: int | None, num_nodes: int | None) -> Processes:
    """Return the processes that a launcher started. Raises InputError if the settings ask for another number."""
    number = int(environment["WORLD_SIZE"])
    on_this = int(environment.get("LOCAL_WORLD_SIZE", devices or number // (num_nodes or 1)))
    if number % on_this:
        raise InputError(f"{number} processes were started, {on_this} on this machine: start as many on every machine")
    found = Processes(on_this, number // on_this)
    for name, asked, started in (("devices", devices, found.devices), ("num_nodes", num_nodes, found.num_nodes)):
        if asked not in (None, started):
            raise InputError(
                f"runtime.{name} is {asked}, but this program was started as {found.devices} processes on each of "
                f"{found.num_nodes} machines: leave runtime.devices and runtime.num_nodes out"
            )
    return found


def from_slurm(environment: Mapping[str, str], devices: int | None) -> dict[str, str]:
    """Return the environment variables that torchrun would set, for a process that srun started with others; else {}.

    Raises InputError where SLURM gives a job several tasks, but srun did not start the program.
    """
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS") or environment.get("SLURM_NTASKS") or 1)
    if tasks == 1 or environment.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return {}
    if "SLURM_STEP_ID" not in environment:
        if devices is None:
            raise InputError(
                f"SLURM gives this job {tasks} tasks, but the program was started once: write srun before it, or say "
                "--runtime.devices"
            )
        return {}
    nodes = int(environment.get("SLURM_STEP_NUM_NODES") or environment.get("SLURM_NNODES") or 1)
    names = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_NODELIST") or "127.0.0.1"
    if tasks % nodes:
        raise InputError(f"SLURM started {tasks} tasks on {nodes} machines: give --ntasks-per-node, as many on each")
    from lightning_fabric.plugins.environments import SLURMEnvironment

    return {
        "RANK": environment["SLURM_PROCID"],
        "LOCAL_RANK": environment["SLURM_LOCALID"],
        "GROUP_RANK": environment["SLURM_NODEID"],
        "WORLD_SIZE": str(tasks),
        "LOCAL_WORLD_SIZE": str(tasks // nodes),
        "MASTER_ADDR": environment.get("MASTER_ADDR") or SLURMEnvironment.resolve_root_node_address(names),
        "MASTER_PORT": environment.get("MASTER_PORT") or str(15000 + int(environment["SLURM_JOB_ID"]) % 10000),
    }


def first_process(environment: Mapping[str, str], processes: Processes) -> dict[str, str]:
    """Return the environment variables that torchrun would set for the first process on this machine.

    Raises InputError for several machines without MASTER_ADDR, MASTER_PORT and NODE_RANK in the environment.
    """
    where = {name: environment.get(name) for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")}
    if processes.num_nodes == 1:
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "NODE_RANK": "0"}
    if missing := [name for name, value in where.items() if value is None]:
        raise InputError(
            f"--runtime.num_nodes {processes.num_nodes} needs the environment variables {', '.join(missing)} on each "
            "machine: address and a free port of the first machine, and its own number from 0; torchrun sets them"
        )
    node = int(where["NODE_RANK"])
    return where | {
        "RANK": str(node * processes.devices),
        "LOCAL_RANK": "0",
        "GROUP_RANK": str(node),
        "WORLD_SIZE": str(processes.number),
        "LOCAL_WORLD_SIZE": str(processes.devices),
    }


def this_program() -> list[str]:
    """Return Python's arguments to start this program again. Raises InputError in a notebook."""
    import __main__

    if __main__.__spec__:
        return ["-m", __main__.__spec__.name]
    if not hasattr(__main__, "__file__"):
        raise InputError("a notebook cannot start several processes: leave out runtime.devices here")
    return [os.path.abspath(sys.argv[0])]


def start_others(processes: Processes, program: list[str]) -> None:
    """Start a program again for every other process on this machine."""
    first = int(os.environ["RANK"])
    try:
        for place in range(1, processes.devices):
            own = {"RANK": str(first + place), "LOCAL_RANK": str(place), PARENT: str(os.getpid())}
            command = [sys.executable, *program, *sys.argv[1:]]
            processes.children[first + place] = subprocess.Popen(command, env=os.environ | own)
    except BaseException:
        processes.end()
        raise
    threading.Thread(target=processes.guard, daemon=True).start()


def end_with_parent(parent: int) -> None:
    """End this process once its parent has ended."""
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    end_at_once("the process that started it is gone")


def end_at_once(reason: str) -> None:
    """End this process at once, also when its main thread is blocked."""
    print(f"error: process {os.environ['RANK']} ends, because {reason}", file=sys.stderr, flush=True)
    os._exit(1)


def free_port() -> int:
    """Return a free port of this machine."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]
