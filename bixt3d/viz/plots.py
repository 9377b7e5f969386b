"""Plots as PNG: training curves, confusion matrix, accuracy under corruption, calibration.

Each ``*_png`` returns the bytes of a picture, each ``draw_*`` writes them to a file, whole or not at all.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from bixt3d.io.writing import replace_file
from bixt3d.viz.picture import INK, to_png

Row = Mapping[str, object]
"""A row of metrics.csv: numbers, or numbers as text; absent, None, empty or not finite: not measured."""

_RULE, _TRAIN, _VAL, _TEST = "#d0d7de", "#6e7781", "#c25500", "#0072b2"
MOST_NAMES = 100
"""Classes that a confusion matrix names, at most. Each adds to the size of the picture: of 892 it took 23 GB."""

SEVERAL = ("#0072b2", "#c25500", "#117733", "#882255", "#6e7781", "#8f6a00", "#5b4bb5")
_LOSSES = (("loss", "train", _TRAIN, "-"), ("val_loss", "val", _VAL, "-"), ("test_loss", "test", _TEST, "-"))
_ACCURACIES = (
    ("train_accuracy", "train", _TRAIN, "-"),
    ("val_accuracy", "val", _VAL, "-"),
    ("val_mean_accuracy", "val, class mean", _VAL, "--"),
    ("test_accuracy", "test", _TEST, "-"),
    ("test_mean_accuracy", "test, class mean", _TEST, "--"),
    ("val_top5", "val, top-5", _VAL, "--"),
    ("test_top5", "test, top-5", _TEST, "--"),
    ("val_miou", "val, mIoU", _VAL, "-."),
    ("test_miou", "test, mIoU", _TEST, "-."),
    ("val_instance_miou", "val, instance mIoU", _VAL, "-."),
    ("val_class_miou", "val, class mIoU", _VAL, ":"),
    ("test_instance_miou", "test, instance mIoU", _TEST, "-."),
    ("test_class_miou", "test, class mIoU", _TEST, ":"),
)


def draw_curves(rows: Sequence[Row], path: Path) -> None:
    """Write the plot of `curves_png` to a file."""
    replace_file(path, curves_png(rows))


def curves_png(rows: Sequence[Row], panels: Sequence[str] = ("loss", "accuracy")) -> bytes:
    """Return training curves over the epochs: panels side by side, each line labelled with its last value.

    The panels ``loss`` and ``accuracy`` read the columns ``epoch``, ``loss``, ``train_accuracy`` and, with the prefix
    ``val_`` or ``test_``, ``loss``, ``accuracy``, ``mean_accuracy``, ``top5``, ``miou``, ``instance_miou`` and
    ``class_miou``, if present. A panel of another name, such as ``error``, reads that column with the prefix
    ``train_``, ``val_`` and ``test_``.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6 * len(panels), 3.7), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw_lines(axes, rows, panel)
    return to_png(figure)


def _draw_lines(axes: Any, rows: Sequence[Row], panel: str) -> None:
    from matplotlib.ticker import MaxNLocator

    sets = (("train", _TRAIN), ("val", _VAL), ("test", _TEST))
    of_any = tuple((f"{name}_{panel}", name, color, "-") for name, color in sets)
    lines = {"loss": _LOSSES, "accuracy": _ACCURACIES}.get(panel, of_any)
    factor, unit, digits = (100.0, " %", 1) if panel == "accuracy" else (1.0, "", 3)
    ends = []
    for key, word, color, dash in lines:
        measured = [(_number(row, "epoch"), factor * _number(row, key)) for row in rows]
        measured = [(epoch, value) for epoch, value in measured if math.isfinite(epoch) and math.isfinite(value)]
        if measured:
            axes.plot(*zip(*measured, strict=True), dash, color=color, linewidth=1.6, zorder=3)
            axes.plot(*measured[-1], "o", color=color, markersize=4.5, zorder=4)
            ends.append((measured[-1][1], f"{word} {measured[-1][1]:.{digits}f}{unit}", color))
    words = "Accuracy and mIoU in %" if any("miou" in key for row in rows for key in row) else "Accuracy in %"
    title = words if panel == "accuracy" else panel.replace("_", " ").capitalize()
    axes.set_title(title, loc="left", color=INK, fontweight="bold")
    style_axes(axes)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=(1, 2, 5, 10), min_n_ticks=1))
    axes.set_xlabel("epoch", color=INK)
    if not ends:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=_TRAIN)
        return
    write_ends(axes, ends)


def style_axes(axes: Any) -> None:
    """Remove spines and ticks, and draw a light grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_RULE)
    axes.tick_params(colors=INK, labelsize=9, length=0)
    axes.grid(axis="y", color=_RULE, linewidth=0.6)
    axes.margins(x=0.02)


def write_ends(axes: Any, ends: Sequence[tuple[float, str, str]]) -> None:
    """Label each line beside the axes, at the height of its last value and in its color."""
    low, high = axes.get_ylim()
    ends = sorted(ends, key=lambda end: end[0])
    heights = _spread([(value - low) / (high - low) for value, _, _ in ends], 0.075)
    for height, (_, text, color) in zip(heights, ends, strict=True):
        axes.text(
            1.015, height, text, transform=axes.transAxes, va="center", color=color, fontsize=10, parse_math=False
        )


def _number(row: Row, key: str) -> float:
    value = row.get(key)
    return math.nan if value in (None, "") else float(value)


def _spread(heights: Sequence[float], gap: float) -> Sequence[float]:
    """Move ascending heights up until they are a gap apart, then down until all are below 1."""
    placed = []
    for height in heights:
        placed.append(max(height, placed[-1] + gap) if placed else height)
    for place in range(len(placed) - 1, -1, -1):
        placed[place] = min(placed[place], 1.0 - gap * (len(placed) - 1 - place))
    return placed


def corruptions_png(accuracies: Mapping[str, Sequence[float]], clean: float) -> bytes:
    """Return a plot of accuracy (given in 0..1) over the level of each corruption; level 0 is the clean set."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.subplots()
    ends = []
    for place, (name, line) in enumerate(sorted(accuracies.items(), key=lambda entry: -entry[1][-1])):
        values = [100 * share for share in (clean, *line)]
        axes.plot(values, "o-", color=SEVERAL[place % len(SEVERAL)], markersize=4, linewidth=1.6, zorder=3)
        ends.append((values[-1], f"{name.replace('_', ' ')} {values[-1]:.1f} %", SEVERAL[place % len(SEVERAL)]))
    axes.set_title("Accuracy in %", loc="left", color=INK, fontweight="bold")
    style_axes(axes)
    axes.set_xticks(range(len(values)), ["clean", *map(str, range(1, len(values)))])
    axes.set_xlabel("level of corruption", color=INK)
    write_ends(axes, ends)
    return to_png(figure)


def reliability_png(bins: Float[np.ndarray, "3 M"]) -> bytes:
    """Return a reliability diagram: accuracy by confidence, in bins of equal width, beside the share of predictions.

    ``bins``: for each bin the number of predictions, the sum of their confidences, and the number of correct ones.
    """
    from matplotlib.figure import Figure

    (count, confidence, right), num = bins, bins.shape[1]
    known, centers = count > 0, 100 * (np.arange(num) + 0.5) / num
    figure = Figure(figsize=(8.2, 3.7), layout="constrained")
    accuracy, share = figure.subplots(1, 2)
    accuracy.bar(centers[known], 100 * right[known] / count[known], 92 / num, color=_TEST, zorder=3)
    accuracy.plot(100 * confidence[known] / count[known], 100 * right[known] / count[known], "o", color=INK, zorder=4)
    accuracy.plot([0, 100], [0, 100], "--", color=_TRAIN, linewidth=1.2, zorder=5)
    share.bar(centers, 100 * count / max(count.sum(), 1), 92 / num, color=_TRAIN, zorder=3)
    for axes, title in ((accuracy, "Accuracy in %"), (share, "Share of the predictions in %")):
        axes.set_title(title, loc="left", color=INK, fontweight="bold")
        style_axes(axes)
        axes.set(xlim=(0, 100))
        axes.set_xlabel("confidence in %", color=INK)
    accuracy.set(ylim=(0, 100))
    return to_png(figure)


def draw_confusion(matrix: Int[np.ndarray, "C C"], class_names: Sequence[str], path: Path) -> None:
    """Write the plot of `confusion_png` to a file."""
    replace_file(path, confusion_png(matrix, class_names))


def confusion_png(matrix: Int[np.ndarray, "C C"], class_names: Sequence[str]) -> bytes:
    """Return a plot of the confusion matrix: a row for every true class, a column for every predicted one.

    The color of a cell is its share of the row; up to 20 classes, cells show the number of examples. Above MOST_NAMES
    the picture stays as large, and classes are named at regular distances, which the title says.
    """
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    num = len(class_names)
    if num != len(matrix):
        raise ValueError(f"{num} class names for a confusion matrix of {len(matrix)} classes")
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = 2.4 + (0.5 * num if num <= 20 else 0.24 * min(num, MOST_NAMES))
    figure = Figure(figsize=(side + 0.9, side), layout="constrained")
    axes = figure.subplots()
    norm = PowerNorm(0.5, 0.0, 1.0)  # square root: makes rare mistakes visible
    image = axes.imshow(share, cmap="Blues", norm=norm)
    bar = figure.colorbar(image, ax=axes, shrink=0.6, pad=0.02, ticks=[0, 0.01, 0.05, 0.2, 0.5, 1])
    bar.ax.set_yticklabels(["0", "1", "5", "20", "50", "100 %"], fontsize=9, color=INK)
    bar.ax.set_ylabel("of the true class", fontsize=9, color=INK)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)
    step = math.ceil(num / MOST_NAMES)
    named, names = range(0, num, step), class_names[::step]
    style = {"fontsize": 10 if num <= 20 else 9.5, "color": INK, "parse_math": False}
    axes.set_xticks(named, names, rotation=45 if num <= 20 else 90, **style)
    if num <= 20:
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    axes.set_yticks(named, names, **style)
    if step == 1:
        axes.set_xticks(np.arange(num - 1) + 0.5, minor=True)
        axes.set_yticks(np.arange(num - 1) + 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1.0)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_color(_RULE)
    axes.set_xlabel("predicted", color=INK, fontsize=11)
    axes.set_ylabel("true", color=INK, fontsize=11)
    right, total = int(np.trace(matrix)), int(matrix.sum())
    title = f"{right} of {total} correct: {100 * right / max(total, 1):.1f} %"
    title += f"; one in {step} of {num:,} classes is named" if step > 1 else ""
    axes.set_title(title, color=INK, fontweight="bold")
    if num <= 20:
        for row, column in np.argwhere(matrix):
            color = "white" if norm(share[row, column]) > 0.6 else INK
            axes.text(column, row, matrix[row, column], ha="center", va="center", color=color, fontsize=9)
    return to_png(figure)
