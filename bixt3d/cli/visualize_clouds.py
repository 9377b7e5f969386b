"""``bixt3d visualize RUN``: draw test clouds of a run; runs on images go to `visualize_images`."""

from argparse import Namespace
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bixt3d.cli import visualize_images
from bixt3d.cli.visualize_choice import check_drawn, check_latents, choose, to_numpy
from bixt3d.datasets import CloudSource
from bixt3d.datasets.files.writers import as_bytes, write_ply
from bixt3d.engine.folder import shown_weights, weights_file
from bixt3d.inference.runs import newest_of, read_run
from bixt3d.io.pretrained import results_folder
from bixt3d.models.attention_maps import attention_maps
from bixt3d.tasks import TASKS, find_task
from bixt3d.tasks.part_segmentation import PartEvaluation, show_cloud
from bixt3d.tasks.testing import open_run
from bixt3d.types import CloudSet, InputError
from bixt3d.viz.attention import choose_latents, draw_attention
from bixt3d.viz.clouds import draw_clouds
from bixt3d.viz.page import MAX_CLOUDS, write_html
from bixt3d.viz.parts import PartCloud, draw_parts, show_parts


@dataclass
class Shown:
    """A run, its test set, and the predicted clouds to draw.

    ``index``: their indices in the test set. A classified cloud has one part and no true parts.
    """

    path: Path
    model: nn.Module
    test: CloudSet
    data: CloudSource
    part_names: Sequence[str]
    index: list[int]
    clouds: list[PartCloud]

    @property
    def has_parts(self) -> bool:
        """Whether the points have parts."""
        return self.clouds[0].truth is not None


def draw(arguments: Namespace, rest: Sequence[str]) -> list[Path]:
    """Draw test clouds or images; returns the files written."""
    if arguments.weights in ("last", "best"):
        choose_weights(arguments)
    if is_about_images(arguments, rest):
        return visualize_images.main(arguments, rest)
    shown = predict(arguments, rest)
    out = arguments.out or results_folder(shown.path) / "pictures"
    try:
        out.mkdir(parents=True, exist_ok=True)
        files = draw_all(shown, out)
        if arguments.attention:
            files += draw_attentions(shown, out, arguments.latents)
        if arguments.html:
            files += write_pages(shown, out)
    except OSError as error:
        raise InputError(f"could not write pictures in {out}: {error.strerror}; choose another --out") from error
    if arguments.window:
        for cloud in shown.clouds:
            show_parts(cloud, shown.part_names, shown.data.up)
    return files


def choose_weights(arguments: Namespace) -> None:
    """Replace the run folder of the arguments by the weights that ``--weights`` names."""
    run = arguments.run or (visualize_images.find_run() if arguments.image else find_run())
    arguments.run = weights_file(run, arguments.weights)
    if arguments.weights == "best":
        arguments.out = arguments.out or arguments.run.parent / "pictures_best"
    arguments.weights = None
    print(f"weights: {shown_weights(arguments.run)}", flush=True)


def is_about_images(arguments: Namespace, rest: Sequence[str]) -> bool:
    """Return whether images are drawn. Raises InputError for a run that cannot be read or drawn."""
    if arguments.image or arguments.weights or visualize_images.names_preset(arguments.run):
        return True
    arguments.run = arguments.run or find_run()
    task = read_run(arguments.run, trust="--trust" in rest).task
    check_drawn(task)
    of_images = task.unit == "images"
    if arguments.layer is not None and not of_images:
        raise InputError("--layer is for images: clouds are drawn in all layers")
    return of_images


def predict(arguments: Namespace, rest: Sequence[str]) -> Shown:
    """Load a run and its test set, and predict the chosen clouds."""
    task = read_run(arguments.run, trust="--trust" in rest).task
    trained = open_run(task, task.make_parser(__doc__), arguments.run, rest)
    run, fabric, model, test = trained.run, trained.fabric, trained.model, trained.test
    index = choose(arguments, test)
    some = test.subset(torch.tensor(index, device=fabric.device))
    evaluation = task.evaluate(model, some, run, fabric)
    has_parts = isinstance(evaluation, PartEvaluation)
    describe = describe_parts if has_parts else describe_class
    found = [describe(evaluation, some, i, place) for i, place in enumerate(index)]
    if arguments.worst:
        order = sorted(range(len(found)), key=lambda i: found[i][0])[: arguments.count]
        index, found = [index[i] for i in order], [found[i] for i in order]
    clouds = [cloud for _, cloud in found]
    return Shown(trained.path, model, test, run.data, test.part_names if has_parts else ("cloud",), index, clouds)


def find_run() -> Path:
    """Return the newest run of part segmentation, else of classification, else of images."""
    order = sorted(map(find_task, TASKS), key=lambda task: (task.unit == "images", task.name != "part segmentation"))
    for task in order:
        with suppress(InputError):
            return newest_of(task)
    classes = find_task("classification")
    return newest_of(classes)  # raises InputError that says how to train one


def describe_parts(evaluation: Any, some: CloudSet, i: int, place: int) -> tuple[float, PartCloud]:
    """Return the IoU of a cloud, and the cloud to draw, with its index in the title."""
    cloud, iou = show_cloud(evaluation, some, i), float(evaluation.scores.shape_iou[i])
    return iou, replace(cloud, title=f"{some.class_names[int(some.label[i])]} (index {place}), IoU {iou:.1%}")


def describe_class(evaluation: Any, some: CloudSet, i: int, place: int) -> tuple[float, PartCloud]:
    """Return the probability of the true class of a cloud, and the cloud to draw as one part."""
    probability, label = evaluation.logits[i].softmax(0), int(some.label[i])
    best = int(probability.argmax())
    title = f"{some.class_names[best]} {probability[best]:.0%}"
    title += f", is {some.class_names[label]}" if best != label else ""
    xyz = some.xyz[i].cpu().numpy()
    cloud = PartCloud(xyz, np.zeros(len(xyz), np.int64), (0,), f"{title} (index {place})")
    return float(probability[label]), cloud


def draw_all(shown: Shown, out: Path) -> list[Path]:
    """Write one picture of all clouds; returns its path."""
    path, who = out / ("parts.png" if shown.has_parts else "classes.png"), "matplotlib"
    if shown.has_parts:
        who = draw_parts(path, shown.clouds, shown.part_names, shown.data.up)
    else:
        xyz, titles = np.stack([cloud.xyz for cloud in shown.clouds]), [cloud.title for cloud in shown.clouds]
        draw_clouds(xyz, path, titles=titles, up=shown.data.up)
    print(f"{path}, drawn by {who}", flush=True)
    return [path]


def draw_attentions(shown: Shown, out: Path, latents: Sequence[int] | None) -> list[Path]:
    """Write attention maps of every cloud; returns their paths."""
    files = []
    for place, cloud in zip(shown.index, shown.clouds, strict=True):
        xyz, feats = (part[place, : shown.data.num_points] for part in (shown.test.xyz, shown.test.feats))
        category = int(shown.test.label[place]) if shown.has_parts else None
        maps = [to_numpy(layer) for layer in attention_maps(shown.model, xyz, feats, category)]
        check_latents(latents, maps)
        files.append(out / f"attention_{place}.png")
        who = draw_attention(files[-1], cloud.xyz, maps, latents or choose_latents(maps), cloud.title, shown.data.up)
        symmetry = " ".join("-" if one.symmetry is None else f"{one.symmetry:.2f}" for one in maps)
        print(f"{files[-1]}, drawn by {who}; symmetry of its layers: {symmetry}", flush=True)
    return files


def write_pages(shown: Shown, out: Path) -> list[Path]:
    """Write interactive pages, with their library, and a PLY file of each cloud; returns the paths."""
    files, library = [], set()
    for first in range(0, len(shown.clouds), MAX_CLOUDS):
        files.append(out / f"clouds_{first // MAX_CLOUDS + 1}.html")
        some = shown.clouds[first : first + MAX_CLOUDS]
        library.add(write_html(files[-1], some, shown.part_names, str(shown.path.parent), shown.data.up))
    for place, cloud in zip(shown.index, shown.clouds, strict=True):
        files.append(out / f"cloud_{place}.ply")
        write_ply(files[-1], cloud.xyz, {"rgb": as_bytes(cloud.rgb(cloud.predicted))})
    files += library
    print(*files, sep="\n", flush=True)
    return files
