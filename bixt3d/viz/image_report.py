"""The report of a run on images, or of any other task: one self-contained HTML file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bixt3d.io.writing import replace_file
from bixt3d.viz.plots import Row, curves_png
from bixt3d.viz.report import _count, _duration, _embed, _percent

Cell = str | int | float | None
"""Cell of a table: text, a count, a share in 0..1 (a float; its column gets bars), or None: not measured."""


@dataclass(frozen=True)
class ImageReport:
    """The content of the page of an image classifier or segmenter.

    Args:
        title: the headline, for example the name of the run.
        command: the line that trains this model again.
        result: what result.json holds; as in `Report`.
        rows: the lines of metrics.csv.
        settings: the settings of the run as yaml.
        headline: the metrics that sum up the run, each with its value as text (``("top-1", "93.21 %")``).
        table: names of the columns, and a row for each class, which begins with its name; the page sorts them by the
            first column of shares, the lowest first.
        pictures: title, a sentence, and PNG of each picture.
        about: the line under the title, for example ``10 classes, tested on 10,000 images``.
        confusion: the confusion matrix as PNG, or None.
        remark: a sentence on how the metrics were measured.
        unit: name of the examples.
        panels: panels of the training curves, see `curves_png`.
        number_formats: Python formats of the values of ``best_on_test`` that are not shares.
    """

    title: str
    command: str
    result: Mapping[str, Any]
    rows: Sequence[Row]
    settings: str
    headline: Sequence[tuple[str, str]]
    table: tuple[Sequence[str], Sequence[Sequence[Cell]]]
    pictures: Sequence[tuple[str, str, bytes]] = ()
    about: str = ""
    confusion: bytes | None = None
    remark: str = ""
    unit: str = "images"
    panels: Sequence[str] = ("loss", "accuracy")
    number_formats: Mapping[str, str] = field(default_factory=dict)


def write_image_report(path: Path, report: ImageReport) -> None:
    """Write the page, whole or not at all. Raises OSError if the file cannot be written."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _score, "duration": _duration, "count": _count, "cell": _cell}
    columns = _columns(*report.table)
    shares = [place for place, column in enumerate(columns) if column["kind"] == "first share"]
    page = environment.get_template("image_report.html.j2").render(
        report=report,
        unit=report.unit,
        result={**report.result, **dict(report.headline)},
        headline={what: what for what, _ in report.headline},
        best=None,  # instead of the base page's: see best_words
        best_words=[
            _best(*entry, report.number_formats) for entry in (report.result.get("best_on_test") or {}).items()
        ],
        curves=[_embed(curves_png(report.rows, (panel,))) for panel in report.panels],
        columns=columns,
        lines=_worst_first(report.table[1], *shares),
        confusion=report.confusion and _embed(report.confusion),
        pictures=[(title, words, _embed(png)) for title, words, png in report.pictures],
    )
    replace_file(path, page.encode())


def _columns(names: Sequence[str], lines: Sequence[Sequence[Cell]]) -> Sequence[Mapping[str, str]]:
    """Return name and kind of every column: words, number, or first share: the one that gets bars."""
    kinds = []
    for place in range(len(names)):
        cells = [line[place] for line in lines if line[place] is not None]
        kind = "words" if not cells or any(isinstance(cell, str) for cell in cells) else "number"
        shares = cells and all(isinstance(cell, float) for cell in cells)
        kinds.append("first share" if shares and "first share" not in kinds else kind)
    return [{"name": name, "kind": kind} for name, kind in zip(names, kinds, strict=True)]


def _worst_first(lines: Sequence[Sequence[Cell]], place: int | None = None) -> Sequence[Sequence[Cell]]:
    """Sort rows by the share in a column, the lowest first, those without one last."""
    if place is None:
        return lines
    return sorted(lines, key=lambda line: (line[place] is None, line[place] or 0.0))


def _best(key: str, entry: Mapping[str, Any], number_formats: Mapping[str, str]) -> str:
    name = {"top1": "top-1", "top5": "top-5", "miou": "mIoU"}.get(key, key.replace("_", " "))
    value = f"{entry['value']:{number_formats[key]}}" if key in number_formats else _percent(entry["value"])
    return f"{name} {value} in epoch {entry['epoch']}"


def _score(value: str | float | int | None, digits: int = 1) -> str:
    """Return a headline value, which is text already, or a share as a percentage."""
    return value if isinstance(value, str) else _percent(value, digits)


def _cell(value: Cell) -> str:
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    return _percent(value) if isinstance(value, float) else f"{value:,}"
