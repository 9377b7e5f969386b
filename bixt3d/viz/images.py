"""Pictures of images: a grid with titles, and segmentations as color overlays with a legend."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Integer, UInt8

from bixt3d.io.writing import replace_file
from bixt3d.viz.clouds import PALETTE
from bixt3d.viz.picture import DPI, INK, Canvas

Pixels = UInt8[np.ndarray, "_ _ 3"]

_GAP, _LINE = 10, 22  # pixels: space around an image, and height of a line of text
_PANEL, _LEGEND, _MOST = 400, 290, 16  # pixels, pixels, and classes that a legend names


@dataclass(frozen=True)
class SegmentedImage:
    """An image with the predicted class of every pixel, and the true one if known; -1: no class."""

    image: UInt8[np.ndarray, "X Y 3"]
    predicted: Integer[np.ndarray, "X Y"]
    truth: Integer[np.ndarray, "X Y"] | None = None
    title: str = ""


def draw_images(
    path: Path,
    images: Sequence[Pixels],
    titles: Sequence[str],
    columns: int = 8,
    colors: Sequence[str] | None = None,
) -> None:
    """Write the picture of `images_png` to a file; arguments as there."""
    replace_file(path, images_png(images, titles, columns, colors))


def images_png(
    images: Sequence[Pixels], titles: Sequence[str], columns: int = 8, colors: Sequence[str] | None = None
) -> bytes:
    r"""Return a grid of images of any sizes, each above its title, which may have lines (``\n``) and a color."""
    if not len(images) == len(titles) > 0:
        raise ValueError(f"{len(images)} images with {len(titles)} titles: give at least one image, and each its title")
    side, size = (180, 7.5) if min(columns, len(images)) > 4 else (280, 9.0)
    small = [fit(image, side, side) for image in images]
    rows = [range(first, min(first + columns, len(images))) for first in range(0, len(images), columns)]
    words = _LINE * max(title.count("\n") + 1 for title in titles) if any(titles) else 0
    heights = [max(small[place].shape[0] for place in row) + words + _GAP for row in rows]
    canvas = Canvas(min(columns, len(images)) * (side + _GAP) + _GAP, sum(heights) + _GAP)
    bottom = _GAP
    for row, height in zip(rows, heights, strict=True):
        bottom += height
        for column, place in enumerate(row):
            image, middle = small[place], _GAP + column * (side + _GAP) + side // 2
            y = bottom - _GAP - words
            canvas.image(image, middle - image.shape[1] // 2, y - image.shape[0])
            for line, text in enumerate(titles[place].split("\n")):
                color = INK if colors is None else colors[place]
                write_line(canvas, text, middle, y + _LINE * (line + 0.55), side, color, size, ha="center")
    return photo_png(canvas)


def draw_segmentations(path: Path, shown: Sequence[SegmentedImage], class_names: Sequence[str]) -> None:
    """Write the picture of `segmentations_png` to a file; arguments as there."""
    replace_file(path, segmentations_png(shown, class_names))


def segmentations_png(shown: Sequence[SegmentedImage], class_names: Sequence[str]) -> bytes:
    """Return a picture with a row for each image: image, prediction, truth if known, and a legend.

    The legend gives for each class its share of the predicted and of the true pixels.
    """
    if not shown:
        raise ValueError("a picture needs at least one image")
    colors = class_colors(len(class_names))
    with_truth = any(one.truth is not None for one in shown)
    heads = ["image", "prediction", "truth"] if with_truth else ["image", "prediction"]
    rows = [[fit(panel, _PANEL, _PANEL) for panel in _panels(one, colors)] for one in shown]
    heights = [max(panels[0].shape[0], 120) + 2 * _LINE for panels in rows]
    cell, top = _PANEL + _GAP, _LINE + 2 * _GAP
    canvas = Canvas(len(heads) * cell + _GAP + _LEGEND, top + sum(heights))
    for place, head in enumerate(heads):
        canvas.words(head, _GAP + place * cell + _PANEL / 2, _GAP + _LINE / 2, 11, ha="center", fontweight="bold")
    note = "predicted / true" if with_truth else "predicted"
    canvas.words(note, len(heads) * cell + _GAP + 28, _GAP + _LINE / 2, 8.5, "#57606a")
    for one, panels, high in zip(shown, rows, heights, strict=True):
        write_line(canvas, one.title, _GAP, top + _LINE * 0.4, len(heads) * cell + _LEGEND - _GAP)
        for place, panel in enumerate(panels):
            canvas.image(panel, _GAP + place * cell + (_PANEL - panel.shape[1]) // 2, top + _LINE)
        _write_legend(canvas, one, class_names, len(heads) * cell + _GAP, top + _LINE, high - 2 * _LINE)
        top += high
    return photo_png(canvas)


def write_label_map(path: Path, labels: Integer[np.ndarray, "X Y"], class_names: Sequence[str]) -> None:
    """Write the class index of each pixel, from 0, as a PNG with a palette; above 256 classes as 16-bit grey.

    The PNG text chunk ``classes`` has a line with index and name of each class.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    comment, content = PngInfo(), io.BytesIO()
    comment.add_itxt("classes", "\n".join(f"{number} {name}" for number, name in enumerate(class_names)))
    small = len(class_names) <= 256
    picture = Image.fromarray(np.ascontiguousarray(labels.astype(np.uint8 if small else np.uint16)))
    if small:
        picture.putpalette(class_colors(len(class_names)).tobytes())
    picture.save(content, format="png", pnginfo=comment)
    replace_file(path, content.getvalue())


def overlay(
    image: UInt8[np.ndarray, "X Y 3"],
    labels: Integer[np.ndarray, "X Y"],
    colors: UInt8[np.ndarray, "C 3"],
    alpha: float = 0.55,
) -> UInt8[np.ndarray, "X Y 3"]:
    """Blend an image with the colors of its pixels' classes, at opacity ``alpha``; pixels without class (-1) stay."""
    color = colors[np.maximum(labels, 0)]
    share = np.where(labels < 0, 0.0, alpha)[..., None]
    return np.round(image * (1 - share) + color * share).astype(np.uint8)


@cache
def class_colors(num: int) -> UInt8[np.ndarray, "C 3"]:
    """Return ``num`` colors for classes, always the same: those of PALETTE, then each the farthest from all before."""
    from matplotlib.colors import to_rgb

    colors = [255 * np.array(to_rgb(color)) for color in PALETTE[:num]]
    steps = np.linspace(25, 245, 9)
    free = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 3)
    weight = np.array([2.0, 4.0, 3.0])  # a common weighted RGB distance: green counts most
    apart = np.full(len(free), np.inf)
    for color in colors:
        apart = np.minimum(apart, ((free - color) ** 2 @ weight))
    while len(colors) < num:
        colors.append(free[apart.argmax()])
        apart = np.minimum(apart, ((free - colors[-1]) ** 2 @ weight))
    return np.round(np.array(colors).reshape(-1, 3)).astype(np.uint8)


def fit(image: Pixels, width: int, height: int) -> Pixels:
    """Resize an image to fit into ``width`` x ``height`` pixels, keeping its aspect ratio; enlarge without blur."""
    from PIL import Image

    scale = min(width / image.shape[1], height / image.shape[0])
    size = tuple(max(1, round(scale * length)) for length in (image.shape[1], image.shape[0]))
    how = Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(image).resize(size, how))


def write_line(  # noqa: PLR0913
    canvas: Canvas,
    text: str,
    x: float | int,
    y: float | int,
    width: float | int,
    color: str = INK,
    size: float | int = 9.0,
    **style: str,
) -> None:
    """Write a line of text that fits into ``width`` pixels: in a smaller font, or with an ellipsis in the middle."""
    most = math.floor(width / 7)
    text = text if len(text) <= most else f"{text[: most - 6]}…{text[-5:]}"
    canvas.words(text, x, y, min(size, 0.8 * width / max(len(text), 1)), color, **style)


def photo_png(canvas: Canvas) -> bytes:
    """Return a picture with photographs as PNG in full color, not in the 256 colors of other pictures."""
    from PIL import Image

    full, small = io.BytesIO(), io.BytesIO()
    canvas.figure.savefig(full, format="png", dpi=DPI, facecolor="white", pil_kwargs={"compress_level": 0})
    Image.open(full).convert("RGB").save(small, format="png", dpi=(DPI, DPI))
    return small.getvalue()


def _panels(one: SegmentedImage, colors: UInt8[np.ndarray, "C 3"]) -> list[Pixels]:
    labels = [one.predicted] + ([] if one.truth is None else [one.truth])
    return [one.image, *(overlay(one.image, some, colors) for some in labels)]


def _write_legend(
    canvas: Canvas, one: SegmentedImage, class_names: Sequence[str], x: float | int, y: float | int, high: float | int
) -> None:
    """Write the classes of an image, the most frequent first."""
    colors, labels = class_colors(len(class_names)), [one.predicted, *([] if one.truth is None else [one.truth])]
    counts = np.stack([np.bincount(some[some >= 0], minlength=len(class_names)) for some in labels])
    there = counts.sum(axis=0)
    order = [place for place in np.argsort(-there, kind="stable").tolist() if there[place]]
    lines = {}
    for place in order[:_MOST]:
        shares = " / ".join(f"{count / one.predicted.size:.1%}" for count in counts[:, place])
        lines[f"{class_names[place]} {shares}"] = "#{:02x}{:02x}{:02x}".format(*colors[place])
    step = min(_LINE, high / (len(lines) + 1))
    size = min(8.0 * step / _LINE, 0.77 * (_LEGEND - 40) / max(map(len, lines), default=1))
    for line, (text, color) in enumerate(lines.items()):
        canvas.dot(color, x + 12, y + (line + 0.5) * step, 8.0 * step / _LINE)
        canvas.words(text, x + 28, y + (line + 0.5) * step, size)
    if len(order) > len(lines):
        canvas.words(f"and {len(order) - len(lines)} more", x + 28, y + (len(lines) + 0.5) * step, size, "#57606a")
