"""Pictures of part segmentation: truth, prediction and errors side by side, with a legend of the parts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from bixt3d.io.writing import replace_file
from bixt3d.viz.clouds import PALETTE, color_points
from bixt3d.viz.picture import Canvas, text_width
from bixt3d.viz.scene import VIEW, View, render_clouds, show_clouds

RIGHT, WRONG = "#c4c9ce", "#d1242f"
"""Colors of correct points, and of wrong ones."""

_SIDE, _WIDTH, _LEGEND, _TITLE, _HEAD = 330, 1200, 210, 40, 30  # pixels
_LINE = 25  # of a legend, at most


@dataclass(frozen=True)
class PartCloud:
    """A cloud with the predicted part of every point, and the true one if known.

    Args:
        xyz: the points.
        predicted: predicted part of every point, as an index in the names of parts.
        parts: the parts of the cloud's category; the first has the first color of the palette.
        title: title of its picture.
        truth: true part of every point, or None.
        total: number of points of a large cloud of which ``xyz`` is a sample, or None.
    """

    xyz: Float[np.ndarray, "N 3"]
    predicted: Int[np.ndarray, " N"]
    parts: Sequence[int]
    title: str = ""
    truth: Int[np.ndarray, " N"] | None = None
    total: int | None = None

    @property
    def num_points(self) -> int:
        """Number of points of the whole cloud."""
        return self.total or len(self.xyz)

    def rgb(self, labels: Int[np.ndarray, " N"]) -> Float[np.ndarray, "N 3"]:
        """Return the RGB colors of points with these parts, in 0..1."""
        return color_points(labels - min(self.parts))

    def legend(self, part_names: Sequence[str]) -> list[tuple[int, str, str]]:
        """Return index, short name and color of every part in truth or prediction.

        ``chair/seat`` is ``seat`` in the legend of a chair; a part of another category keeps its full name.
        """
        present = set(self.predicted.tolist()) | set([] if self.truth is None else self.truth.tolist())
        same = len({part_names[part].rpartition("/")[0] for part in self.parts}) == 1  # and not all categories
        return [
            (
                part,
                part_names[part].rpartition("/")[2] if same and part in self.parts else part_names[part],
                PALETTE[(part - min(self.parts)) % len(PALETTE)],
            )
            for part in sorted(present)
        ]

    def errors(self) -> Float[np.ndarray, "N 3"]:
        """Return the RGB color of every point: that of correct or wrong points."""
        from matplotlib.colors import to_rgb

        return np.array([to_rgb(RIGHT), to_rgb(WRONG)])[(self.predicted != self.truth).astype(int)]


def draw_parts(
    path: Path,
    clouds: Sequence[PartCloud],
    part_names: Sequence[str],
    up: Literal["y", "z"] = "y",
    view: View = VIEW,
) -> str:
    """Write the picture of `parts_png` to a file; return the renderer, as `render_clouds` does."""
    png, renderer = parts_png(clouds, part_names, up, view)
    replace_file(path, png)
    return renderer


def parts_png(
    clouds: Sequence[PartCloud],
    part_names: Sequence[str],
    up: Literal["y", "z"] = "y",
    view: View = VIEW,
) -> tuple[bytes, str]:
    """Return a picture of clouds as PNG, and the renderer, as `render_clouds` does.

    If the truth of all clouds is known, each has a row: truth, prediction, errors, legend. Otherwise prediction and
    legend are shown, three clouds in a row. Fewer clouds are larger.
    """
    if not clouds:
        raise ValueError("a picture needs at least one cloud")
    with_truth = all(cloud.truth is not None for cloud in clouds)
    panels = [panel for cloud in clouds for panel in _panels(cloud, with_truth)]
    each = len(panels) // len(clouds)
    columns = 1 if with_truth else min(3, len(clouds))
    side = max(_SIDE, (_WIDTH // columns - _LEGEND) // each)
    images, renderer = render_clouds([cloud.xyz for cloud, _ in panels], [rgb for _, rgb in panels], up, side, view)
    cell, top = each * side + _LEGEND, _HEAD if with_truth else 0
    canvas = Canvas(columns * cell, top + -(-len(clouds) // columns) * (_TITLE + side))
    for place, head in enumerate(("truth", "prediction", "errors") if with_truth else ()):
        canvas.words(head, (place + 0.5) * side, _HEAD * 0.6, 11, ha="center", fontweight="bold")
    for place, cloud in enumerate(clouds):
        x, y = place % columns * cell, top + place // columns * (_TITLE + side)
        size = 9.5 if side == _SIDE else 12.0
        title = _title(cloud, view.max_points)
        canvas.words(title, x + 16, y + _TITLE * 0.6, min(size, 0.48 * cell / text_width(title)))
        for step in range(each):
            canvas.image(images[place * each + step], x + step * side, y + _TITLE)
        _write_legend(canvas, cloud, part_names, x + each * side, y + _TITLE, side)
    return canvas.png(), renderer


def show_parts(cloud: PartCloud, part_names: Sequence[str], up: Literal["y", "z"] = "y") -> None:
    """Open a window with a point set for each part, truth left of prediction, and wait until it is closed.

    Raises InputError as `show_clouds` does.
    """
    sets: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    width = 1.2 * float(np.ptp(cloud.xyz[:, 0]))
    for kind, labels, shift in (("truth", cloud.truth, -width), ("prediction", cloud.predicted, 0.0)):
        for part, name, _ in cloud.legend(part_names) if labels is not None else ():
            if (chosen := labels == part).any():
                sets[f"{kind}: {name}"] = cloud.xyz[chosen] + np.array([shift, 0, 0]), cloud.rgb(labels)[chosen]
    show_clouds([xyz for xyz, _ in sets.values()], [rgb for _, rgb in sets.values()], list(sets), cloud.title, up)


def _title(cloud: PartCloud, max_points: int) -> str:
    if len(cloud.xyz) <= max_points:
        return cloud.title
    return f"{cloud.title} ({max_points:,} of {cloud.num_points:,} points are shown)"


def _panels(cloud: PartCloud, with_truth: bool) -> list[tuple[PartCloud, Float[np.ndarray, "N 3"]]]:
    if not with_truth:
        return [(cloud, cloud.rgb(cloud.predicted))]
    return [(cloud, rgb) for rgb in (cloud.rgb(cloud.truth), cloud.rgb(cloud.predicted), cloud.errors())]


def _write_legend(
    canvas: Canvas, cloud: PartCloud, part_names: Sequence[str], x: float | int, y: float | int, side: int
) -> None:
    lines = [(name, color) for _, name, color in cloud.legend(part_names)]
    if cloud.truth is not None:
        wrong = float((cloud.predicted != cloud.truth).mean())
        lines += [("", ""), (f"right {1 - wrong:.1%}", RIGHT), (f"wrong {wrong:.1%}", WRONG)]
    step = min(_LINE * (1.4 if side > _SIDE else 1.0), side / len(lines))
    fits = [85 / text_width(name) for name, _ in lines]  # font sizes at which the names are not cut
    size = min(9.0 * step / _LINE, max(7.0, min(fits)))
    start = y + (side - step * len(lines)) / 2
    for place, (name, color) in enumerate(lines):
        if name:
            middle = start + (place + 0.5) * step
            canvas.dot(color, x + 12, middle, 0.9 * size)
            canvas.words(name, x + 28 * max(step / _LINE, 1), middle, min(size, fits[place]))
