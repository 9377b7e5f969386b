"""``bixt3d train cls|partseg|imgcls|imgseg``: train one run, or one for each of several seeds."""

from collections.abc import Sequence
from pathlib import Path

from bixt3d.cli.choice import choose_task, task_of


def main(argv: Sequence[str]) -> Path:
    """Train a run of the task that the first word names; returns its folder."""
    name = choose_task(argv, "train")
    from bixt3d.tasks.training import train

    return train(task_of(name), __doc__, argv[1:])
