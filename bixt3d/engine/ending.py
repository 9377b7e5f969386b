"""End a run early: signals stop it after a step, and errors of the first process end all processes."""

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator
from math import inf
from typing import Any, TypeVar

import torch

from bixt3d.engine.fabric import Fabric
from bixt3d.engine.sums import EpochSums, check_step
from bixt3d.engine.watch import TIMEOUT, ends_all, watch_no_longer
from bixt3d.types import InputError, Stopped

T = TypeVar("T")
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))
"""Ctrl-C, the shutdown of a system, and SLURM when the time of a job runs out (``--signal=USR1@60``)."""


class Stop:
    """Catch signals while a run trains, so that all processes stop after the same step.

    A second Ctrl-C ends the process at once.

    Args:
        fabric: the processes of the run.
    """

    def __init__(self, fabric: Fabric):
        self.number, self.handlers, self.group, self.waits = 0, {}, None, True
        self.process, self.speaks = os.getpid(), fabric.is_global_zero
        if fabric.world_size > 1:  # gloo, on the CPU: this exchange does not synchronise with a GPU
            self.group = torch.distributed.new_group(backend="gloo", timeout=TIMEOUT)

    def __enter__(self) -> "Stop":
        with contextlib.suppress(ValueError):  # outside the main thread there are no handlers
            self.handlers = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *error: Any) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: Any) -> None:
        if os.getpid() != self.process:  # a data-loading worker ends by SIGTERM alone; its parent handles the rest
            if number == signal.SIGTERM:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        if not self.waits:
            raise Stopped(number)
        if number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
            if self.speaks:
                os.write(2, b"\nstopping after this step; Ctrl-C again ends at once\n")
        self.number = self.number or number

    def check(self, bad: float = inf) -> None:
        """Raise Stopped if this process or another one has got a signal; all processes must call this together.

        ``bad``: the first step whose loss was not finite, else infinity. If any process has one, all raise InputError.
        """
        number = self.number
        if self.group is not None:
            vote = torch.tensor([-number, bad], dtype=torch.float64)
            torch.distributed.all_reduce(vote, torch.distributed.ReduceOp.MIN, self.group)
            number, bad = -int(vote[0]), float(vote[1])
        check_step(bad)
        if number:
            watch_no_longer()  # all processes end here, not necessarily together
            raise Stopped(number)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Let a signal end the enclosed work at once, as nothing can be lost; several processes end at `check`."""
        self.waits = self.group is not None
        try:
            yield
        finally:
            self.waits = True

    @contextlib.contextmanager
    def errors_as_stopped(self) -> Iterator[None]:
        """Raise Stopped in place of a RuntimeError that is the effect of a signal to all processes."""
        try:
            yield
        except RuntimeError:
            if self.number:
                raise Stopped(self.number) from None
            raise

    def watch(self, batches: Iterable[T], sums: EpochSums) -> Iterator[T]:
        """Yield batches; before each, raise Stopped after a signal, or InputError after a loss that was not finite."""
        for batch in batches:
            self.check(sums.known_bad)
            yield batch


def on_rank_zero(fabric: Fabric, act: Any) -> Any:
    """Call ``act`` in the first process; all processes return its result, or raise its error as InputError."""
    result = None
    if fabric.is_global_zero:
        try:
            result = act()
        except InputError as error:
            result = error
        except OSError as error:
            result = InputError(f"{error.filename or 'the run folder'} cannot be used: {error.strerror or error}")
    result = fabric.broadcast(result)
    if isinstance(result, InputError):
        raise ends_all(result)
    return result
