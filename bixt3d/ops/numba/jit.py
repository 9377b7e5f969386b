"""How Numba compiles kernels, and the functions that they call."""

import numba

SETTINGS = {"nogil": True, "error_model": "numpy"}

helper = numba.njit(**SETTINGS)
"""Decorator for functions that kernels call. Not cached on disk: a cached function cannot be inlined."""


def kernel(function):
    """Decorator: compile a function at its first call and cache the code on disk, if a cache directory is writable."""
    try:
        return numba.njit(function, cache=True, **SETTINGS)
    except RuntimeError:  # neither the folder of this file nor the user's cache folder is writable
        return numba.njit(function, **SETTINGS)
