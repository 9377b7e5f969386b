"""Where a run runs: devices and precision."""

import ctypes
import os
import sys
from dataclasses import dataclass
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import nn
from torch.optim import Optimizer

from bixt3d.types import InputError


@dataclass
class Runtime:
    """Where to run.

    Args:
        accelerator: auto takes a GPU when there is one.
        devices: processes on each machine, each with one device; null: as torchrun or SLURM started them, else 1.
        num_nodes: how many machines; null: as torchrun or SLURM started them, else 1.
        precision: auto is bf16-mixed on GPUs that have it, else 32-true.
        compile: compile the model with torch.compile.
        cuda_graphs: compile, and replay whole passes as CUDA graphs (all batches have one shape).
        attention: which form of bi-directional attention runs (see bixt3d.ops.bi_attention); all give the same.
        points: which form of farthest point sampling and kNN runs (see bixt3d.ops.knn); all give the same.
        checkpointing: keep of each encoder layer only what goes in, and compute the rest again for the gradients, its
            feed-forward networks piece by piece: less memory, more time.
        deterministic: allow only operations that give the same result each time.
        threads: CPU threads; null: as many as PyTorch takes.
        accumulate: go through each batch in so many pieces and add up their gradients: less memory. Losses are those of
            the whole batch where no batch norm is, whose statistics then are those of the pieces.
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
    if runtime.accelerator == "cuda" and not torch.cuda.is_available():
        raise InputError("no CUDA device was found: use --runtime.accelerator auto or cpu")
    if runtime.cuda_graphs and not torch.cuda.is_available():
        raise InputError("no CUDA device was found: --runtime.cuda_graphs is for those")
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    if not runtime.checkpointing:
        keep_freed_memory()
    torch.zeros(8).exp()  # the first multi-threaded exp of a process is sometimes inaccurate; this one is not
    torch.use_deterministic_algorithms(runtime.deterministic)
    where = {"accelerator": runtime.accelerator, "devices": runtime.devices, "num_nodes": runtime.num_nodes}
    try:
        fabric = Fabric(**where, plugins=precision_of(runtime))
    except (MisconfigurationException, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"this machine cannot run as the --runtime settings say: {reason}") from error
    fabric.launch()
    return fabric


class Autocast(MixedPrecision):
    """Mixed precision in which a model is given what it is given: Fabric's own rounds it too, and so moves points.

    In bfloat16 a coordinate near 1 can be 0.996 or 1, and nothing between.
    """

    def convert_input(self, data: Any) -> Any:
        return data

    def unscale_gradients(self, optimizer: Optimizer) -> None:
        """Undo the scale of float16's gradients before they are clipped; Fabric refuses that to fused optimizers."""
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)


def precision_of(runtime: Runtime) -> Autocast | None:
    """Return the mixed precision that the settings ask for; None: float32."""
    gpu = runtime.accelerator in ("auto", "cuda") and torch.cuda.is_available()
    mps = runtime.accelerator in ("auto", "mps") and torch.backends.mps.is_available()
    device, precision = "cuda" if gpu else "mps" if mps else "cpu", runtime.precision
    if precision == "auto":
        precision = "bf16-mixed" if gpu and torch.cuda.is_bf16_supported() else "32-true"
    if precision == "16-mixed" and device == "cpu":
        raise InputError("--runtime.precision 16-mixed is for GPUs: use bf16-mixed or 32-true")
    return None if precision == "32-true" else Autocast(precision, device)


def compiled(runtime: Runtime, module: nn.Module) -> nn.Module:
    """Return the module as it is trained: compiled or not, as the settings say."""
    if not (runtime.compile or runtime.cuda_graphs):
        return module
    return torch.compile(module, mode="reduce-overhead" if runtime.cuda_graphs else None)


def keep_freed_memory() -> None:
    """Tell the C library to keep freed memory: by default it returns every large tensor to the system at once.

    Asking for it again made a training step 1.16 times slower on two CPU threads (docs/performance.md). The process
    stays as large as it once was, and larger than what it needs at a time: not for clouds that fill the memory.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):  # glibc has it, musl does not
            libc.mallopt(-4, 0)  # M_MMAP_MAX: no tensor in a mapping of its own
            libc.mallopt(-1, -1)  # M_TRIM_THRESHOLD: give nothing at the top of the heap back
            _ask_for_huge_pages(libc, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)


def _ask_for_huge_pages(libc: ctypes.CDLL, size: int) -> None:
    """Let the next ``size`` bytes of the heap come in pages of 2 MB, or as many as the system lets a process ask for.

    Takes addresses only, no memory yet.
    """
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    libc.free.argtypes = [ctypes.c_void_p]
    page = 2**21
    while size > 2 * page and not (block := libc.malloc(size)):
        size //= 2
    if size > 2 * page:
        libc.madvise(-(-block // page) * page, size - page, 14)  # MADV_HUGEPAGE; a kernel without it refuses
        libc.free(block)


def device_name(fabric: Fabric) -> str:
    """Return the device in words, for result files."""
    if fabric.device.type == "cuda":
        return f"{fabric.world_size} x {torch.cuda.get_device_name(fabric.device)}"
    return f"{fabric.device.type}, {fabric.world_size} x {torch.get_num_threads()} threads"
