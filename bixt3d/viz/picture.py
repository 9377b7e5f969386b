"""What every picture of a run has: ink, resolution, few bytes, and a file that is written whole or not at all."""

import io
import os
from pathlib import Path
from typing import Any

DPI = 144
"""Dots in an inch of every picture."""

INK = "#24292f"
"""The color of all words."""


def replace_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: if the writing fails with OSError, what was there before stays as it was."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def to_png(figure: Any) -> bytes:
    """Return the bytes of a matplotlib figure, in at most 256 colors."""
    from PIL import Image

    full, small = io.BytesIO(), io.BytesIO()
    figure.savefig(full, format="png", dpi=DPI, facecolor="white")
    picture = Image.open(full).convert("RGB").quantize(256, dither=Image.Dither.NONE)  # a quarter of the bytes
    picture.save(small, format="png", optimize=True, dpi=(DPI, DPI))
    return small.getvalue()
