"""Triton kernels for GPUs, imported only when backend `triton` runs."""
