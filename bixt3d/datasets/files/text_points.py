"""The points of a text table: which of its columns are positions, colors, words."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Shaped

from bixt3d.datasets.files.column_names import are_meaningless, find_positions, is_index_name, without_unit
from bixt3d.datasets.files.columns import Points, check_first, each_once, named_columns, split_columns
from bixt3d.datasets.files.text_columns import MAX_WORDS, TextColumn
from bixt3d.datasets.files.text_head import Head
from bixt3d.datasets.files.text_layout import Layout
from bixt3d.io.bounds import counted, listed
from bixt3d.types import InputError

FIXED = {
    ".xyzn": {6: ("x", "y", "z", "nx", "ny", "nz")},
    ".xyzrgb": {6: ("x", "y", "z", "r", "g", "b")},
    ".pts": {4: ("x", "y", "z", "intensity"), 7: ("x", "y", "z", "intensity", "r", "g", "b")},
}
"""Columns without names, by file extension and number of columns."""


def position_places(head: Head, layout: Layout) -> tuple[int, ...]:
    """Return the columns of x, y and z."""
    names = head.names or ()
    if names and not are_meaningless(names):
        return find_positions(names) or ()
    first = 1 if names and is_index_name(names[0]) else 0
    return tuple(place for place in layout.numeric if place >= first)[:3]


def points_of(
    columns: Sequence[TextColumn], head: Head, layout: Layout, suffix: str, is_unicode: bool = True
) -> Points:
    """Return the points of a table; its columns have the names that the file, or else its extension, gives them.

    ``is_unicode``: the letters of its words are certain.
    """
    kept, notes = _kept(columns, head)
    names = _names(columns, head, suffix)
    first = position_places(head, layout)
    own = [(names[place] if names else "") or f"column{place + 1}" for place in kept]
    own = each_once([name if place in first else without_unit(name) for place, name in zip(kept, own, strict=True)])
    arrays, words = {}, {}
    for place, name in zip(kept, own, strict=True):
        column = columns[place]
        notes += [] if place in first else column.notes(name)
        if (colors := column.colors()) is not None:
            arrays["rgb" if name == f"column{place + 1}" else name] = colors
        elif place in first or not column.is_words():
            arrays[name] = column.numbers()[:, None]
        else:
            notes += _add_words(name, column, arrays, words, is_unicode)
    if names:
        if not head.names:
            notes += [f"its columns taken for {', '.join(names)}, as usual in {suffix}"]
            notes += check_first(np.concatenate(list(arrays.values()), axis=1))
        points = named_columns(arrays)
    else:
        points, guessed = _guessed(arrays, words, kept, first)
        notes += guessed
    low = {name: name.strip().lower() for name in words}
    words = {low[name] if low[name] in points.columns else name: its for name, its in words.items()}
    return points._replace(notes=tuple(notes), words=words, meters=head.meters or points.meters)


def _add_words(
    name: str,
    column: TextColumn,
    arrays: dict[str, Shaped[np.ndarray, "N _"]],
    words: dict[str, tuple[str, ...]],
    is_unicode: bool,
) -> list[str]:
    """Add a column of words as numbers, unless it has too many or uncertain ones; return a note."""
    codes, own = column.codes()
    if not is_unicode and not all(map(str.isascii, own)):
        return [f"{name} not read, whose words are not UTF-8: save the file as UTF-8"]
    if len(own) > MAX_WORDS:
        return [f"{name} not read, which has {len(own)} different words"]
    arrays[name], words[name] = codes[:, None], own
    return [f"words of {name} numbered from 0: {listed(own, 5)}"]


def _guessed(
    arrays: Mapping[str, Shaped[np.ndarray, "N _"]],
    words: Mapping[str, tuple[str, ...]],
    kept: Sequence[int],
    first: Sequence[int],
) -> tuple[Points, list[str]]:
    """Return the points of columns without names, and notes on what is guessed; see `split_columns`."""
    plain = {place: f"column{place + 1}" for place in kept}
    plain = {place: name for place, name in plain.items() if name in arrays and name not in words}
    order = [*first, *(place for place in plain if place not in first)]
    table = np.concatenate([arrays[plain[place]] for place in order], axis=1)
    others = {name: values for name, values in arrays.items() if name not in plain.values()}
    points = split_columns(table, others, order)
    notes = [f"columns {listed(place + 1 for place in first)} taken for x, y, z"] if first != (0, 1, 2) else []
    return points._replace(columns=points.columns | others), [*notes, *points.notes]


def _kept(columns: Sequence[TextColumn], head: Head) -> tuple[list[int], list[str]]:
    """Return the indices of the columns without empty ones and an index of the rows, and notes."""
    names = head.names or [""] * len(columns)
    kept = [place for place, name in enumerate(names) if name or not columns[place].is_empty()]
    if head.names is None:
        return kept, []
    if not is_index_name(names[0]) or 0 not in kept:
        return kept, []
    counts = columns[0].counts_rows() or (head.is_short and columns[0].is_words())
    if head.is_short and not counts:
        raise InputError(f"has {counted(len(names) - 1, 'name')} in its header, but {counted(len(names), 'column')}")
    return (kept[1:], ["its first column, which counts the rows, not read"]) if counts else (kept, [])


def _names(columns: Sequence[TextColumn], head: Head, suffix: str) -> list[str] | None:
    """Return the names of the columns; None if nothing says what they are."""
    if head.names is not None:
        return None if are_meaningless(head.names) else head.names
    names = FIXED.get(suffix, {}).get(len(columns))
    colors = [columns[place].numbers() for place, name in enumerate(names or ()) if name in ("r", "g", "b")]
    if suffix == ".pts" and not all((c == c.round()).all() and c.min() >= 0 and c.max() <= 255 for c in colors):
        return None
    return list(names) if names else None
