"""Cross-attention maps of latents over the points of a cloud, layer by layer and in both directions."""

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
"""Color ramps from no attention to the most: of a latent to points, and of points to a latent."""

_EVEN = 4.0  # the last color of the ramp, in multiples of uniform attention, unless the peak is higher
_LEFT, _HEAD, _NOTE, _FOOT = 170, 62, 26, 70  # pixels


@dataclass(frozen=True)
class AttentionMap:
    """The cross-attention of one layer, mean over its heads.

    Args:
        pos: positions of the tokens.
        reads: attention of each latent over the tokens (latents read), each row of sum 1; None: no such direction.
        writes: attention of each token over the latents (tokens read), each row of sum 1; None: no such direction.
        symmetry: correlation of ``reads`` and the transpose of ``writes``, mean over latents; None: not measured.
    """

    pos: Float[np.ndarray, "T 3"]
    reads: Float[np.ndarray, "L T"] | None
    writes: Float[np.ndarray, "T L"] | None
    symmetry: float | None = None


def choose_latents(maps: Sequence[AttentionMap], num: int = 4) -> list[int]:
    """Choose latents to show, by their attention in the last layer in which latents read.

    The first has the highest peak; each further one is the most different from those before (total variation distance).
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
    """Write the picture of `attention_png`; return the renderer, as `render_clouds` does."""
    png, renderer = attention_png(xyz, maps, latents, title, up)
    replace_file(path, png)
    return renderer


def attention_png(
    xyz: Float[np.ndarray, "N 3"],
    maps: Sequence[AttentionMap],
    latents: Sequence[int],
    title: str,
    up: Literal["y", "z"] = "y",
) -> tuple[bytes, str]:
    """Return a picture with two rows for each latent and a column for each layer, and the renderer.

    Upper row: attention of the latent to each point; lower row: attention of each point to the latent. Every point has
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
    images, renderer = render_clouds([xyz] * len(panels), colors, up, side)
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
        canvas.words(f"peak {values.max():.1f} x uniform", x + side / 2, y + side + 8, 8, "#57606a", ha="center")
    for line, text in enumerate(
        (
            "grey: no attention; darkest: the peak, or 4 x uniform attention if the peak is lower; mean over heads",
            "symmetry: correlation of the attention in both directions, mean over all latents",
        )
    ):
        canvas.words(text, 16, height - _FOOT + 22 + 24 * line, 8, "#57606a")
    return canvas.png(), renderer


def _rows(
    xyz: Float[np.ndarray, "N 3"], one: AttentionMap, latents: Sequence[int]
) -> list[Float[np.ndarray, " N"] | None]:
    """Return for each latent its attention to every point, then that of every point to it; 1: uniform attention."""
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
