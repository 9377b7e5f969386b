"""The settings that all tasks share."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from torch import nn

from bixt3d.config import SettingsParser
from bixt3d.engine.batches import count_batches
from bixt3d.engine.optim import Optim
from bixt3d.engine.runtime import Runtime
from bixt3d.types import InputError


@dataclass
class Train:
    """Settings of training: duration, batch size, evaluation and initial weights.

    Args:
        epochs: passes over the training set.
        batch_size: examples of an update, at most, over all processes; the batches of an epoch have nearly equal size.
        eval_batch_size: batch size in evaluation; changes no result.
        label_smoothing: label smoothing: probability given to the other classes.
        eval_every: evaluate every this many epochs, and after the last.
        steps: updates of the whole run, in place of epochs; may end within an epoch.
        epoch_steps: fewest updates of an epoch: it passes over a smaller training set several times.
        budget: time of training without evaluation, such as 15m, 90s or 1h, in place of epochs: some steps are
            measured before the run, and set ``steps``, so that the schedule of the learning rate ends with the budget.
        init: initial weights, for fine-tuning: a run folder, its model.safetensors, or for images the authors' .pth.
            Loads the tensors that fit, and lists the others.
    """

    epochs: int = 300
    batch_size: int = 32
    eval_batch_size: int = 64
    label_smoothing: float = 0.0
    eval_every: int = 1
    steps: int | None = None
    epoch_steps: int = 1
    budget: str | None = None
    init: str | None = None

    def __post_init__(self):
        for name in ("epochs", "batch_size", "eval_batch_size", "eval_every", "steps", "epoch_steps"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise InputError(f"train.{name} must be at least 1, not {count}")
        if self.budget is not None:
            seconds_of(self.budget)
        if not 0 <= self.label_smoothing <= 0.5:
            raise InputError(f"train.label_smoothing must be between 0 and 0.5, not {self.label_smoothing}")

    def steps_per_epoch(self, num_examples: int, num_processes: int = 1) -> int:
        """Return the updates of an epoch. Raises InputError if a batch has fewer examples than there are processes."""
        number = count_batches(num_examples, self.batch_size)
        if num_examples // number < num_processes:
            raise InputError(
                f"{num_examples} training examples in batches of at most {self.batch_size} are too few for "
                f"{num_processes} processes: raise --train.batch_size or lower --runtime.devices"
            )
        return number * self.passes(num_examples)

    def passes(self, num_examples: int) -> int:
        """Return how often an epoch passes over a training set of this size."""
        return math.ceil(self.epoch_steps / count_batches(num_examples, self.batch_size))

    def num_steps(self, num_examples: int) -> int:
        """Return the updates of a whole run on a training set of this size."""
        return self.steps or self.epochs * self.steps_per_epoch(num_examples)

    def num_epochs(self, num_examples: int, steps_done: int = 0) -> int:
        """Return the epochs that are left after ``steps_done`` updates, on a training set of this size."""
        left = max(0, self.num_steps(num_examples) - steps_done)
        return math.ceil(left / self.steps_per_epoch(num_examples))


def length_option(train: Train, steps: int | None, epochs: int) -> tuple[str, str]:
    """Return the option that sets the length of a run and its value: steps if the settings give them, else epochs."""
    return ("--train.steps", f"{steps}") if train.steps else ("--train.epochs", f"{epochs}")


def seconds_of(budget: str) -> float:
    """Return the seconds of a budget of time such as 15m, 90s or 1h. Raises InputError if it is none."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|min|h)", str(budget).strip())
    seconds = float(found[1]) * {"s": 1, "h": 3600}.get(found[2], 60) if found else 0.0
    if not seconds:
        raise InputError(f"a budget of time is a number with s, m or h, such as 15m, not '{budget}'")
    return seconds


@dataclass(frozen=True)
class Run:
    """The settings of one run, with its classes instantiated.

    Args:
        seed: seed of weights, shuffling and augmentation.
        data: the data set, of the task's type ``data``.
        model: function that makes the model, given the sizes of its outputs; None if it is not needed.
        train: duration, batch size, evaluation.
        augment: augmentation of training examples, of the task's type ``augmentation``.
        optim: optimizer and learning rate schedule.
        runtime: devices, precision and backends.
    """

    seed: int
    data: Any
    model: Callable[..., nn.Module] | None
    train: Train
    augment: Any
    optim: Optim
    runtime: Runtime

    def __post_init__(self):
        check_seed(self.seed)


def check_seed(seed: int) -> None:
    """Raise InputError for a seed that generators of random numbers do not take."""
    if not -(2**31) <= seed < 2**31:
        raise InputError(f"a seed must be between -2147483648 and 2147483647, not {seed}")


def make_run(parser: SettingsParser, settings: Any, model: bool = True) -> Run:
    """Instantiate the classes that parsed settings name.

    ``model``: false leaves the model out, which uses memory and random numbers. Raises InputError if a class refuses
    its arguments.
    """
    names = [field.name for field in fields(Run)]
    made = parser.instantiate(settings, only=[name for name in names if model or name != "model"])
    return Run(**{name: made.get(name) for name in names})
