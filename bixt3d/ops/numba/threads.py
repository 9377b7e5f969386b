"""Kernels that Numba compiles leave Python alone, so threads of Python run them side by side."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import torch


def in_threads(function: Callable, *arguments: Iterable) -> list:
    """Return what a function, one that needs nothing of Python, returns for each of its arguments."""
    jobs = list(zip(*arguments, strict=True))
    results = [None] * len(jobs)
    threads = min(torch.get_num_threads(), len(jobs))

    def work(first: int) -> None:
        for job in range(first, len(jobs), threads):
            results[job] = function(*jobs[job])

    if threads <= 1:
        work(0)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, range(threads)))
    return results
