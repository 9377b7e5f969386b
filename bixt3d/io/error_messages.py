"""Errors of PyTorch, NumPy and the operating system as one-sentence messages."""

from collections.abc import Iterator
from contextlib import contextmanager

from bixt3d.errors import InputError


@contextmanager
def enough_memory(advice: str) -> Iterator[None]:
    """Turn an out-of-memory error of PyTorch or NumPy into an InputError with this advice."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(f"out of memory: {advice}") from error


def first_line(error: Exception) -> str:
    """Return the first line of an error message, or the name of its type if it is empty."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error of PyTorch or NumPy is an out-of-memory error."""
    words = ("can't allocate memory", "not enough memory", "out of memory", "Cannot allocate memory")
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(w in str(error) for w in words))
