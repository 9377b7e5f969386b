"""What a task is to the programs that train and test it: settings, a model, a training step, and scores."""

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bixt3d.config import SettingsParser, follow_features, make_settings_parser
from bixt3d.datasets import CloudAugment
from bixt3d.datasets.transforms.draws import Draws
from bixt3d.engine.checkpoint import save_weights, write_json
from bixt3d.engine.fabric import Fabric
from bixt3d.engine.loop import Batch, Examples, Step
from bixt3d.engine.optim import Optim
from bixt3d.engine.report import commit
from bixt3d.engine.runtime import Runtime, device_name
from bixt3d.io.untrusted import check_different_names, read_yaml
from bixt3d.tasks.inputs import check_features, describe_clouds
from bixt3d.tasks.results import write_plain_report
from bixt3d.tasks.scores import Evaluation, Score
from bixt3d.tasks.settings import Run, Train
from bixt3d.tasks.start_weights import start_from
from bixt3d.types import InputError
from bixt3d.version import __version__

FORMAT = "1"
"""Of the metadata of weights."""


class Task(ABC):
    """One kind of question asked of clouds or images. What trains and tests knows tasks by this class alone.

    ``name`` stands in result.json and in the weights' file; ``program`` is the end of the programs' names;
    ``example`` is a command that makes a run; ``headline`` maps the figures of result.json that sum up a run to their
    scores. ``data``, ``model`` and ``train`` are the types of these settings; a model is a function of its `outputs`.
    ``unit`` is what a set consists of, ``augmentation`` the class of the settings ``augment``; ``votes`` says whether
    evaluation can average over several votes, ``less_data`` how a set takes less memory; ``more`` is an option of the
    test command that asks for `evaluate_more`, and its help. ``name_keys`` are the `names`
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
    more: tuple[str, str] | None = None
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

    def build(self, run: Run, examples: Examples) -> nn.Module:
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

    def describe_input(self, run: Run, examples: Examples) -> dict[str, Any]:
        """Return what the model reads, for `make_predictor`, in values that JSON has."""
        return describe_clouds(run.data)

    @abstractmethod
    def make_predictor(self, model: nn.Module, names: Mapping[str, Any], given: Mapping[str, Any], source: str) -> Any:
        """Return what predicts with a trained model; ``given`` is what `describe_input` said, or a stranger wrote.

        Raises InputError, which begins with ``source``, for what it does not know.
        """

    @abstractmethod
    def make_step(self, run: Run, train: Examples) -> Step:
        """Return the function that gives loss and number of correct examples of an augmented batch."""

    @abstractmethod
    def evaluate(self, module: nn.Module, examples: Examples, run: Run, fabric: Fabric, votes: int = 1) -> Evaluation:
        """Score a model on a set; votes: predictions to average for each example, where a task has them."""

    def evaluate_more(self, module: nn.Module, examples: Examples, run: Run, fabric: Fabric, votes: int) -> Evaluation:
        """Score a model as `evaluate` does and beyond, where ``more`` names an option of the test command for it."""
        raise NotImplementedError

    def write_results(
        self, folder: Path, evaluation: Evaluation, test: Examples, run: Run, page: Mapping[str, Any]
    ) -> None:
        """Write result.json, then what `write_report` writes, which is told the same."""
        write_json(folder / "result.json", page["result"])
        try:
            self.write_report(folder, evaluation, test, run, page)
        except OSError as error:
            reason = f"could not write the report in {folder}: {error.strerror}; result.json is there"
            raise InputError(reason) from error

    def write_report(
        self, folder: Path, evaluation: Evaluation, test: Examples, run: Run, page: Mapping[str, Any]
    ) -> None:
        """Write pictures and report.html; ``page`` holds title, result, rows, command and settings."""
        write_plain_report(folder, self.headline, test, self.unit, page)

    def command(self, verb: str) -> str:
        """Return the program that trains or tests, as people call it."""
        return f"bixt3d {verb} {self.program}"

    def load(self, run: Run) -> tuple[Examples, Examples]:
        """Return the training and the test set."""
        return run.data.load()

    def mixes(self, run: Run) -> bool:
        """Say whether training mixes examples: each batch then begins with one more, for the next to be mixed with."""
        return False

    def make_augment(self, run: Run, train: Examples, epoch: int) -> Callable[[Batch, int], Batch]:
        """Return what is done on the device to a batch, of a step of so much number, before it is trained on."""

        def draws(batch: Batch) -> Draws:
            return Draws(batch["index"], "train", run.seed, epoch)

        def augment(batch: Batch, step: int) -> Batch:
            return run.augment(batch, run.data.num_points, draws(batch), run.data.features)

        return augment

    def start_weights(self, module: nn.Module, run: Run) -> str | None:
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
        self, folder: Path, module: nn.Module, run: Run, config: str, examples: Examples, name: str = "model"
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
            "version": __version__,
            "torch": torch.__version__,
            "commit": commit(),
            **facts,
        }


def path_of_task(task: Task) -> str:
    """Return the dotted path of a task's class by which other programs import it, even if it is in this one."""
    module, main = type(task).__module__, sys.modules["__main__"]
    if module == "__main__":
        module = main.__spec__.name if main.__spec__ else Path(getattr(main, "__file__", module)).stem
    return f"{module}.{type(task).__qualname__}"
