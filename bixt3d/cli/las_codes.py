"""Copies of LAS and LAZ files with predicted classes: as new dimensions, or as their classification."""

from argparse import Namespace
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int

from bixt3d.datasets.files.las import open_las
from bixt3d.datasets.files.las_large import LAS, is_large
from bixt3d.datasets.files.las_writing import Numbers, check_copy, copy_las
from bixt3d.inference.scene_blocks import NumbersOnDisk, numbers_in
from bixt3d.inference.scenes import ScenePredictor
from bixt3d.io.bounds import LIST_BYTES, listed, printable, read_words
from bixt3d.io.untrusted import read_yaml
from bixt3d.types import VOID, InputError

FIVE_BITS = 31
"""Largest classification of point formats 0 to 5."""
MOST = 255
"""Largest classification of all others."""


@dataclass(frozen=True)
class Codes:
    """The classification of each point, ``table[labels]``, made when a slice is taken; negative: as in the file."""

    table: Int[np.ndarray, " C"]
    labels: Numbers

    dtype = np.dtype(np.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, place: slice) -> Int[np.ndarray, " _"]:
        return self.table[self.labels[place]]


def codes_of(predictor: ScenePredictor, arguments: Namespace) -> dict[str, int]:
    """Return the classification of each class that is to be written. Raises InputError for wrong ``--classes``."""
    names = predictor.class_names
    all_codes = dict(zip(names, predictor.las_codes or range(len(names)), strict=True))
    if arguments.classes:
        chosen = _read_classes(arguments.classes)
        if unknown := [name for name in chosen if name not in names]:
            raise InputError(f"{printable(arguments.classes)} names {unknown[0]}, but the classes are {listed(names)}")
        all_codes = {name: all_codes[name] if code is None else code for name, code in chosen.items()}
    if wrong := [name for name, code in all_codes.items() if not 0 <= code <= MOST]:
        raise InputError(f"the classification of {wrong[0]} must be from 0 to {MOST}, not {all_codes[wrong[0]]}")
    return all_codes


def _read_classes(words: str) -> dict[str, int | None]:
    """Return the classes of a list, or of a file with one, each with its code or None."""
    text = words if words.lstrip().startswith(("[", "{")) else read_words(Path(words), LIST_BYTES)
    given = read_yaml(text, words, settings=False)
    chosen = dict.fromkeys(map(str, given)) if isinstance(given, list) else given
    if (
        not isinstance(chosen, dict)
        or not chosen
        or not all(code is None or type(code) is int for code in chosen.values())
    ):
        raise InputError(f"{printable(words)} should list classes (- building), or give their codes (building: 6)")
    return {str(name): code for name, code in chosen.items()}


def check_codes(path: Path, predictor: ScenePredictor, arguments: Namespace) -> None:
    """Raise InputError if the classification of a file cannot be written, before anything is predicted."""
    if arguments.write != "classification":
        return
    codes = codes_of(predictor, arguments)
    if path.suffix.lower() not in LAS:
        raise InputError(f"{printable(path)} has no LAS classification: leave out --write classification")
    with open_las(path) as las:
        most = FIVE_BITS if las.header.point_format < 6 else MOST
        if too_large := [name for name, code in codes.items() if code > most]:
            name = too_large[0]
            raise InputError(
                f"{printable(path)} has point format {las.header.point_format}: its classification is at most {most}, "
                f"but {name} is {codes[name]}: give other codes by --classes, or leave out --write"
            )


def check_copies(path: Path, predictor: ScenePredictor, arguments: Namespace) -> None:
    """Raise InputError if a LAS or LAZ file cannot be copied with labels, before anything is predicted."""
    if not arguments.out or not is_large(path, 0):  # whoever reads a damaged file says why
        return
    numbers = () if arguments.write == "classification" else numbers_in(Path(), predictor)
    new = {one.path.name: np.empty(0, one.dtype) for one in numbers}
    for ending in {f".{one}" for one in arguments.format or (path.suffix[1:].lower(),)} & {*LAS}:
        try:
            check_copy(ending == ".laz", path, new)
        except InputError as error:
            raise InputError(f"{printable(path)}: {error}") from error


def write_las_copy(
    file: Path, source: Path, predictor: ScenePredictor, arguments: Namespace, labels: tuple[Numbers, Numbers, Numbers]
) -> tuple[str, ...]:
    """Write a copy of a LAS or LAZ file with labels, confidence and entropy, or with another classification."""
    label, confidence, entropy = labels
    names = dict(enumerate(predictor.class_names))
    if arguments.write != "classification":
        if isinstance(label, NumbersOnDisk):  # all are at least 0
            label = replace(label, dtype=np.dtype(f"u{label.dtype.itemsize}"))
        elif label.min() < 0:
            names = {VOID: "", **names}
        return copy_las(file, source, {"label": label, "confidence": confidence, "entropy": entropy}, names)
    codes = codes_of(predictor, arguments)
    table = np.array([*(codes.get(name, -1) for name in predictor.class_names), -1])  # the last: no position
    found = copy_las(file, source, {}, changed={"classification": Codes(table, label)})
    shown = listed([f"{name} {code}" for name, code in codes.items()])
    other = "" if len(codes) == len(names) else ", all other points keep theirs"
    by_number = not predictor.las_codes and all(names.get(code) == name for name, code in codes.items())
    what = " (their numbers in the run, as its training labels were no LAS classification)" if by_number else ""
    return (*found, f"classification replaced: {shown}{what}{other}")
