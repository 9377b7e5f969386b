"""The columns of a text table: numbers with gaps, words as codes, colors such as ``#ff8000``."""

from collections.abc import Mapping, Sequence
from math import isfinite, nan

import numpy as np
from jaxtyping import Float, UInt8

from bixt3d.datasets.files.precision import rounded_notes
from bixt3d.datasets.files.text_layout import Layout, is_color, is_junk
from bixt3d.io.bounds import counted, printable, shortened
from bixt3d.types import InputError

MAX_WORDS = 1000
"""Most different words of a column that is read; others, such as times, say nothing that a model can use."""


class TextColumn:
    """One column, filled block by block.

    Args:
        layout: how numbers are written.
        parts: the numbers, NaN for words and gaps.
    """

    def __init__(self, layout: Layout, parts: Sequence[Float[np.ndarray, " _"]] = ()):
        self.layout, self.parts = layout, list(parts)
        self.words: dict[int, str] = {}
        self.nones: dict[int, str] = {}
        """Words, and the word ``none`` (a gap among numbers, a word among words), by the number of their row."""
        self.size = sum(map(len, self.parts))

    def add(self, cells: Sequence[str], places: Sequence[int], is_position: bool) -> None:
        """Add cells. Raises InputError for one that is neither number nor word; ``places``: their lines, from 0."""
        try:
            if self.layout.decimal == "," or "_" in "".join(cells):
                raise ValueError
            numbers = np.array(list(map(float, cells)), np.float64)
        except ValueError:
            known = {cell: self.layout.number(cell) for cell in set(cells)}
            self._check(known, cells, places, is_position)
            numbers = np.array([nan if known[cell] is None else known[cell] for cell in cells], np.float64)
            for row in np.flatnonzero(np.isnan(numbers)).tolist():
                if known[cells[row]] is None:
                    self.words[self.size + row] = cells[row]
                elif cells[row].lower() == "none":
                    self.nones[self.size + row] = cells[row]
        self.parts.append(numbers)
        self.size += len(cells)

    def _check(
        self, known: Mapping[str, float | None], cells: Sequence[str], places: Sequence[int], is_position: bool
    ) -> None:
        wrong = {cell for cell, number in known.items() if number is None and (is_position or is_junk(cell))}
        for cell, place in zip(cells, places, strict=True) if wrong else ():
            if cell in wrong:
                raise InputError(f"has {shortened(cell)!r} in line {place + 1}, not a number")

    def numbers(self) -> Float[np.ndarray, " N"]:
        """Return the numbers, NaN for words and gaps."""
        return self.parts[0] if len(self.parts) == 1 else np.concatenate(self.parts)

    def is_empty(self) -> bool:
        """Return whether no cell has any content, as behind a separator at the end of each line."""
        return not self.words and not self.nones and bool(np.isnan(self.numbers()).all())

    def is_words(self) -> bool:
        """Return whether at least half of the cells with content are words."""
        return 2 * len(self.words) >= max(1, len(self.words) + int(np.isfinite(self.numbers()).sum()))

    def colors(self) -> UInt8[np.ndarray, "N 3"] | None:
        """Return the colors that all cells are, such as ``#ff8000``; None if they are anything else."""
        if len(self.words) < self.size or not all(map(is_color, self.words.values())):
            return None
        numbers = np.array([int(word[-6:], 16) for word in self.words.values()], np.uint32)
        return np.stack([numbers >> 16 & 255, numbers >> 8 & 255, numbers & 255], axis=1).astype(np.uint8)

    def codes(self) -> tuple[Float[np.ndarray, " N"], tuple[str, ...]]:
        """Return a number for each word, NaN for none, and the words in alphabetical order."""
        numbers = self.numbers()
        texts = {row: repr(one).removesuffix(".0") for row, one in enumerate(numbers.tolist()) if isfinite(one)}
        texts |= self.words | self.nones
        names = tuple(sorted(set(texts.values())))
        code = {name: place for place, name in enumerate(names)}
        found = np.full(self.size, np.nan)
        found[list(texts)] = [code[text] for text in texts.values()]
        return found, names

    def notes(self, name: str) -> list[str]:
        """Return notes on gaps, on words among numbers, and on rounded integers."""
        missing = self.size - int(np.isfinite(self.numbers()).sum()) - len(self.words)
        missing -= len(self.nones) if self.is_words() else 0
        notes = [f"{name} missing in {counted(missing, 'point')}"] if missing else []
        if self.words and not self.is_words():
            example = printable(shortened(next(iter(self.words.values())), 20))
            notes.append(f"{name} is no number in {counted(len(self.words), 'point')}, such as '{example}'")
        notes += rounded_notes({name: self.numbers()})
        return notes

    def counts_rows(self) -> bool:
        """Return whether the column numbers the rows, from 0 or 1."""
        numbers = self.numbers()
        return self.size > 1 and numbers[0] in (0, 1) and np.array_equal(numbers, numbers[0] + np.arange(self.size))
