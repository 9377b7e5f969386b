"""Run Numba kernels, which release the GIL, in parallel threads."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import torch


def run_in_threads(function: Callable, *arguments: Iterable) -> list:
    """Return ``list(map(function, *arguments))``, computed in parallel; the function must release the GIL.

    A thread that is done takes the next job: jobs may be of different sizes.
    """
    jobs = list(zip(*arguments, strict=True))
    threads = min(torch.get_num_threads(), len(jobs))
    if threads <= 1:
        return [function(*job) for job in jobs]
    results, places = [None] * len(jobs), iter(range(len(jobs)))

    def work() -> None:
        for place in places:  # one iterator for all threads
            results[place] = function(*jobs[place])

    with ThreadPoolExecutor(threads - 1) as pool:
        others = [pool.submit(work) for _ in range(threads - 1)]
        work()  # this thread takes its share
        for other in others:
            other.result()
    return results
