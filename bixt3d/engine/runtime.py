"""Devices, distributed training, precision and backends of a run."""

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
from bixt3d.engine.watch import TIMEOUT, ends_all, watch, watch_no_longer
from bixt3d.io.extras import TRAINING, need
from bixt3d.io.memory import peak_of_process
from bixt3d.types import InputError

T = TypeVar("T")
START_TIMEOUT = timedelta(minutes=10)
"""Timeout for all processes of a run to start."""
MAX_THREADS = 4096
"""More CPU threads than any machine has use for."""
APPEARS_WITHIN = 45.0
"""Seconds until all machines see a new file on a shared file system."""


@dataclass
class Runtime:
    """Settings of devices, precision and backends.

    Args:
        accelerator: kind of device; auto: a GPU if there is one.
        devices: processes on each machine, each with one device; null: as torchrun or SLURM started them, else 1.
        num_nodes: number of machines; null: as torchrun or SLURM started them, else 1.
        precision: 32-true, or mixed precision (autocast); auto: bf16-mixed on GPUs that have it, else 32-true.
        compile: compile the model with torch.compile, once for each batch size: two sizes, which differ by 1.
        cuda_graphs: compile, and replay forward and backward passes as CUDA graphs, one for each batch size.
        attention: backend of bi-directional attention (see bixt3d.ops.bi_attention); all give the same result.
        points: backend of farthest point sampling and k nearest neighbors (see bixt3d.ops.knn); all give the same
            result.
        checkpointing: activation checkpointing: keep only the input of each encoder layer, and recompute its
            activations in the backward pass, those of feed-forward networks in chunks: less memory, more time.
        deterministic: allow only deterministic operations.
        threads: CPU threads; null: PyTorch's default.
        accumulate: gradient accumulation: split each batch into this number of micro-batches and add up their
            gradients: less memory. Equal to training without, except with batch norm, whose statistics are those of a
            micro-batch, and with the Lovász loss of scenes (train.lovasz), which is that of each micro-batch.
        sync_batchnorm: synchronise batch norm statistics among processes (as SyncBatchNorm); null: yes.
        keep_freed_memory: keep freed memory in the process, for speed; null: in training on a CPU.
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
        if self.threads and self.threads > MAX_THREADS:  # they would all be started
            raise InputError(f"runtime.threads must be at most {MAX_THREADS}, not {self.threads}")


def start(runtime: Runtime) -> Fabric:
    """Return Fabric, launched in all processes. Raises InputError if this machine cannot run as the settings say."""
    need("training or testing a model", *TRAINING)  # with the packages that draw the report: fail now, not at the end
    if runtime.accelerator == "cuda" and not torch.cuda.is_available():
        raise InputError("no CUDA device was found: use --runtime.accelerator auto or cpu")
    if runtime.cuda_graphs and not torch.cuda.is_available():
        raise InputError("no CUDA device was found: --runtime.cuda_graphs is for those")
    if runtime.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    if keeps_freed_memory(runtime):
        keep_freed_memory()
    torch.zeros(8).exp()  # the first exp of a process is sometimes inaccurate if multi-threaded; this one is not
    torch.use_deterministic_algorithms(runtime.deterministic)
    precision, processes = precision_of(runtime), launch(runtime.devices, runtime.num_nodes)
    try:
        return start_fabric(runtime, precision, processes)
    except BaseException:  # such as a signal
        processes.end()
        raise


def start_fabric(runtime: Runtime, precision: Any, processes: Processes) -> Fabric:
    """Launch Fabric in all processes, and let them watch each other. Raises InputError if Fabric cannot start."""
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
            init_process_group(fabric)
        fabric.launch()
    except (MisconfigurationException, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"this machine cannot run as the --runtime settings say: {reason}") from error
    if runtime.threads:  # not earlier: Fabric sets it too
        torch.set_num_threads(runtime.threads)
    watch(fabric, processes.children)
    processes.met = True
    return fabric


def init_process_group(fabric: Fabric) -> None:
    """Initialise the process group: minutes of timeout for the rendezvous, then days for collective operations.

    Fabric would use one timeout for both, and at the end destroy NCCL's group in each process alone, which blocks.
    """
    store, rank, number = next(torch.distributed.rendezvous("env://", timeout=START_TIMEOUT))
    store.set_timeout(TIMEOUT)
    backend = "nccl" if fabric.device.type == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, timeout=TIMEOUT, store=store, rank=rank, world_size=number)


def finish(fabric: Fabric) -> None:
    """Wait until all processes have finished; afterwards they may end one by one."""
    fabric.barrier()
    watch_no_longer()


def rank_zero_first(fabric: Fabric, make: Callable[[], T]) -> T:
    """Call ``make`` in the first process before the others, so that it can write caches that they read."""
    with fabric.rank_zero_first():
        return make()


def check_shared(fabric: Fabric, folder: Path) -> Path:
    """Return the folder. Raises InputError, in all processes, unless all see the folder of the first one."""
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
        raise ends_all(
            InputError(
                f"process {blind} does not see the run folder {folder} of process 0: give all machines a folder that "
                "they share, with --run_dir"
            )
        )
    return folder


def _appears(path: Path) -> bool:
    """Say whether a file appears in time: an NFS client may cache for 30 seconds that it does not exist."""
    for _ in range(int(APPEARS_WITHIN / 0.1)):
        if path.exists():
            return True
        time.sleep(0.1)
    return False


def keeps_freed_memory(runtime: Runtime) -> bool:
    """Say whether the process keeps freed memory; see `bixt3d.engine.memory`."""
    if runtime.keep_freed_memory is not None:
        return runtime.keep_freed_memory
    gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    return not runtime.checkpointing and (runtime.accelerator == "cpu" or (runtime.accelerator == "auto" and not gpu))


def precision_of(runtime: Runtime) -> Any:
    """Return the Fabric plugin for the precision of the settings; None: float32."""
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
    """Return the module, compiled if the settings say so."""
    if not (runtime.compile or runtime.cuda_graphs):
        return module
    return torch.compile(module, dynamic=False, mode="reduce-overhead" if runtime.cuda_graphs else None)


def peak_memory(fabric: Fabric) -> int:
    """Return the most bytes that this process has used: tensors on a GPU, else its memory, data set and all."""
    if fabric.device.type == "cuda":
        return torch.cuda.max_memory_allocated(fabric.device)
    return peak_of_process()


def device_name(fabric: Fabric) -> str:
    """Return the devices in words, for result.json."""
    if fabric.device.type == "cuda":
        return f"{fabric.world_size} x {torch.cuda.get_device_name(fabric.device)}"
    return f"{fabric.device.type}, {fabric.world_size} x {torch.get_num_threads()} threads"
