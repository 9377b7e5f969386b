"""``bixt3d predict``: find the files and the run, and predict each file."""

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from bixt3d.cli.default_weights import choose_weights
from bixt3d.cli.parser import names_file
from bixt3d.cli.predict_clouds import folder_category, predict_file
from bixt3d.cli.predict_images import OWN_NAME, find_images, is_result, predict_image
from bixt3d.cli.predict_scenes import predict_scene_file
from bixt3d.datasets.files.reader import SUFFIXES, find_files
from bixt3d.datasets.files.unread import other_files, unread_notes
from bixt3d.datasets.files.writers import FORMATS, LAS, colors_beside
from bixt3d.datasets.images.reading import ENDINGS
from bixt3d.engine.folder import shown_weights, weights_file
from bixt3d.inference.clouds import CloudPredictor, PartPredictor, Predictor
from bixt3d.inference.images import BaseImagePredictor, ImagePredictor, ImageSegmentationPredictor
from bixt3d.inference.runs import load_run
from bixt3d.inference.scenes import ScenePredictor
from bixt3d.io.bounds import counted, listed, printable
from bixt3d.io.error_messages import enough_memory
from bixt3d.io.pretrained import is_named
from bixt3d.types import InputError

DRAWN = (Predictor, PartPredictor, ScenePredictor, ImagePredictor, ImageSegmentationPredictor)
"""Predictors whose predictions ``--out`` can draw."""


def predict_all(arguments: Namespace) -> int:
    """Predict all files; returns the exit code: 0, 1 if some could not be predicted, 2 if none could."""
    run = arguments.checkpoint or choose_weights(arguments.places)
    weights = weights_file(run, arguments.weights)
    of_run = not arguments.checkpoint or weights.with_name("best_on_val.safetensors").is_file()
    if of_run and not is_named(weights):
        print(f"weights: {shown_weights(weights)}", file=sys.stderr)
    predictor = load_run(weights, "cuda" if torch.cuda.is_available() else "cpu", arguments.trust)
    of_images = isinstance(predictor, BaseImagePredictor)
    paths, faults = collect(arguments.places, find_images if of_images else find_files)
    paths = without_results(paths, arguments)
    total = len(paths) + faults
    name = one_name(arguments, paths, () if of_images else FORMATS)
    check(arguments, predictor, paths)
    predict = (
        predict_image if of_images else predict_scene_file if isinstance(predictor, ScenePredictor) else predict_file
    )
    name = name or partial(free_name, taken=set())
    for path in tqdm(paths, unit="file", disable=True if len(paths) == 1 else None):  # None: only on a terminal
        try:
            with enough_memory(f"give a smaller file than {path}{', or leave out --out' if arguments.out else ''}"):
                predict(path, predictor, arguments, name)
        except InputError as error:
            faults += 1
            say_fault(error)
    if arguments.out and isinstance(predictor, PartPredictor) and not arguments.no_pictures:
        say_who_drew()
    return 0 if not faults else 2 if faults == total else 1


def one_name(arguments: Namespace, paths: Sequence[Path], formats: Sequence[str]) -> Callable[[str], str] | None:
    """If ``--out`` is a file such as out.laz, set its folder and format; return the function that names the file.

    ``formats``: those of a file. None for a folder. Raises InputError for another ending, for several files, and for
    one that would replace the file it is made from.
    """
    out = arguments.out
    if not out or not names_file(out):
        return None
    if out.suffix[1:] not in formats:
        known = f"in none of .{', .'.join(formats)}" if formats else "as a file, and what is written is a folder"
        raise InputError(f"--out {printable(out)} ends {known}; to write into a folder of that name, make it first")
    if len(paths) > 1 or arguments.format:
        raise InputError(f"--out {printable(out)} is one file: for several files or formats name a folder")
    if _replaces(out, paths[0]):
        raise InputError(f"--out {printable(out)} would replace the file that is predicted: choose another name")
    if arguments.write == "classification" and out.suffix not in LAS:
        raise InputError(f"--write classification is for LAS and LAZ, and --out {printable(out)} is neither")
    taken: list[str] = []

    def name(cloud: str) -> str:
        if taken:
            raise InputError(f"--out {printable(out)} is one file, and {paths[0]} holds several clouds: name a folder")
        taken.append(cloud)
        return out.stem

    arguments.out, arguments.format = out.parent, (out.suffix[1:],)
    return name


def _replaces(out: Path, path: Path) -> bool:
    """Return whether writing ``out``, and for PLY the colors beside it, would replace a file."""
    written = [out, colors_beside(out)] if out.suffix == ".ply" else [out]
    return any(one.exists() and one.samefile(path) for one in written)


def collect(places: Sequence[str], find: Callable[[Sequence[str]], list[Path]]) -> tuple[list[Path], int]:
    """Return the files, each once, and the number of places without files, which it reports.

    Raises InputError without any.
    """
    paths: dict[str, Path] = {}
    faults = []
    for place in places:
        try:
            found = find([place])
            if not found[0].exists():
                raise InputError(f"there is no file {place}")
            for path in found:
                paths.setdefault(os.path.abspath(path), path)
            say_unread(Path(place), found, ENDINGS if find is find_images else SUFFIXES)
        except InputError as error:
            faults.append(error)
    if not paths:
        raise faults[0]
    for error in faults:
        say_fault(error)
    return list(paths.values()), len(faults)


def without_results(paths: list[Path], arguments: Namespace) -> list[Path]:
    """Leave out the results of earlier predictions in ``--out`` that were found in a folder, and say so.

    Raises InputError if there is nothing else.
    """
    if not arguments.out or not (out := arguments.out.resolve()).is_dir():
        return paths
    found = [path for path in paths if is_result(path) and path not in map(Path, arguments.places)]
    results = {path for path in found if out in path.resolve().parents}
    if not results:
        return paths
    if len(results) == len(paths):
        raise InputError(f"{listed(arguments.places)} contains results of earlier predictions alone")
    print(f"{counted(len(results), 'result')} of earlier predictions in {printable(out)} left out", file=sys.stderr)
    return [path for path in paths if path not in results]


def say_unread(folder: Path, found: Sequence[Path], kinds: Sequence[str]) -> None:
    """Report what of a folder is not read: all but the files ``found``, of endings ``kinds``."""
    others = other_files(folder, set(found)) if folder.is_dir() else ()
    for note in unread_notes(folder, others, kinds):
        print(f"{printable(folder)}: {note}", file=sys.stderr)


def check(
    arguments: Namespace, predictor: CloudPredictor | ScenePredictor | BaseImagePredictor, paths: Sequence[Path] = ()
) -> None:
    """Raise InputError for options that do not fit the run."""
    if arguments.write and not isinstance(predictor, ScenePredictor):
        raise InputError("--write is for models of scenes, and this run is none: leave it out")
    if isinstance(predictor, BaseImagePredictor):
        if arguments.category or arguments.up or arguments.format or arguments.no_viewpoint:
            words = "--up, --category, --format and --no_viewpoint are for clouds"
            raise InputError(f"{words}, and this run reads images: leave them out")
    elif isinstance(predictor, PartPredictor):
        of_folders = (folder_category(path, predictor) for path in paths)
        predictor.check_category(arguments.category or next(filter(None, of_folders), None))
    elif arguments.category:
        raise InputError("--category is for models of parts, and this run has none: leave it out")
    elif isinstance(predictor, ScenePredictor) and arguments.up not in (None, "z"):
        raise InputError("--up is for models of objects; scenes are z up: leave it out")
    if arguments.out:
        check_out(arguments, predictor)


def check_out(arguments: Namespace, predictor: CloudPredictor | BaseImagePredictor | ScenePredictor) -> None:
    """Make the folder of the files. Raises InputError if that is impossible, or if nothing can be drawn."""
    if not isinstance(predictor, DRAWN):
        raise InputError(f"--out cannot draw what a {type(predictor).__name__} predicts: leave it out, or use --json")
    if arguments.no_pictures and isinstance(predictor, ImagePredictor):
        raise InputError("--no_pictures leaves nothing to write: leave out --out, or use --json")
    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"could not make the folder {arguments.out}: {error.strerror}") from error


def say_fault(error: InputError) -> None:
    """Report a file that could not be predicted."""
    tqdm.write(f"error: {printable(error)}", file=sys.stderr)


def say_who_drew() -> None:
    """Print why Open3D did not draw the pictures, if it did not."""
    from bixt3d.viz.scene import renderer

    _, problem = renderer()
    if problem:
        print(f"pictures were drawn by matplotlib, because {problem}", file=sys.stderr)


def free_name(name: str, taken: set[str]) -> str:
    """Return a unique name for the files of a cloud, without an extension."""
    stem, place = Path(name).stem, Path(name).suffix.partition("[")[2].rstrip("]")
    base = f"{stem}_{place}" if place else stem
    free, number = base, 1
    while free.lower() in taken:
        number += 1
        free = f"{base}-{number}"
    taken.add(free.lower())
    return free + OWN_NAME  # differs from the name of the file: they may share a folder
