"""One training run: load its past, decide whether it may be resumed, and describe it when it ends early."""

import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from signal import SIGINT, Signals
from typing import Any

from torch import Tensor
from torch.distributed import get_rank, is_initialized

from bixt3d.engine.checkpoint import load_checkpoint, must_fit, write_text
from bixt3d.engine.fabric import Fabric
from bixt3d.engine.folder import RECORD, lock, make_folder, record_now, take_folder
from bixt3d.engine.loop import TrainingState, merge
from bixt3d.engine.report import read_rows
from bixt3d.io.bounds import counted
from bixt3d.io.hub import WEIGHTS
from bixt3d.io.importing import copy_imported
from bixt3d.io.weights import fit_weights
from bixt3d.tasks.command import Where
from bixt3d.tasks.finishing import read_result, say
from bixt3d.tasks.sets import Sets
from bixt3d.tasks.settings import Run, length_option
from bixt3d.tasks.task import Task
from bixt3d.types import InputError, Stopped


@dataclass
class Job:
    """One run, ready to train.

    Args:
        task: its task.
        fabric: its processes.
        run: its settings.
        config: the settings as yaml.
        sets: training, validation and test set.
        state: the training state.
        past: epochs so far: ``epoch``, ``seconds``, ``rows`` of metrics, ``processes``, and ``result`` if finished.
        saved_steps: updates in these epochs, as the schedule counts them.
        folder: folder of this seed.
        where: the run, whose folder contains ``folder`` if there are several seeds; else it is the same.
    """

    task: Task
    fabric: Fabric
    run: Run
    config: str
    sets: Sets
    state: TrainingState
    past: dict[str, Any]
    saved_steps: int
    folder: Path | None = None
    where: Where | None = None

    @property
    def last(self) -> int:
        """The last epoch."""
        return self.past["epoch"] + self.run.train.num_epochs(len(self.sets.train), self.saved_steps)

    @property
    def lacks_scores(self) -> bool:
        """Say whether the last epoch so far is due for evaluation, and has none yet."""
        epoch, rows = self.past["epoch"], self.past["rows"]
        due = epoch % self.run.train.eval_every == 0 or epoch == self.last
        return epoch > 0 and due and not any(name.startswith("test_") for name in rows[-1])

    @property
    def finished(self) -> bool:
        """Say whether result.json covers all epochs so far."""
        result = self.past.get("result")
        return bool(result) and result.get("epochs") == self.past["epoch"]

    @property
    def done(self) -> bool:
        """Say whether nothing is left to do."""
        return self.finished and self.last <= self.past["epoch"]


def restore(
    task: Task, fabric: Fabric, place: Path | None, run: Run, state: TrainingState, num_examples: int
) -> dict[str, Any]:
    """Load the training state to resume from, or the initial weights; return the past of the run (see `Job`)."""
    if place and (place / "checkpoint.pt").is_file():
        steps_per_epoch = None if run.train.steps else run.train.steps_per_epoch(num_examples)
        past = load_past(place / "checkpoint.pt", state, f"{task.unit}_per_second", steps_per_epoch)
        if past["processes"] not in (None, fabric.world_size):
            now = f"{fabric.world_size} processes" if fabric.world_size > 1 else "1 process"
            say(fabric, f"{place} is resumed with {now}; its last epoch was trained by {past['processes']}")
        return past | {"result": read_result(place / "result.json")}
    if place:
        check_replaceable(place)
    if words := task.start_weights(state.module, run):
        say(fabric, words)
    return {"epoch": 0, "seconds": 0.0, "rows": []}


def check_replaceable(place: Path) -> None:
    """Raise InputError for a folder without a checkpoint whose weights another first epoch would replace.

    A run that is killed when its first epoch is saved leaves weights too, which are to be replaced: it has a run.json,
    but no result.json and no second row in metrics.csv.
    """
    killed = (place / RECORD).is_file() and not (place / "result.json").exists()
    if (place / WEIGHTS).exists() and not (killed and len(read_rows(place / "metrics.csv")) < 2):
        raise InputError(
            f"{place} has weights, but no checkpoint.pt to resume from, and they would be replaced: start a new run "
            f"from them, --train.init {shlex.quote(str(place))} with a --run_dir of its own"
        )


def load_past(path: Path, state: TrainingState, speed: str, steps_per_epoch: int | None) -> dict[str, Any]:
    """Load the training state of a checkpoint; return epoch, seconds, rows, processes. Raises InputError if damaged.

    The schedule continues after the epochs so far, at this run's ``steps_per_epoch``; None: after the updates so far.
    """
    found = load_checkpoint(path)
    fit_weights(state.module, found["learner"]["model"], str(path))
    with must_fit(path):
        past = {key: found[key] for key in ("epoch", "seconds", "rows")}
        past["processes"] = found.get("processes")  # missing in checkpoints of earlier versions
        if type(past["processes"]) not in (int, type(None)):
            raise ValueError("its number of processes is not a number")
        if past["epoch"] < 1 or [row["epoch"] for row in past["rows"]] != list(range(1, past["epoch"] + 1)):
            raise ValueError("it does not have a row for each epoch")
        if not all({"lr", "loss", speed} <= row.keys() and all(map(isfinite, row.values())) for row in past["rows"]):
            raise ValueError("its rows lack numbers")
        if type(found["learner"]["schedule"]["last_epoch"]) is not int:
            raise ValueError("it does not have the number of updates")
        state.load_state_dict(found["learner"], steps_per_epoch and steps_per_epoch * past["epoch"])
        if state.average and int(state.average.n_averaged) < 0:
            raise ValueError("its average is of a negative number of steps")
        groups = found["learner"]["optimizer"]["param_groups"]
        if not state.optimizer.state and any(group.get("momentum", 1) for group in groups):  # SGD without momentum may
            raise ValueError("its optimizer has no state")
        moments = [(one, weight) for weight, its in state.optimizer.state.items() for one in its.values()]
        if any(isinstance(one, Tensor) and one.ndim and one.shape != weight.shape for one, weight in moments):
            raise ValueError("its optimizer is of other weights")
    return past


def check_same_run(fabric: Fabric, where: Where) -> None:
    """Raise InputError, in all processes, if they found different newest runs, as another one began just now."""
    found = sorted(set(merge([str(where.folder)], fabric)))
    if len(found) > 1:
        raise InputError(f"processes found different runs as the newest: name {' or '.join(found)} after --resume")


def check_going_on(job: Job, where: Where) -> None:
    """Raise InputError for a finished run that was not named, or has no more epochs to train; it stays unchanged."""
    if not job.finished or (where.named and not job.done):
        return
    epochs, train = job.past["epoch"], job.run.train
    more = length_option(train, *((2 * job.saved_steps, 2 * epochs) if job.done else (train.steps, job.last)))
    raise InputError(
        f"{where.folder} is finished ({counted(epochs, 'epoch')}) and stays as it is: to train it longer, name "
        f"it and say how long, as in `{where.to_resume(job.task, *more)}`"
    )


def open_folder(job: Job, where: Where, stack: ExitStack) -> Path:
    """Make the folder of a new run, or open that of a run to resume; it is locked until ``stack`` closes."""
    record = record_now(job.task.name, where.seeds)
    if where.record is None:
        folder = make_folder(where.folder, where.name, record, job.config)
        copy_imported(folder)  # the user's own modules beside the config: the run needs them later
        stack.enter_context(lock(folder))
        return folder
    record = replace(where.record, seeds=record.seeds)
    return take_folder(where.folder, record, job.config, stack)


def open_seed(job: Job, stack: ExitStack) -> None:
    """Write run.json and config.yaml of one seed of several; its folder is locked until ``stack`` closes."""
    if not (job.folder / RECORD).is_file():
        write_text(job.folder / RECORD, record_now(job.task.name, None).text())
    stack.enter_context(lock(job.folder))
    write_text(job.folder / "config.yaml", job.config)


@contextmanager
def explain_stop(words: Callable[[], str]) -> Iterator[None]:
    """Add words to a signal that ends the run, for the first process to print: what is lost, and how to resume."""
    try:
        yield
    except KeyboardInterrupt as stopped:
        if str(stopped):  # it has its words already
            raise
        number = getattr(stopped, "number", SIGINT)
        if is_initialized() and get_rank():
            raise Stopped(number, code=0) from None
        raise Stopped(number, f"stopped by {Signals(number).name}: {words()}") from None


def progress_outside(task: Task, where: Where) -> str:
    """Say what is safe while no seed trains: before the first, or between two."""
    if where.folder is None or not (where.folder / RECORD).is_file():
        return "no run has begun and none was changed, for data and model were still loading: start it again"
    return f"all finished epochs are safe in {where.folder}; go on with `{where.to_resume(task)}`"


def progress_now(job: Job) -> str:
    """Say how many steps are lost, which epochs are safe, and how to resume."""
    lost = job.state.schedule.last_epoch - job.saved_steps
    if not lost:
        return progress_of(job)
    return f"{counted(lost, 'step')} of epoch {job.past['epoch'] + 1} lost, {progress_of(job)}"


def progress_of(job: Job) -> str:
    """Say which epochs are safe, and how to resume."""
    epoch = job.past["epoch"]
    epochs = f"epochs 1 to {epoch}" if epoch > 1 else "epoch 1"
    safe = f"{epochs} of {job.last} safe" if epoch else "no epoch is finished"
    return f"{safe} in {job.folder}; go on with `{job.where.to_resume(job.task)}`"
