"""The report of a run on clouds: one self-contained HTML file."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from bixt3d.io.writing import replace_file
from bixt3d.viz.clouds import SIDE, clouds_png
from bixt3d.viz.picture import DPI
from bixt3d.viz.plots import Row, confusion_png, curves_png


@dataclass(frozen=True)
class PredictedCloud:
    """A test cloud with its prediction; ``confidence`` is in 0..1, ``index`` is that in the test set."""

    xyz: Float[np.ndarray, "N 3"]
    truth: str
    predicted: str
    confidence: float
    index: int


@dataclass(frozen=True)
class Report:
    """The content of the page of any run.

    Args:
        title: the headline, for example the name of the run.
        command: the line that trains this model again.
        result: the content of result.json: the headline metrics, in 0..1; ``best_on_test`` with
            ``{"value": 0..1, "epoch": int}`` under the same names; ``epochs``, ``seconds``, ``clouds_per_second``,
            ``parameters``, ``device``, ``seed``, ``version``, ``commit``. Absent entries are shown as not recorded.
        rows: the rows of metrics.csv.
        settings: the settings of the run as yaml.
        up: the axis of the clouds that points up.
    """

    title: str
    command: str
    result: Mapping[str, Any]
    rows: Sequence[Row]
    settings: str
    up: Literal["y", "z"]


@dataclass(frozen=True)
class ClassificationReport(Report):
    """The content of the page of a cloud classifier, beyond `Report`.

    Args:
        confusion: confusion matrix of the test set: rows are true classes, columns predicted ones.
        class_names: names of the classes in the order of ``confusion``.
        mistakes: wrong predictions to show as pictures; the page puts the most confident first.
        samples: correct predictions to show, in this order.
        corruptions: plot of the accuracy on corrupted clouds as PNG, or None.
        reliability: reliability diagram as PNG, or None.
    """

    confusion: Int[np.ndarray, "C C"]
    class_names: Sequence[str]
    mistakes: Sequence[PredictedCloud]
    samples: Sequence[PredictedCloud]
    corruptions: bytes | None = None
    reliability: bytes | None = None


@dataclass(frozen=True)
class PartReport(Report):
    """The content of the page of a part segmenter, beyond `Report`.

    Args:
        num_clouds: number of clouds of the test set.
        pictures: title, a sentence, and PNG of each picture.
    """

    num_clouds: int
    pictures: Sequence[tuple[str, str, bytes]]


def write_class_report(path: Path, report: ClassificationReport) -> None:
    """Write the page of a classifier, whole or not at all. Raises OSError if the file cannot be written."""
    mistakes = sorted(report.mistakes, key=lambda cloud: -cloud.confidence)
    _write(
        path,
        "class_report.html.j2",
        report,
        headline={"overall_accuracy": "overall accuracy", "mean_accuracy": "mean class accuracy"},
        classes=_classes(report.confusion, report.class_names),
        num_clouds=int(report.confusion.sum()),
        num_mistakes=int(report.confusion.sum() - np.trace(report.confusion)),
        confusion=_embed(confusion_png(report.confusion, report.class_names)),
        corruptions=report.corruptions and _embed(report.corruptions),
        reliability=report.reliability and _embed(report.reliability),
        mistakes=[(cloud, _picture(cloud, report.up)) for cloud in mistakes],
        samples=[(cloud, _picture(cloud, report.up)) for cloud in report.samples],
    )


def write_part_report(path: Path, report: PartReport) -> None:
    """Write the page of a part segmenter, whole or not at all. Raises OSError if the file cannot be written."""
    _write(
        path,
        "part_report.html.j2",
        report,
        headline={"instance_miou": "instance mIoU", "class_miou": "class mIoU"},
        categories=sorted(report.result.get("per_category", {}).items(), key=lambda line: line[1]),
        per_part=report.result.get("per_part", {}),
        pictures=[(title, words, _embed(png)) for title, words, png in report.pictures],
    )


def _write(path: Path, template: str, report: Report, **more: Any) -> None:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "duration": _duration, "count": _count}
    page = environment.get_template(template).render(
        report=report,
        result=report.result,
        best=report.result.get("best_on_test") or {},
        curves=[_embed(curves_png(report.rows, (panel,))) for panel in ("loss", "accuracy")],
        **more,
    )
    replace_file(path, page.encode())


def _classes(confusion: Int[np.ndarray, "C C"], names: Sequence[str]) -> Sequence[Mapping[str, Any]]:
    """Return a row of the table for every class, the lowest accuracy first, classes without test clouds last."""
    classes = []
    for place, name in enumerate(names):
        total, right = int(confusion[place].sum()), int(confusion[place, place])
        wrong = confusion[place].copy()
        wrong[place] = 0
        other = int(wrong.argmax())
        classes.append(
            {
                "name": name,
                "total": total,
                "accuracy": right / total if total else None,
                "mistaken_for": names[other] if wrong[other] else None,
                "mistaken_count": int(wrong[other]),
            }
        )
    return sorted(classes, key=lambda line: (line["accuracy"] is None, line["accuracy"], -line["total"]))


def _picture(cloud: PredictedCloud, up: Literal["y", "z"]) -> Mapping[str, Any]:
    return _embed(clouds_png(cloud.xyz[None], titles=[""], up=up, width=SIDE))


def _embed(png: bytes) -> Mapping[str, Any]:
    """Return source and width of an img element, with a width in pixels at which its text is readable."""
    dots = int.from_bytes(png[16:20], "big")
    return {"src": "data:image/png;base64," + base64.b64encode(png).decode(), "width": round(88 * dots / DPI)}


def _percent(share: float | int | None, digits: int = 1) -> str:
    return "not measured" if share is None else f"{100 * share:.{digits}f} %"


def _duration(seconds: float | int | None) -> str:
    if seconds is None:
        return "not recorded"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"


def _count(number: float | int | None) -> str:
    """Return 12,345 below a hundred thousand, 1.23 M from there on."""
    if number is None:
        return "not recorded"
    return f"{number / 1e6:.2f} M" if number >= 1e5 else f"{number:,.0f}"
