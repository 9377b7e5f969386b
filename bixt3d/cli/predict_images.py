"""Predict images: print a table of classes; write a picture, or an overlay of the class of every pixel."""

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from bixt3d.datasets.images.reading import ENDINGS, read_image
from bixt3d.inference.images import ImagePredictor, ImageSegmentationPredictor, SegmentationPrediction
from bixt3d.io.bounds import printable
from bixt3d.types import InputError

FreeName = Callable[[str], str]
"""Returns a unique name for the output of a file, without an extension."""
OWN_NAME = "_prediction"
"""End of the names of all files that are written but one that ``--out`` names: they replace no others in the folder."""


def beside(base: Path) -> tuple[Path, Path]:
    """Return the paths of the picture and the page of a cloud whose points are written to ``base`` and an ending."""
    name = base.name.removesuffix(OWN_NAME) + OWN_NAME
    return base.with_name(f"{name}.png"), base.with_name(f"{name}.html")


def is_result(path: Path) -> bool:
    """Say whether a file is named as a prediction is."""
    return path.stem.removesuffix("_labels").removesuffix("_colors").endswith(OWN_NAME)


def find_images(places: Sequence[str | Path]) -> list[Path]:
    """Return the given files, and the images in given folders and their subfolders, in order of their names.

    Hidden files are skipped. Raises InputError for a folder without images.
    """
    found: dict[Path, None] = {}
    for place in map(Path, places):
        files = sorted(_images_in(place)) if place.is_dir() else [place]
        if not files:
            raise InputError(f"the folder {printable(place)} holds no image: known are {', '.join(ENDINGS)}")
        found |= dict.fromkeys(files)
    return list(found)


def _images_in(folder: Path) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file()]
    return [path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def predict_image(
    path: Path, predictor: ImagePredictor | ImageSegmentationPredictor, arguments: Namespace, name: FreeName
) -> None:
    """Predict one image, print the prediction, and write its picture if ``--out`` is given."""
    if path.is_file() and path.suffix.lower() not in ENDINGS:
        raise InputError(
            f"{printable(path)} is no image, but the run reads images: {', '.join(ENDINGS)}; see --checkpoint"
        )
    image = read_image(path)
    try:
        prediction = predictor.predict(image)
    except InputError as error:
        raise InputError(f"{printable(path)}: {error}") from error
    facts = {"file": str(path), "name": path.name, "width": image.width, "height": image.height}
    facts |= prediction.facts()
    if arguments.out:
        png = arguments.out / f"{name(path.name)}.png"
        facts["out"] = write_pictures(png, image, prediction, path.name, overlay=not arguments.no_pictures)
    lines = [f"{printable(path)}: {image.width} x {image.height} pixels", *prediction.table(arguments.top)]
    lines += [f"written: {printable(', '.join(facts['out']))}"] if arguments.out else []
    tqdm.write(json.dumps(facts, allow_nan=False) if arguments.json else "\n".join(lines), file=sys.stdout)


def write_pictures(path: Path, image: Any, prediction: Any, name: str, overlay: bool = True) -> list[str]:
    """Write the image with its class as a title, or with an overlay of its classes and a label map beside it.

    Returns the paths. ``overlay``: False for the label map alone.
    """
    from bixt3d.viz.images import SegmentedImage, draw_images, draw_segmentations, write_label_map

    pixels, paths = np.asarray(image), [path] * overlay
    try:
        if isinstance(prediction, SegmentationPrediction):
            labels = prediction.labels.numpy()
            if overlay:
                shown = SegmentedImage(pixels, labels, None, printable(name))
                draw_segmentations(path, [shown], prediction.class_names)
            paths.append(path.with_name(f"{path.stem}_labels.png"))
            write_label_map(paths[-1], labels, prediction.class_names)
        else:
            draw_images(path, [pixels], [f"{prediction.name} {prediction.confidence:.0%}"])
    except OSError as error:
        raise InputError(f"could not write {path}: {error.strerror}; choose another --out") from error
    return list(map(str, paths))
