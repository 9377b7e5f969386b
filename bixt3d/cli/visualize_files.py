"""``bixt3d visualize FILE``: draw predictions, attention maps and pages of the user's clouds and meshes."""

import shlex
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bixt3d.cli.default_weights import choose_weights
from bixt3d.cli.predict_clouds import draw_shown, show
from bixt3d.cli.predict_files import free_name
from bixt3d.cli.visualize_choice import check_latents, to_numpy
from bixt3d.datasets.files.reader import MESH_POINTS, read_file
from bixt3d.engine.folder import shown_weights, weights_file
from bixt3d.inference.clouds import CloudPredictor, PartPredictor
from bixt3d.inference.runs import load_run
from bixt3d.inference.scenes import ScenePredictor
from bixt3d.io.bounds import printable
from bixt3d.io.pretrained import results_folder, shown
from bixt3d.types import InputError
from bixt3d.viz.attention import choose_latents, draw_attention
from bixt3d.viz.page import write_html
from bixt3d.viz.parts import show_parts


def draw(arguments: Namespace, rest: Sequence[str]) -> list[Path]:
    """Draw all clouds of the files; returns the files written."""
    weights = weights_file(
        arguments.run or choose_weights([str(path) for path in arguments.files]), arguments.weights or "last"
    )
    predictor = load_run(weights, trust="--trust" in rest)
    if not isinstance(predictor, CloudPredictor):
        first, name = arguments.files[0], shown(weights)
        if isinstance(predictor, ScenePredictor):
            command = f"bixt3d predict {shlex.quote(str(first))} --checkpoint {shlex.quote(name)} --out FOLDER"
            raise InputError(f"{name} labels scenes, whose pictures and pages are made by `{command}`")
        raise InputError(f"{name} reads images, and {first} is none: choose another --checkpoint")
    if isinstance(predictor, PartPredictor):
        predictor.check_category(arguments.category)
    elif arguments.category:
        raise InputError("--category is for models of parts, and this run has none: leave it out")
    print(f"weights: {shown_weights(weights)}", flush=True)
    out, name = arguments.out or results_folder(weights) / "pictures", partial(free_name, taken=set())
    missing = [path for path in arguments.files if not path.exists()]
    if missing:
        raise InputError(f"there is no file {missing[0]}")
    try:
        out.mkdir(parents=True, exist_ok=True)
        return [
            file
            for path in arguments.files
            for cloud in read_file(path, max(MESH_POINTS, predictor.num_points))
            for file in draw_cloud(cloud, predictor, arguments, out / name(cloud.name))
        ]
    except OSError as error:
        raise InputError(f"could not write pictures in {out}: {error.strerror}; choose another --out") from error


def draw_cloud(cloud: Any, predictor: CloudPredictor, arguments: Namespace, base: Path) -> list[Path]:
    """Draw one cloud; returns the files written, whose names begin with ``base``."""
    given = {"category": arguments.category} if isinstance(predictor, PartPredictor) else {}
    try:
        prediction = predictor.predict(cloud, up=arguments.up, **given)
        maps = predictor.attention_maps(cloud, up=arguments.up, **given) if arguments.attention else []
    except InputError as error:
        raise InputError(f"{printable(cloud.name)}: {error}") from error
    shown, files = show(cloud, prediction, predictor, arguments.up), [base.with_name(f"{base.name}.png")]
    notes = ["spread over the surface"] * cloud.from_mesh + list(prediction.notes)
    who = draw_shown(files[0], shown, prediction)
    print(f"{files[0]}, drawn by {who}: {', '.join([printable(shown.cloud.title), *notes])}", flush=True)
    if arguments.attention:
        layers = [to_numpy(layer) for layer in maps]
        check_latents(arguments.latents, layers)
        files.append(base.with_name(f"{base.name.removesuffix('_prediction')}_attention.png"))
        latents = arguments.latents or choose_latents(layers)
        who = draw_attention(files[-1], shown.cloud.xyz, layers, latents, shown.cloud.title, shown.up)
        print(f"{files[-1]}, drawn by {who}", flush=True)
    if arguments.html:
        files.append(base.with_name(f"{base.name}.html"))
        files.append(write_html(page := files[-1], [shown.cloud], shown.legend, cloud.name, shown.up))
        print(f"{page}, with {files[-1].name} beside it", flush=True)
    if arguments.window:
        show_parts(shown.cloud, shown.legend, shown.up)
    return files
