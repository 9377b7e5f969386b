"""A budget of time for training: measure the speed of some steps, and set the number of steps of the run from it."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from bixt3d.config import SettingsParser
from bixt3d.engine.ending import Stop
from bixt3d.engine.fabric import Fabric
from bixt3d.engine.loop import Examples
from bixt3d.io.bounds import counted
from bixt3d.tasks.epochs import make_training_state, train_one_epoch
from bixt3d.tasks.finishing import say
from bixt3d.tasks.sets import split_sets
from bixt3d.tasks.settings import Run, seconds_of
from bixt3d.tasks.task import Task

WARM_UP = 3
"""Steps before the measurement: they compile kernels and allocate memory."""
LONGEST, SHARE = 10.0, 0.05
"""The measurement ends after this many seconds, or this share of the budget if that is less."""


def fit_budget(
    task: Task, fabric: Fabric, parser: SettingsParser, settings: Any, run: Run, loaded: Sequence[Examples]
) -> Run:
    """Set ``train.steps`` of run and settings to the steps that fit in ``train.budget``, unless they are set already.

    The steps are measured on the data of the run with a model of its own, which is thrown away: the run equals one with
    this number of steps. Of several processes the first decides.
    """
    if run.train.budget is None or run.train.steps is not None:
        return run
    torch.manual_seed(run.seed)
    measured = replace(run, model=parser.instantiate(settings, only=["model"]).model)
    train = split_sets(tuple(loaded), run.data.val_fraction, run.seed).train
    per_step, number = fabric.broadcast(seconds_per_step(task, fabric, measured, train))
    steps = max(1, int(seconds_of(run.train.budget) / per_step))
    settings.train.steps = steps
    say(
        fabric,
        f"budget of {run.train.budget}: {counted(steps, 'step')}, as {number} steps took {per_step:.3g} s each; "
        "the time of evaluation is not counted",
    )
    return replace(run, train=replace(run.train, steps=steps))


def seconds_per_step(task: Task, fabric: Fabric, run: Run, train: Examples) -> tuple[float, int]:
    """Return the mean time of a training step in seconds, and the number of steps that were measured.

    On one CPU thread the time of the processor counts, if it is less: other work on the machine takes no steps away.
    """
    state = make_training_state(task, fabric, replace(run, train=replace(run.train, steps=1)), train)
    seconds, steps, more, epoch = 0.0, -WARM_UP, WARM_UP, 0
    with Stop(fabric) as stop:
        while steps <= 0 or seconds < min(LONGEST, SHARE * seconds_of(run.train.budget)):
            done, began = state.schedule.last_epoch, _clocks()
            some = replace(run, train=replace(run.train, steps=done + more))
            epoch += 1  # other examples than before
            train_one_epoch(task, fabric, state, some, epoch, train, stop)
            passed = torch.tensor(min(now - then for now, then in zip(_clocks(), began, strict=True)))
            if steps >= 0:
                seconds += float(fabric.all_reduce(passed, reduce_op="max"))
            steps += state.schedule.last_epoch - done
            more = 5
    return seconds / steps, steps


def _clocks() -> list[float]:
    """Return the time in seconds, and on one CPU thread that of the processor too."""
    one_thread = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    return [time.perf_counter(), time.process_time()] if one_thread else [time.perf_counter()]
