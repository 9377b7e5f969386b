"""Limits for what comes from outside: plain files, memory in proportion to the file, names that can be printed."""

import os
import stat
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from bixt3d.errors import InputError

UNPACKED_RATIO = 20
UNPACKED_FLOOR = 64 << 20
"""What a file says that it holds may take this many bytes, and so many times the file's own on top of that."""

LIST_BYTES = 16 << 20
"""No list of files or classes is longer."""

NAME_LENGTH = 200
_BIDIRECTIONAL = {chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}


def open_plain(path: Path) -> BinaryIO:
    """Open a regular file. Raises InputError for anything else: a pipe would wait for ever, a device never end."""
    try:
        file = open(path, "rb", opener=without_waiting)  # noqa: SIM115 (the caller closes it)
    except FileNotFoundError as error:
        raise InputError(f"{printable(path)} is missing") from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{printable(shortened(str(path), 300))} cannot be read: {reason}") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise InputError(f"{printable(path)} is no file with content, but a pipe or a device")
    return file


def without_waiting(name: str, flags: int) -> int:
    """Open a file without blocking: if it is a named pipe, do not wait for its writer. For `open`, as its opener."""
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))


def read_plain(path: Path, limit: int | None = None) -> bytes:
    """Return the bytes of a regular file. Raises InputError if it is none, or larger than ``limit``."""
    with open_plain(path) as file:
        size = os.fstat(file.fileno()).st_size
        if limit is not None and size > limit:
            raise InputError(f"{printable(path)} has {size} bytes: a file of its kind has at most {limit}")
        return file.read()


def read_words(path: Path, limit: int | None = None) -> str:
    """Return a file of text in UTF-8, with or without its mark. Raises InputError for another encoding."""
    try:
        return read_plain(path, limit).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{printable(path)} is not text in UTF-8: save it as UTF-8") from error


def check_unpacked(needed: int, stored: int, what: str, floor: int = UNPACKED_FLOOR) -> None:
    """Raise InputError if ``what`` needs more bytes of memory than ``stored`` bytes of a file may stand for."""
    if needed > floor + UNPACKED_RATIO * stored:
        raise InputError(
            f"{what} {needed} bytes of memory, but only {stored} are stored: it is damaged or made to harm"
        )


def printable(text: object) -> str:
    """Return text that does nothing to a terminal: control characters as their codes."""
    return "".join(repr(one)[1:-1] if _controls(one) else one for one in str(text))


def shortened(text: str, length: int = 80) -> str:
    """Return at most so many characters of a text."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def counted(number: int, word: str) -> str:
    """Return ``1 point``, and ``2 points`` or ``0 points``."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def listed(names: Iterable[object], most: int = 10) -> str:
    """Return a list of names for a sentence, of which the first few are shown."""
    names = list(names)
    shown = ", ".join(printable(shortened(str(name))) for name in names[:most])
    return (shown + f" and {len(names) - most} more" if len(names) > most else shown) or "none"


def check_names(names: Sequence[str], source: object) -> None:
    """Raise InputError for a name that is empty, too long, or has characters in it that a terminal would obey."""
    for name in names:
        if not name.strip() or len(name) > NAME_LENGTH or any(map(_controls, name)):
            raise InputError(
                f"{printable(source)} has the name {printable(shortened(name))!r}: a name has 1 to {NAME_LENGTH} "
                "characters that can be printed"
            )


def _controls(one: str) -> bool:
    return unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp") or one in _BIDIRECTIONAL
