"""The one decision: which implementation of an operator runs, and the reason to refuse one asked for by name."""

from functools import cache
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor

from bixt3d.types import InputError

PointBackend = Literal["auto", "torch", "wheel", "cluster"]
AttentionBackend = Literal["auto", "torch", "sdpa"]


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
