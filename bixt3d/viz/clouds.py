"""Pictures of clouds as PNG, seen from above at an angle, drawn by matplotlib.

``clouds_png`` returns the bytes of a picture, ``draw_clouds`` writes them to a file, whole or not at all.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from bixt3d.io.writing import replace_file
from bixt3d.viz.picture import INK, fonts, text_width, to_png

PALETTE = (
    *("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#e3c800", "#7a3b1e"),
    *("#c3c378", "#004b4b", "#8787ff", "#781e78", "#f04b69", "#003ca5", "#f0b4b4", "#1ed2e1"),
    *("#785a78", "#c3874b", "#78694b", "#a5005a", "#a5d25a", "#695a00", "#a587c3", "#4b960f"),
)
"""Colors of classes and parts: Okabe and Ito's, then each the farthest from all before, also if color-blind."""

SIDE, WIDTH = 2.3, 9.0
"""Inches: the side of a cloud among many, and the least width of a picture."""

ELEVATION = 25.0
"""Elevation of the camera above a cloud, in degrees."""
AZIMUTH = 35.0
"""Angle by which a cloud is turned, in degrees: its front is to the right."""

Colors = Int[np.ndarray, "S N"] | Float[np.ndarray, "S N"] | Float[np.ndarray, "S N 3"]
"""Colors of points: index in PALETTE (modulo its length), or values for a color map, or RGB in 0..1."""


def draw_clouds(
    clouds: Float[np.ndarray, "S N 3"],
    path: Path,
    *,
    titles: Sequence[str],
    colors: Colors | None = None,
    columns: int = 4,
    up: Literal["y", "z"] = "y",
) -> None:
    """Write the picture of `clouds_png` to a file; arguments as there."""
    replace_file(path, clouds_png(clouds, titles=titles, colors=colors, columns=columns, up=up))


def clouds_png(
    clouds: Float[np.ndarray, "S N 3"],
    *,
    titles: Sequence[str],
    colors: Colors | None = None,
    columns: int = 4,
    up: Literal["y", "z"] = "y",
    width: float = WIDTH,
) -> bytes:
    """Return a grid of clouds as PNG, each as large as its cell allows.

    Args:
        clouds: coordinates; the clouds have the same number of points.
        titles: a title for each cloud, which may be empty.
        colors: colors of the points (see `Colors`); None: by height.
        columns: clouds in a row.
        up: the axis that points up.
        width: least width in inches; a cell is at least 2.3 inches wide.
    """
    from matplotlib.figure import Figure

    if not len(clouds) == len(titles) > 0:
        raise ValueError(f"{len(clouds)} clouds with {len(titles)} titles: give at least one cloud, and each its title")
    if colors is None:
        colors = clouds[:, :, "xyz".index(up)]
    columns = min(columns, len(clouds))
    lines, side = math.ceil(len(clouds) / columns), max(SIDE, width / columns)
    size = 9.0 * min(side / SIDE, 1.8)
    band = size / 30 if any(titles) else 0.0  # inches above each picture
    width, height = side * columns, (side + band) * lines
    figure = Figure(figsize=(width, height))
    for place, (xyz, title) in enumerate(zip(clouds, titles, strict=True)):
        line, column = divmod(place, columns)
        bottom = height - (line + 1) * (side + band)
        axes = figure.add_axes((side * column / width, bottom / height, side / width, side / height))
        draw_points(axes, *frame(xyz, up), color_points(colors[place]))
        fitting = min(size, 72 * side / text_width(title))
        axes.set_title(title, fontsize=fitting, color=INK, pad=size / 3, parse_math=False, fontfamily=fonts())
    return to_png(figure)


def project(
    xyz: Float[np.ndarray, "N 3"], up: Literal["y", "z"] = "y", azimuth: float = AZIMUTH, elevation: float = ELEVATION
) -> Float[np.ndarray, "N 3"]:
    """Rotate points into camera axes: right, up, towards the viewer. Angles in degrees.

    At 0 degrees the camera faces -z with y up, or +y with z up. Azimuth turns the front of the cloud to the right;
    elevation is that of the camera.
    """
    right, high, near = xyz.T if up == "y" else (xyz[:, 0], xyz[:, 2], -xyz[:, 1])
    turn, tilt = math.radians(azimuth), math.radians(elevation)
    right, near = right * math.cos(turn) + near * math.sin(turn), near * math.cos(turn) - right * math.sin(turn)
    high, near = high * math.cos(tilt) - near * math.sin(tilt), near * math.cos(tilt) + high * math.sin(tilt)
    return np.stack([right, high, near], axis=1)


def color_points(colors: Int[np.ndarray, " N"] | Float[np.ndarray, "*N"]) -> Float[np.ndarray, "N 3"]:
    """Return the RGB of points, in 0..1, from the ``Colors`` of one cloud."""
    import matplotlib
    from matplotlib.colors import to_rgb

    if colors.ndim == 2:
        return colors
    if np.issubdtype(colors.dtype, np.integer):
        return np.array([to_rgb(color) for color in PALETTE])[colors % len(PALETTE)]
    share = (colors - colors.min()) / max(np.ptp(colors), 1e-9)
    return matplotlib.colormaps["viridis"](0.05 + 0.8 * share)[:, :3]  # without the yellow, too pale on white


def frame(
    xyz: Float[np.ndarray, "N 3"],
    up: Literal["y", "z"] = "y",
    elevation: float = ELEVATION,
    azimuth: float = AZIMUTH,
) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "2"], float]:
    """Return points in camera axes (right, up, near) in units of the cloud's radius, and the square that frames them.

    The camera is five radii away. The square is given by its center and half its side, on the plane through the center
    of the cloud.
    """
    points = project(xyz, up, azimuth, elevation)
    points = points - (points.max(axis=0) + points.min(axis=0)) / 2
    points = points / max(np.linalg.norm(points, axis=1).max(), 1e-9)
    flat = points[:, :2] * perspective(points)
    half = 1.12 * max(np.ptp(flat, axis=0).max() / 2, 0.3)
    return points, (flat.max(axis=0) + flat.min(axis=0)) / 2, float(half)


def perspective(points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 1"]:
    """Return the perspective scale at each point: 1 at the center of the cloud, more if nearer."""
    return 5.0 / (5.0 - points[:, 2:])


def draw_points(
    axes: Any,
    points: Float[np.ndarray, "N 3"],
    middle: Float[np.ndarray, "2"],
    half: float,
    rgb: Float[np.ndarray, "N 3"],
    fade: float = 0.55,
) -> None:
    """Draw the points of `frame`, far ones first, smaller, and paler by up to ``fade``."""
    order = points[:, 2].argsort()
    points, rgb = points[order], rgb[order]
    closer = perspective(points)
    flat = points[:, :2] * closer
    depth = (points[:, 2:] - points[0, 2]) / max(np.ptp(points[:, 2]), 1e-9)
    rgb = rgb + (1 - rgb) * fade * (1 - depth)
    side = axes.get_position().width * axes.figure.get_figwidth()
    area = np.clip(1.1e4 / len(points), 1.0, 60.0) * (side / SIDE) ** 2 * closer[:, 0] ** 2
    axes.scatter(flat[:, 0], flat[:, 1], s=area, c=rgb, linewidths=0)
    axes.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half))
    axes.set_axis_off()
