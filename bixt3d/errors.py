"""Errors that are meant for users. This module imports nothing."""


class InputError(ValueError):
    """An input, a setting or a file is wrong. The message is one sentence that says what to do.

    The command line prints it without a traceback and exits with code 2.
    """


def check_tensors(**values: object) -> None:
    """Raise InputError for the first argument that is no torch tensor."""
    for name, value in values.items():
        if not hasattr(value, "requires_grad"):  # a tensor, also while it is traced; torch is not imported here
            arrays = hasattr(value, "__array__") or isinstance(value, (list, tuple))
            advice = f": give torch.as_tensor({name})" if arrays else ""
            raise InputError(f"{name} is a torch tensor, not of type {type(value).__name__}{advice}")


def check_whole(**values: object) -> None:
    """Raise InputError for the first argument that is no whole number."""
    for name, value in values.items():
        if value is None or isinstance(value, (bool, float, str, list, tuple, dict)):  # traced numbers are no int
            raise InputError(f"{name} is a whole number, not {value!r}")


def check_path(**values: object) -> None:
    """Raise InputError for the first argument that is no path."""
    for name, value in values.items():
        if not isinstance(value, str) and not hasattr(value, "__fspath__"):
            raise InputError(f"{name} is a path, not {value!r:.80}")


class Stopped(KeyboardInterrupt):
    """A signal stopped the program. The message, if any, says what has been saved and how to resume.

    ``code`` is the exit code: 128 plus the signal number. In a distributed run only the first process prints the
    message; the others exit with code 0 and print nothing.

    Args:
        number: signal number.
        message: what to print.
        code: exit code; None: 128 + ``number``.
    """

    def __init__(self, number: int, message: str = "", code: int | None = None):
        super().__init__(message)
        self.number, self.code = number, 128 + number if code is None else code
