"""Draw images: predictions of a run, and attention maps of a run or an image preset."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bixt3d.cli.visualize_choice import check_drawn, check_latents, choose, choose_layer, to_numpy
from bixt3d.datasets.images.reading import read_image
from bixt3d.datasets.images.transforms import to_pixels
from bixt3d.inference.images import (
    BaseImagePredictor,
    ImagePredictor,
    ImageSegmentationPredictor,
    SegmentationPrediction,
)
from bixt3d.inference.runs import newest_of, read_run
from bixt3d.io.named_configs import nearest
from bixt3d.io.pretrained import is_run, name_of, results_folder, shown
from bixt3d.models.attention_maps import image_attention_maps
from bixt3d.models.create import create_model
from bixt3d.models.image_preset_table import PRESETS
from bixt3d.tasks import TASKS, find_task
from bixt3d.tasks.image_metrics import count_pixels, score_segments
from bixt3d.tasks.image_segmentation import ImageSegmentation
from bixt3d.tasks.testing import TrainedRun, open_run
from bixt3d.types import InputError
from bixt3d.viz.attention import choose_latents
from bixt3d.viz.image_attention import draw_all_latents, draw_image_attention
from bixt3d.viz.images import SegmentedImage, draw_images, draw_segmentations
from bixt3d.viz.parts import WRONG
from bixt3d.viz.picture import INK

LONGEST_SIDE = 640
"""Longest side in pixels of an image whose attention a segmenter shows; larger images are scaled down."""


@dataclass
class Shot:
    """An image to draw: its name in files and in titles, and its true class or labels if known."""

    name: str
    title: str
    image: Any
    truth: Any = None


@dataclass
class NamedPredictor:
    """A model, its name and the folder of its pictures; ``knows``: whether its class names are known."""

    predictor: BaseImagePredictor
    name: str
    folder: Path
    knows: bool = True


def main(arguments: Namespace, rest: Sequence[str]) -> list[Path]:
    """Draw images; returns the files written."""
    check(arguments)
    named, shots = open_preset(arguments) if names_preset(arguments.run) else open_images(arguments, rest)
    out = arguments.out or named.folder / "pictures"
    try:
        out.mkdir(parents=True, exist_ok=True)
        files = draw_predictions(named.predictor, shots, out) if named.knows else []
        for shot in shots if arguments.attention else ():
            files += draw_attention(named, shot, out, arguments.latents, arguments.layer)
    except OSError as error:
        raise InputError(f"could not write pictures in {out}: {error.strerror}; choose another --out") from error
    return files


def names_preset(run: Path | None) -> bool:
    """Return whether a run is the name of an image preset; what has that name and is no run does not hide it."""
    return str(run) in PRESETS and not is_run(run)


def check(arguments: Namespace) -> None:
    """Raise InputError for options that do not go together."""
    if arguments.html or arguments.window:
        raise InputError("--html and --window are for clouds, not for images: leave them out")
    if arguments.image and (arguments.index or arguments.category or arguments.worst):
        raise InputError("--index, --category and --worst choose images of the test set: leave out --image, or them")
    run = arguments.run
    if run and not run.exists() and not names_preset(run):
        raise InputError(f"there is no run {run}, and no image model of that name" + nearest(str(run), PRESETS))
    if names_preset(run):
        if not (arguments.image and arguments.attention):
            raise InputError(f"{run} is the name of a model, not of a run: give it --attention --image FILE")
    elif arguments.weights:
        raise InputError("--weights is for the name of a model, such as bixt_ti_l64_p16: a run has its own")


def open_preset(arguments: Namespace) -> tuple[NamedPredictor, list[Shot]]:
    """Return an image preset by name, and the images of ``--image``; prints which weights it has."""
    name, weights = str(arguments.run), arguments.weights and Path(arguments.weights)
    preset, shots = PRESETS[name], named_shots(arguments)
    torch.manual_seed(0)
    if preset.head == "classes":
        model = create_model(name, 1000)
        predictor = ImagePredictor(model, [str(number) for number in range(1000)], preset.size)
    else:
        model = create_model(name, 150)
        predictor = ImageSegmentationPredictor(model, [str(number) for number in range(150)])
    there = Path(torch.hub.get_dir()) / "bixt3d" / f"{name}.zip"  # where `pretrained: true` leaves it
    weights = weights or (there if there.is_file() else None)
    if weights:
        from bixt3d.models.official import load_official_weights

        load_official_weights(weights, model, new_head=True)
        print(f"{name} with the weights of {weights}", flush=True)
    else:
        print(f"{name} with RANDOM weights, which have learned nothing: --weights FILE takes trained ones", flush=True)
    known = f"weights of {Path(weights).name}" if weights else "random weights"
    return NamedPredictor(predictor, f"{name}, {known}", Path("runs") / name, knows=False), shots


def open_images(arguments: Namespace, rest: Sequence[str]) -> tuple[NamedPredictor, list[Shot]]:
    """Return the model of a run on images, and the images of ``--image`` or of its test set."""
    run = arguments.run or find_run()
    if not arguments.image:
        return open_test_images(arguments, run, rest)
    saved = read_run(run, trust="--trust" in rest)
    check_drawn(saved.task)
    if saved.task.unit != "images":
        raise InputError(f"{shown(saved.path)} comes from a run on clouds, and --image is for runs on images")
    shots = named_shots(arguments)
    return NamedPredictor(saved.load(), *name_and_folder(saved.path)), shots


def find_run() -> Path:
    """Return the newest run of image classification, or if there is none, of image segmentation."""
    classes, segments = (task for task in map(find_task, TASKS) if task.unit == "images")
    try:
        return newest_of(classes)
    except InputError:
        return newest_of(segments)


def named_shots(arguments: Namespace) -> list[Shot]:
    """Return the images of ``--image``."""
    stems = [path.stem for path in arguments.image]
    names = [stem if stems.count(stem) == 1 else f"{stem}_{place}" for place, stem in enumerate(stems)]
    return [Shot(name, path.name, read_image(path)) for name, path in zip(names, arguments.image, strict=True)]


def open_test_images(arguments: Namespace, run: Path, rest: Sequence[str]) -> tuple[NamedPredictor, list[Shot]]:
    """Return the model of a run, and the chosen images of its test set."""
    saved = read_run(run, trust="--trust" in rest)
    task, lean = saved.task, ["--data.cache=false"] if "cache: true" in saved.config else []  # only a few are needed
    trained = open_run(task, task.make_parser(__doc__), run, [*lean, *rest])
    settings, test = trained.run, trained.test
    if arguments.category and isinstance(task, ImageSegmentation):
        raise InputError("--category is for images that have one class: leave it out")
    given = task.describe_input(settings, test)
    predictor = task.make_predictor(trained.model, task.names(test), given, "the settings")
    index = choose(arguments, test, "image")
    if arguments.worst:
        index = [index[place] for place in rank(task, trained, index)][: arguments.count]
    shots = [take_shot(test, place) for place in index]
    return NamedPredictor(predictor, *name_and_folder(trained.path)), shots


def name_and_folder(weights: Path) -> tuple[str, Path]:
    """Return the name of weights for titles, and the folder of their results."""
    return Path(name_of(weights)).name, results_folder(weights)


def rank(task: Any, trained: TrainedRun, index: Sequence[int]) -> list[int]:
    """Return the order of test images by the probability of their class, or by their IoU, lowest first."""
    some = trained.test.subset(torch.tensor(index))
    evaluation = task.evaluate(trained.model, some, trained.run, trained.fabric)
    if isinstance(task, ImageSegmentation):
        return evaluation.scores.image_iou.argsort(kind="stable").tolist()
    probability = evaluation.logits.softmax(1).gather(1, some.label[:, None])[:, 0]
    return probability.argsort(stable=True).tolist()


def take_shot(test: Any, place: int) -> Shot:
    """Return an image of a test set with its true class or labels."""
    where = int(test.index[place])
    example = test.reader.example(where, augmented=False)
    truth = example["labels"].numpy() if "labels" in example else test.class_names[int(test.label[place])]
    return Shot(str(place), f"index {place}", test.reader.image(where), truth)


def draw_predictions(predictor: Any, shots: Sequence[Shot], out: Path) -> list[Path]:
    """Write one picture of images with their predictions; returns its path."""
    predictions = predictor.predict([shot.image for shot in shots])
    pixels = [np.asarray(shot.image) for shot in shots]
    if isinstance(predictor, ImageSegmentationPredictor):
        path = out / "segments.png"
        shown = [
            SegmentedImage(image, one.labels.numpy(), shot.truth, shot.title + score(one, shot.truth))
            for image, one, shot in zip(pixels, predictions, shots, strict=True)
        ]
        draw_segmentations(path, shown, predictor.class_names)
    else:
        path, titles, colors = out / "classes.png", [], []
        for one, shot in zip(predictions, shots, strict=True):
            wrong = shot.truth not in (None, one.name)
            lines = [f"{one.name} {one.confidence:.0%}", *([f"is {shot.truth}"] if wrong else []), shot.title]
            titles.append("\n".join(lines))
            colors.append(WRONG if wrong else INK)
        draw_images(path, pixels, titles, columns=4, colors=colors)
    print(path, flush=True)
    return [path]


def score(prediction: SegmentationPrediction, truth: Any) -> str:
    """Return the mean IoU of an image as the end of its title; empty without true labels."""
    if truth is None:
        return ""
    names = prediction.class_names
    counts = count_pixels(prediction.labels[None], torch.from_numpy(truth)[None], len(names))
    return f", mean IoU {score_segments(counts, names).image_iou[0]:.1%}"


def draw_attention(
    named: NamedPredictor, shot: Shot, out: Path, latents: Sequence[int] | None, layer: int | None
) -> list[Path]:
    """Write a picture of some latents in all layers, and one of all latents in one layer; returns their paths."""
    image = view_of(named.predictor, shot.image)
    layers = image_attention_maps(named.predictor.model, image)
    maps, grid, pixels = [to_numpy(one) for one in layers], layers[0].grid, to_pixels(image)
    check_latents(latents, maps)
    place, title = choose_layer(layer, maps), f"{shot.title}, seen by {named.name}"
    picture, all_latents = out / f"attention_{shot.name}.png", out / f"latents_{shot.name}_layer{place + 1}.png"
    draw_image_attention(picture, pixels, maps, grid, latents or choose_latents(maps), title)
    draw_all_latents(all_latents, pixels, maps[place], grid, f"{title}, layer {place + 1}")
    symmetry = " ".join("-" if one.symmetry is None else f"{one.symmetry:.2f}" for one in maps)
    print(f"{picture}; symmetry of its layers: {symmetry}\n{all_latents}", flush=True)
    return [picture, all_latents]


def view_of(predictor: BaseImagePredictor, image: Any) -> Tensor:
    """Return an image as the model reads it: a square crop, or for a segmenter cropped to whole patches."""
    if not isinstance(predictor, ImageSegmentationPredictor):
        return predictor.prepare(image)
    image = image.copy()
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    seen, stride = predictor.prepare(image), predictor.model.stride
    rows, columns = (side - side % stride for side in seen.shape[1:])
    return seen[:, :rows, :columns]
