"""Run Numba kernels, which release the GIL, in parallel threads."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import torch


def run_in_threads(function: Callable, *arguments: Iterable) -> list:
    """Return ``list(map(function, *arguments))``, computed in parallel; the function must release the GIL."""
    jobs = list(zip(*arguments, strict=True))
    threads = min(torch.get_num_threads(), len(jobs))
    if threads <= 1:
        return [function(*job) for job in jobs]
    with ThreadPoolExecutor(threads) as pool:
        shares = list(pool.map(lambda first: [function(*job) for job in jobs[first::threads]], range(threads)))
    return [shares[place % threads][place // threads] for place in range(len(jobs))]
