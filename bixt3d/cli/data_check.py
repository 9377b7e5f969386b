"""``bixt3d data check``: what a folder of clouds contains, what is wrong with it, and how to train on it."""

import shlex
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bixt3d.cli.data_clouds import SeenCloud, duplicates, hole_lines, label_lines, table, usable
from bixt3d.cli.data_found import Found, look
from bixt3d.cli.data_scenes import (
    absent_lines,
    given_classes,
    grid_lines,
    label_shares,
    scene_commands,
    scene_listing,
    scene_obstacle,
)
from bixt3d.datasets.clouds.folder_files import list_folder, shown_path
from bixt3d.datasets.clouds.poses import Poses, find_poses
from bixt3d.datasets.transforms.invariants import INVARIANTS
from bixt3d.io.bounds import counted, listed, printable

FEW = 10
"""Training clouds below which a class is reported as small."""
MOST = 10
"""Lines of a list; the rest is counted."""
FOR_POSES = 30
"""Clouds of a class whose poses are compared."""


def check(root: Path, parts: bool = False, label: str = "") -> int:
    """Print what a folder contains, warnings and the command; returns 0, or 2 if it cannot be trained on."""
    root = root.expanduser()
    column, classes = given_classes(root)
    listing = scene_listing(root) if classes else list_folder(root, 0.2, 0, need_classes=False)
    parts = parts or not any(entry.label for entry in listing.entries)
    if not parts:
        listing = list_folder(root, 0.2, 0)
    found = look(Found(root, listing, parts, classes), label or column)
    poses = find_poses(by_class(found)) if found.clouds else None
    print("\n".join(map(printable, [*overview(found, poses), *warnings(found)])))
    if fault := obstacle(found):
        print(f"\ncannot train: {printable(fault)}")
        return 2
    print("\n".join(["", *map(printable, advice(found, poses, label))]))
    return 0


def by_class(found: Found) -> list[list[np.ndarray]]:
    """Return some points of the training clouds of each class, in the unit sphere."""
    classes = defaultdict(list)
    for cloud in found.of("train"):
        classes[cloud.label].append(cloud.some)
    return [some[:FOR_POSES] for some in classes.values()]


def overview(found: Found, poses: Poses | None) -> list[str]:
    """Return the tables of classes and columns, and lines on sizes, spacing and poses."""
    clouds, kind = found.clouds, "category" if found.parts else "class"
    names = sorted({cloud.label for cloud in clouds})
    files = len(found.listing.entries)
    lines = [
        f"{found.root}: {counted(len(clouds), 'cloud')} in {counted(files, 'file')}, {_groups(len(names), kind)}",
        "",
    ]
    rows = [[kind, "train", "test", "points: min", "median", "max"]]
    for name in names:
        own = [cloud for cloud in clouds if cloud.label == name]
        splits = Counter(cloud.split for cloud in own)
        rows.append([name, f"{splits['train']:,}", f"{splits['test']:,}", *_three([cloud.size for cloud in own])])
    lines += table(rows)
    if found.parts:
        lines += ["", *table(part_rows(found))]
    columns = column_rows(found)
    lines += ["", *table(columns)] if len(columns) > 1 else ["", "no columns beside x, y, z"]
    if clouds:
        least, middle, most = _three([cloud.extent for cloud in clouds], "{:.4g}")
        lines += ["", f"size     {least} to {most}, median {middle}, in the units of the files"]
        spacing = [cloud.spacing for cloud in clouds if cloud.spacing]
        if spacing:
            least, middle, most = _three(spacing, "{:.3g}")
            lines.append(f"spacing  {least} to {most}, median {middle}: distance of neighboring points")
    if clouds and found.scenes:
        of_labels = label_shares(found.classes, found.labels("train"), found.labels("train", "test"))
        lines += [*grid_lines(spacing, [cloud.voxels for cloud in clouds]), *of_labels]
    else:
        lines.append(f"pose     {poses.words() if poses else 'not known: no class has three clouds to compare'}")
    formats = Counter(entry.path.suffix.lower() for entry in found.listing.entries)
    lines.append("formats  " + ", ".join(f"{ending} {number}" for ending, number in sorted(formats.items())))
    return lines


def _groups(number: int, kind: str) -> str:
    return f"{number} {kind}" if number == 1 else f"{number} {'classes' if kind == 'class' else 'categories'}"


def _three(values: Sequence[float | int], number_format: str = "{:,.0f}") -> list[str]:
    return [number_format.format(value) for value in (min(values), np.median(values), max(values))]


def column_rows(found: Found) -> list[list[str]]:
    """Return a row for each column: its name, in how many clouds it is, its range."""
    rows = [["column", "clouds", "min", "max"]]
    times = Counter(name for cloud in found.clouds for name in cloud.columns)
    for name, number in times.most_common():
        ranges = [cloud.columns[name] for cloud in found.clouds if name in cloud.columns]
        bounds = min(low for low, _ in ranges), max(high for _, high in ranges)
        rows.append([name, f"{number:,} of {len(found.clouds):,}", *(f"{bound:.6g}" for bound in bounds)])
    return rows


def part_rows(found: Found) -> list[list[str]]:
    """Return a row for each label of each category: its class, if these are given, and its share of the points."""
    named = found.classes.name if found.classes else None
    rows = [["category", "label", *(["class"] if named else []), "train", "test"]]
    counts = defaultdict(Counter)
    for cloud in found.clouds:
        for word, number in cloud.labels.items():
            counts[cloud.label, word][cloud.split] += number
    totals = defaultdict(Counter)
    for (name, _), own in counts.items():
        totals[name] += own
    for (name, word), own in sorted(counts.items()):
        shares = [f"{own[split] / max(totals[name][split], 1):.1%}" for split in ("train", "test")]
        rows.append([name, word, *([named(word)] if named else []), *shares])
    return rows


def warnings(found: Found) -> list[str]:
    """Return what may be wrong, as lines."""
    lines = [f"note: {note}" for note in found.listing.notes if not note.startswith("no clouds in")]
    lines += [f"empty class: {name}" for name in found.listing.empty]
    lines += _some(found.faults)
    for split in ("train", "test") if found.classes else ():
        lines += absent_lines(found.classes, split, found.labels(split))
    lines += label_lines(found.clouds, found.classes is not None) + _some(hole_lines(found.clouds))
    across, conflicts, within = [], [], 0
    for one, other, how in duplicates(found.clouds):
        pair = f"{_name(one, found)} and {_name(other, found)} ({how})"
        if one.split != other.split:
            across.append(f"duplicate in training and test: {pair}")
        elif one.label != other.label:
            conflicts.append(f"duplicate in two classes: {pair}")
        else:
            within += 1
    lines += _some(across) + _some(conflicts)
    lines += [f"{counted(within, 'pair')} of duplicates within a class and split"] if within else []
    counts = Counter(cloud.label for cloud in found.of("train"))
    if not found.scenes and (
        small := [f"{name} ({number})" for name, number in sorted(counts.items()) if number < FEW]
    ):
        lines.append(f"fewer than {FEW} clouds to train on: {listed(small)}")
    tested = {cloud.label for cloud in found.of("test")}
    if untested := sorted(set(counts) - tested):
        lines.append(f"no clouds to test on: {listed(untested)}")
    times = Counter(name for cloud in found.clouds for name in cloud.columns)
    if some := sorted(name for name, number in times.items() if number < len(found.clouds)):
        lines.append(f"columns that some clouds lack: {listed(some)}")
    return ["", "warnings:", *(f"  {line}" for line in lines)] if lines else []


def _some(lines: Sequence[str]) -> list[str]:
    return [*lines[:MOST], *([f"... and {len(lines) - MOST} more"] if len(lines) > MOST else [])]


def _name(cloud: SeenCloud, found: Found) -> str:
    return f"{shown_path(cloud.path, found.root).parent / cloud.name}"


def obstacle(found: Found) -> str | None:
    """Return why the folder cannot be trained on; None if it can."""
    for split, what in (("train", "train"), ("test", "test")):
        if not found.of(split):
            return f"there is no cloud to {what} on that can be used"
    if found.scenes:
        return scene_fault(found)
    names = sorted({cloud.label for cloud in found.of("train")})
    if unknown := sorted({cloud.label for cloud in found.of("test")} - set(names)):
        return f"there are clouds of {listed(unknown)} to test on, but none to train on that can be used"
    if found.parts:
        parts = {(cloud.label, word) for cloud in found.clouds for word in cloud.labels}
        return None if len(parts) > 1 else f"all points have one label ({listed(word for _, word in parts)})"
    return None if len(names) > 1 else f"there is one class alone ({listed(names)}): a model needs two or more"


def scene_fault(found: Found) -> str | None:
    """Return why the clouds cannot be trained on as scenes; None if they can."""
    return scene_obstacle(found.root, found.classes, found.labels("train"), found.labels("test"), len(found.faults))


def advice(found: Found, poses: Poses | None, label: str) -> list[str]:
    """Return the commands to use, and which columns could be read too."""
    features = usable(found.clouds)
    spacing = [cloud.spacing for cloud in found.clouds if cloud.spacing]
    commands = scene_commands(found.root, label, spacing, features, found.clouds[0].path)
    if found.scenes:
        return ["to train, test and predict scenes:", *(f"  {line}" for line in commands)]
    task, config = ("partseg", "folder_partseg") if found.parts else ("cls", "folder_cls")
    words = ["bixt3d", "train", task, "--cfg", config, "--data.root", str(found.root)]
    invariant = [str(INVARIANTS)] if poses and poses.rotate == "so3" else []
    if poses and poses.rotate != "z":
        words += ["--augment.rotate", poses.rotate]
    words += ["--data.up", "y"] if poses and poses.rotate == "y" else []
    words += ["--data.features", *invariant] if invariant else []
    words += ["--data.label", label] if label else []
    words += ["--data.skip_broken", "true"] if found.faults else []
    lines = ["to train, test and predict:", "  " + shlex.join(words), f"  bixt3d test {task}"]
    test = found.root / "test" if (found.root / "test").is_dir() else found.root
    lines.append("  " + shlex.join(["bixt3d", "predict", str(test)]))
    if features:
        names = ",".join([*invariant, *features])
        lines.append(f"every cloud has {listed(features)}: the model reads them with --data.features {names}")
    if found.may_be_scenes:
        fault = scene_fault(found)
        lines += [f"if these are scenes: {fault}"] if fault else ["or, if these are scenes:", f"  {commands[0]}"]
    return lines
