"""How a text file writes its points: the separator of its columns, decimal and thousands marks, comments."""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import product
from math import nan

import numpy as np

from bixt3d.io.bounds import counted
from bixt3d.types import InputError

SEPARATORS = (";", "\t", "|", ",", None)
STYLES = ((".", ""), (",", ""), (".", "'"), (",", "."), (".", ","), (",", " "), (".", " "))
"""Decimal and thousands marks, the likely ones first."""

SAMPLE = 60
"""Lines that the layout is guessed from."""

MISSING = {"", "na", "n/a", "nan", "null", "none", "nil", "nodata"}
_ERROR = r"#(?:n/a|div/0!|null!|num!|ref!|value!|name\?)"
_MISSING = re.compile(rf"[-*?#]*|[+-]?1\.#(ind|inf|qnan|snan)\w*|{_ERROR}", re.IGNORECASE)
_MARK = rf"(#(?![0-9a-f]{{6}}\b)(?!{_ERROR[1:]})|//|!|%)"
_COMMENT = re.compile(rf"\s*({_MARK}|;(?=\s*[^\W\d]))", re.IGNORECASE)
_SUSPECT = re.compile(r"[#/!%;]")
_BEHIND = re.compile(rf"(?<=[\d.])[\s,;\"]+{_MARK}.*|(?<=[\d.])\s*;\s*(?=$|[^\W\d]).*", re.IGNORECASE)
_GLUED = re.compile(r"((?:^|[\s,;|])[-+]?\d(?:[\d.,]*\d)?(?:[ed][-+]?\d+)?)(#|//).*", re.IGNORECASE)
"""A comment right behind a number: ``3.5# edge``."""
_TIME = r"\d+(:\d+)+(\.\d+)?Z?"
_DATE = re.compile(rf"\d{{1,4}}([-/.])\d{{1,2}}\1\d{{1,4}}([ T]{_TIME})?|{_TIME}")
_COLOR = re.compile(r"(#|0x)[0-9a-fA-F]{6}")
_EXPONENT = r"(?:[eEdD][+-]?\d+)?"


class Layout:
    """The way in which a file writes its rows.

    Args:
        separator: character between columns; None: blanks.
        decimal: decimal mark.
        thousands: mark between groups of three digits; "": none.
    """

    def __init__(self, separator: str | None, decimal: str = ".", thousands: str = ""):
        self.separator, self.decimal, self.thousands = separator, decimal, thousands
        self.columns = self.num_rows = 0
        self.numeric: tuple[int, ...] = ()
        self.ends_empty = False
        """What `try_on` found: columns, rows, the columns of numbers, and whether each row ends with a separator."""

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        digits = r"(?:\d+\.?\d*|\.\d+)" if self.decimal == "." else r"(?:\d+(?:,\d+)?|,\d+)"
        if self.thousands:
            digits = rf"(?:\d{{1,3}}(?:{re.escape(self.thousands)}\d{{3}})+(?:{re.escape(self.decimal)}\d*)?|{digits})"
        return re.compile(rf"[+-]?(?:{digits}{_EXPONENT}|inf|infinity)", re.IGNORECASE)

    def number(self, cell: str) -> float | None:
        """Return the number in a cell, NaN if it is missing, and None if it is a word."""
        if cell.lower() in MISSING or _MISSING.fullmatch(cell):
            return nan
        cell = cell.translate(_SAME)
        if not self._pattern.fullmatch(cell):
            return None
        cell = cell.replace(self.thousands, "") if self.thousands else cell
        return float(cell.replace(",", ".").replace("D", "E").replace("d", "e"))

    def split(self, line: str) -> list[str]:
        """Return the cells of a line, without quotes and blanks around them."""
        if '"' not in line:
            if self.separator is None:
                return [cell for cell in re.split("[ \t]+", line) if cell] if _HARD.search(line) else line.split()
            return [cell.strip() for cell in line.split(self.separator)]
        line = line.strip() if self.separator else " ".join(line.split())
        (cells,) = csv.reader([line], delimiter=self.separator or " ", skipinitialspace=True)
        return [cell.strip() for cell in cells]

    def without_comment(self, line: str) -> str:
        """Return a line without the comment behind its numbers; a line of comment alone is empty."""
        if not _SUSPECT.search(line):
            return line.strip(" ,") if self.separator is None else line.strip(" ")
        if _COMMENT.match(line):
            return ""
        if '"' not in line:
            line = _GLUED.sub(r"\1", line)
            line = line if self.separator == ";" and ";" in line else _BEHIND.sub("", line)
        return line.strip(" ,") if self.separator is None else line.strip(" ")

    def is_row(self, cells: Sequence[str]) -> bool:
        """Return whether cells are a row of the table: at least three numbers, or numbers and gaps alone."""
        numbers = [self.number(cell) for cell in cells]
        found = sum(number is not None and number == number for number in numbers)
        return found >= min(3, self.columns) or (None not in numbers and (found > 0 or any(map(str.isalpha, cells))))

    def _score(self, cells: Sequence[str]) -> int:
        """Return 2 for a row of numbers, 1 for one with words, and 0 for what is no row of at least three numbers."""
        numbers = [self.number(cell) for cell in cells]
        if sum(number is not None and number == number for number in numbers) < 3:
            return 0
        words = [cell for cell, number in zip(cells, numbers, strict=True) if number is None]
        return 0 if any(map(is_junk, words)) else 2 - bool(words)

    def try_on(self, sample: Sequence[str]) -> int:
        """Return how well the layout explains these lines; sets ``columns`` and ``numeric``."""
        rows = [self.split(self.without_comment(line)) for line in sample]
        scores = [self._score(cells) for cells in rows]
        sizes = Counter(len(cells) for cells, score in zip(rows, scores, strict=True) if score)
        if not sizes:
            return 0
        self.columns = sizes.most_common(1)[0][0]
        fit = [
            (cells, score) for cells, score in zip(rows, scores, strict=True) if score and len(cells) == self.columns
        ]
        self.num_rows = len(fit)
        known = np.array([[self.number(cell) is not None for cell in cells] for cells, _ in fit])
        empty = np.array([[not cell for cell in cells] for cells, _ in fit]).all(axis=0)
        self.numeric = tuple(np.flatnonzero((known.mean(axis=0) > 0.5) & ~empty).tolist())
        self.ends_empty = bool(empty[-1])
        return sum(score for _, score in fit)


_HARD = re.compile("[\u00a0\u202f]")
"""Blanks that do not separate columns."""

_SAME = str.maketrans({"\u2212": "-", "\u2019": "'", "\u00a0": " ", "\u202f": " "})


def is_junk(word: str) -> bool:
    """Return whether a cell is neither number nor word, such as ``3,198 2``; dates and colors are words."""
    return not any(map(str.isalpha, word)) and not _DATE.fullmatch(word) and not _COLOR.fullmatch(word)


def is_color(word: str) -> bool:
    """Return whether a word is a color such as ``#ff8000`` or ``0xff8000``."""
    return _COLOR.fullmatch(word) is not None


def is_comment(line: str) -> bool:
    """Return whether a line is a comment, or blank."""
    return not line or line.isspace() or _COMMENT.match(line) is not None


def without_mark(line: str) -> str:
    """Return a line of comment without the marks before it."""
    return re.sub(r"^\s*(#|//|!|%|;(?=\s*[^\W\d]))+", "", line).strip()


def find_layout(lines: Sequence[str]) -> Layout:
    """Return the layout that explains most lines. Raises InputError if none does."""
    start = len(lines) // 2 if len(lines) > 2 * SAMPLE else 0  # what is no point comes first
    places = np.unique(np.linspace(start, len(lines) - 1, SAMPLE).astype(int))
    sample = [lines[place] for place in places if not is_comment(lines[place])]
    sample = sample or [line for line in lines if not is_comment(line)][-SAMPLE:]
    best, most = None, 0
    for layouts in _candidates(sample):
        for layout in layouts:
            score = layout.try_on(sample)
            if score > most:
                best, most = layout, score
            if most == 2 * len(sample):
                return layout
        if best is not None and best.num_rows > 0.8 * len(sample):
            return best
    if best is None:
        raise InputError(_no_points(sample))
    return best


def _candidates(sample: Sequence[str]) -> Iterator[list[Layout]]:
    """Yield the layouts to try, the likely ones first."""
    if any(re.search(r"\t.*\d \d{3}\b|\d \d{3}\b.*\t", line) for line in sample):
        yield [Layout("\t", decimal, " ") for decimal in ",."]
    for decimal, thousands in STYLES:
        separators = SEPARATORS if thousands != " " else SEPARATORS[:3]
        yield [Layout(separator, decimal, thousands) for separator in separators]


def _no_points(sample: Sequence[str]) -> str:
    """Return the sentence about a file without rows of three numbers."""
    for line, separator in product(sample, SEPARATORS):
        layout = Layout(separator)
        cells = layout.split(layout.without_comment(line))
        if len(cells) < 3 and cells and all(layout.number(cell) is not None for cell in cells) and any(cells):
            return f"has {counted(len(cells), 'column')}, but a point takes three: x, y, z"
    return "contains no points: write one in each line, x y z"
