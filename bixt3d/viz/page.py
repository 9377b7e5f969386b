"""Interactive 3D pages of clouds (plotly): HTML files that share plotly's library beside them, without network."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from bixt3d.io.writing import replace_file
from bixt3d.viz.parts import WRONG, PartCloud
from bixt3d.viz.picture import INK

MAX_CLOUDS = 6
"""Clouds of a page, at most: a browser has at most 16 WebGL contexts, and a cloud with its truth takes two."""

MAX_POINTS = 20_000
"""Points of a cloud on a page, at most; larger clouds are subsampled at random with a fixed seed, and a note says so.
"""

_LINK_CAMERAS = """
const plot = document.getElementById('{plot_id}');
const follow = change => {
  for (const [from, to] of [['scene', 'scene2'], ['scene2', 'scene']]) {
    const camera = change[from + '.camera'];
    if (camera && plot.layout[to] && JSON.stringify(camera) !== JSON.stringify(plot.layout[to].camera))
      Plotly.relayout(plot, {[to + '.camera']: camera});
  }
};
plot.on('plotly_relayout', follow);
plot.on('plotly_relayouting', follow);
"""

_STYLE = f"""
body {{ font: 15px/1.5 system-ui, sans-serif; color: {INK}; max-width: 1240px; margin: 0 auto; padding: 16px; }}
h1 {{ font-size: 22px; }} h2 {{ font-size: 17px; margin: 28px 0 0; }} p {{ color: #57606a; margin: 4px 0; }}
"""


def write_html(
    path: Path, clouds: Sequence[PartCloud], part_names: Sequence[str], title: str, up: Literal["y", "z"] = "y"
) -> Path:
    """Write a page of clouds, and plotly's library beside it; return the path of the library.

    A click on a name in the legend shows or hides its part.
    The truth, if known, is beside the prediction and rotates with it; then wrong points can be marked.
    """
    if not 0 < len(clouds) <= MAX_CLOUDS:
        raise ValueError(f"a page shows 1 to {MAX_CLOUDS} clouds, not {len(clouds)}")
    sections = [_section(cloud, part_names, up) for cloud in clouds]
    library = write_library(path.parent)
    page = f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>
<script>window.PlotlyConfig = {{MathJaxConfig: "local"}};</script>
<script charset="utf-8" src="{library}"></script></head>
<body><h1>{html.escape(title)}</h1>
<p>Drag to rotate, scroll to zoom, click a name to hide or show its points, double-click to show them alone.</p>
<script>window.Plotly || document.write("<p><b>{library} is missing: it belongs beside this page.</b></p>")</script>
{"".join(sections)}
</body></html>
"""
    replace_file(path, page.encode())
    return path.with_name(library)


def write_library(folder: Path) -> str:
    """Write plotly's library into a folder, unless it is there; return its file name, which has the version."""
    from plotly.offline import get_plotlyjs, get_plotlyjs_version

    path, content = folder / f"plotly-{get_plotlyjs_version()}.min.js", get_plotlyjs().encode()
    if not path.is_file() or path.stat().st_size != len(content):
        replace_file(path, content)
    return path.name


def _section(cloud: PartCloud, part_names: Sequence[str], up: Literal["y", "z"]) -> str:
    head = f"<section><h2>{html.escape(cloud.title)}</h2>\n"
    total = len(cloud.xyz)
    if total > MAX_POINTS:
        head += f"<p>{MAX_POINTS:,} of {cloud.num_points:,} points are shown: a fixed random sample.</p>\n"
        index = np.random.default_rng(0).choice(total, MAX_POINTS, replace=False)
        truth = None if cloud.truth is None else cloud.truth[index]
        cloud = PartCloud(cloud.xyz[index], cloud.predicted[index], cloud.parts, cloud.title, truth)
    plot = _figure(cloud, part_names, up).to_html(
        full_html=False,
        include_plotlyjs=False,
        post_script=_LINK_CAMERAS,
        default_height="520px",
        config={"displaylogo": False},
    )
    return f"{head}{plot}</section>\n"


def _figure(cloud: PartCloud, part_names: Sequence[str], up: Literal["y", "z"]) -> Any:
    from plotly.subplots import make_subplots

    kinds = (
        {"prediction": cloud.predicted}
        if cloud.truth is None
        else {"truth": cloud.truth, "prediction": cloud.predicted}
    )
    figure = make_subplots(
        1, len(kinds), specs=[[{"type": "scene"}] * len(kinds)], subplot_titles=list(kinds), horizontal_spacing=0.01
    )
    xyz = cloud.xyz if up == "z" else cloud.xyz[:, [0, 2, 1]] * (1, -1, 1)  # plotly rotates around z
    middle, radius = (xyz.max(axis=0) + xyz.min(axis=0)) / 2, max(float(np.ptp(xyz, axis=0).max()) / 2, 1e-9)
    xyz = (xyz - middle) / radius
    size = float(np.clip(220 / len(xyz) ** 0.5, 1.5, 6))
    named = set()
    for column, (kind, labels) in enumerate(kinds.items(), 1):
        for part, name, color in cloud.legend(part_names):
            chosen = labels == part
            if chosen.any():
                points = _points(xyz[chosen], name, color, size, legendgroup=name, showlegend=name not in named)
                figure.add_trace(points, 1, column)
                named.add(name)
        if kind == "prediction" and cloud.truth is not None:
            wrong = cloud.predicted != cloud.truth
            name = f"wrong points ({wrong.mean():.1%})"
            figure.add_trace(_points(xyz[wrong], name, WRONG, 1.5 * size, visible="legendonly"), 1, column)
    axis = {"visible": False, "range": [-1.04, 1.04]}
    away = 1.0 if len(kinds) == 1 else 1.2  # half as wide: corners would be cut off
    eye = {"x": -0.85 * away, "y": -1.2 * away, "z": 0.67 * away}
    camera = {"eye": eye, "up": {"x": 0, "y": 0, "z": 1}}
    figure.update_scenes(xaxis=axis, yaxis=axis, zaxis=axis, aspectmode="cube", camera=camera, dragmode="turntable")
    figure.update_layout(
        margin={"l": 0, "r": 0, "t": 30, "b": 0},
        legend={"itemsizing": "constant"},
        template="plotly_white",
        font={"color": INK},
    )
    return figure


def _points(xyz: Float[np.ndarray, "N 3"], name: str, color: str, size: float, **options: Any) -> Any:
    from plotly.graph_objects import Scatter3d

    x, y, z = xyz.round(4).astype(np.float32).T
    marker = {"size": size, "color": color, "opacity": 1.0, "line": {"width": 0}}
    return Scatter3d(x=x, y=y, z=z, name=name, mode="markers", marker=marker, hoverinfo="name", **options)
