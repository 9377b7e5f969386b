"""How the benchmarks measure: variants are checked against a reference, then take turns.

On a GPU an operator's time is that on the device: a large buffer is written before each call, which empties the cache
and hides the launch. Whole models and training steps are timed by the clock on the wall.
"""

import ctypes
import math
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, suppress
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from bench_case import Case, How, Row, Run, summarize
from torch import Tensor

from bixt3d.types import InputError

Timer = Callable[[int], float]
"""Makes so many calls of a variant and returns the mean time of one in ms."""


class CannotRunError(Exception):
    """A variant cannot run here, for this reason: its row says so."""


def not_run(reason: str) -> Run:
    """Return a variant that cannot run here."""

    def run() -> None:
        raise CannotRunError(reason)

    return run


REASONS = (InputError, ImportError, CannotRunError, torch.OutOfMemoryError)
"""What a variant may raise without being wrong: our operators refuse a backend with InputError."""


def compiled(function: Callable, how: How, mode: str | None = None) -> Callable:
    """Return what torch.compile makes of a function or module. Where that fails, calling it raises CannotRunError."""
    torch.compiler.reset()  # each case is compiled for its own sizes
    made = torch.compile(function, dynamic=False, mode=mode)

    def run(*inputs: Any) -> Any:
        if how.small:
            raise CannotRunError("--small leaves out what has to be compiled")
        try:
            return made(*inputs)
        except RuntimeError as error:  # no C++ compiler, for example
            raise CannotRunError(f"torch.compile failed: {first_line(error)}") from error

    return run


def how_on(device: torch.device, repeats: int, small: bool) -> How:
    """Return how to measure on a device; on a GPU its rates are measured first."""
    if device.type != "cuda":
        return How(device, repeats, small)
    size, side = (2**24, 1024) if small else (2**31, 8192)
    buffer, source = (torch.zeros(size, dtype=torch.uint8, device=device) for _ in range(2))
    square = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    how = How(device, repeats, small)
    copied = min(time_calls(lambda: buffer.copy_(source), 3, how, "device") for _ in range(5))
    multiplied = min(time_calls(lambda: square @ square, 3, how, "device") for _ in range(5))
    rates = {"copy_rate": 2e3 * size / copied, "matrix_rate": 2e3 * side**3 / multiplied}
    return How(device, repeats, small, buffer=buffer, **rates)


def measure(case: Case, how: How) -> list[Row]:
    """Return a row for each variant: checked, then timed in turns; or the reason why it did not run.

    Raises AssertionError if the result of a variant is wrong, unless ``how.keep_going``: then its row says so.
    """
    columns: dict[str, Row] = {}
    right: dict[str, Timer] = {}
    for name, run in case.variants.items():
        if how.skip and re.search(how.skip, name):
            columns[name] = {"note": "not run: left out by --skip"}
            continue
        try:
            _check(case, name, run())
            columns[name] = case.more(name) | _gpu_memory(run, how)
            right[name] = partial(time_calls, run, how=how, clock=case.clock)
        except REASONS as reason:
            columns[name] = {"note": f"not run: {first_line(reason)}"}
        except Exception as error:
            if not how.keep_going:
                raise
            columns[name] = {"note": f"FAILED: {type(error).__name__}: {first_line(error)}", "wrong": True}
    if case.apart is None or how.small:
        return summarize(case, _take_turns(right, how), columns, how)
    with ExitStack() as processes:
        timers = {name: _timer_apart(case.apart[name], how, case.clock, processes) for name in right}
        return summarize(case, _take_turns(timers, how), columns, how)


def _check(case: Case, name: str, result: Any) -> None:
    try:
        case.check(name, result)
    except AssertionError as error:
        raise AssertionError(f"{case.title}: '{name}' gives a wrong result: {error}") from error


def first_line(reason: Exception) -> str:
    """Return what an exception says, cut to what fits a table; a package that is missing is not installed."""
    if isinstance(reason, ModuleNotFoundError):
        return f"{reason.name} is not installed"
    line = (str(reason).strip().splitlines() or [type(reason).__name__])[0]
    return line if len(line) <= 160 else f"{line[:157]}..."


def assert_near(results: Any, references: Any, tolerance: float, mean: bool = False) -> None:
    """Raise AssertionError where a result is off by more than a share of the reference's largest entry, or of its mean.

    ``mean`` is for gradients that pass through a maximum: where two are equal but for rounding, another one gets it.
    """
    for result, reference in zip(results, references, strict=True):
        assert result.shape == reference.shape, f"shape {tuple(result.shape)} in place of {tuple(reference.shape)}"
        off = result.detach().to(reference.dtype) - reference
        worst = (off.norm() / reference.norm() if mean else off.abs().max() / reference.abs().max()).item()
        assert worst <= tolerance, f"off by {worst:.1e} of the reference, {tolerance:.0e} is allowed"


def _take_turns(timers: Mapping[str, Timer], how: How) -> dict[str, list[float]]:
    """Return the times of each variant in ms: a warm-up, then turn by turn; slow variants take fewer turns."""
    times: dict[str, list[float]] = {name: [] for name in timers}
    turns, calls = dict.fromkeys(timers, how.repeats), dict.fromkeys(timers, 1)
    for name, timer in {} if how.small else timers.items():
        warm = timer(1)
        calls[name] = max(1, min(20, int(300 / warm)))  # the first call of a turn finds caches and threads cold
        turns[name] = max(1, min(how.repeats, int(1e3 * how.seconds / warm)))
        if warm > 1e3 * how.seconds:  # its check was a warm-up
            times[name], turns[name] = [warm], 0
    for turn in range(how.repeats):
        for name, timer in timers.items():
            if turn < turns[name]:
                times[name].append(timer(calls[name]))
    return times


def _timer_apart(make: Callable[[], Run], how: How, clock: str, processes: ExitStack) -> Timer:
    """Return a timer of a variant that is made and called once in a fresh process, which waits from turn to turn."""
    pool = processes.enter_context(_fresh_process())
    pool.submit(_make_apart, make).result()
    return lambda calls: pool.submit(_time_apart, calls, how, clock).result()


_APART: list[Run] = []
"""In a process that is there for one variant: that variant."""


def _make_apart(make: Callable[[], Run]) -> None:
    torch.zeros(8).exp()  # as in `main`
    torch.manual_seed(0)
    _APART.append(make())
    _APART[0]()


def _time_apart(calls: int, how: How, clock: str) -> float:
    return time_calls(_APART[0], calls, how, clock)


def time_calls(run: Run, calls: int, how: How, clock: str) -> float:
    """Return the mean time of some calls in ms."""
    if not how.on_gpu or clock == "wall":
        began = _now(how)
        for _ in range(calls):
            run()
        return 1e3 * (_now(how) - began) / calls
    spans = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(calls)]
    for start, end in spans:
        how.buffer.zero_()
        start.record()
        run()
        end.record()
    torch.cuda.synchronize(how.device)
    return statistics.mean(start.elapsed_time(end) for start, end in spans)


def _now(how: How) -> float:
    if how.on_gpu:
        torch.cuda.synchronize(how.device)
    return time.perf_counter()


def _gpu_memory(run: Run, how: How) -> Row:
    return {"memory_mb": peak_memory(run, how)} if how.on_gpu else {}


def peak_memory(run: Run, how: How) -> float | None:
    """Return the most memory that a call takes, in MB, beyond what was there before and what it returns.

    On a CPU it is the process that is looked at: right in a fresh one only. None where the system does not say.
    """
    if not how.on_gpu:
        before = _process_memory("VmRSS", trim=True)
        result = run()
        return before and process_peak() - before - _size(result) / 1e6
    torch.cuda.synchronize(how.device)
    torch.cuda.reset_peak_memory_stats(how.device)
    before = torch.cuda.memory_allocated(how.device)
    result = run()
    torch.cuda.synchronize(how.device)
    return (torch.cuda.max_memory_allocated(how.device) - before - _size(result)) / 1e6


def process_peak() -> float | None:
    """Return the most memory in MB that this process ever had, or had since `peak_memory` was last called."""
    return _process_memory("VmHWM")


def _process_memory(what: str, trim: bool = False) -> float | None:
    if not sys.platform.startswith("linux"):
        return None
    if trim:  # let the peak begin anew
        _give_back_memory()
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 / 1e6 if found else None


def _give_back_memory() -> None:
    """Give freed memory, which the C library may have been told to keep, back to the system."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def free_memory() -> float:
    """Return how much memory a new process may take here, in MB; infinite where the system does not say."""
    _give_back_memory()
    path = Path("/proc/meminfo")
    found = re.search(r"MemAvailable:\s+(\d+) kB", path.read_text()) if path.is_file() else None
    return int(found[1]) * 1024 / 1e6 if found else math.inf


def _size(result: Any) -> int:
    """Return the bytes of a tensor, or of several."""
    if isinstance(result, Tensor):
        return result.nbytes
    return sum(map(_size, result)) if isinstance(result, (tuple, list)) else 0


def in_fresh_process(function: Callable, *arguments: Any) -> Any:
    """Return what a function returns in a new process. Raises CannotRunError if the system ends it."""
    try:
        with _fresh_process() as pool:
            return pool.submit(function, *arguments).result()
    except BrokenProcessPool as error:
        raise CannotRunError("the system ended the process, as it does when memory runs out") from error


def _fresh_process() -> ProcessPoolExecutor:
    """Return a new process, with as many threads for PyTorch as this one has."""
    setup = {"initializer": torch.set_num_threads, "initargs": (torch.get_num_threads(),)}
    return ProcessPoolExecutor(1, get_context("spawn"), **setup)
