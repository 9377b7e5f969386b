"""Errors, signals and exit codes of programs."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from bixt3d.errors import InputError, Stopped
from bixt3d.io.bounds import printable
from bixt3d.io.error_messages import is_out_of_memory
from bixt3d.io.extras import what_to_install
from bixt3d.io.offline import go_offline


def run_program(main: Callable[[], object]) -> None:
    """Run a program's main function; wrong input is one sentence and exit code 2, without a traceback.

    An integer that it returns is the exit code. A signal gives exit code 128 plus its number, and the message of
    `Stopped`. Every program takes ``--offline``.
    """
    if "--offline" in sys.argv:
        sys.argv.remove("--offline")
        go_offline()
    try:
        with _stopped_by_signals(os.getpid()):
            code = main()
            sys.stdout.flush()
    except (InputError, KeyboardInterrupt, ModuleNotFoundError, RuntimeError, MemoryError) as error:
        code, words = _ending(error)
        if code is None:
            raise
        if words:
            print(words, file=sys.stderr)
        sys.exit(code)
    except BrokenPipeError:  # the reader of the output has closed it, as in `bixt3d ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    if isinstance(code, int):
        sys.exit(code)


@contextmanager
def _stopped_by_signals(own: int) -> Iterator[None]:
    def stop(number: int, frame: Any) -> None:
        if os.getpid() != own:  # a worker process that reads data: end it by the default handler
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        raise Stopped(number)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ending(error: BaseException) -> tuple[int | None, str]:
    """Return exit code and message of a program that ends with this error; None for a bug (traceback)."""
    if isinstance(error, InputError):
        return 2, f"error: {printable(error)}"
    if isinstance(error, Stopped):
        return error.code, (str(error) or f"stopped by {signal.Signals(error.number).name}") if error.code else ""
    if isinstance(error, KeyboardInterrupt):
        return 130, "stopped"
    if isinstance(error, ModuleNotFoundError) and (words := what_to_install(error)):
        return 2, f"error: {words}"
    if is_out_of_memory(error):
        return 2, "error: out of memory: give smaller or fewer inputs, or use a larger machine"
    return None, ""
