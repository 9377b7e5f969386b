"""Trained runs put to use: what their weights say of themselves, and the predictors made of them."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bixt3d.engine.checkpoint import load_metadata, load_weights
from bixt3d.engine.folder import RECORD, newest_run, weights_file
from bixt3d.inference.described import build_described
from bixt3d.io.bounds import printable
from bixt3d.io.errors import first_line
from bixt3d.io.importing import import_from
from bixt3d.io.untrusted import read_json
from bixt3d.tasks import find_task
from bixt3d.tasks.task import FORMAT, Task
from bixt3d.types import InputError

OLD = "{} was written by an older bixt3d: train again"


@dataclass(frozen=True)
class SavedRun:
    """What the weights of a run say of themselves, checked.

    Args:
        path: the file of weights.
        task: what the model does.
        model: class and settings of the model.
        names: what its outputs stand for.
        input: what it reads.
        config: the settings of the run in yaml, which only training and testing need.
        trust: import classes that are not known.
    """

    path: Path
    task: Task
    model: dict[str, Any]
    names: dict[str, Any]
    input: dict[str, Any]
    config: str
    trust: bool = False

    def load_model(self) -> nn.Module:
        """Return the model with its weights. Raises InputError for a class that is not known, and what does not fit."""
        weights: dict[str, Tensor] = load_weights(self.path)[0]
        outputs, features = self.task.outputs(self.names), self.input.get("features") or ""
        return build_described(self.model, self.task.model, outputs, features, weights, str(self.path), self.trust)

    def load(self, device: str | torch.device = "cpu") -> Any:
        """Return the predictor of the task, with the model on a device."""
        model = self.load_model().to(device)
        return self.task.make_predictor(model, self.names, self.input, f"input of {self.path}")


def newest_of(task: Task) -> Path:
    """Return the folder of the run of this task, under runs/, that began last. Raises InputError if there is none."""
    return newest_run(Path("runs"), task.name.__eq__, f"{task.name} run", task.example)


def read_run(run: str | Path, task: str | None = None, trust: bool = False) -> SavedRun:
    """Return what the weights of a run folder, or of a file, say of themselves; no weights are read.

    ``trust``: see `load_run`. Raises InputError if there are none, if no run of bixt3d wrote them, or one for another
    task than ``task``.
    """
    path = weights_file(Path(run))
    metadata = load_metadata(path)
    if trust:
        import_from_run(path.parent)
    found = find_task(metadata.get("task")) or import_task(metadata.get("task_class"), path, trust)
    if task not in (None, found.name):
        own, other = (f"{'an' if name[0] in 'aeiou' else 'a'} {name} run" for name in (found.name, task))
        raise InputError(f"{path} comes from {own}, but {other} is needed here")
    if "format" not in metadata:
        raise InputError(OLD.format(path))
    if metadata["format"] != FORMAT:
        raise InputError(
            f"{path} has format {printable(metadata['format'])[:20]}: a newer bixt3d wrote it, install that"
        )
    needed = ("model", "input", "config", *found.name_keys)
    if missing := [key for key in needed if key not in metadata]:
        raise InputError(f"{path} does not describe itself whole: it lacks '{missing[0]}'")
    names = {key: read_json(metadata[key], f"{key} of {path}") for key in found.name_keys}
    found.check_names(names, str(path))
    described = {key: read_json(metadata[key], f"{key} of {path}") for key in ("model", "input")}
    if not all(isinstance(value, dict) for value in described.values()) or "class_path" not in described["model"]:
        raise InputError(f"{path} does not describe its model and its input")
    if "normals" in described["input"]:  # in place of features
        raise InputError(OLD.format(path))
    return SavedRun(path, found, **described, names=names, config=metadata["config"], trust=trust)


def import_from_run(folder: Path) -> None:
    """Let the modules be imported that a run keeps beside its weights; one of several seeds, in the folder above."""
    for one in [folder.parent] * (folder.parent / RECORD).is_file() + [folder]:
        import_from(one)


def load_run(run: str | Path, device: str | torch.device = "cpu", trust: bool = False) -> Any:
    """Load a trained model: from a run folder, or from its ``model.safetensors`` alone.

    Classifiers and part segmenters of clouds give a Predictor or PartPredictor, those of images an ImagePredictor or
    ImageSegmentationPredictor. Nothing is imported, downloaded or read but this file; ``trust`` lets it import the
    classes of a model and a task that are not bixt3d's, and so run their code. Raises InputError if there is no such
    run, or if its weights do not fit its description.
    """
    return read_run(run, trust=trust).load(device)


def import_task(named: str | None, path: Path, trust: bool) -> Task:
    """Return the task of the class that weights name. Raises InputError without ``trust``, or where there is none."""
    if not named:
        raise InputError(f"{path} does not come from a run of bixt3d, or of a task that is imported here")
    shown = printable(named)[:80]
    if not trust:
        raise InputError(
            f"{path} names the task '{shown}', which is not bixt3d's: import it before, or let the file import it, and "
            "so run its code, with --trust or trust=True"
        )
    module, _, name = named.rpartition(".")
    try:
        task = getattr(import_module(module), name)()
    except Exception as error:  # the code of a user's module may raise anything
        raise InputError(
            f"the task '{shown}' of {path} cannot be imported ({printable(first_line(error))}): its module must lie in "
            "a folder that PYTHONPATH names"
        ) from error
    if not isinstance(task, Task):
        raise InputError(f"{path} names '{shown}' as its task, which is no Task of bixt3d")
    return task
