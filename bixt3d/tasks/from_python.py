"""`bixt3d.train`: train from Python, for example in a notebook."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bixt3d.datasets.clouds.given import as_pair
from bixt3d.errors import check_path
from bixt3d.models.create import kind_of
from bixt3d.models.presets import read_model_config
from bixt3d.tasks import TASKS, find_task, training
from bixt3d.tasks.task import Task
from bixt3d.types import InputError

GROUPS = {
    "train": "train={'epochs': 10}",
    "augment": "augment={'jitter': 0.01}",
    "optim": "optim={'lr': 0.001}",
    "runtime": "runtime={'devices': 2}",
}
"""Groups of settings, each with an example."""


def train(
    config: str | Path | Mapping[str, Any],
    task: Task | str | None = None,
    run_dir: str | Path | None = None,
    seeds: Sequence[int] | None = None,
    trust: bool = False,
    **settings: Any,
) -> Path:
    """Train a run as ``bixt3d train`` does; return its folder, for `load_run`.

    Args:
        config: name of a config, path of a yaml file, or a mapping of settings.
        task: ``cls``, ``partseg``, ``scenes``, ``imgcls``, ``imgseg``, or a Task; by default that of its model.
        run_dir: folder of the run, new or empty; by default one under ``runs/``.
        seeds: several seeds: a run for each, with mean and standard deviation.
        trust: import classes outside bixt3d that the config names, which runs their code.
        settings: overrides of the config, as ``seed=1``, ``train={"epochs": 10}`` or ``**{"train.epochs": 10}``.
            ``data`` may be a data set of samples ``(xyz, feats, label)``, or a pair of them to train and test on: see
            `GivenClouds`.

    Raises InputError for wrong settings. Ctrl-C raises KeyboardInterrupt; finished epochs are safe in the folder.

    Example::

        folder = bixt3d.train("shapes_cls", train={"epochs": 10}, run_dir="runs/mine")
        bixt3d.load_run(folder).predict("scan.ply")
    """
    data = settings.get("data")
    given = None if data is None or isinstance(data, Mapping | str) else settings.pop("data")
    if not isinstance(config, Mapping):
        check_path(config=config)
    text = json.dumps(config, default=as_plain) if isinstance(config, Mapping) else str(config)
    options = [f"--cfg={text}", *of_given(given), *(f"--{name}={value}" for name, value in flat(settings))]
    options += [] if run_dir is None else [f"--run_dir={run_dir}"]
    if isinstance(seeds, (int, str)):
        raise InputError(f"seeds is a list of whole numbers, such as [0, 1, 2], not {seeds!r}")
    options += [] if seeds is None else [f"--seeds={','.join(map(str, seeds))}"]
    return training.train(choose_task(task, text), "", options + ["--trust"] * trust, given)


def of_given(data: Any) -> list[str]:
    """Return the options of a run on data sets that a program gives; their attribute ``features`` names features."""
    if data is None:
        return []
    features = getattr(as_pair(data)[0], "features", None)
    return ["--data=GivenClouds", *([f"--data.features={features}"] if features else [])]


def flat(settings: Mapping[str, Any], group: str = "") -> Iterator[tuple[str, str]]:
    """Yield settings as command-line options: names with dots, and values as text."""
    for name, value in settings.items():
        if name in GROUPS and not group and not isinstance(value, (Mapping, str)):
            raise InputError(f"{name} is a mapping of settings, such as {GROUPS[name]}, not {value!r:.80}")
        if isinstance(value, Mapping) and "class_path" not in value:
            yield from flat(value, f"{group}{name}.")
        else:
            yield f"{group}{name}", value if isinstance(value, str) else json.dumps(value, default=as_plain)


def as_plain(value: Any) -> Any:
    """Return a NumPy scalar, an array or a tensor as numbers, anything else as text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def choose_task(task: Task | str | None, config: str) -> Task:
    """Return the task of this name, or that of the config's model. Raises InputError if it is unknown."""
    known = [find_task(name) for name in TASKS]
    if isinstance(task, Task):
        return task
    if task is None:
        try:
            kind = kind_of(read_model_config(config))
        except InputError:  # a class that bixt3d does not know
            kind = None
        found = [one for one in known if one.program == kind]
    else:
        found = [one for one in known if task in (one.program, one.name)]
    if not found:
        names = ", ".join(f"'{one.program}'" for one in known)
        asked = f"there is no task '{task}'" if task else "the config's model is not one of bixt3d: give its task"
        raise InputError(f"{asked}; task is one of {names}, or a Task")
    return found[0]
