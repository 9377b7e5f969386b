"""Numbers in the text of mesh files, whatever the editor or the language that wrote them."""

import codecs
import re
import warnings
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from bixt3d.io.bounds import printable, read_plain, shortened
from bixt3d.types import InputError

DECIMAL_COMMA = "decimal commas read as points"


def read_mesh_text(path: Path) -> bytes:
    """Return a text with lines that end with a line feed, without a byte order mark; UTF-16 becomes UTF-8."""
    return plain_text(read_plain(path))


def plain_text(raw: bytes) -> bytes:
    """Return a text with lines that end with a line feed, without a byte order mark; UTF-16 becomes UTF-8."""
    return without_mark(raw).replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def without_mark(raw: bytes) -> bytes:
    """Return a file without a byte order mark; a text in UTF-16 becomes UTF-8."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raw = raw.decode("utf-16", errors="replace").encode()
    return raw.removeprefix(codecs.BOM_UTF8)


def without_commas(text: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Return numbers with decimal points and blanks between, and a note if they had decimal commas."""
    text = re.sub(rb",(?=\s)", b" ", text) if b"," in text else text
    found = re.sub(rb"(?<=\d),(?=\d)", b".", text) if b"," in text else text
    return found, (DECIMAL_COMMA,) if found != text else ()


class Lines:
    """The lines of a text that are not blank, by their first word (its first 8 bytes).

    Attributes: ``keys``, the first words; ``sizes``, the number of words behind them; ``numbers``, the line numbers,
    from 1.
    """

    def __init__(self, text: bytes):
        self._bytes = np.frombuffer(text + b"\n", np.uint8).copy()
        is_blank, is_end = self._bytes <= 32, self._bytes == 10
        is_word = ~is_blank
        is_word[1:] &= is_blank[:-1]
        words = np.flatnonzero(is_word)
        line = np.cumsum(is_end, dtype=np.int32)[words]
        first = np.flatnonzero(np.diff(line, prepend=-1))
        self._begins, self._ends = words[first], np.flatnonzero(is_end)[line[first]]
        self.numbers, self.sizes = line[first] + 1, np.diff(first, append=len(words)) - 1
        place = self._begins[:, None] + np.arange(8)
        letters = self._bytes[np.minimum(place, len(self._bytes) - 1)]
        letters[np.maximum.accumulate(letters <= 32, axis=1)] = 0
        self.keys = letters.view("S8")[:, 0]

    def where(self, *keys: bytes) -> Int[np.ndarray, " L"]:
        """Return the indices of the lines that begin with one of these words."""
        return np.flatnonzero(np.isin(self.keys, keys))

    def text(self, index: Int[np.ndarray, " L"]) -> bytes:
        """Return what follows the first words of these lines."""
        change = np.zeros(len(self._bytes) + 1, np.int8)
        change[self._begins[index] + np.char.str_len(self.keys[index])] += 1
        change[self._ends[index] + 1] -= 1
        return self._bytes[np.cumsum(change[:-1], dtype=np.int8).astype(bool)].tobytes()

    def at(self, index: int | np.integer) -> str:
        """Return number and content of a line for a message."""
        content = self._bytes[self._begins[index] : self._ends[index]].tobytes()
        return f"line {self.numbers[index]} ({shown(content)!r})"


def numbers(text: bytes, count: int) -> Float[np.ndarray, " N"]:
    """Return the numbers of a text of ``count`` words. Raises InputError that shows a word that is no number."""
    found = _parsed(text, np.float64)
    if len(found) != count:
        text = re.sub(rb"(?<=[\d.])[dD](?=[-+]?\d)", b"e", text)  # exponents of Fortran
        text = re.sub(rb"(?i)(?<!\S)[-+]?(?:1\.#(?:qnan|ind|snan)\w*|nan\(\w*\))", b"nan", text)  # of Microsoft's C
        text = re.sub(rb"(?i)(?<!\S)([-+]?)1\.#inf\w*", rb"\1inf", text)
        found = _parsed(text, np.float64)
    if len(found) != count:
        raise InputError(f"has {_first_fault(text, np.float64)}, not a number")
    return found


def integers(text: bytes, count: int) -> Int[np.ndarray, " N"]:
    """Return the integers of a text of ``count`` words. Raises InputError that shows a word that is no integer."""
    found = _parsed(text, np.int64)
    if len(found) != count:
        raise InputError(f"has {_first_fault(text, np.int64)}, not an integer")
    return found


def _parsed(text: bytes, kind: type) -> np.ndarray:
    """Return the numbers of a text; none if one cannot be read. NumPy takes 1.5.2 for two numbers."""
    if not text or text.isspace():
        return np.zeros(0, kind)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # NumPy before 2.4 only warns of what is no number
        try:
            return np.fromstring(text, kind, sep=" ")
        except (ValueError, DeprecationWarning):
            return np.zeros(0, kind)


def _first_fault(text: bytes, kind: type) -> str:
    return next((repr(shown(word)) for word in text.split() if len(_parsed(word, kind)) != 1), "a word")


def shown(text: bytes) -> str:
    """Return a piece of a file for a message."""
    return printable(shortened(text.decode(errors="replace").strip(), 60))
