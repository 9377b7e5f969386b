"""The interactive 3D page of clouds: without network, upright, a trace for each part, limited in size."""

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest

from bixt3d.viz.clouds import PALETTE
from bixt3d.viz.page import MAX_CLOUDS, MAX_POINTS, write_html
from bixt3d.viz.parts import PartCloud

NAMES = ("chair/seat", "chair/back", "chair/leg")


def pole(up: int, num_points: int = 60) -> np.ndarray:
    """Return points on a line that rises along an axis."""
    xyz = np.zeros((num_points, 3))
    xyz[:, up] = np.linspace(5, 7, num_points)
    return xyz


def thirds(num_points: int = 60) -> np.ndarray:
    return np.arange(num_points) * 3 // num_points


def plots(path: Path) -> list[list[dict]]:
    """Return the traces of every plot on a page."""
    decoder, page = json.JSONDecoder(), path.read_text()
    starts = re.finditer(r"Plotly\.newPlot\(\s*\"[\w-]+\",\s*", page)
    return [decoder.raw_decode(page, start.end())[0] for start in starts]


def numbers(values: dict | list) -> np.ndarray:
    """Return an array as plotly writes it: a list, or bytes of float32."""
    if isinstance(values, list):
        return np.array(values)
    return np.frombuffer(base64.b64decode(values["bdata"]), np.float32)


def test_pages_share_a_library_beside_them_and_need_nothing_else(tmp_path):
    for name in ("a.html", "b.html"):
        write_html(tmp_path / name, [PartCloud(pole(1), thirds(), (0, 1, 2), "one <1>")] * 2, NAMES, "run <b>")
        page = (tmp_path / name).read_text()
        assert (tmp_path / name).stat().st_size < 50_000
        (library,) = re.findall(r"<(?:script|link)[^>]*\b(?:src|href)=\"([^\"]*)\"", page)
        assert re.search(r"plotly\.js v\d", (tmp_path / library).read_text()[:1000])
        assert f"{library} is missing: it belongs beside this page" in page
        assert "<h1>run &lt;b&gt;</h1>" in page and page.count("<h2>one &lt;1&gt;</h2>") == 2
        assert len(plots(tmp_path / name)) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.html", library]


def test_every_part_is_a_trace_with_the_color_of_the_legend(tmp_path):
    write_html(tmp_path / "a.html", [PartCloud(pole(1), thirds(), (0, 1, 2))], NAMES, "run")
    ((seat, back, leg),) = plots(tmp_path / "a.html")
    assert [trace["name"] for trace in (seat, back, leg)] == ["seat", "back", "leg"]
    assert [trace["marker"]["color"] for trace in (seat, back, leg)] == list(PALETTE[:3])
    assert [len(numbers(trace["x"])) for trace in (seat, back, leg)] == [20, 20, 20]


@pytest.mark.parametrize("up", ["y", "z"])
def test_what_is_up_is_up_on_the_page_and_fills_it(tmp_path, up):
    write_html(tmp_path / "a.html", [PartCloud(pole("xyz".index(up)), thirds(), (0, 1, 2))], NAMES, "run", up)
    low, _, high = plots(tmp_path / "a.html")[0]
    assert numbers(low["z"]).min() == pytest.approx(-1) and numbers(high["z"]).max() == pytest.approx(1)
    assert np.abs(numbers(low["x"])).max() < 1e-6 and np.abs(numbers(low["y"])).max() < 1e-6


def test_left_stays_left_and_the_front_comes_to_the_viewer(tmp_path):
    """The camera of the page faces along y, with x to the right."""
    cloud = PartCloud(np.array([[-1.0, 0, 0], [0, 0, 1], [1, 0, -1]]), np.array([0, 1, 2]), (0, 1, 2))
    write_html(tmp_path / "a.html", [cloud], NAMES, "run", "y")
    left, front, _ = plots(tmp_path / "a.html")[0]
    assert numbers(left["x"])[0] == -1 and numbers(front["y"])[0] == -1


def test_truth_and_prediction_share_a_legend_and_errors_can_be_marked(tmp_path):
    cloud = PartCloud(pole(1), np.zeros(60, int), (0, 1, 2), truth=thirds())
    write_html(tmp_path / "a.html", [cloud], NAMES, "run")
    *truth, predicted, wrong = plots(tmp_path / "a.html")[0]
    assert [trace["scene"] for trace in truth] == ["scene"] * 3 and predicted["scene"] == "scene2"
    assert (predicted["name"], predicted["legendgroup"], predicted["showlegend"]) == ("seat", "seat", False)
    assert wrong["name"] == "wrong points (66.7%)" and wrong["visible"] == "legendonly"
    assert len(numbers(wrong["x"])) == 40


def test_a_large_cloud_is_thinned_and_the_page_says_so(tmp_path):
    num = MAX_POINTS + 1000
    cloud = PartCloud(pole(1, num), thirds(num), (0, 1, 2), truth=thirds(num))
    write_html(tmp_path / "a.html", [cloud], NAMES, "run")
    assert "20,000 of 21,000 points are shown" in (tmp_path / "a.html").read_text()
    *truth, wrong = plots(tmp_path / "a.html")[0][:3] + plots(tmp_path / "a.html")[0][-1:]
    assert sum(len(numbers(trace["x"])) for trace in truth) == MAX_POINTS
    assert len(numbers(wrong["x"])) == 0
    write_html(tmp_path / "b.html", [PartCloud(pole(1), thirds(), (0, 1, 2))], NAMES, "run")
    assert "points are shown" not in (tmp_path / "b.html").read_text()


def test_a_page_of_a_sample_names_the_points_of_the_whole_cloud(tmp_path):
    num = MAX_POINTS + 1000
    cloud = PartCloud(pole(2, num), thirds(num), (0, 1, 2), total=1_355_976)
    write_html(tmp_path / "a.html", [cloud], NAMES, "big.laz")
    assert "20,000 of 1,355,976 points are shown" in (tmp_path / "a.html").read_text()


def test_clouds_side_by_side_are_seen_from_farther_away_as_their_pictures_are_narrow(tmp_path):
    away = []
    for truth in (None, thirds()):
        write_html(tmp_path / "a.html", [PartCloud(pole(1), thirds(), (0, 1, 2), truth=truth)], NAMES, "run")
        (eye,) = set(re.findall(r'"eye":\{"x":([^,]*),', (tmp_path / "a.html").read_text()))
        away.append(-float(eye))
    assert away[1] == pytest.approx(1.2 * away[0])


@pytest.mark.parametrize("num", [0, MAX_CLOUDS + 1])
def test_a_page_takes_only_as_many_clouds_as_a_browser_draws(tmp_path, num):
    with pytest.raises(ValueError, match=f"1 to {MAX_CLOUDS} clouds, not {num}"):
        write_html(tmp_path / "a.html", [PartCloud(pole(1), thirds(), (0, 1, 2))] * num, NAMES, "run")
