"""What comes before the points of a text file: names of the columns, units, the number of points, remarks."""

import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import NamedTuple, NoReturn

from bixt3d.datasets.files.column_names import (
    are_meaningless,
    are_no_positions,
    find_positions,
    is_index_name,
    meters_of_units,
)
from bixt3d.datasets.files.text_layout import Layout, is_comment, without_mark
from bixt3d.io.bounds import counted, shortened
from bixt3d.types import InputError

HEAD = 100
"""Lines that the keys of a grid are looked for in."""

_GRID = re.compile(r"\b(ncols|nrows|cellsize|rows|cols|north)\b[ \t:=,]*[-+.\d]", re.IGNORECASE)


class Head(NamedTuple):
    """What comes before the points.

    Args:
        names: names of the columns, if there are any.
        first: index of the first line of points.
        count: index of the line with the number of points, if there is one, as in .pts.
        is_short: the header does not name the first column, which has a number or name of each row (R, pandas).
        notes, meters: as in `Cloud`.
    """

    names: list[str] | None
    first: int
    count: int | None = None
    is_short: bool = False
    notes: tuple[str, ...] = ()
    meters: tuple[float, float] | None = None


def check_grid(lines: Sequence[str]) -> None:
    """Raise InputError for a grid of heights, by the keys before its rows, in any order."""
    head = lines[:HEAD]
    plain = [line for line in head if not is_comment(line)]
    keys, sure = ({key.lower() for key in _GRID.findall("\n".join(some))} for some in (head, plain))
    esri = {"ncols", "nrows"} <= sure or {"ncols", "nrows", "cellsize"} <= keys
    if esri or {"rows", "cols", "north"} <= keys:
        kind = "ESRI ASCII" if esri else "GRASS ASCII"
        raise InputError(f"is a grid of heights ({kind}), not a list of points: export it as x y z")


def read_head(lines: Sequence[str], layout: Layout) -> Head:
    before: list[int] = []
    for place, line in enumerate(lines):
        cells = [] if is_comment(line) else layout.split(layout.without_comment(line))
        if len(cells) == layout.columns and layout.is_row(cells):
            break
        if line and not line.isspace():
            before.append(place)
    names = layout.split(lines[place])
    if _counts_columns(names, lines[place + 1 :], layout):
        if all(map(is_comment, lines[place + 1 :])):
            raise InputError("contains no points, but a header alone")
        return Head(names, place + 1)
    count = before.pop() if before and lines[before[-1]].strip().isdecimal() else None
    for one in before:
        cells = layout.split(layout.without_comment(lines[one]))
        if cells and not (len(cells) == 1 and cells[0].isdecimal()) and layout.is_row(cells) and "" not in cells:
            refuse_row(cells, one, layout, place)
    return _header(lines, before, layout, Head(None, place, count))


def _counts_columns(names: Sequence[str], after: Sequence[str], layout: Layout) -> bool:
    """Return whether the first row of numbers is 0, 1, 2, ...: the header of pandas for columns without names.

    Names such as ``label`` may follow, of columns that were added later.
    """
    is_indexed = is_index_name(names[0])
    added = [name for name in names[3 + is_indexed :] if not name.isdecimal()]
    if all(layout.number(name) is None for name in added):
        names = names[: len(names) - len(added)]
    counted_from = [str(place) for place in range(len(names))]
    if is_indexed and list(names[1:]) == counted_from[:-1] and len(names) > 3:
        return True
    some = [layout.split(line) for line in islice((one for one in after if not is_comment(one)), 100)]
    broken = any(not cell.isdecimal() for cells in some for cell in cells[:3])
    return list(names) == counted_from and len(some) > 1 and (len(names) > 4 or broken)


def _header(lines: Sequence[str], before: Sequence[int], layout: Layout, head: Head) -> Head:
    """Return the head with the names that one of the lines before the points has."""
    lately = list(before[-50:])
    split = {place: _names_in(lines[place], layout) for place in lately}
    for place in reversed(lately):
        names = split[place]
        if not names or (find_positions(names) is None and not are_meaningless(names)):
            continue
        if len(names) in (layout.columns, layout.columns - 1):
            units = [split[one] or [] for one in lately if one > place and len(split[one] or ()) == len(names)]
            return _named(names, units, layout, head)
        if not is_comment(lines[place]):
            raise InputError(
                f"names {counted(len(names), 'column')} in line {place + 1}, but has {layout.columns} in line "
                f"{head.first + 1}"
            )
    return _unnamed({lines[place].strip(): split[place] or [] for place in lately}, layout, head)


def _named(names: list[str], units: Sequence[Sequence[str]], layout: Layout, head: Head) -> Head:
    """Return the head with these names. Raises InputError if the lines below have different units for x, y and z."""
    for line in () if are_meaningless(names) else units:
        found = meters_of_units([line[place].lower() for place in find_positions(names) or ()])
        head = head._replace(meters=found or head.meters)
    short = [""] * (layout.columns - len(names))
    if layout.ends_empty:
        return head._replace(names=[*names, *short])
    return head._replace(names=[*short, *names], is_short=bool(short))


def _unnamed(words: Mapping[str, Sequence[str]], layout: Layout, head: Head) -> Head:
    """Return the head with a note on its last line that looks like a header. Raises InputError if it names others."""
    likely = [line for line, names in words.items() if not is_comment(line) or len(names) == layout.columns]
    if not likely:
        return head
    line, names = likely[-1], words[likely[-1]]
    has_axis = any(name.lower() in ("x", "y", "z") for name in names)
    is_wrong = not is_comment(line) and len(names) == layout.columns and (len(names) > 3 or has_axis)
    others = [one for one in likely if len(words[one]) == layout.columns and _names_others(one, words[one])]
    if is_wrong or others:
        shown = shortened(others[-1] if others else line)
        raise InputError(f"has no columns x, y, z in its header '{shown}': name them so")
    return head._replace(notes=(f"its header '{shortened(line)}' not used",))


def _names_others(line: str, names: Sequence[str]) -> bool:
    """Return whether a line names other quantities than x, y, z; words between blanks and comments may be no names."""
    least = len(names) if is_comment(line) else 1 if re.search(r"[,;\t|]", line) else 2
    return are_no_positions(names, least)


def _names_in(line: str, layout: Layout) -> list[str] | None:
    """Return the names in a line, which may have another separator than the points."""
    line = without_mark(line)
    blanks = re.sub(r"\s+(?=[\[(])", "", re.sub(r"[\[(][^\])]*[\])]", lambda found: "".join(found[0].split()), line))
    found: list[list[str]] = []
    for separator in (layout.separator, ",", ";", "\t", "|", None):
        names = Layout(separator).split(line if separator else blanks)
        while len(names) > layout.columns and not names[-1]:
            names.pop()
        found.append(names)
    own = [names for names in found if len(names) == layout.columns]
    own += [names for names in found if len(names) == layout.columns - 1]
    return (own or [names for names in found if len(names) > 1] or [None])[0]


def refuse_row(cells: Sequence[str], place: int, layout: Layout, first: int) -> NoReturn:
    """Raise InputError for a line with another number of columns than the first line of points."""
    raise InputError(
        f"has {counted(len(cells), 'column')} in line {place + 1}, but {layout.columns} in line {first + 1}"
    )
