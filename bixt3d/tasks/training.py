"""The program behind every ``tools/train_*.py``: one run, or one for each seed, which may be stopped and resumed."""

import shlex
import statistics
import sys
import time
from argparse import ArgumentError, ArgumentParser, Namespace
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from bixt3d.config import SettingsParser
from bixt3d.engine.checkpoint import fit_weights, load_checkpoint, must_fit, save_checkpoint, write_json, write_text
from bixt3d.engine.loop import Examples, Learner, make_batches, seed_epoch, train_epoch
from bixt3d.engine.optim import make_average, make_optimizer, make_schedule
from bixt3d.engine.report import RunLog, commit, new_folder, newest_run
from bixt3d.engine.runtime import compiled, start
from bixt3d.nn.feature_scale import fit_feature_scales
from bixt3d.tasks.forms import choose_forms
from bixt3d.tasks.task import Sets, Task, split_sets
from bixt3d.types import CloudSet, InputError


def train(task: Task, description: str | None, argv: Sequence[str] | None = None) -> Path:
    """Train one run, or one for each seed; returns the folder."""
    where, parser, settings = parse_command(task, description, sys.argv[1:] if argv is None else argv)
    name = Path(str(settings.cfg[-1])).stem if settings.get("cfg") else task.program
    for unsaved in ("cfg", "run_dir", "resume", "seeds"):
        settings.pop(unsaved, None)
    seeds = [settings.seed] if where.seeds is None else parse_seeds(where.seeds)
    run = parser.instantiate(settings)
    fabric = start(run.runtime)
    folder = where.run_dir or Path(fabric.broadcast(str(new_folder(Path("runs"), name))))
    loaded = [part.to(fabric.device) for part in task.load(run)]
    results = []
    for seed in seeds:
        settings.seed = seed
        place = folder if where.seeds is None else folder / f"seed{seed}"
        results.append(train_run(task, fabric, place, parser, settings, loaded, bool(where.resume)))
    if where.seeds is not None:
        summarize(task, fabric, folder, seeds, results)
    return folder


def parse_command(task: Task, description: str | None, argv: Sequence[str]) -> tuple[Namespace, SettingsParser, Any]:
    """Split the command line into where to run, and the settings of what to run."""
    place = ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    place.add_argument("--run_dir", type=Path)
    place.add_argument("--resume", nargs="?", const="newest")
    place.add_argument("--seeds")
    try:
        where, rest = place.parse_known_args(argv)
    except ArgumentError as error:
        raise InputError(str(error)) from error
    parser = task.make_parser(description)
    for name, text in {
        "run_dir": "folder of the run (default: runs/NAME-TIME)",
        "resume": "go on with the run in this folder; with no folder, the newest one",
        "seeds": "several seeds, such as 0,1,2: a run for each, their mean and deviation",
    }.items():
        parser.add_argument(f"--{name}", help=text)
    if where.resume:
        newest = where.resume == "newest"
        where.run_dir = newest_run(Path("runs"), task.name, task.example) if newest else Path(where.resume)
        if not (where.run_dir / "config.yaml").is_file():
            raise InputError(f"{where.run_dir} is no run folder: it holds no config.yaml to go on with")
        rest = ["--cfg", str(where.run_dir / "config.yaml"), *rest]
    settings = parser.parse_args(rest)
    if settings.data is None or settings.model is None:
        raise InputError(f"no data set and model given: name a config, as in `{task.example}`")
    return where, parser, settings


def parse_seeds(text: str) -> list[int]:
    """Return the seeds of ``--seeds 0,1,2``."""
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"--seeds takes whole numbers with commas, such as 0,1,2, not '{text}'") from error
    if len(set(seeds)) < len(seeds):
        raise InputError(f"--seeds {text} names a seed twice: its second run would replace the first")
    return seeds


def train_run(
    task: Task,
    fabric: Fabric,
    folder: Path,
    parser: SettingsParser,
    settings: Any,
    loaded: Sequence[Examples],
    resume: bool,
) -> dict[str, Any]:
    """Train and evaluate one seed in its folder; returns what result.json holds."""
    torch.manual_seed(settings.seed)
    commit()  # of the code as it is now: it may change before the run ends
    run, config = parser.instantiate(settings), parser.dump(settings)
    sets = split_sets(tuple(loaded), run.data.val_fraction, settings.seed)
    learner = make_learner(task, fabric, run, sets.train)
    task.evaluate(learner.module, sets.train.subset(torch.tensor([0])), run, fabric)  # what does not fit stops here
    past = take_up(task, fabric, folder, run, learner, resume)
    if fabric.is_global_zero:
        write_text(folder / "config.yaml", config)
        if not past["epoch"]:  # what an earlier run left here must not be taken for this one's
            (folder / "checkpoint.pt").unlink(missing_ok=True)
    log, seconds, began = RunLog(folder, past["rows"], fabric.is_global_zero), past["seconds"], time.perf_counter()
    last, by = run.train.num_epochs(len(sets.train)), task.selects_by
    say(fabric, f"run folder {folder}, epochs {past['epoch'] + 1} to {last}")
    for epoch in range(past["epoch"] + 1, last + 1):
        row = {"epoch": float(epoch), "lr": learner.schedule.get_last_lr()[0]}
        row |= train_one_epoch(task, fabric, learner, run, epoch, sets.train)
        if epoch % run.train.eval_every == 0 or epoch == last:
            row |= score_sets(task, fabric, learner.best_module(), run, sets)
        say(fabric, "  ".join(f"{name} {value:.4g}" for name, value in row.items()))
        log.add(row)
        if fabric.is_global_zero:
            task.keep_weights(folder, learner.best_module(), run, config, sets.train)
            if log.best(f"val_{by.column}", by.more_is_better) == row:
                task.keep_weights(folder, learner.best_module(), run, config, sets.train, "best_on_val")
            past = {"epoch": epoch, "seconds": seconds + time.perf_counter() - began, "rows": log.rows}
            save_checkpoint(folder / "checkpoint.pt", past | {"learner": learner.state()})
    log.close()
    return finish_run(task, fabric, folder, run, learner.best_module(), sets, log, past["seconds"])


def take_up(task: Task, fabric: Fabric, folder: Path, run: Any, learner: Learner, resume: bool) -> dict[str, Any]:
    """Give a learner the state that it goes on from, or its first weights; returns epoch, seconds and rows so far."""
    if resume and (folder / "checkpoint.pt").is_file():
        past = load_checkpoint(folder / "checkpoint.pt")
        fit_weights(learner.module, past["learner"]["model"], str(folder / "checkpoint.pt"))
        with must_fit(folder / "checkpoint.pt"):
            learner.load_state(past["learner"])
        return past
    if words := task.start_weights(learner.module, run):
        say(fabric, words)
    return {"epoch": 0, "seconds": 0.0, "rows": []}


def make_learner(task: Task, fabric: Fabric, run: Any, train: Examples) -> Learner:
    """Return model, optimizer and schedule, ready to train."""
    if run.train.batch_size % fabric.world_size or not 0 < run.train.batch_size <= len(train):
        raise InputError(
            f"a batch of {run.train.batch_size} {task.unit} does not fit {len(train)} training {task.unit} on "
            f"{fabric.world_size} processes: set --train.batch_size"
        )
    try:
        module = task.build(run, train)
        for name in fit_feature_scales(module, train.feats) if isinstance(train, CloudSet) else ():
            say(fabric, f"feature {name} is the same at all points of the training set")
        module = module.to(fabric.device)
    except ValueError as error:  # such as PyTorch's, for a dropout rate of 2
        raise InputError(f"the model cannot be built as the settings say: {error}") from error
    choose_forms(module, run.runtime)
    average = make_average(run.optim, module)
    optimizer = make_optimizer(run.optim, module.named_parameters())
    steps = run.train.num_steps(len(train))
    schedule = make_schedule(run.optim, optimizer, steps, len(train) // run.train.batch_size)
    model, optimizer = fabric.setup(compiled(run.runtime, module), optimizer)
    return Learner(module, model, optimizer, schedule, average, getattr(fabric.strategy.precision, "scaler", None))


def train_one_epoch(
    task: Task, fabric: Fabric, learner: Learner, run: Any, epoch: int, train: Examples
) -> dict[str, float]:
    """Train for one epoch; returns its mean loss, accuracy and speed."""
    order, generator = seed_epoch(run.seed, epoch, fabric)
    full = len(train) // run.train.batch_size
    num_steps = min(full, run.train.num_steps(len(train)) - (epoch - 1) * full)
    indices = islice(make_batches(len(train), run.train.batch_size, fabric, order), num_steps)
    batches = map(task.make_augment(run, generator), train.batches(indices, order.initial_seed()))
    title = f"epoch {epoch}/{run.train.num_epochs(len(train))}"
    step = task.make_step(run, train)
    row = train_epoch(learner, fabric, batches, num_steps, step, run.optim.clip_norm, title, task.unit)
    return {task.train_column if name == "train_accuracy" else name: value for name, value in row.items()}


def score_sets(task: Task, fabric: Fabric, module: nn.Module, run: Any, sets: Sets) -> dict[str, float]:
    """Return the scores on the test set, and on the validation set if there is one."""
    row = {}
    for name, examples in {"val": sets.val, "test": sets.test}.items():
        if examples is not None:
            scores = task.evaluate(module, examples, run, fabric).row()
            row |= {f"{name}_{column}": value for column, value in scores.items()}
    return row


def finish_run(
    task: Task,
    fabric: Fabric,
    folder: Path,
    run: Any,
    module: nn.Module,
    sets: Sets,
    log: RunLog,
    seconds: float,
) -> dict[str, Any]:
    """Evaluate the last epoch and write result.json, pictures and report; returns what result.json holds."""
    evaluation, speed = task.evaluate(module, sets.test, run, fabric), f"{task.unit}_per_second"
    facts = {
        "seed": run.seed,
        "epochs": len(log.rows),
        "seconds": seconds,
        speed: statistics.median(row[speed] for row in log.rows),
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
            "rows": log.rows,
            "command": f"{task.command('train')} --cfg {shlex.quote(str(folder / 'config.yaml'))}",
            "settings": (folder / "config.yaml").read_text(encoding="utf-8"),
        }
        task.write_results(folder, result, evaluation, sets.test, run, page)
        print(evaluation.text())
        print(f"report: {folder / 'report.html'}")
    return result


def summarize(
    task: Task, fabric: Fabric, folder: Path, seeds: Sequence[int], results: Sequence[dict[str, Any]]
) -> None:
    """Write mean and unbiased standard deviation over the seeds, and say them."""
    summary: dict[str, Any] = {"task": task.name, "seeds": list(seeds)}
    for name, score in task.headline.items():
        values = [result[name] for result in results]
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        summary[name] = {"mean": statistics.mean(values), "deviation": deviation, "values": values}
        say(
            fabric, f"{name} over seeds {list(seeds)}: {summary[name]['mean']:{score.form}} +- {deviation:{score.form}}"
        )
    if fabric.is_global_zero:
        write_json(folder / "result.json", summary)


def say(fabric: Fabric, line: str) -> None:
    """Print a line once, whatever the number of processes."""
    if fabric.is_global_zero:
        print(line, flush=True)
