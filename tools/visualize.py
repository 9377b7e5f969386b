"""Look at what a run predicts: python tools/visualize.py [RUN] [--worst] [--category chair] [--attention] [--html]"""

import re
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import nn

from bixt3d.config import nearest, run_program
from bixt3d.datasets import CloudSource
from bixt3d.engine.report import newest_run
from bixt3d.models.attention_maps import LayerAttention, attention_maps
from bixt3d.predictor import read_run
from bixt3d.tasks.classification import Classification
from bixt3d.tasks.part_segmentation import PartEvaluation, PartSegmentation, show_cloud
from bixt3d.tasks.testing import open_run
from bixt3d.types import CloudSet, InputError
from bixt3d.viz.attention import AttentionMap, choose_latents, draw_attention
from bixt3d.viz.clouds import draw_clouds
from bixt3d.viz.page import MOST_CLOUDS, write_html
from bixt3d.viz.parts import PartCloud, draw_parts, show_parts
from bixt3d.viz.scene import write_ply

TASKS = {task.name: task for task in (PartSegmentation(), Classification())}


class Parser(ArgumentParser):
    """Argparse with errors as one sentence."""

    def error(self, message: str) -> NoReturn:
        """Raise InputError in place of printing the usage."""
        raise InputError(message)


@dataclass
class Shown:
    """A run, its test set, which of its clouds to draw, and what the model says of them.

    ``index`` are their places in the test set. A classified cloud has one part, and no true ones.
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
        """Say whether the points have parts."""
        return self.clouds[0].truth is not None


def parse(argv: Sequence[str] | None) -> tuple[Namespace, list[str]]:
    """Return what the command line says, and the settings of the run that it changes."""
    parser = Parser(description=__doc__, allow_abbrev=False)
    parser.epilog = "Settings of the run can be changed, as in --data.root=FOLDER"
    parser.add_argument("run", nargs="?", type=Path, help="run folder (default: the newest, of parts if there is one)")
    parser.add_argument("--index", type=int, nargs="+", help="places in the test set (default: spread over it)")
    parser.add_argument("--category", help="only shapes of this category")
    parser.add_argument("--worst", action="store_true", help="the worst predictions first")
    parser.add_argument("--count", type=int, help="how many clouds (default: 6, or 2 with --attention)")
    parser.add_argument("--attention", action="store_true", help="draw what the latents look at")
    parser.add_argument("--latents", type=int, nargs="+", help="these latents (default: four that differ)")
    parser.add_argument("--html", action="store_true", help="write pages to turn in a browser, and PLY files")
    parser.add_argument("--window", action="store_true", help="open a window for each cloud")
    parser.add_argument("--out", type=Path, help="folder for the pictures (default: pictures/ in the run folder)")
    arguments, rest = parser.parse_known_args(argv)
    for word in rest:
        if not re.match(r"--\w+(\.\w+)+=", word):
            options = [option for action in parser._actions for option in action.option_strings]
            raise InputError(f"unknown option '{word}'" + nearest(word, options))
    if arguments.index and (arguments.category or arguments.worst):
        raise InputError("--index names the clouds: leave out --category and --worst")
    if arguments.latents and not arguments.attention:
        raise InputError("--latents needs --attention")
    if arguments.count is None:
        arguments.count = 2 if arguments.attention else 6
    if arguments.count < 1:
        raise InputError(f"--count must be at least 1, not {arguments.count}")
    return arguments, rest


def main(argv: Sequence[str] | None = None) -> list[Path]:
    """Draw clouds of a run; returns the files written."""
    arguments, rest = parse(argv)
    shown = predict(arguments, rest)
    out = arguments.out or shown.path.parent / "pictures"
    try:
        out.mkdir(parents=True, exist_ok=True)
        files = draw_sheet(shown, out)
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


def predict(arguments: Namespace, rest: Sequence[str]) -> Shown:
    """Load a run and its test set, and predict the clouds that are asked for."""
    checkpoint = arguments.run or find_run()
    task = TASKS[read_run(checkpoint)[2]["task"]]
    trained = open_run(task, task.make_parser(__doc__), checkpoint, rest)
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
    """Return the newest run of parts, or if there is none, the newest of classes."""
    parts, classes = TASKS.values()
    try:
        return newest_run(Path("runs"), parts.name, parts.example)
    except InputError:
        return newest_run(Path("runs"), classes.name, classes.example)


def choose(arguments: Namespace, test: CloudSet) -> list[int]:
    """Return the places of the clouds to predict: those named, or all to find the worst of, or some evenly spread."""
    if arguments.index:
        if wrong := [place for place in arguments.index if not 0 <= place < len(test)]:
            raise InputError(f"--index {wrong[0]}: the test set has {len(test)} clouds, 0 to {len(test) - 1}")
        return arguments.index
    places = list(range(len(test)))
    if arguments.category:
        if arguments.category not in test.class_names:
            raise InputError(
                f"there is no category '{arguments.category}'" + nearest(arguments.category, test.class_names)
            )
        label = test.class_names.index(arguments.category)
        places = [place for place, its in enumerate(test.label.tolist()) if its == label]
        if not places:
            raise InputError(f"the test set has no cloud of category '{arguments.category}'")
    if arguments.worst:
        return places
    spread = np.linspace(0, len(places) - 1, min(arguments.count, len(places))).round().astype(int)
    return [places[place] for place in spread]


def describe_parts(evaluation: Any, some: CloudSet, i: int, place: int) -> tuple[float, PartCloud]:
    """Return the IoU of a cloud, and what to draw of it; its title names its place in the test set."""
    cloud, iou = show_cloud(evaluation, some, i), float(evaluation.scores.shape_iou[i])
    return iou, replace(cloud, title=f"{some.class_names[int(some.label[i])]} (index {place}), IoU {iou:.1%}")


def describe_class(evaluation: Any, some: CloudSet, i: int, place: int) -> tuple[float, PartCloud]:
    """Return the probability of a cloud's class, and what to draw of it: all of it one part."""
    probability, label = evaluation.logits[i].softmax(0), int(some.label[i])
    best = int(probability.argmax())
    title = f"{some.class_names[best]} {probability[best]:.0%}"
    title += f", is {some.class_names[label]}" if best != label else ""
    xyz = some.xyz[i].cpu().numpy()
    cloud = PartCloud(xyz, np.zeros(len(xyz), np.int64), (0,), f"{title} (index {place})")
    return float(probability[label]), cloud


def draw_sheet(shown: Shown, out: Path) -> list[Path]:
    """Write the sheet of all clouds; returns its path."""
    path, who = out / ("parts.png" if shown.has_parts else "classes.png"), "matplotlib"
    if shown.has_parts:
        who = draw_parts(path, shown.clouds, shown.part_names, shown.data.up)
    else:
        xyz, titles = np.stack([cloud.xyz for cloud in shown.clouds]), [cloud.title for cloud in shown.clouds]
        draw_clouds(xyz, path, titles=titles, up=shown.data.up)
    print(f"{path}, drawn by {who}", flush=True)
    return [path]


def draw_attentions(shown: Shown, out: Path, latents: Sequence[int] | None) -> list[Path]:
    """Write a sheet of attention for every cloud; returns their paths."""
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


def to_numpy(layer: LayerAttention) -> AttentionMap:
    """Return a layer as the pictures take it."""
    arrays = (None if one is None else one.numpy() for one in (layer.pos, layer.reads, layer.writes))
    return AttentionMap(*arrays, layer.symmetry)


def check_latents(latents: Sequence[int] | None, maps: Sequence[AttentionMap]) -> None:
    """Raise InputError for a latent that the model does not have."""
    num = min(len(one.reads) if one.reads is not None else one.writes.shape[1] for one in maps)
    if wrong := [latent for latent in latents or () if not 0 <= latent < num]:
        raise InputError(f"--latents {wrong[0]}: this model has {num} latents, 0 to {num - 1}")


def write_pages(shown: Shown, out: Path) -> list[Path]:
    """Write pages to turn clouds in, and a PLY file of each cloud; returns their paths."""
    files = []
    for first in range(0, len(shown.clouds), MOST_CLOUDS):
        files.append(out / f"clouds_{first // MOST_CLOUDS + 1}.html")
        some = shown.clouds[first : first + MOST_CLOUDS]
        write_html(files[-1], some, shown.part_names, str(shown.path.parent), shown.data.up)
    for place, cloud in zip(shown.index, shown.clouds, strict=True):
        files.append(out / f"cloud_{place}.ply")
        write_ply(files[-1], cloud.xyz, cloud.rgb(cloud.predicted))
    print(*files, sep="\n", flush=True)
    return files


if __name__ == "__main__":
    run_program(main)
