"""What predict.py does with clouds and meshes: a table of classes or parts, colored points, a picture and a page."""

import json
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from predict_images import FreeName
from tqdm import tqdm

from bixt3d.cloud_predictor import PartPrediction, PartPredictor, Prediction, Predictor
from bixt3d.datasets.cloud import Cloud
from bixt3d.datasets.files import MESH_POINTS, read_file
from bixt3d.datasets.image_reading import ENDINGS
from bixt3d.datasets.normalize import normalize_clouds
from bixt3d.datasets.upright import turn_upright
from bixt3d.ops.normals import estimate_normals
from bixt3d.types import InputError

PNG_POINTS = 4000
"""Points of a cloud that the picture of a classified cloud shows."""


def predict_file(path: Path, predictor: Predictor | PartPredictor, arguments: Namespace, name: FreeName) -> None:
    """Predict all clouds of a file."""
    if path.suffix.lower() in ENDINGS and path.exists():
        raise InputError(f"{path} is an image, but the run reads clouds and meshes; see --checkpoint")
    for cloud in read_file(path, max(MESH_POINTS, predictor.num_points)):
        predict_cloud(path, cloud, predictor, arguments, name)


def predict_cloud(
    path: Path, cloud: Cloud, predictor: Predictor | PartPredictor, arguments: Namespace, name: FreeName
) -> None:
    """Predict one cloud of a file, print what it is, and write its files where they are asked for."""
    estimated = "normal" in predictor.features.names and "normal" not in cloud.columns
    up = predictor.up_of(cloud, arguments.up)
    try:
        if estimated:
            normals = estimate_normals(torch.from_numpy(cloud.xyz)).numpy()
            cloud = replace(cloud, columns={**cloud.columns, "normal": normals})
        told = {"category": arguments.category} if isinstance(predictor, PartPredictor) else {}
        prediction = predictor.predict(cloud, up=up, **told)
    except InputError as error:
        raise InputError(f"{path.parent / cloud.name}: {error}") from error
    facts = {"file": str(path), "name": cloud.name, "points": len(cloud.xyz), **describe(prediction)}
    if estimated:
        facts["normals"] = "estimated"
    if arguments.out:
        base = arguments.out / name(cloud.name)
        facts["out"] = write_files(base, cloud, prediction, predictor, up)
    tqdm.write(json.dumps(facts) if arguments.json else table(cloud, facts, arguments.top), file=sys.stdout)


def describe(prediction: Any) -> dict[str, Any]:
    """Return what a line of JSON says of a prediction."""
    if isinstance(prediction, PartPrediction):
        return {"category": prediction.category, "shares": prediction.shares}
    return {
        "class": prediction.name,
        "confidence": prediction.confidence,
        "probabilities": prediction.probabilities,
    }


def table(cloud: Cloud, facts: dict[str, Any], top: int) -> str:
    """Return a table for people: the likeliest classes, or the parts with the share of points that they have."""
    what = "points spread over the surface" if cloud.from_mesh else "points"
    head = f"{facts['file'].removesuffix(Path(facts['file']).name)}{cloud.name}: {facts['points']} {what}"
    head += ", normals estimated" * ("normals" in facts)
    if "category" in facts:
        head += f", {facts['category']}"
        ranked = {name.removeprefix(f"{facts['category']}/"): share for name, share in facts["shares"].items()}
    else:
        ranked = dict(list(facts["probabilities"].items())[:top])
    return "\n".join([head, *(f"{share:9.1%}  {name}" for name, share in ranked.items())])


def write_files(
    base: Path, cloud: Cloud, prediction: Prediction | PartPrediction, predictor: Any, up: str
) -> list[str]:
    """Write colored points as they lie in the file, and a picture and a page that show them upright; returns paths."""
    from bixt3d.viz.clouds import color_points, draw_clouds
    from bixt3d.viz.page import write_html
    from bixt3d.viz.parts import PartCloud, draw_parts
    from bixt3d.viz.scene import write_ply

    upright = turn_upright(torch.from_numpy(cloud.xyz), up, predictor.up)
    view, up = normalize_clouds(upright[None])[0].float().numpy(), predictor.up
    ply, png, page = (base.with_name(f"{base.name}.{ending}") for ending in ("ply", "png", "html"))
    try:
        if isinstance(prediction, PartPrediction):
            names, own = prediction.part_names, predictor.class_parts[prediction.category]
            shown = PartCloud(view, prediction.parts.numpy(), own, f"{cloud.name}: {prediction.category}")
            rgb = shown.rgb(shown.predicted)
            draw_parts(png, [shown], names, up)
        else:
            names = (f"{prediction.name} {prediction.confidence:.0%}",)
            shown = PartCloud(view, np.zeros(len(view), np.int64), (0,), f"{cloud.name}: {names[0]}")
            rgb = color_points(view[:, "xyz".index(up)])
            few = np.random.default_rng(0).permutation(len(view))[:PNG_POINTS]
            draw_clouds(view[None, few], png, titles=names, up=up)
        write_html(page, [shown], names, cloud.name, up)
        write_ply(ply, cloud.xyz, rgb, cloud.columns.get("normal"))
    except OSError as error:
        raise InputError(f"could not write {base}: {error.strerror}; choose another --out") from error
    return [str(ply), str(png), str(page)]
