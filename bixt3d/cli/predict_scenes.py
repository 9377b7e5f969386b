"""Predict scenes: print the share of each class; write every point with its class back in the format of its file."""

import json
import shutil
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from bixt3d.cli.las_codes import check_codes, check_copies, write_las_copy
from bixt3d.cli.predict_clouds import head
from bixt3d.cli.predict_images import FreeName, beside
from bixt3d.datasets.files.cloud import Cloud
from bixt3d.datasets.files.reader import read_file
from bixt3d.datasets.files.writers import LAS, LabelledPoints, write_points
from bixt3d.datasets.images.reading import ENDINGS
from bixt3d.datasets.scenes.las_blocks import LOCK, PLAN
from bixt3d.engine.folder import lock
from bixt3d.engine.memory import return_freed_memory
from bixt3d.inference.scene_blocks import NumbersOnDisk, numbers_in
from bixt3d.inference.scenes import ScenePrediction, ScenePredictor
from bixt3d.io.bounds import printable
from bixt3d.io.writing import WriteError, remove_leftovers, writing
from bixt3d.types import InputError

Shown = tuple[np.ndarray, np.ndarray]
"""Positions and labels of the points of a picture."""


def predict_scene_file(path: Path, predictor: ScenePredictor, arguments: Namespace, name: FreeName) -> None:
    """Predict all scenes of a file; a large LAS or LAZ in parts."""
    if path.suffix.lower() in ENDINGS and path.exists():
        raise InputError(f"{printable(path)} is an image, but the run reads scenes; see --checkpoint")
    check_codes(path, predictor, arguments)
    check_copies(path, predictor, arguments)
    return_freed_memory()
    if predictor.is_large(path):
        predict_large_file(path, predictor, arguments, name)
        return
    for cloud in read_file(path, viewpoint=not arguments.no_viewpoint):
        with shown_progress(path.parent / cloud.name, len(cloud)) as progress:
            prediction = predictor.predict(cloud, progress=progress.update)
        facts = facts_of(path, cloud.name, prediction)
        if arguments.out:
            base, source = arguments.out / name(cloud.name), cloud.original or cloud
            chosen = slice(None) if cloud.kept is None else cloud.kept
            shown = cloud.xyz - cloud.xyz.min(0), prediction.labels.numpy()[chosen]
            facts |= write_scene(base, path, predictor, arguments, prediction, source, shown, cloud.kept is not None)
        say(facts, prediction, arguments)


def predict_large_file(path: Path, predictor: ScenePredictor, arguments: Namespace, name: FreeName) -> None:
    """Predict a LAS or LAZ file in parts, which are kept in the folder of the results until these are written."""
    formats = set(arguments.format or ()) - {one[1:] for one in LAS}
    if formats:
        raise InputError(f"{printable(path)} is so large that --format las and laz alone are written")
    shown_name = printable(path.name)
    if not arguments.out:
        with shown_progress(path) as progress:
            prediction = predictor.predict(path, progress=progress.update)
        say(facts_of(path, shown_name, prediction), prediction, arguments)
        return
    base = arguments.out / name(shown_name)
    folder = base.with_name(f".{base.name}.bixt3d_parts")
    with kept(folder):
        with shown_progress(path) as progress:
            prediction, parts = predictor.predict_las(path, folder, progress.update)
        (index, xyz), found = parts.sample(), numbers_in(folder, predictor)
        facts = facts_of(path, shown_name, prediction)
        shown = xyz, found[0].take(index).astype(np.int64)
        facts |= write_scene(base, path, predictor, arguments, prediction, found, shown)
    say(facts, prediction, arguments)


@contextmanager
def kept(folder: Path) -> Iterator[None]:
    """Make a folder for parts that no other process works in, and remove it when all is written.

    After an interruption, or where the disk is full, it stays, and a line says so. Raises InputError if another process
    works in it, or if it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / LOCK).touch()
    except OSError as error:
        raise InputError(f"could not make the folder {folder}: {error.strerror}; choose another --out") from error
    with lock(folder, LOCK, "work"):
        try:
            yield
        except BaseException as error:
            refused = isinstance(error, InputError) and not isinstance(error, WriteError)
            if (folder / PLAN).is_file() and not refused:
                going_on = "the same command goes on from there"
                print(f"what is done is kept in {printable(folder)}: {going_on}", file=sys.stderr)
            else:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def shown_progress(path: Path, total: int | None = None) -> Iterator[Any]:
    """Show the progress in points, and name the file in errors."""
    if total is None:
        from bixt3d.datasets.files.las import open_las

        with open_las(path) as las:
            total = len(las)
    with tqdm(total=total, unit=" points", unit_scale=True, leave=False, disable=None) as progress:
        try:
            yield progress
        except InputError as error:
            text, place, name = map(printable, (error, path, path.name))
            text = place.removesuffix(name) + text if text.startswith(f"{name} ") else text
            raise type(error)(text if text.startswith(place) else f"{place}: {text}") from error


def facts_of(path: Path, name: str, prediction: ScenePrediction) -> dict[str, Any]:
    """Return what is known of a prediction."""
    return {"file": str(path), "name": name, **prediction.facts(), "notes": list(prediction.notes)}


def say(facts: dict[str, Any], prediction: ScenePrediction, arguments: Namespace) -> None:
    """Print a prediction."""
    lines = [*head(facts), *prediction.table(arguments.top)]
    lines += [f"written: {printable(', '.join(facts['out']))}"] if arguments.out else []
    tqdm.write(json.dumps(facts, allow_nan=False) if arguments.json else "\n".join(lines), file=sys.stdout)


def write_scene(  # noqa: PLR0913 (what is written, of what, how)
    base: Path,
    path: Path,
    predictor: ScenePredictor,
    arguments: Namespace,
    prediction: ScenePrediction,
    source: Cloud | list[NumbersOnDisk],
    shown: Shown,
    has_void: bool = False,
) -> dict[str, Any]:
    """Write the points with their classes, a picture and a page if asked for; return their paths, and all notes.

    ``source``: the cloud with all points; or the results of a large LAS file, which is copied.
    """
    from bixt3d.viz.clouds import color_points

    names = dict(enumerate(prediction.class_names))
    in_memory = isinstance(source, Cloud)
    label, confidence, entropy = (
        (one.numpy() for one in (prediction.labels, prediction.confidence, prediction.entropy)) if in_memory else source
    )
    ending = path.suffix.lower()
    formats = arguments.format or (ending[1:] if ending in LAS else "ply",)
    files = [base.with_name(f"{base.name}.{one}") for one in formats]
    for file in (*files, *beside(base)):
        remove_leftovers(file.parent, file.name)  # by name: containers with one host name may share the folder
    notes: dict[str, None] = dict.fromkeys(prediction.notes)
    written: list[Path] = []
    with writing(base):
        for file in files:
            if file.suffix in LAS and ending in LAS:
                paths, found = [file], write_las_copy(file, path, predictor, arguments, (label, confidence, entropy))
            else:
                own = {-1: "", **names} if has_void else names
                points = LabelledPoints(
                    source.xyz, label, confidence, own, source.columns, path, {"entropy": entropy.astype(np.float32)}
                )
                paths, found = write_points(file, points, color_points(np.maximum(label, 0)))
            written += paths
            notes |= dict.fromkeys(found)
        pictures = [] if arguments.no_pictures else write_pictures(base, shown, prediction, printable(path.name))
    files = [str(file) for file in written]
    return {"point_files": files, "out": files + pictures, "notes": list(notes)}


def write_pictures(base: Path, shown: Shown, prediction: ScenePrediction, name: str) -> list[str]:
    """Write a picture and a page; return their paths, and that of the library of the page."""
    from bixt3d.viz.page import write_html
    from bixt3d.viz.parts import PartCloud
    from bixt3d.viz.scenes import draw_scene

    names, (png, page) = prediction.class_names, beside(base)
    cloud = PartCloud(shown[0].astype(np.float32), shown[1], range(len(names)), name, total=len(prediction.labels))
    draw_scene(png, cloud, names)
    return [str(png), str(page), str(write_html(page, [cloud], names, name, "z"))]
