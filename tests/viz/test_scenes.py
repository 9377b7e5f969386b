"""Pictures of scenes: flat and wide ones as a map, all others at an angle; the number of points is said."""

import numpy as np
import pytest

from bixt3d.viz import parts, scenes
from bixt3d.viz.clouds import frame
from bixt3d.viz.parts import PartCloud
from bixt3d.viz.scene import MAX_POINTS, VIEW


def box(*sides: float, num_points: int = 2000) -> PartCloud:
    xyz = np.random.default_rng(0).random((num_points, 3)) * sides
    return PartCloud(xyz, np.zeros(num_points, int), (0,), "a")


@pytest.fixture
def views(monkeypatch, tmp_path):
    """Return a function that draws a scene and returns the view."""
    seen = []
    monkeypatch.setattr(scenes, "draw_parts", lambda path, clouds, names, up, view: seen.append(view))

    def draw(scene):
        scenes.draw_scene(tmp_path / "a.png", scene, ("ground",))
        return seen.pop()

    return draw


def test_a_survey_is_seen_from_above_and_a_room_at_an_angle(views):
    assert views(box(1000, 1000, 30)) == views(box(3000, 100, 30)) == scenes.ABOVE
    assert views(box(6, 5, 3)) == views(box(20, 2, 3)) == VIEW


def test_a_few_points_far_above_do_not_change_the_view(views):
    survey = box(1000, 1000, 30)
    survey.xyz[:5, 2] = 4000
    assert views(survey) == scenes.ABOVE


def test_from_above_north_is_up_and_east_is_right():
    points, *_ = frame(np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), "z", scenes.ABOVE.elevation, scenes.ABOVE.azimuth)
    east, north = points[1] - points[0], points[2] - points[0]
    assert east[0] > 0 and abs(east[1]) < 1e-9 and north[1] > 0 and abs(north[0]) < 1e-9


def test_a_picture_says_how_many_of_the_points_of_the_file_it_shows(monkeypatch):
    titles, some = [], box(1, 1, 1, num_points=MAX_POINTS + 1)
    monkeypatch.setattr(parts.Canvas, "words", lambda self, text, *_, **__: titles.append(text))
    monkeypatch.setattr(parts, "render_clouds", lambda *_: ([np.zeros((990, 990, 3), np.uint8)], "none"))
    parts.parts_png([PartCloud(some.xyz, some.predicted, (0,), "big.laz", total=1_355_976)], ("ground",), "z")
    parts.parts_png([box(1, 1, 1)], ("ground",), "z")
    assert titles[::2] == ["big.laz (10,000 of 1,355,976 points are shown)", "a"]
