"""Kernels in Triton. Imported only where a backend `triton` runs: nothing else in the package needs Triton."""
