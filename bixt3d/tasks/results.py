"""What a run of any task leaves behind: its result, its curves, and a page that says both."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bixt3d.engine.checkpoint import write_json
from bixt3d.engine.loop import Examples
from bixt3d.tasks.scores import Score
from bixt3d.types import InputError


def write_plain_results(
    folder: Path,
    result: dict[str, Any],
    headline: Mapping[str, Score],
    test: Examples,
    unit: str,
    page: Mapping[str, Any],
) -> None:
    """Write result.json, curves.png and report.html; ``page`` holds title, rows, command and settings."""
    from bixt3d.io.writing import replace_file
    from bixt3d.viz.image_report import ImageReport, write_image_report
    from bixt3d.viz.plots import curves_png

    write_json(folder / "result.json", result)
    panels = ("loss", *(score.column for score in headline.values()))
    try:
        replace_file(folder / "curves.png", curves_png(page["rows"], panels))
        report = ImageReport(
            result=result,
            headline=[(name.replace("_", " "), f"{result[name]:{score.form}}") for name, score in headline.items()],
            table=((), ()),
            about=f"{result['task'].capitalize()}, tested on {len(test):,} {unit}",
            unit=unit,
            panels=panels,
            forms={name: score.form for name, score in headline.items()},
            **page,
        )
        write_image_report(folder / "report.html", report)
    except OSError as error:
        raise InputError(f"could not write the report in {folder}: {error.strerror}; result.json is there") from error
