import io

import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from bixt3d.viz.picture import DPI
from bixt3d.viz.plots import confusion_png, corruptions_png, curves_png, draw_confusion, draw_curves

MEASURED = {"test_accuracy": 0.5, "test_mean_accuracy": 0.4, "test_loss": 1.5}
ROWS = [{"epoch": epoch, "lr": 0.1, "loss": 2.0 / epoch, "train_accuracy": 0.1 * epoch} for epoch in (1, 2, 3)]


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def ink(picture: np.ndarray) -> np.ndarray:
    """Return line and column of every pixel that is not white."""
    return np.argwhere((picture < 250).any(axis=2))


@pytest.mark.parametrize("num", [1, 10, 16, 40])
def test_confusion_is_larger_for_more_classes_and_dark_on_the_diagonal(num):
    picture = pixels(confusion_png(np.eye(num, dtype=np.int64) * 30, [f"class {place}" for place in range(num)]))
    assert picture.shape[1] > (0.2 * num + 2.0) * DPI
    dark = (picture.astype(int) @ [1, 0, 0] < 20).sum()  # the darkest blue has almost no red
    assert dark > 500


def test_the_picture_of_a_confusion_stops_growing_and_then_says_how_many_classes_it_names(monkeypatch):
    monkeypatch.setattr("bixt3d.viz.plots.MOST_NAMES", 30)
    names, titles = [f"class {place}" for place in range(300)], []
    monkeypatch.setattr(Axes, "set_title", lambda _, title, **style: titles.append(title))
    shapes = [pixels(confusion_png(np.eye(num, dtype=np.int64), names[:num])).shape for num in (29, 30, 31, 300)]
    assert shapes[0] < shapes[1] == shapes[2] == shapes[3]
    assert titles[1] == "30 of 30 correct: 100.0 %"
    assert titles[3] == "300 of 300 correct: 100.0 %; one in 10 of 300 classes is named"


def test_a_class_without_clouds_and_names_that_look_like_mathematics_are_drawn():
    assert confusion_png(np.array([[3, 1], [0, 0]]), ["$a_1$ & <b>", "100 $"])


def test_confusion_wants_a_name_for_every_class():
    with pytest.raises(ValueError, match="1 class names"):
        confusion_png(np.eye(2, dtype=np.int64), ["a"])


@pytest.mark.parametrize("rows", [[], ROWS[:1], ROWS, [*ROWS[:2], ROWS[2] | MEASURED]])
def test_curves_are_drawn_with_whatever_was_measured(rows):
    picture = pixels(curves_png(rows))
    assert picture.shape[1] == pytest.approx(2 * 5.6 * DPI, abs=1) and len(ink(picture)) > 500


def test_empty_none_and_infinite_values_are_not_drawn():
    nothing = [row | {"test_loss": "", "test_accuracy": None, "val_loss": float("nan")} for row in ROWS]
    assert curves_png(nothing) == curves_png(ROWS)
    assert curves_png([ROWS[0] | MEASURED, *ROWS[1:]]) != curves_png(ROWS)


def test_accuracies_on_corrupted_clouds_are_drawn_from_the_clean_set_on():
    lines = {"jitter": [0.9, 0.8, 0.7, 0.6, 0.5], "drop_local": [0.9, 0.9, 0.8, 0.8, 0.8]}
    picture = pixels(corruptions_png(lines, 0.95))
    assert len(ink(picture)) > 1000
    assert corruptions_png(dict(reversed(lines.items())), 0.95) == corruptions_png(lines, 0.95)
    assert corruptions_png(lines, 0.94) != corruptions_png(lines, 0.95)


def test_numbers_as_text_give_the_same_curves():
    assert curves_png([{key: str(value) for key, value in row.items()} for row in ROWS]) == curves_png(ROWS)


def test_files_hold_the_same_pictures(tmp_path):
    path, matrix = tmp_path / "picture.png", np.eye(2, dtype=np.int64)
    draw_curves(ROWS, path)
    assert path.read_bytes() == curves_png(ROWS)
    draw_confusion(matrix, ["a", "b"], path)
    assert path.read_bytes() == confusion_png(matrix, ["a", "b"])
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_an_error_and_is_not_made(tmp_path):
    with pytest.raises(FileNotFoundError):
        draw_curves(ROWS, tmp_path / "missing" / "curves.png")
    assert list(tmp_path.iterdir()) == []


def test_miou_is_drawn_among_the_accuracies():
    plain = curves_png(ROWS[:2], ("accuracy",))
    pictures = {plain}
    for key in ("val_instance_miou", "val_class_miou", "test_instance_miou", "test_class_miou"):
        rows = [row | {key: 0.2} for row in ROWS[:2]]
        pictures.add(curves_png(rows, ("accuracy",)))
    assert len(pictures) == 5  # each with a line, a color and a name of its own
    assert curves_png(rows, ("loss",)) == curves_png(ROWS[:2], ("loss",))
