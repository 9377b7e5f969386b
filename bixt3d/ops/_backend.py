"""The one decision: which implementation of an operator runs, and the reason to refuse one asked for by name."""

import os
from functools import cache
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor

from bixt3d.types import InputError

PointBackend = Literal["auto", "torch", "wheel", "cluster"]
AttentionBackend = Literal["auto", "torch", "sdpa", "chunked", "triton"]

ATTENTION_ON_CUDA: AttentionBackend = "sdpa"
"""What `auto` takes on a GPU. To be "triton" once its kernels have run on one: so far only Triton's interpreter ran
them, and its compiler translated them for a Hopper GPU."""

LONG_CLOUD = 8192
"""From how many tokens of a cloud `auto` goes through them in chunks on a CPU: below, two SDPA calls are as fast."""


@cache
def is_installed(package: str) -> bool:
    """Say whether a package can be imported, without importing it."""
    return find_spec(package) is not None


def choose_point_backend(backend: PointBackend, points: Tensor, wheel: str, cluster_on_cuda: bool) -> str:
    """Return the backend that runs: ``torch``, ``wheel`` (a compiled CPU package from PyPI), ``cluster`` or ``export``.

    ``auto`` takes the wheel on a CPU, and on a GPU torch-cluster where it is the faster one and installed; while
    torch.export looks on, the form made for it, which nobody can ask for by name.
    Raises InputError if a backend asked for by name cannot run here.
    """
    on_cpu = points.device.type == "cpu"
    if backend == "auto":
        if torch.compiler.is_exporting():
            return "export"
        if on_cpu and is_installed(wheel):
            return "wheel"
        return "cluster" if points.is_cuda and cluster_on_cuda and is_installed("torch_cluster") else "torch"
    if backend == "wheel" and not on_cpu:
        raise InputError(f"backend 'wheel' ({wheel}) runs on CPU tensors only, these are on {points.device}")
    package = {"wheel": wheel, "cluster": "torch_cluster", "torch": "torch"}.get(backend)
    if package is None:
        raise InputError(f"unknown backend '{backend}': choose auto, torch, wheel or cluster")
    if not is_installed(package):
        where = "requirements-cluster.txt" if backend == "cluster" else "requirements.txt"
        raise InputError(f"backend '{backend}' needs the package {package}: install {where}")
    return backend


def choose_attention_backend(backend: str, token_refs: Tensor) -> str:
    """Return the backend of bi_attention that runs: ``torch``, ``sdpa``, ``chunked`` or ``triton``.

    Raises InputError if a backend asked for by name is unknown or cannot run here.
    """
    if backend == "auto":
        return _fastest_attention(token_refs)
    if backend not in ("torch", "sdpa", "chunked", "triton"):
        raise InputError(f"unknown backend '{backend}': choose auto, torch, sdpa, chunked or triton")
    if backend == "chunked" and token_refs.device.type != "cpu":
        raise InputError(f"backend 'chunked' runs on CPU tensors only, these are on {token_refs.device}")
    if backend == "triton" and not torch.compiler.is_compiling() and (reason := _why_no_triton(token_refs)):
        raise InputError(f"backend 'triton' {reason}")
    return backend


def _fastest_attention(token_refs: Tensor) -> str:
    """Return what was the fastest where it was measured: on CPUs with one thread.

    In bfloat16 and float16 the backward pass of SDPA is slow on CPUs. Chunks make many short steps, which several
    threads begin and end together: they would wait for each other wherever another program has one of the cores.
    """
    if torch.compiler.is_compiling() or torch.compiler.is_exporting() or torch.jit.is_tracing():
        return "sdpa"
    if token_refs.is_cuda and ATTENTION_ON_CUDA == "triton" and not _why_no_triton(token_refs):
        return "triton"
    if token_refs.device.type != "cpu" or torch.get_num_threads() > 1:
        return "sdpa"
    trained = token_refs.dtype in (torch.bfloat16, torch.float16) and token_refs.requires_grad
    return "chunked" if trained or token_refs.shape[1] >= LONG_CLOUD else "sdpa"


def _why_no_triton(token_refs: Tensor) -> str | None:
    """Return why Triton's kernels cannot take these refs, or None."""
    if not is_installed("triton"):
        return "needs the package triton, which comes with torch for CUDA on Linux: use auto"
    if not (token_refs.is_cuda or os.environ.get("TRITON_INTERPRET", "0") == "1"):
        return f"runs on CUDA tensors, these are on {token_refs.device}: use auto (TRITON_INTERPRET=1 is for tests)"
    if token_refs.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return f"computes in float32, bfloat16 or float16, not in {str(token_refs.dtype).removeprefix('torch.')}"
    return f"has heads up to 128 wide, not {token_refs.shape[3]}" if token_refs.shape[3] > 128 else None
