"""`bixt3d train`: train one run, or one for each seed, which can be stopped and resumed."""

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bixt3d.config import SettingsParser
from bixt3d.engine.checkpoint import save_checkpoint
from bixt3d.engine.ending import Stop, on_rank_zero
from bixt3d.engine.fabric import Fabric
from bixt3d.engine.loop import Examples
from bixt3d.engine.report import RunLog, commit
from bixt3d.engine.runtime import check_shared, finish, rank_zero_first, start
from bixt3d.io.error_messages import enough_memory
from bixt3d.io.weights import check_buffers
from bixt3d.tasks.backends import with_less_memory
from bixt3d.tasks.budget import fit_budget
from bixt3d.tasks.command import Where, parse_command
from bixt3d.tasks.epochs import make_training_state, train_one_epoch
from bixt3d.tasks.finishing import finish_run, finish_seeds, say, score_sets
from bixt3d.tasks.job import (
    Job,
    check_going_on,
    check_same_run,
    explain_stop,
    open_folder,
    open_seed,
    progress_now,
    progress_of,
    progress_outside,
    restore,
)
from bixt3d.tasks.sets import empty_classes, load_sets, split_sets
from bixt3d.tasks.settings import Run, make_run
from bixt3d.tasks.task import Task
from bixt3d.types import InputError

TOO_LARGE = "the data set or the model is too large for this machine: {less_data}, or lower sizes in --model"


def train(task: Task, description: str | None, argv: Sequence[str] | None = None, data: Any = None) -> Path:
    """Train one run, or one for each seed; return the run folder. ``data``: data sets for `GivenClouds`, or None."""
    where, parser, settings = parse_command(task, description, sys.argv[1:] if argv is None else argv)
    with explain_stop(partial(progress_outside, task, where)):
        train_seeds(task, where, parser, settings, data)
    return where.folder


def train_seeds(task: Task, where: Where, parser: SettingsParser, settings: Any, data: Any = None) -> None:
    """Train the remaining epochs of one run, or of one for each seed."""
    too_large = TOO_LARGE.format(less_data=task.less_data)
    with enough_memory(too_large):
        run = make_run(parser, settings, model=False)
        if data is not None:
            run.data.give(data)
        fabric = start(run.runtime)
        check_same_run(fabric, where)
        loaded = [examples.to(fabric.device) for examples in rank_zero_first(fabric, lambda: load_sets(task, run))]
    for note in (*getattr(loaded[0], "notes", ()), *empty_classes(loaded)):
        say(fabric, note)
    with enough_memory(too_large):
        run = fit_budget(task, fabric, parser, settings, run, loaded)
    results, trained = [], False
    with ExitStack() as stack:
        for seed in [settings.seed] if where.seeds is None else where.seeds:
            settings.seed = seed
            with enough_memory(too_large):
                job = prepare(task, fabric, parser, settings, replace(run, seed=seed), loaded, place_of(where, seed))
            if job.done and where.seeds:
                results.append(job.past["result"])
                continue
            check_going_on(job, where)
            if not trained:
                where.folder = check_shared(fabric, on_rank_zero(fabric, partial(open_folder, job, where, stack)))
            trained = True
            job.folder, job.where = place_of(where, seed), where
            results.append(train_run(job))
    if where.seeds is not None:
        finish_seeds(task, fabric, where, run.train, results, trained)
    finish(fabric)


def place_of(where: Where, seed: int) -> Path | None:
    """Return the folder of one seed; None if the run has no folder yet."""
    return where.folder if where.seeds is None or where.folder is None else where.folder / f"seed{seed}"


def prepare(
    task: Task,
    fabric: Fabric,
    parser: SettingsParser,
    settings: Any,
    run: Run,
    loaded: Sequence[Examples],
    place: Path | None,
) -> Job:
    """Build the run of one seed, new or loaded from its folder; write nothing. ``run`` has no model yet."""
    torch.manual_seed(run.seed)
    commit()  # cached now: the code may change before the run ends
    run = replace(run, model=parser.instantiate(settings, only=["model"]).model)
    config = parser.dump(settings, skip_unset=False)
    sets = split_sets(tuple(loaded), run.data.val_fraction, run.seed)
    check_names(task, sets.train)
    given = task.describe_input(run, sets.train)
    state = make_training_state(task, fabric, run, sets.train)
    check_buffers(state.module)
    task.make_predictor(state.module, task.names(sets.train), given, "the run")  # fail now if it cannot predict later
    task.evaluate(state.module, sets.train.subset(torch.tensor([0])), run, fabric)  # fail now if shapes do not fit
    past = restore(task, fabric, place, run, state, len(sets.train))
    return Job(task, fabric, run, config, sets, state, past, state.schedule.last_epoch)


def check_names(task: Task, train: Examples) -> None:
    """Raise InputError for a data set with a single class, or with a single part."""
    names = task.names(train)
    for key, word in (("part_names", "part"), ("class_names", "class")):
        if key in names:
            if len(names[key]) < 2:
                known = f"one {word} alone ({', '.join(names[key])})"
                raise InputError(f"the data set has {known}: a model needs two or more")
            return


def train_run(job: Job) -> dict[str, Any]:
    """Train and evaluate one seed in its folder; return the content of result.json."""
    with ExitStack() as stack:
        if job.folder != job.where.folder:
            on_rank_zero(job.fabric, partial(open_seed, job, stack))
        return train_in_folder(job)


def train_in_folder(job: Job) -> dict[str, Any]:
    """Train and evaluate one seed in a folder that is locked; return the content of result.json."""
    log = RunLog(job.folder, job.past["rows"], job.fabric.is_global_zero)
    say(job.fabric, f"run folder {job.folder}, epochs {job.past['epoch'] + 1} to {job.last}")
    with closing(log), explain_stop(partial(progress_now, job)):
        with Stop(job.fabric) as stop:
            train_epochs(job, log, stop)
        with enough_memory(lower_in_evaluation(job)):
            module = job.state.best_module()
            spent = {"seconds": job.past["seconds"], "steps": job.saved_steps}
            return finish_run(job.task, job.fabric, job.run, module, job.sets, log, spent, job.where.trust)


def train_epochs(job: Job, log: RunLog, stop: Stop) -> None:
    """Train and evaluate the remaining epochs; first evaluate the last one if that was interrupted."""
    for epoch in range(job.past["epoch"] + (not job.lacks_scores), job.last + 1):
        if epoch > job.past["epoch"]:
            train_and_save(job, log, stop)
            stop.check()
        if job.lacks_scores:
            evaluate_and_save(job, log, stop)
        say(job.fabric, "  ".join(f"{name} {value:.4g}" for name, value in log.rows[-1].items()))
        stop.check()


def train_and_save(job: Job, log: RunLog, stop: Stop) -> None:
    """Train the next epoch, then save weights and checkpoint."""
    task, fabric, state, run, train = job.task, job.fabric, job.state, job.run, job.sets.train
    epoch, began = job.past["epoch"] + 1, time.perf_counter()
    row = {"epoch": float(epoch), "lr": state.schedule.get_last_lr()[0]}
    with enough_memory(f"{with_less_memory(run, state.module)}; {progress_of(job)}"):
        row |= train_one_epoch(task, fabric, state, run, epoch, train, stop)
    log.add(row)
    if fabric.is_global_zero:
        task.save_weights(job.folder, state.best_module(), run, job.config, train)
    save_progress(job, log, began)


def lower_in_evaluation(job: Job) -> str:
    """Return what to do if evaluation does not fit in memory, and what is saved."""
    return f"{job.task.less_evaluation.format(batch=job.run.train.eval_batch_size)}; {progress_of(job)}"


def evaluate_and_save(job: Job, log: RunLog, stop: Stop) -> None:
    """Evaluate the last epoch, which is saved already: a signal or lack of memory loses no training."""
    task, module, run, began = job.task, job.state.best_module(), job.run, time.perf_counter()
    with enough_memory(lower_in_evaluation(job)), stop.at_once():
        scores = score_sets(task, job.fabric, module, run, job.sets)
    log.add({"epoch": log.rows[-1]["epoch"]} | scores)
    best = log.best(f"val_{task.selects_by.column}", task.selects_by.more_is_better)
    if job.fabric.is_global_zero and best == log.rows[-1]:
        task.save_weights(job.folder, module, run, job.config, job.sets.train, "best_on_val")
    save_progress(job, log, began)


def save_progress(job: Job, log: RunLog, began: float) -> None:
    """Save the checkpoint for the last row of the log, and count the time since ``began``."""
    seconds = job.past["seconds"] + time.perf_counter() - began
    past = {"epoch": int(log.rows[-1]["epoch"]), "seconds": seconds, "rows": list(log.rows)}
    past["processes"] = job.fabric.world_size
    if job.fabric.is_global_zero:
        save_checkpoint(job.folder / "checkpoint.pt", past | {"learner": job.state.state_dict()})
    job.past, job.saved_steps = past, job.state.schedule.last_epoch
