"""The tasks of the command line. It imports nothing heavy: help must be fast."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bixt3d.errors import InputError
from bixt3d.io.bounds import printable
from bixt3d.io.named_configs import nearest


@dataclass(frozen=True)
class Choice:
    """A task: its full name, what is trained, the unit of its data sets, and an example config."""

    task: str
    what: str
    unit: str
    config: str


TASKS = {
    "cls": Choice("classification", "a classifier of point clouds", "clouds", "shapes_cls"),
    "partseg": Choice("part segmentation", "a part segmenter of point clouds", "clouds", "shapes_partseg"),
    "scenes": Choice("scene segmentation", "a segmenter of scenes of any size", "crops", "rooms_small"),
    "imgcls": Choice("image classification", "a classifier of images", "images", "cifar10"),
    "imgseg": Choice("image segmentation", "a segmenter of images", "images", "camvid"),
}
"""The tasks by their short names."""
HELP = ("-h", "--help")


def choose_task(argv: Sequence[str], verb: str, text: str) -> str | None:
    """Return the short name of the task that a command line begins with, or None.

    With ``--help`` in place of a name, prints the text and ends the program.
    """
    first = argv[0] if argv else ""
    if first in HELP:
        lines = [f"  {name:<8} {choice.what}" for name, choice in TASKS.items()]
        print("\n".join([text, "", "tasks:", *lines, "", f"bixt3d {verb} cls --help explains the options."]))
        sys.exit(0)
    return first if first in TASKS else None


def find(name: str) -> Any:
    """Return the `Task` of a short name."""
    from bixt3d.tasks import find_task

    return find_task(TASKS[name].task)


def say_which(word: str, verb: str) -> InputError:
    """Return the error for a command line that names no task."""
    if word and not word.startswith("-"):
        return InputError(f"there is no task '{printable(word)}'" + nearest(word, TASKS))
    return InputError(f"say what to {verb}: bixt3d {verb} {'|'.join(TASKS)} ...")
