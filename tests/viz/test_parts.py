"""Pictures of parts: truth, prediction, errors, and a legend whose colors are those of the points."""

import io

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from bixt3d.viz import parts
from bixt3d.viz.clouds import PALETTE
from bixt3d.viz.parts import RIGHT, WRONG, PartCloud, draw_parts, parts_png

NAMES = ("bed/frame", "bed/pillow", "chair/seat", "chair/back", "chair/leg")
SIDE = 330


def ball(num_points: int = 300) -> np.ndarray:
    xyz = np.random.default_rng(0).normal(size=(num_points, 3))
    return xyz / np.linalg.norm(xyz, axis=1, keepdims=True)


def all_of(part: int) -> np.ndarray:
    return np.full(300, part)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def color(picture: np.ndarray) -> str:
    """Return which color of palette and errors most of the ink is nearest to."""
    known = (*PALETTE[:6], RIGHT, WRONG)
    points = picture[(picture < 245).any(axis=2)]
    apart = ((points[:, None] - 255 * np.array([to_rgb(one) for one in known])) ** 2).sum(2)
    return known[np.bincount(apart.argmin(1)).argmax()]


def test_the_first_part_of_a_category_has_the_first_color():
    cloud = PartCloud(ball(), all_of(3), (2, 3, 4), truth=all_of(2))
    assert cloud.legend(NAMES) == [(2, "seat", PALETTE[0]), (3, "back", PALETTE[1])]
    assert np.array_equal(cloud.rgb(np.array([2, 4])), [to_rgb(PALETTE[0]), to_rgb(PALETTE[2])])


def test_the_legend_names_the_parts_that_occur_and_foreign_ones_in_full():
    mixed = np.where(np.arange(300) < 5, 1, 4)
    assert [name for _, name, _ in PartCloud(ball(), mixed, (2, 3, 4)).legend(NAMES)] == ["bed/pillow", "leg"]
    unknown = PartCloud(ball(), mixed, range(5))  # of no known category
    assert [name for _, name, _ in unknown.legend(NAMES)] == ["bed/pillow", "chair/leg"]


def test_truth_prediction_and_errors_are_side_by_side(without_open3d):
    wrong = PartCloud(ball(), all_of(3), (2, 3, 4), "wrong", truth=all_of(2))
    right = PartCloud(ball(), all_of(4), (2, 3, 4), "right", truth=all_of(4))
    png, who = parts_png([wrong, right], NAMES)
    picture = pixels(png)
    assert who.startswith("matplotlib, because")
    row = picture.shape[0] // 2
    seen = [
        [color(picture[top + 60 : top + row - 10, SIDE * i : SIDE * (i + 1)]) for i in range(3)] for top in (0, row)
    ]
    assert seen == [[PALETTE[0], PALETTE[1], WRONG], [PALETTE[2], PALETTE[2], RIGHT]]
    legend = picture[100:row, 3 * SIDE :]
    for one in (PALETTE[0], PALETTE[1], RIGHT, WRONG):  # a dot of each
        assert (np.abs(legend - 255 * np.array(to_rgb(one))).max(2) < 4).sum() > 30


def test_without_the_truth_three_predictions_are_in_a_row(without_open3d):
    clouds = [PartCloud(ball(), all_of(2 + i % 3), (2, 3, 4), str(i)) for i in range(4)]
    picture = pixels(parts_png(clouds, NAMES)[0])
    cell = picture.shape[1] // 3
    assert cell < 2 * SIDE and picture.shape[0] < 2.5 * SIDE
    below = picture.shape[0] // 2
    assert [color(picture[40:below, cell * i : cell * i + SIDE]) for i in range(3)] == list(PALETTE[:3])
    assert color(picture[below + 40 :, :SIDE]) == PALETTE[0]
    assert (picture[below + 40 :, cell:] > 245).all()


def test_clouds_of_other_sizes_share_a_picture_and_many_parts_a_legend(without_open3d):
    names = tuple(f"thing/part number {i} with a long name" for i in range(40))
    many = PartCloud(ball(400), np.arange(400) % 40, range(40), "a $title$", truth=np.arange(400) % 40)
    few = PartCloud(ball(10), np.zeros(10, int), range(40), truth=np.zeros(10, int))
    picture = pixels(parts_png([many, few], names)[0])
    assert (picture[:, -4:] > 245).all()  # no name is cut


def test_a_file_holds_the_same_picture(tmp_path, without_open3d):
    cloud, path = PartCloud(ball(), all_of(2), (2, 3, 4), "a"), tmp_path / "a.png"
    who = draw_parts(path, [cloud], NAMES, "z")
    assert (path.read_bytes(), who) == parts_png([cloud], NAMES, "z")
    assert list(tmp_path.iterdir()) == [path]


def test_a_picture_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one cloud"):
        parts_png([], NAMES)


def test_a_window_has_a_named_set_of_points_for_each_part_the_truth_on_the_left(monkeypatch):
    shown = []
    monkeypatch.setattr(parts, "show_clouds", lambda *everything: shown.extend(everything))
    parts.show_parts(PartCloud(ball(), all_of(3), (2, 3, 4), "a", truth=all_of(2)), NAMES, "z")
    (truth, prediction), (blue, orange), names, title, up = shown
    assert (names, title, up) == (["truth: seat", "prediction: back"], "a", "z")
    assert truth[:, 0].max() < prediction[:, 0].min() and np.array_equal(prediction, ball())
    assert np.array_equal(blue[0], to_rgb(PALETTE[0])) and np.array_equal(orange[0], to_rgb(PALETTE[1]))
