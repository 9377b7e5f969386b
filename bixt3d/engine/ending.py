"""How a run ends before its time: signals that stop it after a step, and errors of the first process."""

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator
from math import inf
from typing import Any, TypeVar

import torch

from bixt3d.engine.fabric import Fabric
from bixt3d.engine.sums import EpochSums, check_step
from bixt3d.engine.watch import LONGEST, watch_no_longer
from bixt3d.types import InputError, Stopped

T = TypeVar("T")
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))
"""Ctrl-C, a system that shuts down, and SLURM where a job's time runs out (``--signal=USR1@60``)."""


class Stop:
    """Notes a signal while a run trains, so that it ends after a step, in all processes after the same one.

    A second Ctrl-C ends the process at once.
    """

    def __init__(self, fabric: Fabric):
        self.number, self.handlers, self.group, self.waits = 0, {}, None, True
        self.process, self.speaks = os.getpid(), fabric.is_global_zero
        if fabric.world_size > 1:  # on the CPU: asking each other does not wait for a GPU
            self.group = torch.distributed.new_group(backend="gloo", timeout=LONGEST)

    def __enter__(self) -> "Stop":
        with contextlib.suppress(ValueError):  # outside the main thread there are no handlers
            self.handlers = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *error: Any) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: Any) -> None:
        if os.getpid() != self.process:  # one that reads data: it ends by SIGTERM, and leaves the rest to its parent
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
        """Raise Stopped if a signal came, to this process or another one; all processes ask at the same places.

        ``bad``: a step whose loss was not finite, or infinity. If any process knows one, all raise InputError.
        """
        number = self.number
        if self.group is not None:
            vote = torch.tensor([-number, bad], dtype=torch.float64)
            torch.distributed.all_reduce(vote, torch.distributed.ReduceOp.MIN, self.group)
            number, bad = -int(vote[0]), float(vote[1])
        check_step(bad)
        if number:
            watch_no_longer()  # all of them end here, each in its own time
            raise Stopped(number)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Let a signal end what is done here, where nothing can be lost; several processes end at the next check."""
        self.waits = self.group is not None
        try:
            yield
        finally:
            self.waits = True

    @contextlib.contextmanager
    def excusing(self) -> Iterator[None]:
        """Raise Stopped in place of an error that follows from a signal, which other processes got as well."""
        try:
            yield
        except RuntimeError:
            if self.number:
                raise Stopped(self.number) from None
            raise

    def watch(self, batches: Iterable[T], sums: EpochSums) -> Iterator[T]:
        """Yield batches; raise Stopped before the next one once a signal came, or InputError once a loss was bad."""
        for batch in batches:
            self.check(sums.known_bad)
            yield batch


def on_first(fabric: Fabric, act: Any) -> Any:
    """Let the first process act; all get what it returns, or its InputError, also for an error of the disk."""
    answer = None
    if fabric.is_global_zero:
        try:
            answer = act()
        except InputError as error:
            answer = error
        except OSError as error:
            answer = InputError(f"{error.filename or 'the run folder'} cannot be used: {error.strerror or error}")
    answer = fabric.broadcast(answer)
    if isinstance(answer, InputError):
        raise answer
    return answer
