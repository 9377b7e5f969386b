"""Pictures of clouds by Open3D and by matplotlib, on machines with and without its libraries; displays."""

import subprocess
import sys

import numpy as np
import pytest

from bixt3d.types import InputError
from bixt3d.viz import scene
from bixt3d.viz.clouds import color_points
from bixt3d.viz.scene import has_display, render_clouds, renderer, show_clouds

SIZE = 120
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux asks DISPLAY")


def letter(up: str) -> np.ndarray:
    """Return an L: a long upright line, and a short one to the right of its foot."""
    steps = np.linspace(0, 1, 200)
    flat = np.concatenate([np.stack([0 * steps, steps], 1), np.stack([0.5 * steps, 0 * steps], 1)])
    return np.insert(flat, 2 if up == "y" else 1, 0.0, axis=1)


def ink(image: np.ndarray) -> np.ndarray:
    return (image < 245).any(axis=2)


def nearest_color(image: np.ndarray) -> int:
    """Return the palette's number of the color that most of the ink is nearest to."""
    palette = 255 * color_points(np.arange(8))
    return int(np.bincount(((image[ink(image)][:, None] - palette) ** 2).sum(2).argmin(1)).argmax())


@pytest.fixture(scope="module")
def by_open3d() -> dict[str, np.ndarray]:
    """Return pictures drawn in one go by Open3D. Skips where it cannot draw, and says why."""
    scene.renderer.cache_clear()
    who, problem = renderer()
    if who != "open3d":
        pytest.skip(problem)
    inverse = np.linalg.inv(scene.frame(np.concatenate([np.eye(3), -np.eye(3)]))[0][:3])  # of the viewer's axes
    towards = inverse[2] / np.linalg.norm(inverse[2])
    clouds = {
        "y": (letter("y"), np.zeros(400, int)),
        "z": (letter("z"), np.zeros(400, int)),
        "many": (np.random.default_rng(0).normal(size=(20_000, 3)), np.full(20_000, 2)),
        "one": (np.ones((1, 3)), np.array([3])),
        "behind": (np.stack([towards, -towards]), np.array([0, 3])),
    }
    for up in ("y", "z"):  # each shape with its own axis
        names = [name for name in clouds if (name == "z") == (up == "z")]
        images, who = render_clouds(
            [clouds[name][0] for name in names], [color_points(clouds[name][1]) for name in names], up, SIZE
        )
        assert who == "Open3D"
        clouds |= dict(zip(names, images, strict=True))
    return clouds


@pytest.mark.parametrize("up", ["y", "z"])
def test_open3d_draws_right_side_up(by_open3d, up):
    lines, columns = np.nonzero(ink(by_open3d[up]))
    foot = columns[lines > lines.max() - 0.3 * np.ptp(lines)]
    top = columns[lines < lines.min() + 0.3 * np.ptp(lines)]
    assert np.ptp(foot) > 3 * np.ptp(top) and foot.mean() > top.mean()


def test_open3d_keeps_the_colors(by_open3d):
    assert [nearest_color(by_open3d[name]) for name in ("y", "many", "one")] == [0, 2, 3]
    bright = by_open3d["one"].reshape(-1, 3).astype(int) - np.round(255 * color_points(np.array([3]))[0]).astype(int)
    assert (np.abs(bright).max(axis=1) <= 1).sum() > 20  # on the side that is turned to the light


def test_open3d_lets_the_near_hide_the_far(by_open3d):
    assert nearest_color(by_open3d["behind"]) == 0


def test_both_draw_the_same_view(by_open3d, without_open3d):
    (image,), who = render_clouds([letter("y")], [color_points(np.zeros(400, int))], "y", SIZE)
    assert who.startswith("matplotlib") and image.shape == by_open3d["y"].shape == (SIZE, SIZE, 3)
    both, either = (ink(image) & ink(by_open3d["y"])).sum(), (ink(image) | ink(by_open3d["y"])).sum()
    assert both > 0.5 * either


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("raise OSError('libGL.so.1: cannot open shared object file')", "cannot be loaded here (libGL.so.1: cannot"),
        ("raise ImportError('libgomp.so.1: cannot open')", "cannot be loaded here (libgomp.so.1: cannot open)"),
        ("import os; os.abort()", "cannot draw here (its process ended with code"),
        (
            "raise ModuleNotFoundError(\"No module named 'open3d'\")",
            "is not installed: get it with `pip install open3d`",
        ),
    ],
    ids=["missing library", "broken import", "crash", "not installed"],
)
def test_where_open3d_fails_matplotlib_draws_and_says_what_to_install(broken_open3d, lines, sentence):
    broken_open3d(lines)
    who, problem = renderer()
    assert who == "matplotlib" and sentence in problem and "\n" not in problem
    if "pip" not in sentence and sys.platform == "linux":
        assert "sudo apt-get install libvulkan1" in problem
    (image,), said = render_clouds([letter("y")], [color_points(np.full(400, 2))], "y", SIZE)
    assert said == f"matplotlib, because {problem}" and nearest_color(image) == 2


def test_a_picture_that_fails_later_raises_no_error(broken_open3d, monkeypatch):
    """The trial succeeded, the rendering fails: as when memory runs out."""
    broken_open3d("raise OSError('gone')")
    monkeypatch.setattr(scene, "renderer", lambda: ("open3d", ""))
    images, said = render_clouds([letter("y")] * 2, [color_points(np.zeros(400, int))] * 2, "y", SIZE)
    assert len(images) == 2 and "gone" in said


def test_without_a_python_to_start_matplotlib_draws(broken_open3d, monkeypatch):
    broken_open3d("")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert renderer()[0] == "matplotlib" and "could be started" in renderer()[1]


def test_the_renderer_is_chosen_once(broken_open3d, monkeypatch):
    broken_open3d("raise OSError('first')")
    first = renderer()
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert renderer() == first


def test_of_a_large_cloud_a_picture_shows_the_same_points_each_time(without_open3d):
    cloud = np.random.default_rng(1).normal(size=(scene.MAX_POINTS + 5, 3))
    rgb = np.zeros_like(cloud)
    (first, again), _ = render_clouds([cloud] * 2, [rgb] * 2, "y", 40)
    assert np.array_equal(first, again)


@LINUX
def test_no_window_is_opened_without_a_display(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert not has_display()
    with pytest.raises(InputError, match="there is no display to open a window on: leave out --window"):
        show_clouds([np.zeros((4, 3))], [np.zeros((4, 3))], ["all"], "cloud")
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert has_display()


@LINUX
def test_a_display_that_is_gone_counts_as_no_display(monkeypatch):
    found = subprocess.run(
        [sys.executable, "-c", "import ctypes; ctypes.CDLL('libX11.so.6')"], capture_output=True, check=False
    )
    if found.returncode:
        pytest.skip("libX11 is not here, so that no X server can be asked")
    monkeypatch.setenv("DISPLAY", ":987")
    assert not has_display()


@LINUX
def test_an_open3d_that_opens_no_window_is_explained(broken_open3d, monkeypatch):
    broken_open3d("raise OSError('libGL.so.1: cannot open')")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    with pytest.raises(InputError, match="no window could be opened: Open3D cannot be loaded here .libGL"):
        show_clouds([np.zeros((4, 3))], [np.zeros((4, 3))], ["all"], "cloud")
