"""What a task is to the programs that train and test it: settings, a model, a training step, and scores."""

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from bixt3d.config import SettingsParser, make_settings_parser
from bixt3d.datasets import CloudAugment, stratified_split
from bixt3d.engine.checkpoint import save_weights
from bixt3d.engine.loop import Batch, Examples, Step
from bixt3d.engine.optim import Optim
from bixt3d.engine.report import commit
from bixt3d.engine.runtime import Runtime, device_name
from bixt3d.types import Features, InputError


@dataclass
class Train:
    """How long and on what.

    Args:
        epochs: passes over the training set.
        batch_size: clouds for each update, over all processes.
        eval_batch_size: clouds at a time in evaluation; changes no result.
        label_smoothing: probability given to the other classes.
        eval_every: evaluate after every so many epochs, and after the last.
        steps: updates of the whole run, in place of epochs; the last epoch ends where they do.
    """

    epochs: int = 300
    batch_size: int = 32
    eval_batch_size: int = 64
    label_smoothing: float = 0.0
    eval_every: int = 1
    steps: int | None = None

    def __post_init__(self):
        for name in ("epochs", "batch_size", "eval_batch_size", "eval_every", "steps"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise InputError(f"train.{name} must be at least 1, not {count}")
        if not 0 <= self.label_smoothing <= 0.5:
            raise InputError(f"train.label_smoothing must lie between 0 and 0.5, not be {self.label_smoothing}")

    def num_steps(self, num_examples: int) -> int:
        """Return the updates of a whole run on so many examples."""
        return self.steps or self.epochs * (num_examples // self.batch_size)

    def num_epochs(self, num_examples: int) -> int:
        """Return the epochs of a whole run on so many examples."""
        return math.ceil(self.num_steps(num_examples) / (num_examples // self.batch_size))


class Evaluation(ABC):
    """What a model was worth on one set."""

    @abstractmethod
    def row(self) -> dict[str, float]:
        """Return the columns of metrics.csv, without the name of the set."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Return what result.json says of it."""

    @abstractmethod
    def text(self) -> str:
        """Return a table for people."""


class Task(ABC):
    """One kind of question asked of clouds or images. The programs in ``tools/`` know tasks through this door alone.

    ``name`` stands in result.json and in the weights' file; ``program`` is the end of the programs' names;
    ``example`` is a command that makes a run; ``headline`` maps the figures of result.json that sum up a run to their
    columns in metrics.csv (without the name of the set). ``unit`` is what a set consists of, ``augmentation`` the class
    of the settings ``augment``; ``votes`` says whether evaluation can average over several looks.
    """

    name: str
    program: str
    example: str
    headline: Mapping[str, str]
    unit: str = "clouds"
    augmentation: type = CloudAugment
    votes: bool = True

    @property
    def selects_by(self) -> str:
        """The column of metrics.csv that a validation set selects by: the first figure of the headline."""
        return f"val_{next(iter(self.headline.values()))}"

    @abstractmethod
    def add_settings(self, parser: SettingsParser) -> None:
        """Add the settings ``data``, ``model`` and ``train``."""

    @abstractmethod
    def build(self, run: Any, examples: Examples) -> nn.Module:
        """Return a new model that fits the names of the set."""

    @abstractmethod
    def names(self, examples: Examples) -> dict[str, Any]:
        """Return the names that a model's outputs stand for, to be kept with its weights."""

    @abstractmethod
    def make_step(self, run: Any, train: Examples) -> Step:
        """Return the function that gives loss and number of correct examples of an augmented batch."""

    @abstractmethod
    def evaluate(self, module: nn.Module, examples: Examples, run: Any, fabric: Fabric, votes: int = 1) -> Evaluation:
        """Score a model on a set; votes: how many looks at each example to average over, where a task has them."""

    @abstractmethod
    def write_results(
        self,
        folder: Path,
        result: dict[str, Any],
        evaluation: Evaluation,
        test: Examples,
        run: Any,
        page: Mapping[str, Any],
    ) -> None:
        """Write result.json, pictures and report.html; ``page`` holds title, rows, command and settings."""

    def load(self, run: Any) -> tuple[Examples, Examples]:
        """Return the training and the test set."""
        return run.data.load()

    def make_augment(self, run: Any, generator: torch.Generator) -> Callable[[Batch], Batch]:
        """Return what is done on the device to a batch before it is trained on."""

        def augment(batch: Batch) -> Batch:
            return run.augment(batch, run.data.num_points, generator, run.data.features)

        return augment

    def start_weights(self, module: nn.Module, run: Any) -> str | None:
        """Give a new run's model other weights than random ones, where its settings say so; say which, in words."""
        return None

    def make_parser(self, description: str | None) -> SettingsParser:
        """Return the parser of all settings of a run."""
        parser = make_settings_parser(description or "")
        parser.add_argument("--seed", type=int, default=0, help="seed of weights, shuffling and augmentation")
        self.add_settings(parser)
        parser.add_class_arguments(self.augmentation, "augment", help=f"augmentation of training {self.unit}")
        parser.add_argument("--optim", type=Optim, default=Optim())
        parser.add_argument("--runtime", type=Runtime, default=Runtime())
        return parser

    def keep_weights(
        self, folder: Path, module: nn.Module, config: str, examples: Examples, name: str = "model"
    ) -> None:
        """Save weights with what is needed to build and use their model again: settings and names."""
        names = {key: json.dumps(value) for key, value in self.names(examples).items()}
        save_weights(
            folder / f"{name}.safetensors", module.state_dict(), {"task": self.name, "config": config, **names}
        )

    def describe_result(
        self, evaluation: Evaluation, module: nn.Module, fabric: Fabric, facts: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return what result.json holds: scores of the last epoch on the test set, and where they come from."""
        return {
            "task": self.name,
            **evaluation.facts(),
            "parameters": sum(parameter.numel() for parameter in module.parameters()),
            "device": device_name(fabric),
            "version": version("bixt3d"),
            "torch": torch.__version__,
            "commit": commit(),
            **facts,
        }


def check_features(model: nn.Module, given: Features) -> nn.Module:
    """Return the model. Raises InputError if it does not read the features that the data set gives."""
    if model.features != given:
        raise InputError(
            f"the model reads {model.features or 'no features'}, but the data set gives {given or 'none'}: set "
            "--data.features alone, which the model follows; a model class of your own says what it reads in `features`"
        )
    return model


@dataclass
class Sets:
    """The examples of a run; ``val`` is carved out of the training set, or None."""

    train: Examples
    val: Examples | None
    test: Examples


def split_sets(loaded: tuple[Examples, Examples], val_fraction: float, seed: int) -> Sets:
    """Return the sets of a run, with a stratified validation set where one is asked for."""
    train, test = loaded
    if not val_fraction:
        return Sets(train, None, test)
    train_index, val_index = stratified_split(train.label, val_fraction, seed)
    return Sets(train.subset(train_index), train.subset(val_index), test)
