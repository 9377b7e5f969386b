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

from bixt3d.config import SettingsParser, follow_features, make_settings_parser
from bixt3d.datasets import CloudAugment, stratified_split
from bixt3d.datasets.transforms.draws import Draws
from bixt3d.engine.batches import count_batches
from bixt3d.engine.checkpoint import save_weights
from bixt3d.engine.loop import Batch, Examples, Step
from bixt3d.engine.optim import Optim
from bixt3d.engine.report import commit
from bixt3d.engine.runtime import Runtime, device_name
from bixt3d.io.untrusted import check_different_names, read_yaml
from bixt3d.tasks import path_of_task
from bixt3d.tasks.inputs import check_features, describe_clouds
from bixt3d.tasks.results import write_plain_results
from bixt3d.tasks.scores import Evaluation, Score
from bixt3d.tasks.start_weights import start_from
from bixt3d.types import InputError

FORMAT = "1"
"""Of the metadata of weights."""


@dataclass
class Train:
    """How long and on what.

    Args:
        epochs: passes over the training set.
        batch_size: clouds for each update, over all processes, at most: those of an epoch are nearly equal.
        eval_batch_size: clouds at a time in evaluation; changes no result.
        label_smoothing: probability given to the other classes.
        eval_every: evaluate after every so many epochs, and after the last.
        steps: updates of the whole run, in place of epochs; the last epoch ends where they do.
        init: an earlier run, its folder or its weights, to start from: takes what fits, and lists what does not.
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
        if num_examples // (number := count_batches(num_examples, self.batch_size)) < num_processes:
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
        return math.ceil(max(0, self.num_steps(num_examples) - steps_done) / self.steps_per_epoch(num_examples))


class Task(ABC):
    """One kind of question asked of clouds or images. The programs in ``tools/`` know tasks through this door alone.

    ``name`` stands in result.json and in the weights' file; ``program`` is the end of the programs' names;
    ``example`` is a command that makes a run; ``headline`` maps the figures of result.json that sum up a run to their
    scores. ``data``, ``model`` and ``train`` are the types of these settings; a model is a function of its `outputs`.
    ``unit`` is what a set consists of, ``augmentation`` the class of the settings ``augment``; ``votes`` says whether
    evaluation can average over several looks, ``less_data`` how a set takes less memory. ``name_keys`` are the `names`
    kept with the weights, ``train_column`` the column of metrics.csv for what a `Step` counts.
    """

    name: str
    program: str
    example: str
    headline: Mapping[str, Score]
    data: Any
    model: Any
    train: type[Train] = Train
    unit: str = "clouds"
    augmentation: type = CloudAugment
    votes: bool = True
    less_data: str = "lower --data.num_points"
    name_keys: tuple[str, ...] = ("class_names",)
    train_column: str = "train_accuracy"

    @property
    def selects_by(self) -> Score:
        """The score that a validation set selects by: the first of the headline."""
        return next(iter(self.headline.values()))

    def add_settings(self, parser: SettingsParser) -> None:
        """Add the settings ``data``, ``model`` and ``train``."""
        parser.add_argument("--data", type=self.data, help="the data set")
        parser.add_argument("--model", type=self.model, help="the model")
        parser.add_argument("--train", type=self.train, default=self.train())

    def build(self, run: Any, examples: Examples) -> nn.Module:
        """Return a new model that fits the names of the set. Raises InputError for names that could not be kept."""
        names = self.names(examples)
        self.check_names(names, "the data set")
        return check_features(run.model(*self.outputs(names)), examples)

    def names(self, examples: Examples) -> dict[str, Any]:
        """Return the names that a model's outputs stand for, to be kept with its weights."""
        return {"class_names": list(examples.class_names)}

    def outputs(self, names: Mapping[str, Any]) -> tuple[int, ...]:
        """Return the sizes that a model is built for, given the names of its outputs."""
        return (len(names[self.name_keys[0]]),)

    def check_names(self, names: Mapping[str, Any], source: str) -> None:
        """Raise InputError for names that cannot be printed, or told apart."""
        for key in self.name_keys:
            check_different_names(names[key], f"{key} of {source}")

    def describe_input(self, run: Any, examples: Examples) -> dict[str, Any]:
        """Return what the model reads, for `make_predictor`, in values that JSON has."""
        return describe_clouds(run.data)

    @abstractmethod
    def make_predictor(self, model: nn.Module, names: Mapping[str, Any], given: Mapping[str, Any], source: str) -> Any:
        """Return what predicts with a trained model; ``given`` is what `describe_input` said, or a stranger wrote.

        Raises InputError, which begins with ``source``, for what it does not know.
        """

    @abstractmethod
    def make_step(self, run: Any, train: Examples) -> Step:
        """Return the function that gives loss and number of correct examples of an augmented batch."""

    @abstractmethod
    def evaluate(self, module: nn.Module, examples: Examples, run: Any, fabric: Fabric, votes: int = 1) -> Evaluation:
        """Score a model on a set; votes: how many looks at each example to average over, where a task has them."""

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
        write_plain_results(folder, result, self.headline, test, self.unit, page)

    def command(self, verb: str) -> str:
        """Return the program that trains or tests, as people call it."""
        return f"python tools/{verb}_{self.program}.py"

    def load(self, run: Any) -> tuple[Examples, Examples]:
        """Return the training and the test set."""
        return run.data.load()

    def mixes(self, run: Any) -> bool:
        """Say whether training mixes examples: each batch then begins with one more, for the next to be mixed with."""
        return False

    def make_augment(self, run: Any, train: Examples, epoch: int) -> Callable[[Batch, int], Batch]:
        """Return what is done on the device to a batch, of a step of so much number, before it is trained on."""

        def draws(batch: Batch) -> Draws:
            return Draws(batch["index"], "train", run.seed, epoch)

        def augment(batch: Batch, step: int) -> Batch:
            return run.augment(batch, run.data.num_points, draws(batch), run.data.features)

        return augment

    def start_weights(self, module: nn.Module, run: Any) -> str | None:
        """Give a new run's model other weights than random ones, where its settings say so; say which, in words."""
        return None if run.train.init is None else start_from(module, Path(run.train.init))

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
        self, folder: Path, module: nn.Module, run: Any, config: str, examples: Examples, name: str = "model"
    ) -> None:
        """Save weights with what is needed to build and use their model again: they describe themselves."""
        settings = read_yaml(config, "the settings")
        follow_features(settings["model"], settings["data"])
        described = {"model": settings["model"], "input": self.describe_input(run, examples)}
        metadata = {key: json.dumps(value) for key, value in (described | self.names(examples)).items()}
        metadata |= {"format": FORMAT, "task": self.name, "task_class": path_of_task(self), "config": config}
        save_weights(folder / f"{name}.safetensors", module.state_dict(), metadata)

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
