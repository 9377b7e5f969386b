"""Finish a training run: scores of the last epoch, report, and mean and standard deviation over seeds."""

import json
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from bixt3d.engine.checkpoint import write_json
from bixt3d.engine.ending import on_rank_zero
from bixt3d.engine.fabric import Fabric
from bixt3d.engine.report import RunLog
from bixt3d.engine.runtime import peak_memory
from bixt3d.io.known_classes import command_line
from bixt3d.tasks.command import Where
from bixt3d.tasks.sets import Sets
from bixt3d.tasks.settings import Run, Train, length_option
from bixt3d.tasks.task import Task
from bixt3d.types import InputError


def score_sets(task: Task, fabric: Fabric, module: nn.Module, run: Run, sets: Sets) -> dict[str, float]:
    """Return the columns of metrics.csv for the test set, and for the validation split if there is one."""
    row = {}
    for name, examples in {"val": sets.val, "test": sets.test}.items():
        if examples is not None:
            scores = task.evaluate(module, examples, run, fabric).row()
            row |= {f"{name}_{column}": value for column, value in scores.items()}
    return row


def finish_run(
    task: Task,
    fabric: Fabric,
    run: Run,
    module: nn.Module,
    sets: Sets,
    log: RunLog,
    spent: Mapping[str, Any],
    trust: bool,
) -> dict[str, Any]:
    """Evaluate the last epoch and write result.json, pictures and report; return the content of result.json.

    ``spent``: seconds and steps of the run. ``trust``: whether its command needs ``--trust``.
    """
    folder, began, speed = log.folder, time.perf_counter(), f"{task.unit}_per_second"
    evaluation = task.evaluate(module, sets.test, run, fabric)
    passed = time.perf_counter() - began
    number, unit = task.test_size(sets.test)
    facts = {
        "seed": run.seed,
        "weights": "last",
        "epochs": len(log.rows),
        **spent,
        **({"budget": run.train.budget} if run.train.budget else {}),
        speed: statistics.median(row[speed] for row in log.rows),
        f"inference_{unit}_per_second": number / passed,
        "peak_memory": peak_memory(fabric),
        "best_on_test": {
            name: {"value": row[f"test_{score.column}"], "epoch": int(row["epoch"])}
            for name, score in task.headline.items()
            if (row := log.best(f"test_{score.column}", score.more_is_better))
        },
    }
    if row := log.best(column := f"val_{task.selects_by.column}", task.selects_by.more_is_better):
        facts["selected_on_val"] = {"epoch": int(row["epoch"]), column: row[column]}
        facts["selected_on_val"] |= {name: row[f"test_{score.column}"] for name, score in task.headline.items()}
    result = task.describe_result(evaluation, module, fabric, facts)
    if fabric.is_global_zero:
        page = {
            "title": folder.name,
            "result": result,
            "rows": log.rows,
            "command": command_line(task.command("train"), "--cfg", str(folder / "config.yaml"), trust=trust),
            "settings": (folder / "config.yaml").read_text(encoding="utf-8"),
        }
        task.write_results(folder, evaluation, sets.test, run, page)
        print(evaluation.text())
        print(f"report: {folder / 'report.html'}")
    return result


def read_result(path: Path) -> dict[str, Any] | None:
    """Return the content of a result.json; None if it is missing or is not one."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return result if isinstance(result, dict) else None


def finish_seeds(
    task: Task, fabric: Fabric, where: Where, train: Train, results: Sequence[dict[str, Any]], trained: bool
) -> None:
    """Write the summary of a run of several seeds. Raises InputError if it was complete already."""
    known = on_rank_zero(fabric, lambda: read_result(where.folder / "result.json")) or {}
    if not trained and known.get("seeds") == where.seeds:
        more = length_option(train, 2 * results[0].get("steps", train.steps or 0), 2 * results[0]["epochs"])
        raise InputError(
            f"{where.folder} is finished, and stays as it is: to train all its seeds longer, name it and say how long, "
            f"as in `{where.to_resume(task, *more)}`; more seeds follow its own, as in --seeds "
            f"{','.join(map(str, [*where.seeds, max(where.seeds) + 1]))}"
        )
    summarize(task, fabric, where.folder, where.seeds, results)


def summarize(
    task: Task, fabric: Fabric, folder: Path, seeds: Sequence[int], results: Sequence[dict[str, Any]]
) -> None:
    """Write mean and standard deviation (unbiased; of one seed None) over the seeds to result.json, and print them."""
    summary: dict[str, Any] = {"task": task.name, "seeds": list(seeds)}
    for name, score in task.headline.items():
        values = [result[name] for result in results]
        mean, deviation = statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None
        summary[name] = {"mean": mean, "deviation": deviation, "values": values}
        words = " +- ".join(f"{value:{score.number_format}}" for value in (mean, deviation) if value is not None)
        say(fabric, f"{name} over seeds {list(seeds)}: {words}")
    if fabric.is_global_zero:
        write_json(folder / "result.json", summary)


def say(fabric: Fabric, line: str) -> None:
    """Print a line in the first process only."""
    if fabric.is_global_zero:
        print(line, flush=True)
