"""Numba kernels for CPUs, imported only when one of them is called."""
