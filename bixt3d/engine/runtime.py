"""Where a run runs: devices and precision."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar
from uuid import uuid4

import torch
from torch import nn

from bixt3d.engine.checkpoint import write_text
from bixt3d.engine.fabric import Fabric
from bixt3d.engine.launch import Processes, launch
from bixt3d.engine.memory import keep_freed_memory
from bixt3d.engine.watch import LONGEST, watch, watch_no_longer
from bixt3d.io.extras import TRAINING, need
from bixt3d.types import InputError

T = TypeVar("T")
MEETING = timedelta(minutes=10)
"""How long the processes of a run may take to start."""
APPEARS_WITHIN = 45.0
"""Seconds within which all machines see a new file on a disk that they share."""


@dataclass
class Runtime:
    """Where to run.

    Args:
        accelerator: auto takes a GPU when there is one.
        devices: processes on each machine, each with one device; null: as torchrun or SLURM started them, else 1.
        num_nodes: how many machines; null: as torchrun or SLURM started them, else 1.
        precision: auto is bf16-mixed on GPUs that have it, else 32-true.
        compile: compile the model with torch.compile, once for each size of batch: two sizes, which differ by 1.
        cuda_graphs: compile, and replay whole passes as CUDA graphs: one for each size of batch (see compile).
        attention: which form of bi-directional attention runs (see bixt3d.ops.bi_attention); all give the same.
        points: which form of farthest point sampling and kNN runs (see bixt3d.ops.knn); all give the same.
        checkpointing: activation checkpointing: keep only the input of each encoder layer, and compute its activations
            again in the backward pass, those of feed-forward networks in pieces: less memory, more time.
        deterministic: allow only operations that give the same result each time.
        threads: CPU threads; null: as many as PyTorch takes.
        accumulate: split each batch into so many pieces and add up their gradients: less memory. A model without batch
            norm learns as from the whole batch; a batch norm takes its statistics from each piece alone.
        sync_batchnorm: share the statistics of batch norms among processes; null: yes.
        keep_freed_memory: let the process keep what it frees, for speed; null: in training on a CPU.
    """

    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int | None = None
    num_nodes: int | None = None
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    compile: bool = False
    cuda_graphs: bool = False
    attention: Literal["auto", "torch", "sdpa", "chunked", "triton"] = "auto"
    points: Literal["auto", "torch", "numba", "cluster", "triton"] = "auto"
    checkpointing: bool = False
    deterministic: bool = False
    threads: int | None = None
    accumulate: int = 1
    sync_batchnorm: bool | None = None
    keep_freed_memory: bool | None = None

    def __post_init__(self):
        for name in ("devices", "num_nodes", "threads", "accumulate"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise InputError(f"runtime.{name} must be at least 1, not {count}")


def start(runtime: Runtime) -> Fabric:
    """Return Fabric, launched: from here on every process runs the same program."""
    need("training or testing a model", *TRAINING)  # also what draws the report: not to be learned after hours
    if runtime.accelerator == "cuda" and not torch.cuda.is_available():
        raise InputError("no CUDA device was found: use --runtime.accelerator auto or cpu")
    if runtime.cuda_graphs and not torch.cuda.is_available():
        raise InputError("no CUDA device was found: --runtime.cuda_graphs is for those")
    if runtime.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    if keeps_freed_memory(runtime):
        keep_freed_memory()
    torch.zeros(8).exp()  # the first multi-threaded exp of a process is sometimes inaccurate; this one is not
    torch.use_deterministic_algorithms(runtime.deterministic)
    precision, processes = precision_of(runtime), launch(runtime.devices, runtime.num_nodes)
    try:
        return start_fabric(runtime, precision, processes)
    except BaseException:  # such as a signal
        processes.end()
        raise


def start_fabric(runtime: Runtime, precision: Any, processes: Processes) -> Fabric:
    """Return Fabric, launched in all processes, which watch each other. Raises InputError where it cannot be."""
    import lightning_fabric
    from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
    from lightning_fabric.strategies import DDPStrategy
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    several = processes.number > 1
    try:
        fabric = lightning_fabric.Fabric(
            accelerator=runtime.accelerator,
            devices=processes.devices,
            num_nodes=processes.num_nodes,
            strategy=DDPStrategy(broadcast_buffers=False) if several else "auto",
            plugins=[
                TorchElasticEnvironment() if several else LightningEnvironment(),
                *([precision] if precision else []),
            ],
        )
        if several:
            meet(fabric)
        fabric.launch()
    except (MisconfigurationException, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"this machine cannot run as the --runtime settings say: {reason}") from error
    if runtime.threads:  # not earlier: Fabric sets it too
        torch.set_num_threads(runtime.threads)
    watch(fabric, processes.children)
    processes.met = True
    return fabric


def meet(fabric: Fabric) -> None:
    """Let the processes find each other, within minutes; afterwards they wait for each other as long as they live.

    Fabric would give both the same time, and at the end destroy NCCL's groups in each process alone, which blocks.
    """
    store, rank, number = next(torch.distributed.rendezvous("env://", timeout=MEETING))
    store.set_timeout(LONGEST)
    backend = "nccl" if fabric.device.type == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, timeout=LONGEST, store=store, rank=rank, world_size=number)


def finish(fabric: Fabric) -> None:
    """Wait until all processes have done their work; from here on they may end one by one."""
    fabric.barrier()
    watch_no_longer()


def first_alone(fabric: Fabric, make: Callable[[], T]) -> T:
    """Return what ``make`` returns, in the first process before the others: it may write caches that they read."""
    with fabric.rank_zero_first():
        return make()


def check_shared(fabric: Fabric, folder: Path) -> Path:
    """Return the folder. Raises InputError, in all processes, if one does not see it when the first one makes it."""
    if fabric.world_size == 1:
        return folder
    token = folder / f".seen-{fabric.broadcast(uuid4().hex)}"
    if fabric.is_global_zero:
        write_text(token, "")
    fabric.barrier()
    blind = torch.tensor(0 if _appears(token) else fabric.global_rank, device=fabric.device)
    blind = int(fabric.all_reduce(blind, reduce_op="max"))
    if fabric.is_global_zero:
        token.unlink()
    if blind:
        raise InputError(
            f"process {blind} does not see the run folder {folder} of process 0: give all machines a folder that they "
            "share, with --run_dir"
        )
    return folder


def _appears(path: Path) -> bool:
    """Say whether a file is there, or comes soon: a client of NFS may believe for 30 seconds that it is not."""
    for _ in range(int(APPEARS_WITHIN / 0.1)):
        if path.exists():
            return True
        time.sleep(0.1)
    return False


def keeps_freed_memory(runtime: Runtime) -> bool:
    """Say whether the process keeps what it frees; see `bixt3d.engine.memory`."""
    if runtime.keep_freed_memory is not None:
        return runtime.keep_freed_memory
    gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    return not runtime.checkpointing and (runtime.accelerator == "cpu" or (runtime.accelerator == "auto" and not gpu))


def precision_of(runtime: Runtime) -> Any:
    """Return the mixed precision that the settings ask for, as Fabric's plugin; None: float32."""
    gpu = runtime.accelerator in ("auto", "cuda") and torch.cuda.is_available()
    mps = runtime.accelerator in ("auto", "mps") and torch.backends.mps.is_available()
    device, precision = "cuda" if gpu else "mps" if mps else "cpu", runtime.precision
    if precision == "auto":
        precision = "bf16-mixed" if gpu and torch.cuda.is_bf16_supported() else "32-true"
    if precision == "16-mixed" and device == "cpu":
        raise InputError("--runtime.precision 16-mixed is for GPUs: use bf16-mixed or 32-true")
    if precision == "32-true":
        return None
    from bixt3d.engine.autocast import Autocast

    return Autocast(precision, device)


def compiled(runtime: Runtime, module: nn.Module) -> nn.Module:
    """Return the module as it is trained: compiled or not, as the settings say."""
    if not (runtime.compile or runtime.cuda_graphs):
        return module
    return torch.compile(module, dynamic=False, mode="reduce-overhead" if runtime.cuda_graphs else None)


def device_name(fabric: Fabric) -> str:
    """Return the device in words, for result files."""
    if fabric.device.type == "cuda":
        return f"{fabric.world_size} x {torch.cuda.get_device_name(fabric.device)}"
    return f"{fabric.device.type}, {fabric.world_size} x {torch.get_num_threads()} threads"
