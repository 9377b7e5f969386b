"""Run Numba kernels, which release the GIL, in parallel threads."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import torch


def run_in_threads(function: Callable, *arguments: Iterable) -> list:
    """Return ``list(map(function, *arguments))``, computed in parallel; the function must release the GIL."""
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
