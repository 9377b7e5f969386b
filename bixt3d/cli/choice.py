"""The tasks by the short names that the command line knows them by."""

from collections.abc import Sequence
from typing import Any

from bixt3d.tasks import TASKS, find_task
from bixt3d.types import InputError

SHORT = dict(zip(("cls", "partseg", "imgcls", "imgseg"), TASKS, strict=True))
"""The full name of each task by its short one."""


def choose_task(argv: Sequence[str], verb: str) -> str:
    """Return the short name that a command line begins with. Raises InputError if there is none."""
    if not argv or argv[0] not in SHORT:
        raise InputError(f"say what to {verb}: bixt3d {verb} {'|'.join(SHORT)}")
    return argv[0]


def task_of(name: str) -> Any:
    """Return the task of a short name."""
    return find_task(SHORT[name])
