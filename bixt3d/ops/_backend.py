"""The one decision: which implementation of an operator runs, and the reason to refuse one asked for by name."""

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
"""What `auto` takes on a GPU. To be "triton" once its kernels have run on one: so far only Triton's interpreter ran
them, and its compiler translated them for a Hopper GPU."""


MANY_SIMILARITIES = 190_000
"""From how many similarities of a cloud (tokens x latents x heads) `auto` goes through its tokens in chunks on a CPU:
with fewer, two SDPA calls are faster."""


@cache
def is_installed(package: str) -> bool:
    """Say whether a package can be imported, without importing it."""
    return find_spec(package) is not None


def is_traced(values: Tensor) -> bool:
    """Say whether torch.export or a counter of costs looks on, which want plain operations."""
    return torch.compiler.is_exporting() or torch.jit.is_tracing() or values.is_meta


def dtype_of_products(values: Tensor) -> torch.dtype:
    """Return the dtype that a matrix product of these values has here: under autocast, autocast's."""
    device = values.device.type
    is_cast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if is_cast and values.dtype != torch.float64 else values.dtype


def without_autocast(values: Tensor) -> AbstractContextManager:
    """Return a context in which products of these values keep their dtype: where small differences will be taken.

    In bfloat16 a coordinate near 1 can be 0.996 or 1, and nothing between.
    """
    if dtype_of_products(values) == values.dtype:
        return nullcontext()
    return torch.autocast(values.device.type, enabled=False)


def choose_point_backend(backend: PointBackend, points: Tensor, cluster_on_cuda: bool, num_neighbors: int = 1) -> str:
    """Return the backend that runs: one of PointBackend but ``auto``, or ``export``.

    ``auto`` takes Numba on a CPU, and on a GPU Triton's kernels if they pass a trial there (see ops/triton/trial.py);
    while torch.export looks on, the form made for it, which nobody can ask for by name.
    Raises InputError if a backend asked for by name cannot run here.
    """
    if backend == "auto":
        return _fastest_for_points(points, cluster_on_cuda, num_neighbors)
    return _unless_it_cannot(backend, points, partial(_why_no_triton_for_points, points, num_neighbors))


def choose_neighborhood_backend(backend: PointBackend, values: Tensor) -> str:
    """Return the backend of neighbor_max or neighbor_moments that runs: ``torch``, ``numba`` or ``triton``.

    ``cluster`` is ``auto``: torch-cluster has no such operator.
    Raises InputError if a backend asked for by name cannot run here.
    """
    if backend not in ("auto", "cluster"):
        return _unless_it_cannot(backend, values, partial(_why_no_kernel, values))
    exact = values.dtype in (torch.float32, torch.float64)
    return "numba" if values.device.type == "cpu" and exact and is_installed("numba") else "torch"


def _unless_it_cannot(backend: str, points: Tensor, why_no_triton: Callable[[], str | None]) -> str:
    """Return a backend of points asked for by name. Raises InputError if it is unknown or cannot run here."""
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
    """Return why the package that a backend calls cannot take these points, or None."""
    if backend == "numba" and points.device.type != "cpu":
        return f"runs on CPU tensors only, these are on {points.device}"
    package = {"numba": "numba", "cluster": "torch_cluster"}.get(backend)
    if package is None or is_installed(package):
        return None
    how = "--no-build-isolation torch-cluster, which compiles it" if backend == "cluster" else "numba"
    return f"needs the package {package}: pip install {how}"


def choose_attention_backend(backend: str, latent_refs: Tensor, token_refs: Tensor) -> str:
    """Return the backend of bi_attention that runs: ``torch``, ``sdpa``, ``chunked`` or ``triton``.

    Raises InputError if a backend asked for by name is unknown or cannot run here.
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
    """Return what was the fastest where it was measured: on CPUs with one and two threads.

    In bfloat16 and float16 the backward pass of SDPA is slow on CPUs.
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
    """Return why Triton's kernels of attention cannot take these refs, or None."""
    if reason := _why_no_kernel(token_refs):
        return reason
    if token_refs.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return f"computes in float32, bfloat16 or float16, not in {str(token_refs.dtype).removeprefix('torch.')}"
    return f"has heads up to 128 wide, not {token_refs.shape[3]}" if token_refs.shape[3] > 128 else None


def _why_no_triton_for_points(points: Tensor, num_neighbors: int) -> str | None:
    """Return why Triton's kernels cannot choose among these points, or None. Nobody has tried them with more."""
    if reason := _why_no_kernel(points):
        return reason
    if points.shape[2] > 8:
        return f"takes points with up to 8 axes, not {points.shape[2]}: use auto"
    return f"finds up to 64 neighbors, not {num_neighbors}: use auto" if num_neighbors > 64 else None


def _why_no_kernel(tensor: Tensor) -> str | None:
    """Return why no kernel of Triton can run where this tensor is, or None."""
    if not is_installed("triton"):
        return "needs the package triton, which comes with torch for CUDA on Linux: use auto"
    if not (tensor.is_cuda or os.environ.get("TRITON_INTERPRET", "0") == "1"):
        return f"runs on CUDA tensors, these are on {tensor.device}: use auto (TRITON_INTERPRET=1 is for tests)"
    return None
