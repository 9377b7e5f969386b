"""Sheets of what latents look at, layer by layer: which points they read, and which points read them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from bixt3d.io.writing import replace_file
from bixt3d.viz.picture import Canvas
from bixt3d.viz.scene import render_clouds

READ, WRITE = ("#d9dcdf", "#fdae61", "#d7301f", "#5c0011"), ("#d9dcdf", "#74a9cf", "#0570b0", "#02243d")
"""Colors from not at all to most: how much a latent reads a point, and how much a point reads the latent."""

_EVEN = 4.0  # a map must reach so many times the even share before its peak gets the last color
_LEFT, _HEAD, _NOTE, _FOOT = 170, 62, 26, 70  # pixels


@dataclass(frozen=True)
class AttentionMap:
    """The attention of one layer, mean over its heads.

    A latent's row of ``reads``, and a token's row of ``writes``, add up to 1. None: nobody reads in this direction.
    """

    pos: Float[np.ndarray, "T 3"]
    reads: Float[np.ndarray, "L T"] | None
    writes: Float[np.ndarray, "T L"] | None
    symmetry: float | None = None


def choose_latents(maps: Sequence[AttentionMap], num: int = 4) -> list[int]:
    """Return latents worth a look, by what they read in the last layer in which they read.

    The first has the highest peak; each further one is the least like those before it (by total variation).
    """
    reads = next((one.reads for one in reversed(maps) if one.reads is not None), None)
    reads = maps[-1].writes.T if reads is None else reads
    chosen = [int(reads.max(axis=1).argmax())]
    while len(chosen) < min(num, len(reads)):
        apart = np.abs(reads[:, None] - reads[None, chosen]).sum(axis=2).min(axis=1)
        apart[chosen] = -1
        chosen.append(int(apart.argmax()))
    return chosen


def draw_attention(
    path: Path,
    xyz: Float[np.ndarray, "N 3"],
    maps: Sequence[AttentionMap],
    latents: Sequence[int],
    title: str,
    up: Literal["y", "z"] = "y",
) -> str:
    """Write the sheet that `attention_png` makes; returns who drew it."""
    png, who = attention_png(xyz, maps, latents, title, up)
    replace_file(path, png)
    return who


def attention_png(
    xyz: Float[np.ndarray, "N 3"],
    maps: Sequence[AttentionMap],
    latents: Sequence[int],
    title: str,
    up: Literal["y", "z"] = "y",
) -> tuple[bytes, str]:
    """Return a sheet with two rows for each latent and a column for each layer, and who drew it.

    Upper row: how much the latent reads each point; lower row: how much each point reads the latent. Every point has
    the color of its nearest token.
    """
    panels = [
        (row, column, values)
        for column, one in enumerate(maps)
        for row, values in enumerate(_rows(xyz, one, latents))
        if values is not None
    ]
    side = 300 if len(maps) <= 6 else 210
    colors = [_colors(values, WRITE if row % 2 else READ) for row, _, values in panels]
    images, who = render_clouds([xyz] * len(panels), colors, up, side)
    height = _HEAD + 2 * len(latents) * (side + _NOTE) + _FOOT
    canvas = Canvas(max(_LEFT + len(maps) * side, 900), height)
    canvas.words(title, 16, 22, 11, fontweight="bold")
    for column, one in enumerate(maps):
        alike = "" if one.symmetry is None else f", symmetry {one.symmetry:.2f}"
        canvas.words(
            f"layer {column + 1}{alike}", _LEFT + (column + 0.5) * side, 50, 9 * min(1, side / 260), ha="center"
        )
    for row in range(2 * len(latents)):
        middle = _HEAD + row * (side + _NOTE) + side / 2
        canvas.words(f"latent {latents[row // 2]}", 16, middle - 12, 10, fontweight="bold")
        canvas.words("is read by" if row % 2 else "reads", 16, middle + 12, 9, (WRITE if row % 2 else READ)[2])
    for image, (row, column, values) in zip(images, panels, strict=True):
        x, y = _LEFT + column * side, _HEAD + row * (side + _NOTE)
        canvas.image(image, x, y)
        canvas.words(f"peak {values.max():.1f} x even", x + side / 2, y + side + 8, 8, "#57606a", ha="center")
    for line, text in enumerate(
        (
            "grey: not at all; darkest: the peak, or 4 x what even attention would give where the peak is lower; "
            "mean over heads",
            "symmetry: correlation between what a latent reads and who reads it, mean over all latents",
        )
    ):
        canvas.words(text, 16, height - _FOOT + 22 + 24 * line, 8, "#57606a")
    return canvas.png(), who


def _rows(
    xyz: Float[np.ndarray, "N 3"], one: AttentionMap, latents: Sequence[int]
) -> list[Float[np.ndarray, " N"] | None]:
    """Return for every latent how much it reads each point, and how much each point reads it: 1 is the even share."""
    from scipy.spatial import cKDTree

    nearest = cKDTree(one.pos).query(xyz)[1]
    rows = []
    for latent in latents:
        rows.append(None if one.reads is None else one.reads[latent, nearest] * len(one.pos))
        rows.append(None if one.writes is None else one.writes[nearest, latent] * one.writes.shape[1])
    return rows


def _colors(values: Float[np.ndarray, " N"], ramp: Sequence[str]) -> Float[np.ndarray, "N 3"]:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("attention", ramp)(values / max(values.max(), _EVEN))[:, :3]
