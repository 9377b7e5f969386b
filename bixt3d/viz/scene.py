"""Render clouds in 3D by Open3D, or by matplotlib where Open3D cannot render; open them in a window."""

import ctypes
import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from bixt3d.types import InputError
from bixt3d.viz.clouds import AZIMUTH, ELEVATION, draw_points, frame
from bixt3d.viz.picture import DPI

LIBRARIES = "sudo apt-get install libvulkan1 mesa-vulkan-drivers libgl1 libegl1 libgomp1 libusb-1.0-0"
"""The command that installs what Open3D needs to render on Debian or Ubuntu, with or without a display."""

MAX_POINTS = 10_000
"""Points of a cloud in a picture, at most; larger clouds are subsampled at random with a fixed seed."""

Up = Literal["y", "z"]


class View(NamedTuple):
    """Where clouds are seen from, angles in degrees (see `clouds.project`); and how many points are drawn, at most."""

    elevation: float = ELEVATION
    azimuth: float = AZIMUTH
    max_points: int = MAX_POINTS


VIEW = View()


@functools.cache
def renderer() -> tuple[Literal["open3d", "matplotlib"], str]:
    """Return the renderer that works here, and why it is not Open3D: one sentence with what to install, or "".

    Open3D is tried once, in a separate process.
    """
    with tempfile.TemporaryDirectory() as folder:
        problem = _draw_with_open3d([np.zeros((1, 3))], [np.zeros((1, 3))], "y", 8, Path(folder) / "out.npy")
    return ("matplotlib", problem) if problem else ("open3d", "")


def render_clouds(
    clouds: Sequence[Float[np.ndarray, "_ 3"]],
    rgb: Sequence[Float[np.ndarray, "_ 3"]],
    up: Up = "y",
    size: int = 330,
    view: View = VIEW,
) -> tuple[list[UInt8[np.ndarray, "_ _ 3"]], str]:
    """Render a square picture of every cloud, with the camera of `clouds.project`; return them and the renderer.

    The renderer is "Open3D", or "matplotlib, because ..." with what to install. A failure of Open3D raises no error.
    """
    chosen = [_choose(len(xyz), view.max_points) for xyz in clouds]
    clouds = [xyz[index] for xyz, index in zip(clouds, chosen, strict=True)]
    rgb = [color[index] for color, index in zip(rgb, chosen, strict=True)]
    _, problem = renderer()
    if not problem:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out.npy"
            problem = _draw_with_open3d(clouds, rgb, up, size, out, view)
            if not problem:
                return list(np.load(out)), "Open3D"
    pairs = zip(clouds, rgb, strict=True)
    return [_draw_with_matplotlib(xyz, color, up, size, view) for xyz, color in pairs], f"matplotlib, because {problem}"


def has_display() -> bool:
    """Say whether a window can be opened; check this first, as Open3D hangs on a display that is gone."""
    if sys.platform in ("win32", "darwin"):
        return True
    if os.environ.get("DISPLAY"):
        return _answers()
    return bool(os.environ.get("WAYLAND_DISPLAY"))


def _answers() -> bool:
    """Say whether the X server of DISPLAY answers; the variable may be out of date, as in tmux after ssh -X."""
    try:
        x11 = ctypes.CDLL("libX11.so.6")
    except OSError:
        return True  # it cannot be asked
    x11.XOpenDisplay.restype = ctypes.c_void_p
    display = ctypes.c_void_p(x11.XOpenDisplay(None))
    if display:
        x11.XCloseDisplay(display)
    return bool(display)


def show_clouds(
    clouds: Sequence[Float[np.ndarray, "_ 3"]],
    rgb: Sequence[Float[np.ndarray, "_ 3"]],
    names: Sequence[str],
    title: str,
    up: Up = "y",
) -> None:
    """Open a window with all clouds, and wait until it is closed; the list of names shows and hides them.

    Raises InputError without a display, or without an Open3D that can use it.
    """
    if not has_display():
        raise InputError("there is no display to open a window on: leave out --window, the files show the same")
    with tempfile.TemporaryDirectory() as folder:
        job = {"names": np.array(list(names)), "title": title, "up": up}
        for place, (xyz, color) in enumerate(zip(clouds, rgb, strict=True)):
            job |= {f"points{place}": xyz, f"rgb{place}": color}
        if problem := _run_open3d("show", job, Path(folder), timeout=None):
            raise InputError(f"no window could be opened: {problem}")


def _choose(num_points: int, most: int) -> Any:
    if num_points <= most:
        return slice(None)
    return np.random.default_rng(0).choice(num_points, most, replace=False)


def _draw_with_open3d(
    clouds: Sequence[Any], rgb: Sequence[Any], up: Up, size: int, out: Path, view: View = VIEW
) -> str:
    job: dict[str, Any] = {"num": len(clouds), "size": size, "out": str(out)}
    for place, (xyz, color) in enumerate(zip(clouds, rgb, strict=True)):
        points, middle, half = frame(xyz, up, view.elevation, view.azimuth)
        job |= {f"points{place}": points, f"middle{place}": middle, f"half{place}": half, f"rgb{place}": color}
    return _run_open3d("render", job, out.parent, timeout=60.0 + 10 * len(clouds))


def _run_open3d(what: str, job: dict[str, Any], folder: Path, timeout: float | None) -> str:
    """Run a job in a separate process; return what went wrong, or ""."""
    np.savez(folder / "job.npz", **job)
    command = [sys.executable, "-m", "bixt3d.viz.open3d_process", what, str(folder / "job.npz")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}  # the same modules
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=timeout, env=environment
        )
    except subprocess.TimeoutExpired:
        return f"Open3D did not finish within {timeout:.0f} seconds: {_advice()}"
    except OSError as error:
        return f"no process for Open3D could be started ({error})"
    return "" if done.returncode == 0 else _explain(done.stderr, done.returncode)


def _explain(stderr: str, code: int) -> str:
    last = (stderr.strip().splitlines() or [""])[-1]
    if "No module named 'open3d'" in last:
        return "Open3D is not installed: get it with `pip install open3d`"
    if last.startswith(("ImportError", "OSError")):
        return f"Open3D cannot be loaded here ({last.partition(': ')[2]}): {_advice()}"
    return f"Open3D cannot draw here (its process ended with code {code}): {_advice()}"


def _advice() -> str:
    return f"get what it needs with `{LIBRARIES}`" if sys.platform == "linux" else "update the graphics driver"


def _draw_with_matplotlib(xyz: Any, rgb: Any, up: Up, size: int, view: View) -> UInt8[np.ndarray, "_ _ 3"]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size / DPI, size / DPI), dpi=DPI)
    canvas = FigureCanvasAgg(figure)
    draw_points(figure.add_axes((0, 0, 1, 1)), *frame(xyz, up, view.elevation, view.azimuth), rgb, fade=0.3)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
