"""Resolution, fonts, a canvas and PNG compression for all pictures."""

import functools
import io
import warnings
from typing import Any
from unicodedata import east_asian_width

import numpy as np
from jaxtyping import UInt8

DPI = 144
"""Dots per inch of every picture."""

INK = "#24292f"
"""The color of text."""


FALLBACK_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Micro Hei", "PingFang SC"),
    *("Hiragino Sans", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Arial Unicode MS", "Noto Sans Devanagari"),
)
"""Fonts for characters that matplotlib's own font lacks, such as Chinese; a character in no font is drawn as a box."""


class Canvas:
    """A picture composed of images, text and dots, at pixel coordinates from the upper left corner.

    Args:
        width: width in pixels.
        height: height in pixels.
    """

    def __init__(self, width: int, height: int):
        from matplotlib.figure import Figure

        self.height = height
        self.figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)

    def image(self, picture: UInt8[np.ndarray, "_ _ 3"], x: int, y: int) -> None:
        """Paste an image without resizing; x, y: its upper left corner."""
        self.figure.figimage(picture, x, self.height - y - len(picture))

    def words(
        self, text: str, x: float | int, y: float | int, size: float | int = 9.0, color: str = INK, **style: Any
    ) -> None:
        """Write a line of text, vertically centered at y; ``style``: of matplotlib, such as ``ha``, ``fontweight``."""
        style |= {"va": "center", "parse_math": False, "fontfamily": fonts()}
        self.figure.text(*self._share(x, y), text, fontsize=size, color=color, **style)

    def dot(self, color: str, x: float | int, y: float | int, size: float | int = 7.0) -> None:
        """Draw a dot with a diameter of ``size`` typographic points."""
        from matplotlib.lines import Line2D

        at = self._share(x, y)
        dot = Line2D([at[0]], [at[1]], marker="o", markersize=size, color=color, markeredgewidth=0, linewidth=0)
        dot.set_transform(self.figure.transFigure)
        self.figure.add_artist(dot)

    def png(self) -> bytes:
        """Return the picture as PNG."""
        return to_png(self.figure)

    def _share(self, x: float | int, y: float | int) -> tuple[float, float]:
        width, height = self.figure.get_size_inches() * DPI
        return x / width, 1 - y / height


def text_width(text: str) -> float:
    """Return the approximate width of a line, in units of the font size; Chinese, Japanese and Korean are wide."""
    return max(sum(1.0 if east_asian_width(letter) in "WF" else 0.6 for letter in text), 1.0)


@functools.cache
def fonts() -> list[str]:
    """Return matplotlib's own font, and the installed ones of FALLBACK_FONTS."""
    from matplotlib import font_manager

    there = {font.name for font in font_manager.fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in FALLBACK_FONTS if name in there)]


def to_png(figure: Any) -> bytes:
    """Return a matplotlib figure as PNG, in at most 256 colors: those of small areas, as in a legend, are kept."""
    from PIL import Image

    full, small = io.BytesIO(), io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # visible as a box in the picture
        figure.savefig(full, format="png", dpi=DPI, facecolor="white")
    picture = (
        Image.open(full).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)
    )
    picture.save(small, format="png", optimize=True, dpi=(DPI, DPI))
    return small.getvalue()
