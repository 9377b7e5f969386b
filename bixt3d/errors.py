"""The errors that a user can mend or has asked for; whoever imports them imports nothing else."""


class InputError(ValueError):
    """Something that the user gave is wrong; the message is one sentence that says what to do about it.

    The command line prints it without a traceback and ends with exit code 2.
    """


class Stopped(KeyboardInterrupt):
    """A signal ended the program; the message, if any, says what is safe and how to go on.

    ``code`` is the exit code: 128 plus the number of the signal. In a run of several processes only the first one says
    so; the others end with code 0 and print nothing.
    """

    def __init__(self, number: int, message: str = "", code: int | None = None):
        super().__init__(message)
        self.number, self.code = number, 128 + number if code is None else code
