"""The settings that every training run has."""

import math
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
    """How long and on what.

    Args:
        epochs: passes over the training set.
        batch_size: examples for each update, over all processes, at most: those of an epoch are nearly equal.
        eval_batch_size: examples at a time in evaluation; changes no result.
        label_smoothing: probability given to the other classes.
        eval_every: evaluate after every so many epochs, and after the last.
        steps: updates of the whole run, in place of epochs; the last epoch ends where they do.
        init: an earlier run, its folder or its weights, or for images a .pth of the authors, to start from: takes what
            fits, and lists what does not.
    """

    epochs: int = 300
    batch_size: int = 32
    eval_batch_size: int = 64
    label_smoothing: float = 0.0
    eval_every: int = 1
    steps: int | None = None
    init: str | None = None

    def __post_init__(self):
        for name in ("epochs", "batch_size", "eval_batch_size", "eval_every", "steps"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise InputError(f"train.{name} must be at least 1, not {count}")
        if not 0 <= self.label_smoothing <= 0.5:
            raise InputError(f"train.label_smoothing must lie between 0 and 0.5, not be {self.label_smoothing}")

    def steps_per_epoch(self, num_examples: int, num_processes: int = 1) -> int:
        """Return the updates of an epoch on so many examples. Raises InputError if a process has none in some batch."""
        number = count_batches(num_examples, self.batch_size)
        if num_examples // number < num_processes:
            raise InputError(
                f"{num_examples} training examples in batches of at most {self.batch_size} are too few for "
                f"{num_processes} processes: raise --train.batch_size or lower --runtime.devices"
            )
        return number

    def num_steps(self, num_examples: int) -> int:
        """Return the updates of a whole run on so many examples."""
        return self.steps or self.epochs * self.steps_per_epoch(num_examples)

    def num_epochs(self, num_examples: int, steps_done: int = 0) -> int:
        """Return the epochs that a run on so many examples takes after so many updates."""
        left = max(0, self.num_steps(num_examples) - steps_done)
        return math.ceil(left / self.steps_per_epoch(num_examples))


@dataclass(frozen=True)
class Run:
    """The settings of one run, ready to be used.

    Args:
        seed: seed of weights, shuffling and augmentation.
        data: the data set, of the type that the task says.
        model: makes the model, given the sizes of its outputs; None where a run is read without it.
        train: how long, and on what.
        augment: augmentation of training examples, of the type that the task says.
        optim: how weights are updated.
        runtime: where it runs.
    """

    seed: int
    data: Any
    model: Callable[..., nn.Module] | None
    train: Train
    augment: Any
    optim: Optim
    runtime: Runtime


def make_run(parser: SettingsParser, settings: Any, model: bool = True) -> Run:
    """Return the run that parsed settings describe.

    ``model``: False leaves the model out, which takes memory and random numbers. Raises InputError where a class does
    not take its values.
    """
    names = [field.name for field in fields(Run)]
    made = parser.instantiate(settings, only=[name for name in names if model or name != "model"])
    return Run(**{name: made.get(name) for name in names})
