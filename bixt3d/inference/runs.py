"""Load trained runs: check the metadata of their weights, build the model and its predictor."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bixt3d.engine.folder import RECORD, newest_run, weights_file
from bixt3d.errors import check_path
from bixt3d.inference.predictor import move
from bixt3d.io.bounds import printable
from bixt3d.io.error_messages import first_line
from bixt3d.io.importing import import_from
from bixt3d.io.pretrained import find_pretrained, shown
from bixt3d.io.untrusted import read_json
from bixt3d.io.weights import load_metadata, load_weights
from bixt3d.models.described import build_described
from bixt3d.models.sharing import SharedModel
from bixt3d.tasks import find_task
from bixt3d.tasks.task import FORMAT, Task
from bixt3d.types import InputError

OLD = "{} was written by an older bixt3d: train again"


@dataclass(frozen=True)
class SavedRun:
    """The checked metadata of a run's weights.

    Args:
        path: the file of weights.
        task: the task of the run.
        model: class and settings of the model.
        names: names of its outputs.
        input: description of its input, such as number of points, features and up axis.
        config: the settings of the run in yaml, which only training and testing need.
        trust: import classes that bixt3d does not know.
    """

    path: Path
    task: Task
    model: dict[str, Any]
    names: dict[str, Any]
    input: dict[str, Any]
    config: str
    trust: bool = False

    def load_model(self) -> nn.Module:
        """Return the model with its weights. Raises InputError for an unknown class or weights that do not fit."""
        weights, metadata = load_weights(self.path)
        outputs, features = self.task.outputs(self.names), self.input.get("features") or ""
        model = build_described(self.model, self.task.model, outputs, features, weights, shown(self.path), self.trust)
        if isinstance(model, SharedModel):
            model.metadata = metadata
        return model

    def load(self, device: str | torch.device = "cpu") -> Any:
        """Return the predictor of the task, with the model on a device."""
        model = move(self.load_model(), device)
        return self.task.make_predictor(model, self.names, self.input, f"input of {shown(self.path)}")


def newest_of(task: Task) -> Path:
    """Return the folder of the newest run of this task under runs/. Raises InputError if there is none."""
    return newest_run(Path("runs"), task.name.__eq__, f"{task.name} run", task.example)


def read_run(run: str | Path, task: str | None = None, trust: bool = False) -> SavedRun:
    """Return the metadata of a run folder or a file of weights, without reading the weights.

    ``trust``: see `load_run`. Raises InputError if there are no weights, if bixt3d did not write them, or if they are
    of another task than ``task``.
    """
    check_path(run=run)
    path = weights_file(Path(run))
    metadata, place = load_metadata(path), shown(path)
    if trust:
        import_from_run(path.parent)
    found = find_task(metadata.get("task")) or import_task(metadata.get("task_class"), place, trust)
    if task not in (None, found.name):
        own, other = (f"{'an' if name[0] in 'aeiou' else 'a'} {name} run" for name in (found.name, task))
        raise InputError(f"{place} comes from {own}, but {other} is needed here")
    if "format" not in metadata:
        raise InputError(OLD.format(place))
    if metadata["format"] != FORMAT:
        raise InputError(
            f"{place} has format {printable(metadata['format'])[:20]}: a newer bixt3d wrote it, install that"
        )
    needed = ("model", "input", "config", *found.name_keys)
    if missing := [key for key in needed if key not in metadata]:
        raise InputError(f"{place} has incomplete metadata: it lacks '{missing[0]}'")
    names = {key: read_json(metadata[key], f"{key} of {place}") for key in found.name_keys}
    found.check_names(names, place)
    described = {key: read_json(metadata[key], f"{key} of {place}") for key in ("model", "input")}
    if not all(isinstance(value, dict) for value in described.values()) or "class_path" not in described["model"]:
        raise InputError(f"{place} does not describe its model and its input")
    if "normals" in described["input"]:  # in place of features
        raise InputError(OLD.format(place))
    return SavedRun(path, found, **described, names=names, config=metadata["config"], trust=trust)


def import_from_run(folder: Path) -> None:
    """Make the modules in a run folder importable; those of one of several seeds are in the folder above."""
    for one in [folder.parent] * (folder.parent / RECORD).is_file() + [folder]:
        import_from(one)


def load_run(run: str | Path, device: str | torch.device = "cpu", trust: bool = False) -> Any:
    """Load a trained model from a run folder, from its ``model.safetensors`` alone, or by name; return its predictor.

    For clouds that is a Predictor (classification) or PartPredictor, for images an ImagePredictor or
    ImageSegmentationPredictor. Names: see `load_pretrained`. Only this file is read; nothing is imported, or downloaded
    unless the name is one of the Hugging Face hub. ``trust``: import classes of
    models and tasks that are not bixt3d's, which runs their code. Raises InputError if there is no such run, or if its
    weights do not fit its description.
    """
    return read_run(run, trust=trust).load(device)


def load_pretrained(name: str, device: str | torch.device = "cpu", trust: bool = False) -> Any:
    """Load trained weights by name; return their predictor, as `load_run` does.

    ``name``: one of `list_models(pretrained=True)`, which come with bixt3d and need no network, or
    ``hf-hub:USER/MODEL`` of the Hugging Face hub. Raises InputError for another name.

    Example:
        >>> load_pretrained("shapes-cls").class_names[:3]
        ('airplane', 'bed', 'bottle')
    """
    check_path(name=name)
    return load_run(find_pretrained(str(name)), device, trust)


def import_task(named: str | None, place: str, trust: bool) -> Task:
    """Return the task that the weights name. Raises InputError without ``trust``, or if it cannot be imported."""
    if not named:
        raise InputError(f"{place} does not come from a run of bixt3d, or of a task that is imported here")
    task_class = printable(named)[:80]
    if not trust:
        raise InputError(
            f"{place} names the task '{task_class}', which is not bixt3d's: import it before, or let the file "
            "import it, and so run its code, with --trust or trust=True"
        )
    module, _, name = named.rpartition(".")
    try:
        task = getattr(import_module(module), name)()
    except Exception as error:  # the code of a user's module may raise anything
        raise InputError(
            f"the task '{task_class}' of {place} cannot be imported ({printable(first_line(error))}): its module must "
            "be in a folder that PYTHONPATH names"
        ) from error
    if not isinstance(task, Task):
        raise InputError(f"{place} names '{task_class}' as its task, which is no Task of bixt3d")
    return task
