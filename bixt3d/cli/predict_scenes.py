"""Predict scenes: print the share of each class; write every point with its class back in the format of its file."""

import json
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from bixt3d.cli.predict_clouds import title
from bixt3d.cli.predict_images import FreeName
from bixt3d.datasets.files.cloud import Cloud
from bixt3d.datasets.files.reader import read_file
from bixt3d.datasets.images.reading import ENDINGS
from bixt3d.inference.scenes import ScenePrediction, ScenePredictor
from bixt3d.io.bounds import printable
from bixt3d.types import InputError


def predict_scene_file(path: Path, predictor: ScenePredictor, arguments: Namespace, name: FreeName) -> None:
    """Predict all scenes of a file."""
    if path.suffix.lower() in ENDINGS and path.exists():
        raise InputError(f"{printable(path)} is an image, but the run reads scenes; see --checkpoint")
    for cloud in read_file(path):
        if cloud.from_mesh:
            raise InputError(f"{printable(path)} is a mesh: a scene is a cloud of points")
        with tqdm(unit=" voxels", unit_scale=True, leave=False, disable=None) as progress:
            try:
                prediction = predictor.predict(cloud, progress=progress.update)
            except InputError as error:
                raise InputError(f"{printable(path.parent / cloud.name)}: {error}") from error
        facts = {"file": str(path), "name": cloud.name, "points": cloud.num_original, **prediction.facts()}
        facts["notes"] = list(prediction.notes)
        if arguments.out:
            files, pictures, notes = write_scene(path, arguments, name(cloud.name), cloud, prediction)
            facts["point_files"], facts["out"] = files, files + pictures
            facts["notes"] += notes
        lines = [title(facts), *prediction.table(arguments.top)]
        lines += [f"written: {printable(', '.join(facts['out']))}"] if arguments.out else []
        tqdm.write(json.dumps(facts, allow_nan=False) if arguments.json else "\n".join(lines), file=sys.stdout)


def write_scene(
    path: Path, arguments: Namespace, stem: str, cloud: Cloud, prediction: ScenePrediction
) -> tuple[list[str], list[str], list[str]]:
    """Write the points with their classes, a picture and a page; return their paths, and notes."""
    from bixt3d.datasets.files.writers import LAS, LabelledPoints, write_points
    from bixt3d.viz.clouds import color_points
    from bixt3d.viz.page import write_html
    from bixt3d.viz.parts import PartCloud, draw_parts

    base, source = arguments.out / stem, cloud.original or cloud
    names = dict(enumerate(prediction.class_names))
    names = names if cloud.kept is None else {-1: "", **names}
    label, confidence = prediction.labels.numpy(), prediction.confidence.numpy()
    entropy = {"entropy": prediction.entropy.numpy().astype(np.float32)}
    points = LabelledPoints(source.xyz, label, confidence, names, source.columns, path, entropy)
    ending = path.suffix.lower()
    formats = arguments.format or (ending[1:] if ending in LAS else "ply",)
    chosen = slice(None) if cloud.kept is None else cloud.kept
    low = cloud.xyz.min(0)
    shown = PartCloud((cloud.xyz - low).astype(np.float32), label[chosen], range(len(names)), cloud.name)
    *files, png, page = (base.with_name(f"{base.name}.{one}") for one in (*formats, "png", "html"))
    try:
        written = [write_points(file, points, color_points(np.maximum(label, 0))) for file in files]
        draw_parts(png, [shown], prediction.class_names, "z")
        write_html(page, [shown], prediction.class_names, cloud.name, "z")
    except OSError as error:
        raise InputError(f"could not write {base}: {error.strerror}; choose another --out") from error
    notes = dict.fromkeys(note for _, found in written for note in found)
    return [str(file) for paths, _ in written for file in paths], [str(png), str(page)], list(notes)
