"""Text files of points, as programs and instruments write them: one point in each line."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Float

from bixt3d.datasets.files.columns import MAX_COLUMNS, Points
from bixt3d.datasets.files.text_columns import TextColumn
from bixt3d.datasets.files.text_head import Head, check_grid, read_head, refuse_row
from bixt3d.datasets.files.text_layout import Layout, find_layout
from bixt3d.datasets.files.text_points import points_of, position_places
from bixt3d.io.bounds import counted, decode_words, read_plain
from bixt3d.types import InputError

LINE_LENGTH, BLOCK = 100_000, 50_000

NO_DATA = (-9999.0, -99999.0, -32768.0)
"""Heights that stand for a missing one, if no other is within 1000 of it."""


def read_text(path: Path) -> list[Points]:
    """Return the cloud of a text file: one point per line, separated by blanks, tabs, commas, semicolons or bars.

    A header gives the columns their names (``x y z``, ``Easting,Northing,Elevation``, ``Points:0``, ...); without one,
    positions come first. Points without a position have NaN. A column of words becomes numbers, see `Points`.
    """
    text, is_unicode = _decode(read_plain(path))
    notes = () if is_unicode else ("its text is not UTF-8: letters beyond ASCII may be wrong",)
    lines = text.split("\n")
    if max(map(len, lines)) > LINE_LENGTH:
        raise InputError(f"has a line of more than {LINE_LENGTH} characters: write one point in each line, x y z")
    check_grid(lines)
    layout = find_layout(lines)
    if layout.columns > MAX_COLUMNS:
        raise InputError(f"has {layout.columns} columns, but at most {MAX_COLUMNS} are read")
    head = read_head(lines, layout)
    columns, scans = _fast_columns(lines, head, layout), 1
    if columns is None:
        columns, scans = _columns(lines, head, layout)
    if head.names is None:
        _check_commas(lines[head.first : head.first + 1000], layout)
    points = points_of(columns, head, layout, path.suffix.lower(), is_unicode)
    xyz, found = _without_no_data(points.xyz)
    notes += head.notes + _layout_notes(layout, scans) + points.notes + found
    return [points._replace(xyz=xyz, notes=notes)]


def _check_commas(lines: Sequence[str], layout: Layout) -> None:
    """Raise InputError if the commas between integers may be decimal ones: ``3,05,2,10,7,25`` is 3.05 2.10 7.25."""
    if layout.separator != "," or layout.columns < 6 or layout.columns % 2:
        return
    for line in lines:
        cells = [cell.strip().lstrip("+-") for cell in line.split(",")]
        if all(map(str.isdecimal, cells)) and any(len(cell) > 1 and cell[0] == "0" for cell in cells[1::2]):
            raise InputError(f"may have decimal commas, as in '{line[:40]}': separate its columns by ; or tabs")


def _without_no_data(xyz: Float[np.ndarray, "N 3"]) -> tuple[Float[np.ndarray, "N 3"], tuple[str, ...]]:
    """Return positions with NaN for those that stand for a missing one, and a note on them."""
    notes = []
    for number in NO_DATA:
        for axis in range(3):
            mask = xyz[:, axis] == number
            if mask.any() and not (np.abs(xyz[~mask, axis] - number) < 1000).any():
                xyz = np.where(mask[:, None], np.nan, xyz)
                notes.append(f"{number:g} taken for a missing {'xyz'[axis]}")
    return xyz, tuple(notes)


def _layout_notes(layout: Layout, scans: int) -> tuple[str, ...]:
    notes = (f"{scans} scans put together",) if scans > 1 else ()
    if layout.thousands:
        notes += (f"{layout.decimal!r} read as decimal mark, and {layout.thousands!r} between thousands",)
    elif layout.decimal == ",":
        notes += ("commas read as decimal marks",)
    return notes


def _decode(raw: bytes) -> tuple[str, bool]:
    """Return the text, and whether its encoding is certain: numbers are the same in all."""
    try:
        text, is_unicode = decode_words(raw), True
    except UnicodeDecodeError:
        text, is_unicode = raw.decode("latin-1").replace("\r\n", "\n").replace("\r", "\n"), False
    text = text.rstrip("\x1a")  # DOS ended files with it
    if "\0" in text:
        raise InputError("is not text: write a point in each line, x y z")
    return text, is_unicode


def _fast_columns(lines: Sequence[str], head: Head, layout: Layout) -> list[TextColumn] | None:
    """Return the columns of a file of plain numbers, with or without comments; None if it has anything else."""
    if len(layout.numeric) < layout.columns or layout.thousands or '"' in lines[head.first]:
        return None
    for clean in (str, layout.without_comment):
        rows: Iterator[str] = map(clean, islice(iter(lines), head.first, None))
        if layout.decimal == ",":
            rows = (line.replace(",", ".") if "." not in line else "a point" for line in rows)
        try:
            table = np.loadtxt(rows, np.float64, delimiter=layout.separator, comments=None, ndmin=2)
        except ValueError:
            continue
        if table.shape[1] == layout.columns and (head.count is None or int(lines[head.count]) == len(table)):
            return [TextColumn(layout, [column]) for column in table.T]
    return None


def _columns(lines: Sequence[str], head: Head, layout: Layout) -> tuple[list[TextColumn], int]:
    """Return the columns of any other file, and its number of scans."""
    columns = [TextColumn(layout) for _ in range(layout.columns)]
    positions = position_places(head, layout)
    scans = [] if head.count is None else [(head.count, 0)]
    cells, places, size = [], [], 0
    for place in range(head.first, len(lines)):
        row = _row(lines, place, head, layout)
        if row is None:
            continue
        if len(row) == 1 and head.count is not None and row[0].isdecimal():
            scans.append((place, size))
            continue
        if len(row) != layout.columns:
            refuse_row(row, place, layout, head.first)
        cells.append(row)
        places.append(place)
        size += 1
        if len(cells) == BLOCK:
            _add(columns, cells, places, positions)
            cells, places = [], []
    _add(columns, cells, places, positions)
    _check_counts(lines, scans, size)
    return columns, max(1, len(scans))


def _row(lines: Sequence[str], place: int, head: Head, layout: Layout) -> list[str] | None:
    """Return the cells of a line, and None for a blank line, a comment, and a header that comes again."""
    line = layout.without_comment(lines[place])
    if not line or line.isspace():
        return None
    row = layout.split(line)
    while len(row) > layout.columns and not row[-1]:
        row.pop()
    return None if row == head.names else row


def _add(columns: Sequence[TextColumn], cells: list[list[str]], places: list[int], positions: Sequence[int]) -> None:
    for number, (column, own) in enumerate(zip(columns, zip(*cells, strict=True), strict=False)):
        column.add(own, places, number in positions)


def _check_counts(lines: Sequence[str], scans: Sequence[tuple[int, int]], size: int) -> None:
    ends = [start for _, start in scans[1:]] + [size]
    for (place, start), end in zip(scans, ends, strict=False):
        if int(lines[place]) != end - start:
            raise InputError(
                f"announces {int(lines[place])} points in line {place + 1}, but has {counted(end - start, 'line')} "
                "of them"
            )
