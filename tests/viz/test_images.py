"""Pictures of images: layout, the colors of classes, and a legend of the classes that occur."""

import io

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from bixt3d.viz.clouds import PALETTE
from bixt3d.viz.images import (
    SegmentedImage,
    class_colors,
    draw_images,
    draw_segmentations,
    fit,
    images_png,
    overlay,
    segmentations_png,
)

NAMES = ("sky", "road", "tree")
RED, GREEN = (200, 20, 20), (20, 180, 20)


def plain(color: tuple[int, int, int], rows: int = 30, columns: int = 40) -> np.ndarray:
    return np.full((rows, columns, 3), color, np.uint8)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def where(picture: np.ndarray, color: np.ndarray | tuple) -> np.ndarray:
    """Return line and column of every pixel of nearly this color."""
    return np.argwhere(np.abs(picture - np.array(color)).max(axis=2) < 12)


def test_images_of_any_sizes_are_in_rows_above_their_titles():
    images = [plain(RED), plain(GREEN, 400, 100), plain(RED, 7, 9)]
    picture = pixels(images_png(images, ["a", "b $x_1$", "c\nsecond line"], columns=2))
    green = where(picture, GREEN)
    assert green[:, 1].min() > picture.shape[1] / 2 and green[:, 0].max() < picture.shape[0] / 2
    assert np.ptp(green[:, 0]) > 3.8 * np.ptp(green[:, 1]) > 0  # no image is stretched
    red = where(picture, RED)
    assert red[:, 1].max() < picture.shape[1] / 2 and (red[:, 0] > picture.shape[0] / 2).any()


def test_a_title_takes_its_color_and_never_more_than_its_place():
    image = [plain((255, 255, 255))]
    picture = pixels(images_png(image * 2, ["a mistake " * 30, ""], colors=["#ff0000", "#000000"]))
    ink = np.argwhere((picture < 200).any(axis=2))
    assert len(ink) > 50 and ink[:, 1].max() < picture.shape[1] / 2
    red, green, blue = picture[tuple(ink.T)].T
    assert (red >= green).all() and (green == blue).mean() > 0.5


def test_a_title_for_every_image():
    with pytest.raises(ValueError, match="1 images with 2 titles"):
        images_png([plain(RED)], ["a", "b"])
    with pytest.raises(ValueError, match="0 images"):
        images_png([], [])


def test_small_images_keep_their_edges_and_large_ones_their_shape():
    board = np.zeros((2, 2, 3), np.uint8)
    board[0, 0] = board[1, 1] = 255
    assert set(np.unique(fit(board, 100, 60))) == {0, 255} and fit(board, 100, 60).shape == (60, 60, 3)
    assert fit(plain(RED, 500, 1000), 100, 100).shape == (50, 100, 3)
    assert fit(plain(RED, 1, 5000), 100, 100).shape == (1, 100, 3)


def test_the_overlay_is_blended_with_the_image_except_pixels_of_no_class():
    image, labels = plain((100, 100, 100), 1, 3), np.array([[0, 1, -1]])
    colors = np.array([[0, 0, 0], [200, 100, 0]], np.uint8)
    assert overlay(image, labels, colors, alpha=0.5).tolist() == [[[50, 50, 50], [150, 100, 50], [100, 100, 100]]]
    assert overlay(image, labels.astype(np.int32), colors, alpha=1.0)[0, 1].tolist() == [200, 100, 0]


def test_classes_have_the_palettes_colors_and_no_two_of_150_the_same():
    assert class_colors(3).tolist() == [[round(255 * part) for part in to_rgb(color)] for color in PALETTE[:3]]
    colors = class_colors(150)
    assert colors.dtype == np.uint8 and colors.shape == (150, 3) and np.array_equal(colors[:20], class_colors(20))
    apart = np.linalg.norm(colors[:, None].astype(float) - colors[None], axis=2) + 1e3 * np.eye(150)
    assert apart[:20, :20].min() > 40 and apart.min() > 20


def test_image_prediction_and_truth_are_side_by_side_with_the_classes_that_occur():
    halves = np.repeat([[0, 1]], 20, axis=1).reshape(1, -1).repeat(30, axis=0)  # 30 x 40
    one = SegmentedImage(plain((255, 255, 255)), halves, np.full((30, 40), 2), "a $title$, mIoU 0.0%")
    picture = pixels(segmentations_png([one], NAMES))
    coats = [255 * 0.45 + 0.55 * color for color in class_colors(3).astype(float)]
    sky, road, tree = (where(picture, coat) for coat in coats)
    assert len(sky) > 1000 and len(road) > 1000 and len(tree) > 1000
    assert sky[:, 1].min() > 380  # the image itself has no coat
    assert tree[:, 1].min() > max(sky[:, 1].max(), road[:, 1].max())  # truth is right of prediction
    for color in class_colors(3):  # a dot of each
        assert len(where(picture, color)) > 20


def test_without_the_truth_there_are_two_panels_and_only_their_classes():
    one = SegmentedImage(plain((255, 255, 255)), np.ones((30, 40), np.int64))
    both = (
        segmentations_png([one], NAMES),
        segmentations_png([SegmentedImage(one.image, one.predicted, one.predicted)], NAMES),
    )
    narrow, wide = map(pixels, both)
    assert narrow.shape[1] + 300 < wide.shape[1]
    assert len(where(narrow, class_colors(3)[1])) > 20 and len(where(narrow, class_colors(3)[2])) == 0


def test_150_classes_images_of_all_shapes_and_ignored_pixels_fit_one_picture():
    names = [f"class number {i} with a very long name" for i in range(150)]
    labels = np.arange(3000).reshape(50, 60) % 150
    many = SegmentedImage(plain(RED, 50, 60), labels, np.where(labels > 70, -1, labels), "many")
    tall = SegmentedImage(plain(RED, 90, 10), np.zeros((90, 10), np.uint8), title="tall")
    picture = pixels(segmentations_png([many, tall], names))
    assert (picture[:, -4:] > 245).all()  # no name is cut


def test_files_hold_the_same_pictures(tmp_path):
    one = SegmentedImage(plain(RED), np.ones((30, 40), int))
    draw_images(tmp_path / "a.png", [plain(RED)], ["a"])
    draw_segmentations(tmp_path / "b.png", [one], NAMES)
    assert (tmp_path / "a.png").read_bytes() == images_png([plain(RED)], ["a"])
    assert (tmp_path / "b.png").read_bytes() == segmentations_png([one], NAMES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_a_picture_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one image"):
        segmentations_png([], NAMES)
