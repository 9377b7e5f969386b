"""Predict clouds and meshes: print a table of classes or parts; write labelled points, a picture and a page."""

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from bixt3d.cli.predict_images import FreeName, beside
from bixt3d.datasets.files.cloud import Cloud
from bixt3d.datasets.files.las_large import all_points
from bixt3d.datasets.images.reading import ENDINGS
from bixt3d.datasets.transforms.normalize import normalize_clouds
from bixt3d.datasets.transforms.upright import turn_upright
from bixt3d.inference.clouds import CloudPredictor, PartPredictor
from bixt3d.inference.predictions import PartPrediction
from bixt3d.io.bounds import printable
from bixt3d.io.writing import writing
from bixt3d.types import InputError

PNG_POINTS = 4000
"""Points in the picture of a classified cloud."""


def predict_file(path: Path, predictor: CloudPredictor, arguments: Namespace, name: FreeName) -> None:
    """Predict all clouds of a file."""
    if path.suffix.lower() in ENDINGS and path.exists():
        raise InputError(f"{printable(path)} is an image, but the run reads clouds and meshes; see --checkpoint")
    for cloud in predictor.read(path, viewpoint=not arguments.no_viewpoint):
        predict_cloud(path, cloud, predictor, arguments, name)


def folder_category(path: Path, predictor: Any) -> str | None:
    """Return the category that a folder of the path is named after, the nearest one; None without any."""
    names = predictor.class_names if isinstance(predictor, PartPredictor) else ()
    return next((folder.name for folder in path.parents if folder.name in names and len(names) > 1), None)


def predict_cloud(path: Path, cloud: Cloud, predictor: CloudPredictor, arguments: Namespace, name: FreeName) -> None:
    """Predict one cloud of a file, print the prediction, and write its files if ``--out`` is given."""
    try:
        own = None if arguments.category else folder_category(path, predictor)
        given = {"category": arguments.category or own} if isinstance(predictor, PartPredictor) else {}
        prediction = predictor.predict(cloud, up=arguments.up, **given)
    except InputError as error:
        raise InputError(f"{printable(path.parent / cloud.name)}: {error}") from error
    facts = {"file": str(path), "name": cloud.name, "points": cloud.num_original, **prediction.facts()}
    facts["notes"] = [*("category of its folder",) * bool(own), *("spread over the surface",) * cloud.from_mesh]
    facts["notes"] += prediction.notes
    if arguments.out:
        base = arguments.out / name(cloud.name)
        shown = show(cloud, prediction, predictor, arguments.up)
        facts["point_files"], notes = write_files(base, path, cloud, prediction, shown, arguments.format)
        facts["out"], facts["notes"] = list(facts["point_files"]), [*facts["notes"], *notes]
        if not arguments.no_pictures:
            facts["out"] += write_pictures(base, shown, prediction, cloud.name)
    lines = [*head(facts), *prediction.table(arguments.top)]
    lines += [f"written: {printable(', '.join(facts['out']))}"] if arguments.out else []
    tqdm.write(json.dumps(facts, allow_nan=False) if arguments.json else "\n".join(lines), file=sys.stdout)


def head(facts: dict[str, Any]) -> list[str]:
    """Return the lines above the table: the file, and a line for each note."""
    place = facts["file"].removesuffix(Path(facts["file"]).name) + facts["name"]
    first = [f"{printable(place)}: {facts['points']} points", *filter(None, [facts.get("category")])]
    return [", ".join(first), *(f"  note: {note}" for note in facts["notes"])]


class Shown(NamedTuple):
    """A cloud to draw, upright and in the unit sphere; labels are parts of points, or the class of the cloud."""

    cloud: Any
    legend: Sequence[str]
    colors: np.ndarray
    up: str
    label: np.ndarray
    confidence: np.ndarray
    names: dict[int, str]


def show(cloud: Cloud, prediction: Any, predictor: Any, up: str | None) -> Shown:
    """Return a cloud to draw: colored by its parts, or by height if it is classified."""
    from bixt3d.viz.clouds import color_points
    from bixt3d.viz.parts import PartCloud

    upright = turn_upright(torch.from_numpy(cloud.xyz), predictor.up_of(cloud, up), predictor.up)
    view, up = normalize_clouds(upright[None])[0].float().numpy(), predictor.up
    if isinstance(prediction, PartPrediction):
        chosen = slice(None) if cloud.kept is None else cloud.kept
        label, confidence = prediction.parts.numpy()[chosen], prediction.confidence.numpy()[chosen]
        title = f"{cloud.name}: {prediction.category}"
        shown = PartCloud(view, label, prediction.own_parts, title, total=cloud.num_original)
        names = {part: prediction.part_names[part] for part in prediction.own_parts}
        return Shown(shown, prediction.part_names, shown.rgb(label), up, label, confidence, names)
    legend = (f"{prediction.name} {prediction.confidence:.0%}",)
    alike, title = np.zeros(len(view), np.int64), f"{cloud.name}: {legend[0]}"
    shown = PartCloud(view, alike, (0,), title, total=cloud.num_original)
    number = predictor.class_names.index(prediction.name)
    label, confidence = np.full(len(view), number), np.full(len(view), prediction.confidence)
    height = color_points(view[:, "xyz".index(up)])
    return Shown(shown, legend, height, up, label, confidence, {number: prediction.name})


def draw_shown(path: Path, shown: Shown, prediction: Any) -> str:
    """Write the picture of a cloud; returns the name of the renderer."""
    from bixt3d.viz.clouds import draw_clouds
    from bixt3d.viz.parts import draw_parts

    if isinstance(prediction, PartPrediction):
        return draw_parts(path, [shown.cloud], shown.legend, shown.up)
    few = np.random.default_rng(0).permutation(len(shown.cloud.xyz))[:PNG_POINTS]
    draw_clouds(shown.cloud.xyz[None, few], path, titles=shown.legend, up=shown.up)
    return "matplotlib"


def write_files(
    base: Path, path: Path, cloud: Cloud, prediction: Any, shown: Shown, formats: Sequence[str] | None
) -> tuple[list[str], tuple[str, ...]]:
    """Write the labelled points at their original coordinates.

    The point files have a row for each point of the source; those without a position get label -1 and confidence NaN.
    ``path``: the file of the cloud; ``formats``: of the labelled points, None for las or laz if the file is one, else
    ply. Returns their paths, and notes on what was written otherwise.
    """
    from bixt3d.datasets.files.writers import LAS, LabelledPoints, as_bytes, write_points

    source = cloud.original or cloud
    own = dict(source.columns)
    if cloud.from_mesh and "rgb" in own:
        own["rgb"] = as_bytes(own["rgb"])
    ending = path.suffix.lower()
    formats = formats or (ending[1:] if ending in LAS else "ply",)
    label, confidence = cloud.for_original(shown.label, -1), cloud.for_original(shown.confidence, np.nan)
    names = shown.names if cloud.kept is None else {-1: "", **shown.names}
    if cloud.extent:
        if not set(formats) <= {one[1:] for one in LAS}:
            raise InputError(
                f"{printable(path)} has {cloud.num_original} points, for which --format las and laz alone are written"
            )
        label, confidence = all_points(label, cloud.extent), all_points(confidence, cloud.extent)
    points = LabelledPoints(source.xyz, label, confidence, names, own, path)
    colors, comments = cloud.for_original(shown.colors, 0), [f"made by bixt3d from {cloud.name}", *prediction.notes]
    files = [base.with_name(f"{base.name}.{ending}") for ending in formats]
    with writing(base):
        written = [write_points(path, points, colors, comments) for path in files]
    notes = dict.fromkeys(note for _, notes in written for note in notes)
    return [str(path) for paths, _ in written for path in paths], tuple(notes)


def write_pictures(base: Path, shown: Shown, prediction: Any, name: str) -> list[str]:
    """Write a picture and a page that show a cloud upright; return their paths, and that of the page's library."""
    from bixt3d.viz.page import write_html

    png, page = beside(base)
    with writing(base):
        draw_shown(png, shown, prediction)
        library = write_html(page, [shown.cloud], shown.legend, name, shown.up)
    return [str(png), str(page), str(library)]
