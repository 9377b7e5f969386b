"""Errors of PyTorch, NumPy and the operating system, told in a sentence."""

from collections.abc import Iterator
from contextlib import contextmanager

from bixt3d.errors import InputError


@contextmanager
def enough_memory(advice: str) -> Iterator[None]:
    """Raise InputError with the advice in place of an error of PyTorch or NumPy about memory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(f"out of memory: {advice}") from error


def first_line(error: Exception) -> str:
    """Return the first line of what an error says, for a sentence."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error of PyTorch or NumPy means that memory was not enough."""
    words = ("can't allocate memory", "not enough memory", "out of memory", "Cannot allocate memory")
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(w in str(error) for w in words))
