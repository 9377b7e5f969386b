"""Errors that are meant for users. This module imports nothing."""


class InputError(ValueError):
    """An input, a setting or a file is wrong. The message is one sentence that says what to do.

    The command line prints it without a traceback and exits with code 2.
    """


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
