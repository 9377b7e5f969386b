"""The report of a scene segmenter: table of classes, confusion matrix, pictures, and an interactive page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from torch import Tensor

from bixt3d.io.bounds import counted
from bixt3d.io.writing import replace_file
from bixt3d.viz.image_report import ImageReport, write_image_report
from bixt3d.viz.page import write_html
from bixt3d.viz.parts import PartCloud, draw_parts, parts_png
from bixt3d.viz.plots import confusion_png, draw_curves
from bixt3d.viz.scene import VIEW, View

OF_REPORT = View(elevation=45.0)
"""Where the scenes of a report are seen from."""
FLAT, ABOVE = 0.15, View(elevation=90.0, azimuth=0.0, max_points=60_000)
"""Where a scene that is lower than this share of its width is seen from: from above, as a map, north up."""
CEILING, FULL = 0.9, 0.15
"""Points higher than this share of the height are a ceiling, and left out, if they are more than this share of all."""
MAX_SCENES = 3
"""Scenes in the pictures, spread over the set."""


def write_scene_report(
    folder: Path,
    scores: Any,
    predicted: Sequence[Int[Tensor, " _"]],
    test: Any,
    page: Mapping[str, Any],
    remark: str = "",
) -> None:
    """Write curves, confusion matrix, pictures, ``scenes.html`` and ``report.html``.

    ``scores``: see `SceneScores`; ``predicted``: the class of every voxel of the scenes of ``test``.
    """
    draw_curves(page["rows"], folder / "curves.png")
    confusion = confusion_png(scores.confusion, test.class_names)
    replace_file(folder / "confusion.png", confusion)
    names = test.class_names
    lines = [(name, scores.per_class.get(name), scores.recall.get(name), scores.shares[name]) for name in names]
    report = ImageReport(
        headline=[("mIoU", f"{scores.miou:.2%}"), ("overall accuracy", f"{scores.accuracy:.2%}")],
        table=(("class", "IoU", "recall", "share of the points"), lines),
        pictures=_pictures(folder, predicted, test, page["title"]),
        about=f"Segmentation into {len(names):,} classes, tested on {counted(len(test.scenes), 'scene')}",
        confusion=confusion,
        remark=remark,
        unit="crops",
        **page,
    )
    write_image_report(folder / "report.html", report)


def draw_scene(path: Path, scene: PartCloud, class_names: Sequence[str]) -> None:
    """Write the picture of one scene: a wide flat one, as a survey, from above, any other at an angle."""
    width, depth, _ = np.ptp(scene.xyz, axis=0)
    low, high = np.percentile(scene.xyz[:, 2], (1, 99))  # without noise of the scanner
    flat = high - low < FLAT * (width * depth) ** 0.5
    draw_parts(path, [scene], class_names, "z", ABOVE if flat else VIEW)


def _pictures(
    folder: Path, predicted: Sequence[Int[Tensor, " _"]], test: Any, title: str
) -> list[tuple[str, str, bytes]]:
    """Write pictures and ``scenes.html``; return the pictures for the report: none if no scene has a known class."""
    shown = [_show(test, predicted, i) for i in _spread(len(test.scenes))]
    shown = [scene for scene in shown if len(scene.xyz)]
    if not shown:
        return []
    png, renderer = parts_png(shown, test.class_names, "z", OF_REPORT)
    replace_file(folder / "predictions.png", png)
    write_html(folder / "scenes.html", shown, test.class_names, title, "z")
    words = f"Truth, prediction, errors. Drawn by {renderer}. scenes.html shows them in 3D."
    return [("Scenes", words, png)]


def _spread(total: int) -> list[int]:
    """Return the indices of a few scenes, spread over the set."""
    return np.unique(np.linspace(0, total - 1, min(MAX_SCENES, total)).round().astype(int)).tolist()


def _show(test: Any, predicted: Sequence[Int[Tensor, " _"]], i: int) -> PartCloud:
    """Return scene ``i`` for a picture: its voxels with a known class, without a ceiling that would hide them."""
    scene, found = test.scenes[i], predicted[i].cpu()
    known = scene.label >= 0
    right = (scene.label == found)[known].float()
    height = scene.xyz[:, 2] - scene.xyz[:, 2].amin()
    high = height > CEILING * height.amax()
    below = known & ~high
    cut = bool(below.any()) and bool(high.float().mean() > FULL)
    shown = below if cut else known
    title = f"{scene.name}, {float(right.mean()) if len(right) else 0.0:.1%} of all {len(right):,} voxels correct"
    title += ", the highest not shown" if cut else ""
    xyz, truth, found = scene.xyz[shown].numpy(), scene.label[shown].numpy(), found[shown].numpy()
    return PartCloud(xyz, found, range(len(test.class_names)), title, truth)
