"""The default report of a task: training curves, and a page with the result."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bixt3d.engine.loop import Examples
from bixt3d.tasks.scores import Score


def write_plain_report(
    folder: Path, headline: Mapping[str, Score], test: Examples, unit: str, page: Mapping[str, Any]
) -> None:
    """Write curves.png and report.html; ``page`` has title, result, rows, command and settings."""
    from bixt3d.io.writing import replace_file
    from bixt3d.viz.image_report import ImageReport, write_image_report
    from bixt3d.viz.plots import curves_png

    result, panels = page["result"], ("loss", *(score.column for score in headline.values()))
    replace_file(folder / "curves.png", curves_png(page["rows"], panels))
    report = ImageReport(
        headline=[
            (name.replace("_", " "), f"{result[name]:{score.number_format}}") for name, score in headline.items()
        ],
        table=((), ()),
        about=f"{result['task'].capitalize()}, tested on {len(test):,} {unit}",
        unit=unit,
        panels=panels,
        number_formats={name: score.number_format for name, score in headline.items()},
        **page,
    )
    write_image_report(folder / "report.html", report)
