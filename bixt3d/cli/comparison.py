"""A table of runs of one task, and a plot of their scores by epoch."""

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bixt3d.cli.runs import RunFolder, duration
from bixt3d.errors import InputError
from bixt3d.io.bounds import listed, printable, shortened

Row = dict[str, Any]
"""A row of the table by column; None: not known yet."""


def check_one_task(runs: Sequence[RunFolder]) -> None:
    """Raise InputError for runs of different tasks, or of an unknown task."""
    tasks = {run.task: run.folder for run in runs}
    if len(tasks) > 1:
        those = ", ".join(f"{folder} does {task}" for task, folder in tasks.items())
        raise InputError(f"runs of one task can be compared, but {those}")
    if not runs[0].headline:
        raise InputError(
            f"{runs[0].folder} is of the task '{runs[0].task}', which is not bixt3d's: its scores are not known"
        )


def row_of(run: RunFolder) -> Row:
    """Return the row of a run; of several seeds, means over them."""
    own = run.runs_of_seeds() or [run]
    row: Row = {
        "run": str(run.folder),
        "model": str((own[0].settings.get("model") or {}).get("class_path", "?")).rpartition(".")[2],
        "parameters": own[0].result.get("parameters"),
        "epochs": min(one.epochs for one in own),
        "state": run.state,
    }
    for name in run.headline:
        values = [value for one in own if (value := one.score(name)) is not None]
        row[name] = statistics.mean(values) if values else None
        row[f"{name}_deviation"] = statistics.stdev(values) if len(values) > 1 else None
    first = next(iter(run.headline))
    best = [
        one.result["best_on_test"][first]["value"] for one in own if first in (one.result.get("best_on_test") or ())
    ]
    row[f"best_{first}"] = statistics.mean(best) if len(best) == len(own) else None
    for key in ("seconds", *{key for one in own for key in one.result if key.endswith("_per_second")}):
        values = [one.result[key] for one in own if key in one.result]
        row[key] = statistics.mean(values) if len(values) == len(own) else None
    row["seeds"] = " ".join(str(one.settings.get("seed", "?")) for one in own)
    row["commit"] = " ".join(dict.fromkeys(one.result.get("commit") or "?" for one in own))
    return row


def markdown(runs: Sequence[RunFolder], rows: Sequence[Row]) -> str:
    """Return the table in Markdown."""
    headline, first = runs[0].headline, next(iter(runs[0].headline))
    speed = next((key for row in rows for key in row if key.endswith("_per_second")), None)
    unit = speed.removesuffix("_per_second") + "/s" if speed else "speed"
    scores = [name.replace("_", " ") for name in headline]
    lines = [["run", "model", "parameters", "epochs", *scores, "best on test*", "time", unit, "seed", "commit"]]
    for run, row in zip(runs, rows, strict=True):
        number_format = headline[first].number_format
        scored = "" if run.finished or run.seeds else f" (epoch {run.scored_epoch})"
        words = [score_words(row, name, score.number_format) for name, score in headline.items()]
        values = [word + scored * (word != "-") for word in words]
        best = row[f"best_{first}"]
        lines.append(
            [
                row["run"],
                row["model"],
                f"{row['parameters']:,}" if row["parameters"] else "-",
                str(row["epochs"]) if run.finished else f"{row['epochs']} of {run.planned}, unfinished",
                *values,
                f"{best:{number_format}}" if best is not None else "-",
                duration(row["seconds"]),
                f"{row[speed]:,.0f}" if speed and row.get(speed) else "-",
                row["seeds"],
                row["commit"],
            ]
        )
    shown = [[printable(shortened(word, 200)).replace("|", "\\|") for word in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    shown.insert(1, ["-" * width for width in widths])
    return "\n".join(
        f"| {' | '.join(word.ljust(width) for word, width in zip(line, widths, strict=True))} |" for line in shown
    )


def score_words(row: Mapping[str, Any], name: str, number_format: str) -> str:
    """Return a score as text, with its standard deviation over the seeds."""
    value, deviation = row[name], row[f"{name}_deviation"]
    if value is None:
        return "-"
    return f"{value:{number_format}}" + (f" +- {deviation:{number_format}}" if deviation is not None else "")


def notes_on(runs: Sequence[RunFolder]) -> list[str]:
    """Return the notes below the table."""
    name = next(iter(runs[0].headline)).replace("_", " ")
    lines = [
        "",
        f"Scores: last epoch, test set. *: {name} of the best epoch on the test set, which is too optimistic.",
    ]
    own = [(run.runs_of_seeds() or [run])[0].settings.get("data") for run in runs]
    different = [run.folder for run, data in zip(runs, own, strict=True) if data != own[0]]
    if different:
        lines.append(f"Other settings of data than {runs[0].folder}: {listed(different)}; compare with care.")
    if unfinished := [run.folder for run in runs if not run.finished]:
        lines.append(f"Unfinished, scores of the last evaluated epoch: {listed(unfinished)}.")
    return lines


def curve(run: RunFolder, column: str) -> list[tuple[float, float]]:
    """Return epochs and values of a column of metrics.csv; of several seeds the mean, where all have one."""
    own = [{row["epoch"]: row[column] for row in one.rows if column in row} for one in run.runs_of_seeds() or [run]]
    return [(epoch, statistics.mean(one[epoch] for one in own)) for epoch in own[0] if all(epoch in one for one in own)]


def write(out: Path, runs: Sequence[RunFolder], rows: Sequence[Row], text: str) -> None:
    """Write table.md, table.csv and, if an epoch was evaluated, curves.png. Raises InputError on failure."""
    from bixt3d.io.writing import write_whole
    from bixt3d.viz.plots import comparison_png

    names = list(dict.fromkeys(name for row in rows for name in row))
    content = io.StringIO()
    writer = csv.DictWriter(content, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    score = next(iter(runs[0].headline.values()))
    short = [run.folder.name for run in runs]
    titles = short if len(set(short)) == len(short) else [str(run.folder) for run in runs]
    titles = [printable(shortened(title, 40)) for title in titles]
    curves = {title: curve(run, f"test_{score.column}") for title, run in zip(titles, runs, strict=True)}
    curves = {title: pairs for title, pairs in curves.items() if pairs}
    files = {"table.md": f"{text}\n".encode(), "table.csv": content.getvalue().encode()}
    if curves:
        percent = score.number_format.endswith("%")
        title = f"{next(iter(runs[0].headline)).replace('_', ' ').capitalize()} on the test set"
        title += " in %" if percent else ""
        files["curves.png"] = comparison_png(curves, title, percent)
    for name, data in files.items():
        write_whole(out / name, lambda path, data=data: path.write_bytes(data))
    print(f"written: {', '.join(str(out / name) for name in files)}")
