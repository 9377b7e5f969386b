"""Which weights `bixt3d predict` and `bixt3d visualize` take if no run is named: the newest run, or bixt3d's own."""

import sys
from collections.abc import Sequence
from pathlib import Path

from bixt3d.cli.choice import find
from bixt3d.datasets.files.reader import SUFFIXES, find_files
from bixt3d.datasets.images.reading import ENDINGS
from bixt3d.engine.folder import NoRunError, newest_run
from bixt3d.inference.runs import read_run
from bixt3d.io.bounds import listed, printable
from bixt3d.io.pretrained import find_pretrained, known_pretrained
from bixt3d.tasks import find_task
from bixt3d.types import InputError

OBJECT, AERIAL = "shapes-cls", "aerial-scenes"
"""The weights for files of one object, and for LAS and LAZ files, which surveys write."""
OF_IMAGES = "cifar10-small"
"""The weights to name for images: not chosen for any, as most show none of their few classes."""
OF_SURVEYS, UNCLEAR = {".las", ".laz"}, {".e57"}
"""Endings of files of airborne surveys, and of those that hold rooms, streets and objects alike."""


def choose_weights(places: Sequence[str]) -> Path:
    """Return the newest run that reads such files; without any, the weights of bixt3d for them, and say which.

    Raises InputError for files that no weights of bixt3d are for, or if it is not clear which.
    """
    found = endings(places)
    try:
        return newest(bool(found & set(ENDINGS)) and not found & set(SUFFIXES))
    except NoRunError as error:
        name = default_name(found & set(SUFFIXES))
        if name is None:
            if not found & set(ENDINGS):
                check_files(places)
                raise
            raise InputError(f"{error}; or name weights, --checkpoint {OF_IMAGES}") from error
        if name == "":
            weights = f"name weights, --checkpoint {', '.join(known_pretrained())}, or a run of yours"
            raise InputError(f"{why_unclear(places, found & set(SUFFIXES))}{weights}") from error
    run = find_pretrained(name)
    classes = read_run(run).names["class_names"]
    what = "one object" if name == OBJECT else "an aerial survey"
    print(
        f"weights: {name}, which come with bixt3d and take each file for {what}, of {len(classes)} classes "
        f"({listed(classes, 20)}); others: --checkpoint NAME, see bixt3d list models --pretrained",
        file=sys.stderr,
    )
    return run


def check_files(places: Sequence[str]) -> None:
    """Raise InputError for a file that is not there, and for a folder without clouds."""
    for path in find_files(places):
        if not path.exists():
            raise InputError(f"there is no file {printable(path)}")


def endings(places: Sequence[str]) -> set[str]:
    """Return the endings of files, and of the files in folders."""
    paths = map(Path, places)
    return {one.suffix.lower() for path in paths for one in (path.rglob("*") if path.is_dir() else [path])}


def default_name(found: set[str]) -> str | None:
    """Return the name of the weights for files with these endings; "" if that is not clear, None for none."""
    if found & UNCLEAR or (found & OF_SURVEYS and found - OF_SURVEYS):
        return ""
    return None if not found else AERIAL if found & OF_SURVEYS else OBJECT


def why_unclear(places: Sequence[str], found: set[str]) -> str:
    """Return the beginning of the message about files with these endings that no weights are chosen for."""
    if not (found & OF_SURVEYS and found - OF_SURVEYS - UNCLEAR):
        return f"it is not clear what {listed(places, 3)} shows, an object, a room or a survey: "
    surveys, objects = (", ".join(sorted(some)) for some in (found & OF_SURVEYS, found - OF_SURVEYS - UNCLEAR))
    have = "has" if len(places) == 1 else "have"
    kinds = f"formats of surveys ({surveys}) and of objects ({objects})"
    return f"{listed(places, 3)} {have} {kinds}, which no weights read alike: predict them apart, or "


def newest(of_images: bool) -> Path:
    """Return the folder of the newest run on images, or on clouds. Raises NoRunError if there is none."""

    def wanted(name: str) -> bool:
        task = find_task(name)
        return task is not None and (task.unit == "images") == of_images

    example = find("imgcls" if of_images else "cls").example
    return newest_run(Path("runs"), wanted, "run on images" if of_images else "run", example)
