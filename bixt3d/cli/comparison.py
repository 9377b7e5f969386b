"""A table of runs of one task, and plots of their scores by epoch and by cost."""

import csv
import io
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bixt3d.cli.runs import RunFolder, duration, read_folder
from bixt3d.engine.folder import RECORD
from bixt3d.errors import InputError
from bixt3d.io.bounds import end_of, listed, printable, shortened
from bixt3d.io.error_messages import first_line
from bixt3d.io.pretrained import shown

Row = dict[str, Any]
"""A row of the table by column; None: not known yet."""


AVERAGED = ("seconds", "steps", "peak_memory", "expected_calibration_error")
"""What a row has of result.json as the mean over the seeds, besides scores and speeds."""


def check_one_task(runs: Sequence[RunFolder]) -> None:
    """Raise InputError for runs of different tasks, or of an unknown task."""
    tasks = {run.task: run.folder for run in runs}
    if len(tasks) > 1:
        those = ", ".join(f"{shown(folder)} does {task}" for task, folder in tasks.items())
        raise InputError(f"runs of one task can be compared, but {those}")
    if not runs[0].headline:
        raise InputError(
            f"{shown(runs[0].folder)} is of the task '{runs[0].task}', which is not bixt3d's: its scores are not known"
        )


def earlier_runs(out: Path, one: RunFolder, known: Sequence[Path]) -> list[RunFolder]:
    """Return the other runs in a folder that have the task and the budget of one run; a line names each of the rest."""
    found = []
    for folder in sorted(path.parent for path in out.glob(f"*/{RECORD}") if path.parent not in known):
        try:
            run = read_folder(folder)
        except InputError as error:
            print(f"not in the table: {printable(error)}")
            continue
        if (run.task, budget_of(run)) == (one.task, budget_of(one)):
            found.append(run)
        else:
            print(f"not in the table, as its task or budget differs: {printable(folder)}")
    return found


def budget_of(run: RunFolder) -> Any:
    """Return the budget of a run: a time, or a number of steps; None for a number of epochs."""
    train = run.settings.get("train") or {}
    return train.get("budget") or train.get("steps")


def row_of(run: RunFolder) -> Row:
    """Return the row of a run; of several seeds, means over them."""
    own = run.runs_of_seeds() or [run]
    row: Row = {
        "run": shown(run.folder),
        "model": str((own[0].settings.get("model") or {}).get("class_path", "?")).rpartition(".")[2],
        "parameters": own[0].result.get("parameters"),
        "epochs": min(one.epochs for one in own),
        "state": run.state,
    }
    for name in run.headline:
        values = [value for one in own if (value := one.score(name)) is not None]
        row[name] = statistics.mean(values) if values else None
        row[f"{name}_deviation"] = statistics.stdev(values) if len(values) > 1 else None
    first, results = next(iter(run.headline)), [one.last_result for one in own]
    best = [one["best_on_test"][first]["value"] for one in results if first in (one.get("best_on_test") or ())]
    row[f"best_{first}"] = statistics.mean(best) if len(best) == len(own) else None
    speeds = (key for one in results for key in one if key.endswith("_per_second"))
    for key in dict.fromkeys((*AVERAGED, *speeds)):
        values = [value for one in results if (value := one.get(key)) is not None]
        row[key] = statistics.mean(values) if len(values) == len(own) else None
    row["flops"] = flops_of(own[0])
    row["seeds"] = " ".join(str(one.settings.get("seed", "?")) for one in own)
    row["commit"] = " ".join(dict.fromkeys(str(one.get("commit") or "?") for one in results))
    return row


def flops_of(run: RunFolder) -> int | None:
    """Return the FLOPs of the model of one seed's run on one example, as ``bixt3d cost`` counts them.

    None, with a line that says why, if they cannot be counted.
    """
    from bixt3d.cli.cost_tables import describe
    from bixt3d.io.weights import load_metadata

    try:
        names = load_metadata(run.folder / "model.safetensors")
        outputs = len(json.loads(names.get("part_names") or names["class_names"]))
        return describe([str(run.folder / "config.yaml")], None, outputs)["flops"]
    except (OSError, RuntimeError, TypeError, ValueError, LookupError) as error:
        print(f"the FLOPs of {run.folder} cannot be counted: {first_line(error)}", file=sys.stderr)
        return None


def markdown(runs: Sequence[RunFolder], rows: Sequence[Row], best: bool = True) -> str:
    """Return the table in Markdown; ``best``: with the score of the best epoch on the test set."""
    found = columns(runs, rows)
    if not best:
        del found["best on test*"]
    optional = {name for name in found if name in OPTIONAL or name.startswith("inference ")}
    found = {name: cells for name, cells in found.items() if name not in optional or set(cells) != {"-"}}
    lines = [list(found), *zip(*found.values(), strict=True)]
    shown = [[printable(shortened(word, 200)).replace("|", "\\|") for word in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    shown.insert(1, ["-" * width for width in widths])
    return "\n".join(
        f"| {' | '.join(word.ljust(width) for word, width in zip(line, widths, strict=True))} |" for line in shown
    )


OPTIONAL = ("FLOPs", "steps", "ECE", "peak memory")
"""Columns that are left out if no run has them."""


def columns(runs: Sequence[RunFolder], rows: Sequence[Row]) -> dict[str, list[str]]:
    """Return the columns of the table by title: a text for each run."""
    headline, first = runs[0].headline, next(iter(runs[0].headline))

    def cells(key: str, number_format: str, unit: str = "", factor: float = 1.0) -> list[str]:
        values = [row.get(key) for row in rows]
        return ["-" if value is None else f"{value * factor:{number_format}}{unit}" for value in values]

    found = {
        "run": [row["run"] for row in rows],
        "model": [row["model"] for row in rows],
        "parameters": cells("parameters", ",.0f"),
        "FLOPs": cells("flops", ",.4g", " M", 1e-6),
        "epochs": [
            str(row["epochs"]) if run.finished else f"{run.progress(row['epochs'])}, unfinished"
            for run, row in zip(runs, rows, strict=True)
        ],
        "steps": cells("steps", ",.0f"),
    }
    epochs = ["" if run.finished or run.seeds else f" (epoch {run.scored_epoch})" for run in runs]
    for name, score in headline.items():
        words = [score_words(row, name, score.number_format) for row in rows]
        found[name.replace("_", " ")] = [
            word + epoch * (word != "-") for word, epoch in zip(words, epochs, strict=True)
        ]
    found["best on test*"] = cells(f"best_{first}", headline[first].number_format)
    found["ECE"] = cells("expected_calibration_error", ".2%")
    found["time"] = [duration(row["seconds"]) for row in rows]
    speeds = dict.fromkeys(key for row in rows for key in row if key.endswith("_per_second"))
    trained = [key for key in speeds if not key.startswith("inference_")]
    for key in [*trained[:1], *(key for key in speeds if key.startswith("inference_"))]:
        found[key.removesuffix("_per_second").replace("_", " ") + "/s"] = cells(key, ",.0f")
    if not trained:
        found["speed"] = ["-"] * len(rows)
    found["peak memory"] = cells("peak_memory", ",.2f", " GB", 1e-9)
    return found | {key: [row[f"{key}s" if key == "seed" else key] for row in rows] for key in ("seed", "commit")}


def score_words(row: Mapping[str, Any], name: str, number_format: str) -> str:
    """Return a score as text, with its standard deviation over the seeds."""
    value, deviation = row[name], row[f"{name}_deviation"]
    if value is None:
        return "-"
    return f"{value:{number_format}}" + (f" +- {deviation:{number_format}}" if deviation is not None else "")


def notes_on(runs: Sequence[RunFolder], best: bool = True) -> list[str]:
    """Return the notes below the table."""
    name = next(iter(runs[0].headline)).replace("_", " ")
    too_good = f" *: {name} of the best epoch on the test set, which is too optimistic." * best
    lines = ["", f"Scores: last epoch, test set.{too_good}"]
    own = [(run.runs_of_seeds() or [run])[0].settings.get("data") for run in runs]
    different = [Path(shown(run.folder)) for run, data in zip(runs, own, strict=True) if data != own[0]]
    if different:
        lines.append(f"Other settings of data than {shown(runs[0].folder)}: {listed(different)}; compare with care.")
    if unfinished := [Path(shown(run.folder)) for run in runs if not run.finished]:
        lines.append(f"Unfinished, scores of the last evaluated epoch: {listed(unfinished)}.")
    if open_seeds := [place for run in runs for place in run.unfinished_seeds()]:
        lines.append(f"Seeds without a run, or with an unfinished one: {listed(open_seeds)}.")
    return lines


def curve(run: RunFolder, column: str) -> list[tuple[float, float]]:
    """Return epochs and values of a column of metrics.csv; of several seeds the mean, where all have one."""
    own = [{row["epoch"]: row[column] for row in one.rows if column in row} for one in run.runs_of_seeds() or [run]]
    return [(epoch, statistics.mean(one[epoch] for one in own)) for epoch in own[0] if all(epoch in one for one in own)]


def write(out: Path, runs: Sequence[RunFolder], rows: Sequence[Row], text: str) -> None:
    """Write table.md, table.csv and, if an epoch was evaluated, curves.png; cost.png if FLOPs are counted.

    Raises InputError on failure.
    """
    from bixt3d.io.writing import write_whole
    from bixt3d.viz.comparison import comparison_png, cost_png

    names = list(dict.fromkeys(name for row in rows for name in row))
    content = io.StringIO()
    writer = csv.DictWriter(content, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    score = next(iter(runs[0].headline.values()))
    short = [run.folder.name for run in runs]
    titles = short if len(set(short)) == len(short) else [shown(run.folder) for run in runs]
    titles = distinct([printable(end_of(title, 40)) for title in titles])
    curves = {title: curve(run, f"test_{score.column}") for title, run in zip(titles, runs, strict=True)}
    curves = {title: pairs for title, pairs in curves.items() if pairs}
    files = {"table.md": f"{text}\n".encode(), "table.csv": content.getvalue().encode()}
    if curves:
        percent, name = score.number_format.endswith("%"), next(iter(runs[0].headline))
        words = f"{name.replace('_', ' ').capitalize()} on the test set" + " in %" * percent
        files["curves.png"] = comparison_png(curves, words, percent)
        known = {
            title: row for title, row in zip(titles, rows, strict=True) if row.get("flops") and row[name] is not None
        }
        if known:
            scores = {title: (row[name], row[f"{name}_deviation"] or 0.0) for title, row in known.items()}
            files["cost.png"] = cost_png(costs_of(known), scores, words, percent)
    for name, data in files.items():
        write_whole(out / name, lambda path, data=data: path.write_bytes(data))
    print(f"written: {', '.join(str(out / name) for name in files)}")


def distinct(titles: Sequence[str]) -> list[str]:
    """Number the titles that are equal."""
    return [
        f"{title} ({titles[: i + 1].count(title)})" if titles.count(title) > 1 else title
        for i, title in enumerate(titles)
    ]


def costs_of(rows: Mapping[str, Row]) -> dict[str, dict[str, float]]:
    """Return the costs of runs for `cost_png`, given their rows by title: FLOPs, and the time of inference."""
    panels = {"FLOPs of one example in millions": {title: row["flops"] / 1e6 for title, row in rows.items()}}
    for key in dict.fromkeys(key for row in rows.values() for key in row if key.startswith("inference_")):
        words = f"inference of 1000 {key.removeprefix('inference_').removesuffix('_per_second')} in s"
        panels[words] = {title: 1000 / row[key] for title, row in rows.items() if row.get(key)}
    return {words: costs for words, costs in panels.items() if costs}
