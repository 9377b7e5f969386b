"""Cross-attention maps of latents over an image: heat maps of some latents in all layers, or of all in one layer."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from bixt3d.io.writing import replace_file
from bixt3d.viz.attention import READ, WRITE, AttentionMap
from bixt3d.viz.images import Pixels, fit, photo_png, write_line
from bixt3d.viz.picture import Canvas

EVEN = 4.0
"""The last color of the ramp, in multiples of uniform attention, unless the peak is higher."""

_LEFT, _HEAD, _NOTE, _GAP, _FOOT = 110, 150, 24, 6, 82  # pixels
_SOFT = "#57606a"
_FOOTNOTES = (
    "no color: no attention; darkest: the peak, or 4 x uniform attention if the peak is lower",
    "the numbers are peaks, in multiples of uniform attention; mean over heads",
    "symmetry: correlation of the attention in both directions, mean over all latents",
)


def draw_image_attention(
    path: Path,
    image: Pixels,
    maps: Sequence[AttentionMap],
    grid: tuple[int, int],
    latents: Sequence[int],
    title: str,
) -> None:
    """Write the picture of `image_attention_png` to a file; arguments as there."""
    replace_file(path, image_attention_png(image, maps, grid, latents, title))


def image_attention_png(
    image: Pixels, maps: Sequence[AttentionMap], grid: tuple[int, int], latents: Sequence[int], title: str
) -> bytes:
    """Return a picture with a row for each latent and a column for each layer, in two halves.

    Upper half: attention of the latent to each pixel; lower half: attention of each pixel to the latent. ``grid``: rows
    and columns of patches; the tokens of all maps are these patches, row by row.
    """
    side = 220 if len(maps) <= 4 else 150
    small = fit(image, side, side)
    high, wide = small.shape[0] + _NOTE, small.shape[1] + _GAP
    half = 3 * _NOTE + len(latents) * high + _GAP
    width = max(_LEFT + len(maps) * wide + _GAP, 900)
    canvas = Canvas(width, _HEAD + 2 * half + _FOOT)
    _write_head(canvas, image, title, width)
    for below, (what, ramp) in enumerate((("what the latents read", READ), ("which pixels read the latents", WRITE))):
        top = _HEAD + below * half
        canvas.words(what, _GAP * 2, top + _NOTE / 2, 10, ramp[2], fontweight="bold")
        for column, one in enumerate(maps):
            middle = _LEFT + column * wide + small.shape[1] / 2
            canvas.words(f"layer {column + 1}", middle, top + 1.5 * _NOTE, 8, ha="center", fontweight="bold")
            alike = "" if one.symmetry is None else f"symmetry {one.symmetry:.2f}"
            canvas.words(alike, middle, top + 2.4 * _NOTE, 6.5, _SOFT, ha="center")
        for row, latent in enumerate(latents):
            y = top + 3 * _NOTE + row * high
            canvas.words(f"latent {latent}", _GAP * 2, y + small.shape[0] / 2, 9, fontweight="bold")
            for column, one in enumerate(maps):
                values = (_writes if below else _reads)(one, latent)
                if values is not None:
                    _paste(canvas, small, values, grid, ramp, (_LEFT + column * wide, y))
    _write_foot(canvas, _HEAD + 2 * half)
    return photo_png(canvas)


def draw_all_latents(path: Path, image: Pixels, one: AttentionMap, grid: tuple[int, int], title: str) -> None:
    """Write the picture of `all_latents_png` to a file; arguments as there."""
    replace_file(path, all_latents_png(image, one, grid, title))


def all_latents_png(image: Pixels, one: AttentionMap, grid: tuple[int, int], title: str) -> bytes:
    """Return a picture of all latents of one layer: left the attention of each to pixels, right of pixels to each.

    In a layer with one-sided cross-attention there is only the one direction.
    """
    sides = [
        (what, ramp, find)
        for what, ramp, find in (
            ("what the latents read", READ, _reads),
            ("which pixels read the latents", WRITE, _writes),
        )
        if find(one, 0) is not None
    ]
    num = len(one.reads) if one.reads is not None else one.writes.shape[1]
    columns = min(num, 8)
    small = fit(image, 130, 130)
    high, wide = small.shape[0] + 2 * _NOTE, small.shape[1] + _GAP
    block, lines = columns * wide + 4 * _GAP, -(-num // columns)
    width = max(len(sides) * block + 4 * _GAP, 900)
    canvas = Canvas(width, _HEAD + _NOTE + lines * high + _FOOT)
    _write_head(canvas, image, title, width)
    for place, (what, ramp, find) in enumerate(sides):
        left = 4 * _GAP + place * block
        canvas.words(what, left, _HEAD + _NOTE / 2, 10, ramp[2], fontweight="bold")
        for latent in range(num):
            x, y = left + latent % columns * wide, _HEAD + _NOTE + latent // columns * high
            canvas.words(f"latent {latent}", x, y + _NOTE * 0.6, 7.5)
            _paste(canvas, small, find(one, latent), grid, ramp, (x, y + _NOTE))
    _write_foot(canvas, _HEAD + _NOTE + lines * high)
    return photo_png(canvas)


def heat(
    image: UInt8[np.ndarray, "X Y 3"], values: Float[np.ndarray, "R C"], ramp: Sequence[str]
) -> UInt8[np.ndarray, "X Y 3"]:
    """Return a pale grey image with a heat map over its patches; values of 1 are uniform attention."""
    from matplotlib.colors import LinearSegmentedColormap
    from PIL import Image

    size = (image.shape[1], image.shape[0])
    values = values / max(values.max(), EVEN)
    smooth = np.asarray(Image.fromarray(values.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)).clip(0, 1)
    grey = 100 + 0.6 * (image @ np.array([0.299, 0.587, 0.114]))[..., None]
    color = 255 * LinearSegmentedColormap.from_list("attention", ramp)(smooth)[..., :3]
    share = 0.85 * smooth[..., None] ** 0.8
    return np.round(grey * (1 - share) + color * share).clip(0, 255).astype(np.uint8)


def _reads(one: AttentionMap, latent: int) -> Float[np.ndarray, " T"] | None:
    return None if one.reads is None else one.reads[latent] * one.reads.shape[1]


def _writes(one: AttentionMap, latent: int) -> Float[np.ndarray, " T"] | None:
    return None if one.writes is None else one.writes[:, latent] * one.writes.shape[1]


def _paste(  # noqa: PLR0913
    canvas: Canvas,
    image: Pixels,
    values: Float[np.ndarray, " T"],
    grid: tuple[int, int],
    ramp: Sequence[str],
    at: tuple[int, int],
) -> None:
    x, y = at
    canvas.image(heat(image, values.reshape(grid), ramp), x, y)
    note = y + image.shape[0] + _NOTE * 0.4
    canvas.words(f"{values.max():.1f} x uniform", x + image.shape[1] / 2, note, 6.5, _SOFT, ha="center")


def _write_head(canvas: Canvas, image: Pixels, title: str, width: int) -> None:
    small = fit(image, 240, _HEAD - 30)
    canvas.image(small, 2 * _GAP, 2 * _GAP)
    left = 4 * _GAP + small.shape[1]
    write_line(canvas, title, left, _HEAD / 2, 0.95 * (width - left), size=11, fontweight="bold")


def _write_foot(canvas: Canvas, top: int) -> None:
    for line, text in enumerate(_FOOTNOTES):
        canvas.words(text, 2 * _GAP, top + 18 + 22 * line, 7.5, _SOFT)
