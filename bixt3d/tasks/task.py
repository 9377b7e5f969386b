"""The base class of tasks: settings, model, training step, evaluation and results."""

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from bixt3d.config import SettingsParser, follow_features, make_settings_parser
from bixt3d.datasets import CloudAugment
from bixt3d.datasets.transforms.draws import Draws
from bixt3d.engine.checkpoint import write_json
from bixt3d.engine.fabric import Fabric
from bixt3d.engine.loop import Batch, Examples, Step
from bixt3d.engine.optim import Optim
from bixt3d.engine.report import commit
from bixt3d.engine.runtime import Runtime, device_name
from bixt3d.io.untrusted import check_different_names, read_yaml
from bixt3d.io.weights import save_weights
from bixt3d.tasks.inputs import check_features, describe_clouds, fill_of
from bixt3d.tasks.results import write_plain_report
from bixt3d.tasks.scores import Evaluation, Score
from bixt3d.tasks.settings import Run, Train
from bixt3d.tasks.start_weights import start_from
from bixt3d.types import InputError
from bixt3d.version import __version__

FORMAT = "1"
"""Version of the metadata of weights."""


class Task(ABC):
    """A task, such as classification: all that training and testing need to know of it.

    Derive from it, set the class attributes, and define `make_predictor`, `make_step` and `evaluate`.

    Args:
        name: its name in result.json and in the metadata of weights.
        program: its name in commands, as in ``bixt3d train cls``.
        example: a command that trains a run, for messages.
        headline: the metrics that sum up a run: keys of result.json, and their scores.
        data: type of the setting ``data``.
        model: type of the setting ``model``: a function of the sizes that `outputs` returns.
        train: type of the setting ``train``.
        unit: what the examples are, for messages and for the column ``<unit>_per_second``.
        augmentation: type of the setting ``augment``.
        votes: whether evaluation can average votes (test-time augmentation).
        more: name and help of an option of the test command that calls `evaluate_more`; None: no such option.
        has_baseline: whether the results of ``more`` can be relative to those of a baseline, see `relative_to`.
        less_data: advice for a data set that does not fit in memory.
        less_evaluation: advice for an evaluation that does not fit in memory; ``{batch}`` is the size of its batches.
        name_keys: keys of `names`, which are saved with the weights.
        train_column: column of metrics.csv for the accuracy that a `Step` counts.
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
    has_baseline: bool = False
    less_data: str = "lower --data.num_points"
    less_evaluation: str = "lower --train.eval_batch_size (it is {batch}), which changes no result"
    name_keys: tuple[str, ...] = ("class_names",)
    train_column: str = "train_accuracy"

    @property
    def selects_by(self) -> Score:
        """The score that selects the best epoch on the validation split: the first of the headline."""
        return next(iter(self.headline.values()))

    def add_settings(self, parser: SettingsParser) -> None:
        """Add the settings ``data``, ``model`` and ``train``."""
        parser.add_argument("--data", type=self.data, help="the data set")
        parser.add_argument("--model", type=self.model, help="the model")
        parser.add_argument("--train", type=self.train, default=self.train())

    def build(self, run: Run, examples: Examples) -> nn.Module:
        """Return a new model for the classes of a data set. Raises InputError for names that cannot be saved."""
        names = self.names(examples)
        self.check_names(names, "the data set")
        return check_features(run.model(*self.outputs(names)), examples)

    def names(self, examples: Examples) -> dict[str, Any]:
        """Return the names of a model's outputs, such as class names; they are saved with its weights."""
        return {"class_names": list(examples.class_names)}

    def outputs(self, names: Mapping[str, Any]) -> tuple[int, ...]:
        """Return the arguments of the model function: the sizes of its outputs, given their names."""
        return (len(names[self.name_keys[0]]),)

    def check_names(self, names: Mapping[str, Any], source: str) -> None:
        """Raise InputError for names that cannot be printed or are not different."""
        for key in self.name_keys:
            check_different_names(names[key], f"{key} of {source}")

    def describe_input(self, run: Run, examples: Examples) -> dict[str, Any]:
        """Return a JSON-compatible description of the model's input, which `make_predictor` reads again."""
        return describe_clouds(run.data, fill_of(run, examples))

    @abstractmethod
    def make_predictor(self, model: nn.Module, names: Mapping[str, Any], given: Mapping[str, Any], source: str) -> Any:
        """Return a predictor for a trained model; ``given`` is the result of `describe_input`, from an untrusted file.

        Raises InputError, which names ``source``, if ``given`` is invalid.
        """

    @abstractmethod
    def make_step(self, run: Run, train: Examples) -> Step:
        """Return the training step: a function of model and augmented batch that gives loss and correct examples."""

    @abstractmethod
    def evaluate(self, module: nn.Module, examples: Examples, run: Run, fabric: Fabric, votes: int = 1) -> Evaluation:
        """Score a model on a set; ``votes`` > 1: average predictions with test-time augmentation."""

    def evaluate_more(self, module: nn.Module, examples: Examples, run: Run, fabric: Fabric, votes: int) -> Evaluation:
        """Score a model with the additional metrics of the option ``more``; results extend those of `evaluate`."""
        raise NotImplementedError

    def relative_to(self, place: Path, test: Examples, run: Run) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
        """Read the result of a baseline; return a function that gives entries of a result which relate it to that.

        Raises InputError if there is no such result, or one of another test set.
        """
        raise NotImplementedError

    def write_results(
        self,
        folder: Path,
        evaluation: Evaluation,
        test: Examples,
        run: Run,
        page: Mapping[str, Any],
        training: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Write result.json, then the report with `write_report`, which says of the ``training`` of the weights too."""
        write_json(folder / "result.json", page["result"])
        try:
            self.write_report(folder, evaluation, test, run, {**page, "result": {**training, **page["result"]}})
        except OSError as error:
            reason = f"could not write the report in {folder}: {error.strerror}; result.json is there"
            raise InputError(reason) from error

    def write_report(
        self, folder: Path, evaluation: Evaluation, test: Examples, run: Run, page: Mapping[str, Any]
    ) -> None:
        """Write pictures and report.html; ``page`` has title, result, rows, command and settings."""
        write_plain_report(folder, self.headline, test, self.unit, page)

    def command(self, verb: str) -> str:
        """Return the command of this task for a verb such as ``train`` or ``test``."""
        return f"bixt3d {verb} {self.program}"

    def load(self, run: Run) -> tuple[Examples, Examples]:
        """Return the training and the test set."""
        return run.data.load()

    def test_size(self, test: Examples) -> tuple[int, str]:
        """Return how many units an evaluation goes through, and what they are: ``inference_<unit>_per_second``."""
        return len(test), self.unit

    def mixes(self, run: Run) -> bool:
        """Say whether training mixes examples (MixUp, CutMix): each batch then begins with the example before it."""
        return False

    def sample_size(self, run: Run, batch: Batch) -> int:
        """Return the points of each sample in an augmented batch."""
        return run.data.num_points

    def make_augment(self, run: Run, train: Examples, epoch: int) -> Callable[[Batch, int], Batch]:
        """Return the augmentation of a training batch on the device: a function of batch and number of the step."""

        fill = fill_of(run, train)

        def augment(batch: Batch, step: int) -> Batch:
            draws = Draws(batch["index"], "train", run.seed, epoch)
            more = () if fill is None else (fill,)  # an augmentation of the user's own may not take it
            return run.augment(batch, self.sample_size(run, batch), draws, run.data.features, *more)

        return augment

    def start_weights(self, module: nn.Module, run: Run) -> str | None:
        """Load the initial weights of ``train.init`` into a new run's model; return in words which, or None."""
        up = getattr(run.data, "up", "")  # images have none
        return None if run.train.init is None else start_from(module, Path(run.train.init), up)

    def make_parser(self, description: str | None) -> SettingsParser:
        """Return the parser of all settings of a run."""
        parser = make_settings_parser(description or "")
        parser.add_argument("--seed", type=int, default=0, help="seed of weights, shuffling and augmentation")
        self.add_settings(parser)
        parser.add_class_arguments(self.augmentation, "augment", help=f"augmentation of training {self.unit}")
        parser.add_argument("--optim", type=Optim, default=Optim())
        parser.add_argument("--runtime", type=Runtime, default=Runtime())
        return parser

    def save_weights(
        self, folder: Path, module: nn.Module, run: Run, config: str, examples: Examples, name: str = "model"
    ) -> None:
        """Save weights, with metadata from which their model is built and used again: model, names, input, config."""
        settings = read_yaml(config, "the settings")
        follow_features(settings["model"], settings["data"])
        described = {"model": settings["model"], "input": self.describe_input(run, examples)}
        metadata = {key: json.dumps(value) for key, value in (described | self.names(examples)).items()}
        metadata |= {"format": FORMAT, "task": self.name, "task_class": path_of_task(self), "config": config}
        save_weights(folder / f"{name}.safetensors", module.state_dict(), metadata)

    def describe_result(
        self, evaluation: Evaluation, module: nn.Module, fabric: Fabric, facts: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the content of result.json: scores on the test set, ``facts``, versions and device."""
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
    """Return the dotted path by which other programs import a task's class, even if it is in ``__main__``."""
    module, main = type(task).__module__, sys.modules["__main__"]
    if module == "__main__":
        module = main.__spec__.name if main.__spec__ else Path(getattr(main, "__file__", module)).stem
    return f"{module}.{type(task).__qualname__}"
