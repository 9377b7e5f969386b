"""Folders of clouds as people keep them: which files there are, of which class and in which split."""

import csv
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from bixt3d.datasets.clouds.split import stratified_split
from bixt3d.datasets.files.reader import SUFFIXES
from bixt3d.datasets.files.unread import unread_notes
from bixt3d.io.bounds import LIST_BYTES, NAME_LENGTH, check_names, counted, listed, printable, read_words, shortened
from bixt3d.types import InputError

SPLITS = dict.fromkeys(("train", "training"), "train") | dict.fromkeys(("test", "testing"), "test")
SPLITS |= dict.fromkeys(("val", "valid", "validation"), "val")
"""Names of folders of splits, in lower case."""

LIST = "labels.csv"
LAYOUT = (
    "put clouds and meshes into train/CLASS/ and test/CLASS/, or into CLASS/ alone, or name them in labels.csv "
    "(file,label): see `bixt3d download --layouts`"
)


@dataclass(frozen=True)
class Entry:
    """A file of a set: its path, its class ("" if it lies in no class folder), and its split ("" if there are none)."""

    path: Path
    label: str
    split: str


@dataclass(frozen=True)
class Listing:
    """The files of a set, those for training first, in the order of their names.

    Args:
        entries: the files.
        num_train: number of files for training; the others are for testing.
        empty: class folders without a file that can be read.
        notes: what was guessed or left out.
    """

    entries: tuple[Entry, ...]
    num_train: int
    empty: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of the training files, sorted."""
        return tuple(sorted({entry.label for entry in self.entries[: self.num_train]}))


def list_folder(root: Path, test_fraction: float, seed: int, need_classes: bool = True) -> Listing:
    """Return the files of a folder, or of its ``labels.csv``, and their splits.

    Without a folder ``test`` or ``val``, a share ``test_fraction`` of the clouds of each class is for testing.
    ``need_classes``: leave out files in no class folder. Raises InputError if there is nothing to train or test on.
    """
    if not root.is_dir():
        raise InputError(f"there is no folder {printable(root)}: {LAYOUT}")
    from_list = (root / LIST).is_file()
    entries, empty, unread = (_read_list(root), [], []) if from_list else _walk(root)
    notes = []
    if any(entry.split for entry in entries):
        entries, notes = _with(entries, lambda one: bool(one.split), root, "in none of the folders of the splits")
    if need_classes or any(entry.label for entry in entries):
        entries, more = _with(entries, lambda one: bool(one.label), root, "in no class folder")
        notes += more
    if not entries:
        raise InputError(f"{printable(root)} has no files to train on ({', '.join(SUFFIXES)}): {LAYOUT}")
    check_names(sorted({entry.label for entry in entries if entry.label}), root)
    entries, more = _two_splits(entries, root, test_fraction, seed)
    notes += more + ([f"no clouds in the class folders {listed(empty)}"] if empty else [])
    notes += unread_notes(root, unread, SUFFIXES)
    train, test = ([one for one in entries if one.split == split] for split in ("train", "test"))
    for split, some in (("train", train), ("test", test)):
        if not some:
            raise InputError(f"{printable(root)} has no clouds to {split} on: {LAYOUT}")
    if unknown := {one.label for one in test} - {one.label for one in train}:
        raise InputError(f"{printable(root)} has clouds of {listed(sorted(unknown))} to test on, but none to train on")
    return Listing((*train, *test), len(train), tuple(empty), tuple(notes))


def _with(entries: Sequence[Entry], wanted, root: Path, where: str) -> tuple[list[Entry], list[str]]:  # noqa: ANN001
    """Return the wanted entries, and a note on the others."""
    others = [shown_path(one.path, root) for one in entries if not wanted(one)]
    notes = [f"{counted(len(others), 'file')} {where}, not used: {listed(others, 3)}"] if others else []
    return [one for one in entries if wanted(one)], notes


def shown_path(path: Path, root: Path) -> Path:
    """Return the path of a file relative to its folder; as it is if it lies elsewhere, as files of a list may."""
    return path.relative_to(root) if path.is_relative_to(root) else path


def _walk(root: Path) -> tuple[list[Entry], list[str], list[Path]]:
    """Return the readable files below a folder, links followed, the class folders without any, and the other files."""
    entries, folders, others = [], {}, []
    for path in sorted(_files(root, folders), key=lambda path: path.relative_to(root).as_posix()):
        parts = path.relative_to(root).parts[:-1]
        if path.suffix.lower() not in SUFFIXES or not path.is_file():
            others.append(path)
            continue
        split, label = place_of(parts)
        entries.append(Entry(path, label, split))
        folders[parts[:2] if split else parts[:1]] = True
    depth = 2 if any(entry.split for entry in entries) else 1
    empty = [
        "/".join(parts)
        for parts, used in sorted(folders.items())
        if not used and len(parts) == depth and bool(place_of(parts)[0]) == (depth == 2) and place_of(parts)[1]
    ]
    return entries, empty, others


def place_of(parts: Sequence[str]) -> tuple[str, str]:
    """Return split and class of a file in these folders: ``train/CLASS``, ``CLASS/train`` or ``CLASS``."""
    for place, part in enumerate(parts[:2]):
        if part.lower() in SPLITS:
            rest = [*parts[:place], *parts[place + 1 :]]
            return SPLITS[part.lower()], rest[0] if rest else ""
    return "", parts[0] if parts else ""


def _files(root: Path, folders: dict[tuple[str, ...], bool]) -> Iterator[Path]:
    """Yield the files below a folder; add its sub-folders to ``folders``. Hidden ones are skipped."""
    seen = set()
    for here, below, files in os.walk(root, followlinks=True):
        real = os.path.realpath(here)
        below[:] = [] if real in seen else sorted(name for name in below if not name.startswith("."))
        if real in seen:  # a link to a folder above
            continue
        seen.add(real)
        parts = Path(here).relative_to(root).parts
        if 0 < len(parts) <= 2:
            folders.setdefault(parts, False)
        for name in files:
            if not name.startswith(".") and name != LIST:
                yield Path(here, name)


def _read_list(root: Path) -> list[Entry]:
    """Return the files that ``labels.csv`` names."""
    path = root / LIST
    text = read_words(path, LIST_BYTES)
    first = text.partition("\n")[0]
    rows = list(csv.reader(text.splitlines(), delimiter=max(",;\t", key=first.count), skipinitialspace=True))
    header = [name.strip().lower() for name in rows[0]] if rows else []
    if not {"file", "label"} <= set(header):
        raise InputError(f"{printable(path)} must begin with the line file,label or file,label,split")
    entries = [
        _entry(dict(zip(header, map(str.strip, row), strict=False)), f"{printable(path)}, line {number}", root)
        for number, row in enumerate(rows[1:], 2)
        if any(cell.strip() for cell in row)
    ]
    if not entries:
        raise InputError(f"{printable(path)} names no files")
    twice = [one for one, times in Counter(entry.path for entry in entries).items() if times > 1]
    missing = [entry.path for entry in entries if not os.path.isfile(entry.path)]  # False for too long names, too
    for paths, fault in ((twice, "more than once"), (missing, "that are missing")):
        if paths:
            raise InputError(f"{printable(path)} names files {fault}: {listed(paths, 5)}")
    return sorted(entries, key=lambda entry: str(entry.path))


def _entry(row: Mapping[str, str], where: str, root: Path) -> Entry:
    """Return the file that a row of the list names. Raises InputError if it lacks a value, or has an unknown split."""
    name, label, split = (row.get(column, "") for column in ("file", "label", "split"))
    if not name or not label or len(label) > NAME_LENGTH:
        raise InputError(f"{where}: needs a file and a label of at most {NAME_LENGTH} characters")
    if split and split.lower() not in SPLITS:
        raise InputError(f"{where}: has the split {printable(shortened(split))!r}, not train, val or test")
    return Entry(root / name.replace("\\", "/"), label, SPLITS.get(split.lower(), ""))


def _two_splits(entries: Sequence[Entry], root: Path, test_fraction: float, seed: int) -> tuple[list[Entry], list[str]]:
    """Return the files that are for training or testing, and how that was decided if the folder does not say it."""
    found = {entry.split for entry in entries}
    if "test" in found:
        unused = sum(entry.split == "val" for entry in entries)
        notes = (
            [f"{counted(unused, 'cloud')} of the validation folder not used: there are test clouds"] if unused else []
        )
        return [entry for entry in entries if entry.split != "val"], notes
    if "val" in found:
        test = [replace(entry, split="test") if entry.split == "val" else entry for entry in entries]
        return test, ["the validation folder is the test set"]
    if not test_fraction:
        raise InputError(f"{printable(root)} has no clouds to test on: set --data.test_fraction, such as 0.2")
    names = sorted({entry.label for entry in entries})
    label = torch.tensor([names.index(entry.label) for entry in entries])
    chosen = set(stratified_split(label, test_fraction, seed)[1].tolist())
    splits = ["test" if place in chosen else "train" for place in range(len(entries))]
    note = f"no test folder: {test_fraction:.0%} of each class, drawn with seed {seed}, are the test set"
    return [replace(one, split=split) for one, split in zip(entries, splits, strict=True)], [note]
