import io

import numpy as np
import pytest
from PIL import Image

from bixt3d.viz.clouds import PALETTE, clouds_png, draw_clouds, project
from bixt3d.viz.picture import DPI


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def ink(picture: np.ndarray) -> np.ndarray:
    """Return line and column of every pixel that is not white."""
    return np.argwhere((picture < 250).any(axis=2))


def ball(num_points: int = 200) -> np.ndarray:
    xyz = np.random.default_rng(0).normal(size=(num_points, 3)).astype(np.float32)
    return xyz / np.linalg.norm(xyz, axis=1, keepdims=True)


@pytest.mark.parametrize(("up", "top"), [("y", [0.0, 1, 0]), ("z", [0.0, 0, 1])])
def test_up_stays_up_and_left_stays_left(up, top):
    right, high, _ = project(np.array([top]), up)[0]
    assert right == pytest.approx(0) and high > 0.8
    left, level, _ = project(np.array([[-1.0, 0, 0]]), up)[0]
    assert left < -0.8 and abs(level) < 0.3


@pytest.mark.parametrize(("up", "points"), [("y", [[1.0, 2, 3]]), ("z", [[1.0, -3, 2]])])
def test_a_level_viewer_in_front_sees_the_axes_as_they_are(up, points):
    assert project(np.array(points), up, azimuth=0.0, elevation=0.0).tolist() == [[1, 2, 3]]


def test_a_quarter_turn_brings_the_front_to_the_right_and_the_left_to_the_front():
    seen = project(np.array([[0.0, 0, 1], [-1.0, 0, 0]]), "y", azimuth=90.0, elevation=0.0)
    assert np.allclose(seen, [[1, 0, 0], [0, 0, 1]])


def test_from_above_the_near_side_of_a_floor_lies_lower_and_the_top_is_nearer():
    near, far, top = project(np.array([[0.0, 0, 1], [0, 0, -1], [0, 1, 0]]), "y", azimuth=0.0, elevation=30.0)
    assert np.allclose(near, [0, -0.5, 3**0.5 / 2]) and np.allclose(far, -near)
    assert top[2] == pytest.approx(0.5)


def test_turning_keeps_every_distance():
    xyz = ball()
    assert np.allclose(np.linalg.norm(project(xyz, "z"), axis=1), 1, atol=1e-5)


def test_the_picture_of_a_pole_is_narrow_and_upright():
    pole = np.zeros((1, 50, 3), np.float32)
    pole[0, :, 2] = np.linspace(-1, 1, 50)
    place = ink(pixels(clouds_png(pole, titles=[""], up="z")))
    height, width = np.ptp(place, axis=0)
    assert height > 5 * width


def test_the_near_points_hide_the_far_ones():
    near, far = np.array([0.0, 0, 1]), np.array([0.0, 0, -1])
    inverse = np.linalg.inv(project(np.eye(3)))  # takes what the viewer sees back to the cloud
    cloud = (np.stack([near, far]) @ inverse).astype(np.float32)[None]
    blue_near = pixels(clouds_png(cloud, titles=[""], colors=np.array([[[0.0, 0, 1], [1.0, 0, 0]]])))
    middle = blue_near[blue_near.shape[0] // 2, blue_near.shape[1] // 2].astype(int)
    assert middle[2] > 200 and middle[0] < 60


def test_a_picture_has_a_place_for_every_cloud_and_its_title():
    clouds = np.stack([ball()] * 5)
    height, width, _ = pixels(clouds_png(clouds, titles=[""] * 5, columns=4)).shape
    assert (height, width) == (pytest.approx(2 * 2.3 * DPI, abs=1), pytest.approx(4 * 2.3 * DPI, abs=1))
    with_titles = pixels(clouds_png(clouds, titles=["$not math", "b", "c", "d", "e"], columns=4))
    assert with_titles.shape[0] > height
    assert len(ink(pixels(clouds_png(clouds[:1], titles=["a"])))) > 1000


def test_palette_numbers_start_anew_at_the_end():
    cloud, labels = ball()[None], np.zeros((1, 200), np.int64)
    first = clouds_png(cloud, titles=[""], colors=labels)
    assert clouds_png(cloud, titles=[""], colors=labels + len(PALETTE)) == first
    assert clouds_png(cloud, titles=[""], colors=labels + 1) != first


def test_palette_has_twenty_colors_and_no_two_alike():
    rgb = np.array([[int(color[place : place + 2], 16) for place in (1, 3, 5)] for color in PALETTE])
    apart = np.linalg.norm(rgb[:, None] - rgb[None], axis=2) + 1000 * np.eye(len(rgb))
    assert len(PALETTE) >= 20 and apart.min() > 35


def test_a_cloud_that_is_one_point_is_drawn():
    assert len(ink(pixels(clouds_png(np.ones((1, 8, 3), np.float32), titles=[""])))) > 0


def test_clouds_without_their_titles_are_refused():
    with pytest.raises(ValueError, match="2 clouds with 1 titles"):
        clouds_png(np.zeros((2, 4, 3), np.float32), titles=["a"])


def test_a_file_holds_the_same_picture(tmp_path):
    path, cloud = tmp_path / "picture.png", ball()[None]
    draw_clouds(cloud, path, titles=["a"], up="z")
    assert path.read_bytes() == clouds_png(cloud, titles=["a"], up="z")
    assert list(tmp_path.iterdir()) == [path]
