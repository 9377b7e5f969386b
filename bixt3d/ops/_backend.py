"""Choose the backend (implementation) of an operator, or say why a requested backend cannot run."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor

from bixt3d.types import InputError

PointBackend = Literal["auto", "torch", "numba", "cluster", "triton"]
AttentionBackend = Literal["auto", "torch", "sdpa", "chunked", "triton"]

ATTENTION_ON_CUDA: AttentionBackend = "sdpa"
"""Backend of `auto` on a GPU. Not "triton": its kernels were tested in Triton's interpreter and compiled for
Hopper GPUs, but have not run on a GPU."""

MANY_SIMILARITIES = 190_000
"""Number of similarities of a cloud (tokens x latents x heads) from which `auto` takes `chunked` on a CPU: with fewer,
two SDPA calls are faster."""


@cache
def is_installed(package: str) -> bool:
    """Return whether a package can be imported, without importing it."""
    return find_spec(package) is not None


def is_traced(values: Tensor) -> bool:
    """Return whether the operation is exported, traced, or run on meta tensors to count FLOPs: then without kernels."""
    return torch.compiler.is_exporting() or torch.jit.is_tracing() or values.is_meta


def dtype_of_products(values: Tensor) -> torch.dtype:
    """Return the dtype of a matrix product of these values: under autocast, that of autocast."""
    device = values.device.type
    is_cast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if is_cast and values.dtype != torch.float64 else values.dtype


def without_autocast(values: Tensor) -> AbstractContextManager:
    """Return a context without autocast, for products whose small differences matter.

    In bfloat16 the neighbors of 1 are 0.996 and 1.008: differences of nearby coordinates would be lost.
    """
    if dtype_of_products(values) == values.dtype:
        return nullcontext()
    return torch.autocast(values.device.type, enabled=False)


def choose_point_backend(backend: PointBackend, points: Tensor, cluster_on_cuda: bool, num_neighbors: int = 1) -> str:
    """Return the backend of farthest_points or knn: one of PointBackend except ``auto``, or ``export``.

    ``auto`` takes Numba on a CPU, and on a GPU Triton if its kernels pass a test there (see ops/triton/trial.py). Under
    torch.export it takes ``export``, an internal implementation.
    Raises InputError if a requested backend cannot run here.
    """
    if backend == "auto":
        return _fastest_for_points(points, cluster_on_cuda, num_neighbors)
    return _checked_backend(backend, points, partial(_why_no_triton_for_points, points, num_neighbors))


def choose_neighborhood_backend(backend: PointBackend, values: Tensor) -> str:
    """Return the backend of neighbor_max or neighbor_moments: ``torch``, ``numba`` or ``triton``.

    ``cluster`` means ``auto``: torch-cluster has no such operator.
    Raises InputError if a requested backend cannot run here.
    """
    if backend not in ("auto", "cluster"):
        return _checked_backend(backend, values, partial(_why_no_kernel, values))
    exact = values.dtype in (torch.float32, torch.float64)
    return "numba" if values.device.type == "cpu" and exact and is_installed("numba") else "torch"


def _checked_backend(backend: str, points: Tensor, why_no_triton: Callable[[], str | None]) -> str:
    """Return a requested backend. Raises InputError if it is unknown or cannot run here."""
    if backend not in ("torch", "numba", "cluster", "triton"):
        raise InputError(f"unknown backend '{backend}': choose auto, torch, numba, cluster or triton")
    if backend == "triton":
        reason = None if torch.compiler.is_compiling() else why_no_triton()
    else:
        reason = _why_no_package(backend, points)
    if reason:
        raise InputError(f"backend '{backend}' {reason}")
    return backend


def _fastest_for_points(points: Tensor, cluster_on_cuda: bool, num_neighbors: int) -> str:
    if torch.compiler.is_exporting():
        return "export"
    if not points.is_cuda:
        return "numba" if points.device.type == "cpu" and is_installed("numba") else "torch"
    if not _why_no_triton_for_points(points, num_neighbors):
        from bixt3d.ops.triton.trial import points_pass

        if points_pass(points.device):
            return "triton"
    return "cluster" if cluster_on_cuda and is_installed("torch_cluster") else "torch"


def _why_no_package(backend: str, points: Tensor) -> str | None:
    """Return the reason why the package of a backend cannot process these points, or None."""
    if backend == "numba" and points.device.type != "cpu":
        return f"runs on CPU tensors only, these are on {points.device}"
    package = {"numba": "numba", "cluster": "torch_cluster"}.get(backend)
    if package is None or is_installed(package):
        return None
    how = "--no-build-isolation torch-cluster, which compiles it" if backend == "cluster" else "numba"
    return f"needs the package {package}: pip install {how}"


def choose_attention_backend(backend: str, latent_refs: Tensor, token_refs: Tensor) -> str:
    """Return the backend of bi_attention: ``torch``, ``sdpa``, ``chunked`` or ``triton``.

    Raises InputError if a requested backend is unknown or cannot run here.
    """
    if backend == "auto":
        return _fastest_attention(latent_refs, token_refs)
    if backend not in ("torch", "sdpa", "chunked", "triton"):
        raise InputError(f"unknown backend '{backend}': choose auto, torch, sdpa, chunked or triton")
    if backend == "chunked" and token_refs.device.type != "cpu":
        raise InputError(f"backend 'chunked' runs on CPU tensors only, these are on {token_refs.device}")
    if backend == "triton" and not torch.compiler.is_compiling() and (reason := _why_no_triton(token_refs)):
        raise InputError(f"backend 'triton' {reason}")
    return backend


def _fastest_attention(latent_refs: Tensor, token_refs: Tensor) -> str:
    """Return the fastest backend, as measured on CPUs with one and two threads.

    On CPUs the backward pass of SDPA is slow in bfloat16 and float16.
    """
    if torch.compiler.is_compiling() or torch.compiler.is_exporting() or torch.jit.is_tracing():
        return "sdpa"
    if token_refs.is_cuda and ATTENTION_ON_CUDA == "triton" and not _why_no_triton(token_refs):
        return "triton"
    if token_refs.device.type != "cpu":
        return "sdpa"
    trained = token_refs.dtype in (torch.bfloat16, torch.float16) and token_refs.requires_grad
    similarities = token_refs.shape[1] * latent_refs.shape[1] * latent_refs.shape[2]
    return "chunked" if trained or similarities >= MANY_SIMILARITIES else "sdpa"


def _why_no_triton(token_refs: Tensor) -> str | None:
    """Return the reason why the Triton kernels of attention cannot process these refs, or None."""
    if reason := _why_no_kernel(token_refs):
        return reason
    if token_refs.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return f"computes in float32, bfloat16 or float16, not in {str(token_refs.dtype).removeprefix('torch.')}"
    return f"has heads up to 128 wide, not {token_refs.shape[3]}" if token_refs.shape[3] > 128 else None


def _why_no_triton_for_points(points: Tensor, num_neighbors: int) -> str | None:
    """Return the reason why the Triton kernels cannot process these points, or None. Larger sizes are not tested."""
    if reason := _why_no_kernel(points):
        return reason
    if points.shape[2] > 8:
        return f"takes points with up to 8 axes, not {points.shape[2]}: use auto"
    return f"finds up to 64 neighbors, not {num_neighbors}: use auto" if num_neighbors > 64 else None


def _why_no_kernel(tensor: Tensor) -> str | None:
    """Return the reason why no Triton kernel can run on the device of this tensor, or None."""
    if not is_installed("triton"):
        return "needs the package triton, which comes with torch for CUDA on Linux: use auto"
    if not (tensor.is_cuda or os.environ.get("TRITON_INTERPRET", "0") == "1"):
        return f"runs on CUDA tensors, these are on {tensor.device}: use auto (TRITON_INTERPRET=1 is for tests)"
    return None
