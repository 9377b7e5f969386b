"""Pictures of a run as PNG: curves of the training, a confusion matrix, sheets of clouds seen from above at an angle.

Each ``*_png`` returns the bytes of a picture, each ``draw_*`` writes them to a file, whole or not at all.
"""

import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

PALETTE = (
    *("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#e3c800", "#7a3b1e"),
    *("#c3c378", "#004b4b", "#8787ff", "#781e78", "#f04b69", "#003ca5", "#f0b4b4", "#1ed2e1"),
    *("#785a78", "#c3874b", "#78694b", "#a5005a", "#a5d25a", "#695a00", "#a587c3", "#4b960f"),
)
"""Colors of categories and parts: Okabe and Ito's, then each the farthest from all before, also to the color-blind."""

Row = Mapping[str, object]
"""A line of metrics.csv, numbers or their text; what is absent, None, empty or not finite was not measured."""

Colors = Int[np.ndarray, "S N"] | Float[np.ndarray, "S N"] | Float[np.ndarray, "S N 3"]
"""Of points: places in PALETTE (which starts anew at its end), or values from low to high, or RGB in 0..1."""

DPI = 144
"""Dots in an inch of every picture."""

_INK, _RULE, _TRAIN, _VAL, _TEST = "#24292f", "#d0d7de", "#6e7781", "#c25500", "#0072b2"
_LOSSES = (("loss", "train", _TRAIN, "-"), ("val_loss", "val", _VAL, "-"), ("test_loss", "test", _TEST, "-"))
_ACCURACIES = (
    ("train_accuracy", "train", _TRAIN, "-"),
    ("val_accuracy", "val", _VAL, "-"),
    ("val_mean_accuracy", "val, class mean", _VAL, "--"),
    ("test_accuracy", "test", _TEST, "-"),
    ("test_mean_accuracy", "test, class mean", _TEST, "--"),
)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: if the writing fails with OSError, what was there before stays as it was."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def draw_curves(rows: Sequence[Row], path: Path) -> None:
    """Write the picture that `curves_png` makes."""
    replace_file(path, curves_png(rows))


def curves_png(rows: Sequence[Row], panels: Sequence[Literal["loss", "accuracy"]] = ("loss", "accuracy")) -> bytes:
    """Return loss and accuracy over the epochs side by side, each line with its last value.

    Reads ``epoch``, ``loss``, ``train_accuracy`` and ``{val,test}_{loss,accuracy,mean_accuracy}`` where they are.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6 * len(panels), 3.7), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw_lines(axes, rows, panel)
    return _png(figure)


def _draw_lines(axes: Any, rows: Sequence[Row], panel: Literal["loss", "accuracy"]) -> None:
    from matplotlib.ticker import MaxNLocator

    lines, factor, unit = (_LOSSES, 1.0, "") if panel == "loss" else (_ACCURACIES, 100.0, " %")
    digits = 3 if panel == "loss" else 1
    ends = []
    for key, word, color, dash in lines:
        measured = [(_number(row, "epoch"), factor * _number(row, key)) for row in rows]
        measured = [(epoch, value) for epoch, value in measured if math.isfinite(epoch) and math.isfinite(value)]
        if measured:
            axes.plot(*zip(*measured, strict=True), dash, color=color, linewidth=1.6, zorder=3)
            axes.plot(*measured[-1], "o", color=color, markersize=4.5, zorder=4)
            ends.append((measured[-1][1], f"{word} {measured[-1][1]:.{digits}f}{unit}", color))
    axes.set_title("Loss" if panel == "loss" else "Accuracy in %", loc="left", color=_INK, fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_RULE)
    axes.tick_params(colors=_INK, labelsize=9, length=0)
    axes.grid(axis="y", color=_RULE, linewidth=0.6)
    axes.margins(x=0.02)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=(1, 2, 5, 10), min_n_ticks=1))
    axes.set_xlabel("epoch", color=_INK)
    if not ends:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=_TRAIN)
        return
    low, high = axes.get_ylim()
    ends.sort(key=lambda end: end[0])
    heights = _spread([(value - low) / (high - low) for value, _, _ in ends], 0.075)
    for height, (_, text, color) in zip(heights, ends, strict=True):
        axes.text(1.015, height, text, transform=axes.transAxes, va="center", color=color, fontsize=10)


def _number(row: Row, key: str) -> float:
    value = row.get(key)
    return math.nan if value in (None, "") else float(value)


def _spread(heights: Sequence[float], gap: float) -> Sequence[float]:
    """Move rising heights as little upwards as keeps them a gap apart, then all of them down to fit below 1."""
    placed = []
    for height in heights:
        placed.append(max(height, placed[-1] + gap) if placed else height)
    for place in range(len(placed) - 1, -1, -1):
        placed[place] = min(placed[place], 1.0 - gap * (len(placed) - 1 - place))
    return placed


def draw_confusion(matrix: Int[np.ndarray, "C C"], class_names: Sequence[str], path: Path) -> None:
    """Write the picture that `confusion_png` makes."""
    replace_file(path, confusion_png(matrix, class_names))


def confusion_png(matrix: Int[np.ndarray, "C C"], class_names: Sequence[str]) -> bytes:
    """Return the confusion matrix with a row for every true class and a column for every predicted one.

    The color is a cell's share of its row; up to 20 classes the number of clouds is written in it.
    """
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    num = len(class_names)
    if num != len(matrix):
        raise ValueError(f"{num} class names for a confusion matrix of {len(matrix)} classes")
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = 2.4 + num * (0.5 if num <= 20 else 0.24)
    figure = Figure(figsize=(side + 0.9, side), layout="constrained")
    axes = figure.subplots()
    norm = PowerNorm(0.5, 0.0, 1.0)  # a root, or a few mistakes among many clouds could not be seen
    image = axes.imshow(share, cmap="Blues", norm=norm)
    bar = figure.colorbar(image, ax=axes, shrink=0.6, pad=0.02, ticks=[0, 0.01, 0.05, 0.2, 0.5, 1])
    bar.ax.set_yticklabels(["0", "1", "5", "20", "50", "100 %"], fontsize=9, color=_INK)
    bar.ax.set_ylabel("of the true class", fontsize=9, color=_INK)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)
    size = 10 if num <= 20 else 9.5
    axes.set_xticks(
        range(num), class_names, rotation=45 if num <= 20 else 90, fontsize=size, color=_INK, parse_math=False
    )
    if num <= 20:
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    axes.set_yticks(range(num), class_names, fontsize=size, color=_INK, parse_math=False)
    axes.set_xticks(np.arange(num - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(num - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.0)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_color(_RULE)
    axes.set_xlabel("predicted", color=_INK, fontsize=11)
    axes.set_ylabel("true", color=_INK, fontsize=11)
    right, total = int(np.trace(matrix)), int(matrix.sum())
    axes.set_title(f"{right} of {total} right: {100 * right / max(total, 1):.1f} %", color=_INK, fontweight="bold")
    if num <= 20:
        for row, column in np.argwhere(matrix):
            color = "white" if norm(share[row, column]) > 0.6 else _INK
            axes.text(column, row, matrix[row, column], ha="center", va="center", color=color, fontsize=9)
    return _png(figure)


def draw_clouds(
    clouds: Float[np.ndarray, "S N 3"],
    path: Path,
    *,
    titles: Sequence[str],
    colors: Colors | None = None,
    columns: int = 4,
    up: Literal["y", "z"] = "y",
) -> None:
    """Write the picture that `clouds_png` makes."""
    replace_file(path, clouds_png(clouds, titles=titles, colors=colors, columns=columns, up=up))


def clouds_png(
    clouds: Float[np.ndarray, "S N 3"],
    *,
    titles: Sequence[str],
    colors: Colors | None = None,
    columns: int = 4,
    up: Literal["y", "z"] = "y",
) -> bytes:
    """Return a sheet of clouds, each as large as its place allows; without ``colors`` the colors show the height."""
    from matplotlib.figure import Figure

    if not len(clouds) == len(titles) > 0:
        raise ValueError(f"{len(clouds)} clouds with {len(titles)} titles: give at least one cloud, and each its title")
    if colors is None:
        colors = clouds[:, :, "xyz".index(up)]
    columns = min(columns, len(clouds))
    lines, side = math.ceil(len(clouds) / columns), 2.3
    band = 0.3 if any(titles) else 0.0  # inches above each picture
    width, height = side * columns, (side + band) * lines
    figure = Figure(figsize=(width, height))
    for place, (xyz, title) in enumerate(zip(clouds, titles, strict=True)):
        line, column = divmod(place, columns)
        bottom = height - (line + 1) * (side + band)
        axes = figure.add_axes((side * column / width, bottom / height, side / width, side / height))
        _draw_cloud(axes, project(xyz, up), _rgb(colors[place]))
        axes.set_title(title, fontsize=9, color=_INK, pad=3, parse_math=False)
    return _png(figure)


def project(
    xyz: Float[np.ndarray, "N 3"], up: Literal["y", "z"] = "y", azimuth: float = 35.0, elevation: float = 25.0
) -> Float[np.ndarray, "N 3"]:
    """Turn points into the axes of a picture: right, up, towards the viewer.

    At 0 degrees the viewer looks along -z with y up, or along +y with z up. Azimuth turns the cloud's front to the
    right, elevation is the viewer's.
    """
    right, high, near = xyz.T if up == "y" else (xyz[:, 0], xyz[:, 2], -xyz[:, 1])
    turn, tilt = math.radians(azimuth), math.radians(elevation)
    right, near = right * math.cos(turn) + near * math.sin(turn), near * math.cos(turn) - right * math.sin(turn)
    high, near = high * math.cos(tilt) - near * math.sin(tilt), near * math.cos(tilt) + high * math.sin(tilt)
    return np.stack([right, high, near], axis=1)


def _rgb(colors: Int[np.ndarray, " N"] | Float[np.ndarray, "*N"]) -> Float[np.ndarray, "N 3"]:
    import matplotlib
    from matplotlib.colors import to_rgb

    if colors.ndim == 2:
        return colors
    if np.issubdtype(colors.dtype, np.integer):
        return np.array([to_rgb(color) for color in PALETTE])[colors % len(PALETTE)]
    share = (colors - colors.min()) / max(np.ptp(colors), 1e-9)
    return matplotlib.colormaps["viridis"](0.05 + 0.8 * share)[:, :3]  # without the yellow, which white swallows


def _draw_cloud(axes: Any, points: Float[np.ndarray, "N 3"], rgb: Float[np.ndarray, "N 3"]) -> None:
    """Draw points given as right, up, near: the far ones first, smaller and paler."""
    points = points - (points.max(axis=0) + points.min(axis=0)) / 2
    points = points / max(np.linalg.norm(points, axis=1).max(), 1e-9)
    order = points[:, 2].argsort()
    points, rgb = points[order], rgb[order]
    closer = 5.0 / (5.0 - points[:, 2:])  # perspective from five radii away
    flat = points[:, :2] * closer
    depth = (points[:, 2:] - points[0, 2]) / max(np.ptp(points[:, 2]), 1e-9)
    rgb = rgb + (1 - rgb) * 0.55 * (1 - depth)
    area = np.clip(1.1e4 / len(points), 1.0, 60.0) * closer[:, 0] ** 2
    axes.scatter(flat[:, 0], flat[:, 1], s=area, c=rgb, linewidths=0)
    middle = (flat.max(axis=0) + flat.min(axis=0)) / 2
    half = 1.12 * max(np.ptp(flat, axis=0).max() / 2, 0.3)
    axes.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half))
    axes.set_axis_off()


def _png(figure: Any) -> bytes:
    from PIL import Image

    full, small = io.BytesIO(), io.BytesIO()
    figure.savefig(full, format="png", dpi=DPI, facecolor="white")
    picture = Image.open(full).convert("RGB").quantize(256, dither=Image.Dither.NONE)  # a quarter of the bytes
    picture.save(small, format="png", optimize=True, dpi=(DPI, DPI))
    return small.getvalue()
