"""Limits for untrusted files: regular files only, memory in proportion to the file, printable names."""

import os
import stat
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from bixt3d.errors import InputError

UNPACKED_RATIO = 20
UNPACKED_FLOOR = 64 << 20
"""Unpacked content may take ``UNPACKED_FLOOR`` bytes plus ``UNPACKED_RATIO`` times the size of its file."""

LIST_BYTES = 16 << 20
"""Largest list of files or classes, in bytes."""

NAME_LENGTH = 200
"""Largest number of characters of the name of a class, part or file in a list."""

_MARKS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
"""Byte order marks; those of UTF-32 come first, because one begins as one of UTF-16."""

_ENCODINGS = {
    (False, True, False, True): "utf-16-le",
    (True, False, True, False): "utf-16-be",
    (False, True, True, True): "utf-32-le",
    (True, True, True, False): "utf-32-be",
}
"""Encodings by which of four bytes are mostly zero."""

_BIDIRECTIONAL = {chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}


def open_plain(path: Path) -> BinaryIO:
    """Open a regular file for reading. Raises InputError for anything else: pipes and devices may never end."""
    try:
        file = open(path, "rb", opener=without_waiting)  # noqa: SIM115 (the caller closes it)
    except FileNotFoundError as error:
        raise InputError(f"{printable(path)} is missing") from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{printable(shortened(str(path), 300))} cannot be read: {reason}") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise InputError(f"{printable(path)} is not a regular file, but a pipe or a device")
    return file


def without_waiting(name: str, flags: int) -> int:
    """Open a file without blocking on a named pipe: the ``opener`` for Python's `open`."""
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))


def read_plain(path: Path, limit: int | None = None) -> bytes:
    """Return the bytes of a regular file. Raises InputError for other files, and above ``limit`` bytes."""
    with open_plain(path) as file:
        size = os.fstat(file.fileno()).st_size
        if limit is not None and size > limit:
            raise InputError(f"{printable(path)} has {size} bytes: a file of its kind has at most {limit}")
        return file.read()


def read_words(path: Path, limit: int | None = None) -> str:
    """Return the text of a file in UTF-8, or in UTF-16 or UTF-32. Raises InputError for other encodings."""
    try:
        return decode_words(read_plain(path, limit))
    except UnicodeDecodeError as error:
        raise InputError(f"{printable(path)} is not text in UTF-8: save it as UTF-8") from error


def decode_words(raw: bytes) -> str:
    """Return text in UTF-8, UTF-16 or UTF-32, with or without a byte order mark, with lines that end in a line feed.

    Raises UnicodeDecodeError for any other encoding: which one it is (Latin-1, GBK, ...) cannot be known for sure.
    """
    encoding = next((name for mark, name in _MARKS.items() if raw.startswith(mark)), None) or _encoding_of_zeros(raw)
    text = raw.decode(encoding).removeprefix("\ufeff")
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _encoding_of_zeros(raw: bytes) -> str:
    """Return the encoding that the zero bytes of ASCII characters show: 1 of 2 bytes in UTF-16, 3 of 4 in UTF-32."""
    head = raw[: min(len(raw), 4096) // 4 * 4]
    zeros = tuple(2 * head[place::4].count(0) > len(head) // 4 for place in range(4))
    return _ENCODINGS.get(zeros, "utf-8")


def check_unpacked(needed: int, stored: int, what: str, floor: int = UNPACKED_FLOOR) -> None:
    """Raise InputError if ``needed`` bytes of memory are more than ``stored`` bytes of a file justify.

    ``what`` begins the message, such as ``"x.npz has arrays that need"``.
    """
    if needed > floor + UNPACKED_RATIO * stored:
        raise InputError(
            f"{what} {needed} bytes of memory, but only {stored} are stored: it is damaged or made to harm"
        )


def printable(text: object) -> str:
    """Return text that is safe to print on a terminal: control characters are escaped."""
    return "".join(repr(one)[1:-1] if _is_control(one) else one for one in str(text))


def shortened(text: str, length: int = 80) -> str:
    """Return at most ``length`` characters of a text, with "..." if it is cut."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def counted(number: int, word: str) -> str:
    """Return ``1 point``, and ``2 points`` or ``0 points``."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def listed(names: Iterable[object], most: int = 10) -> str:
    """Return names joined by commas, the first ``most`` of them, for a message.

    Names are cut off after 80 characters; of paths the last 500 are kept, as they end with the name of the file.
    """
    names = list(names)
    texts = [end_of(str(name), 500) if isinstance(name, Path) else shortened(str(name)) for name in names[:most]]
    shown = ", ".join(map(printable, texts))
    return (shown + f" and {len(names) - most} more" if len(names) > most else shown) or "none"


def end_of(text: str, length: int) -> str:
    """Return at most the last ``length`` characters of a text, with "..." before them if it is cut."""
    return text if len(text) <= length else f"...{text[3 - length :]}"


def check_names(names: Sequence[str], source: object) -> None:
    """Raise InputError for a name that is empty, too long, or contains control characters."""
    for name in names:
        if not name.strip() or len(name) > NAME_LENGTH or any(map(_is_control, name)):
            raise InputError(
                f"{printable(source)} has the name {printable(shortened(name))!r}: a name has 1 to {NAME_LENGTH} "
                "characters that can be printed"
            )


def _is_control(one: str) -> bool:
    return unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp") or one in _BIDIRECTIONAL
