"""A trained run predicts on images in three lines: inputs, preprocessing, and predictions."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn
from written_runs import write_run

from bixt3d import load_run
from bixt3d.datasets.images.transforms import MEAN, normalize
from bixt3d.inference.images import (
    ImagePredictor,
    ImageSegmentationPredictor,
    SegmentationPrediction,
    as_image,
    segment,
    window_places,
)
from bixt3d.inference.runs import read_run
from bixt3d.models.create import create_model
from bixt3d.models.image_classifier import ImageClassifier
from bixt3d.models.image_segmenter import ImageSegmenter
from bixt3d.types import InputError

NAMES = ["bed", "car", "mug"]
MODEL = """
model:
  class_path: CLASS
  init_args:
    tokenizer: {class_path: PatchTokenizer, init_args: {dim: 16, kernel: 4}}
    encoder: {class_path: BixtEncoder, init_args: {dim: 16, depth: 1, num_heads: 2, num_latents: 4, reads: ROLE}}
"""
CLASSIFIER = MODEL.replace("CLASS", "BixtImageClassifier").replace("ROLE", "latents")
CLASSIFIER += "data: {class_path: ImageFolder, init_args: {root: x, size: 16, crop_fraction: 0.5}}\n"
SEGMENTER = MODEL.replace("CLASS", "LinearSegmenter").replace("ROLE", "tokens")
SEGMENTER += "data: {class_path: SceneParse, init_args: {root: x, size: 16}}\ntrain: {window: WINDOW}\n"

RED, GREEN, BLUE = (250, 5, 5), (5, 250, 5), (5, 5, 250)


class Colors(ImageClassifier):
    """Logits are the mean red, green and blue of an image."""

    def __init__(self):
        super().__init__()
        self.steep = nn.Parameter(torch.tensor(4.0))
        self.seen = []

    def forward(self, image: Float[Tensor, "B 3 X Y"]) -> Float[Tensor, "B C"]:
        self.seen.append(tuple(image.shape[2:]))
        return image.mean((2, 3)) * self.steep


class PixelColors(ImageSegmenter):
    """Logits are the red, green and blue of every pixel, of images whose sides are multiples of 4."""

    stride = 4

    def __init__(self):
        super().__init__()
        self.steep = nn.Parameter(torch.tensor(4.0))
        self.seen = []

    def forward(self, image: Float[Tensor, "B 3 X Y"]) -> Float[Tensor, "B C X Y"]:
        self.seen.append(tuple(image.shape[2:]))
        assert not image.shape[2] % 4 and not image.shape[3] % 4
        return image * self.steep


def pixels(color: tuple[int, int, int], rows: int = 20, columns: int = 30) -> np.ndarray:
    return np.full((rows, columns, 3), color, np.uint8)


def flag() -> np.ndarray:
    """Return 11 x 14 pixels: red above, green below."""
    return np.concatenate([pixels(RED, 4, 14), pixels(GREEN, 7, 14)])


@pytest.fixture
def make_run(tmp_path) -> Callable[..., Path]:
    """Return a function that writes a run with random weights."""

    def make(task: str, config: str, folder: Path = tmp_path) -> Path:
        model = create_model(config, len(NAMES))
        nn.init.normal_(model.head.weight)  # a new head says nothing
        write_run(folder / "model.safetensors", model, task, config, class_names=NAMES)
        return folder

    return make


@pytest.mark.parametrize(("color", "name"), [(RED, "bed"), (GREEN, "car"), (BLUE, "mug")])
def test_the_class_and_all_probabilities_highest_first(color, name):
    found = ImagePredictor(Colors(), NAMES, 16).predict(pixels(color))
    assert found.name == name and found.confidence > 0.9
    assert list(found.probabilities.values()) == sorted(found.probabilities.values(), reverse=True)
    assert sorted(found.probabilities) == NAMES and sum(found.probabilities.values()) == pytest.approx(1)


def test_the_model_reads_the_center_crop():
    model = Colors()
    image = pixels(RED, 40, 80)
    image[10:30, 30:50] = GREEN  # half of the shorter side
    assert ImagePredictor(model, NAMES, 16, crop_fraction=0.45).predict(image).name == "car"
    assert ImagePredictor(model, NAMES, 16, crop_fraction=1.0).predict(image).name == "bed"
    assert model.seen == [(16, 16)] * 2


def test_files_arrays_and_images_of_pillow_are_the_same(tmp_path):
    predictor, image = ImagePredictor(Colors(), NAMES, 16), pixels(BLUE)
    Image.fromarray(image).save(tmp_path / "a.PNG")
    given = [image, Image.fromarray(image), tmp_path / "a.PNG", str(tmp_path / "a.PNG")]
    answers = predictor.predict(given)
    assert [one.probabilities for one in answers] == [answers[0].probabilities] * 4
    assert predictor.predict(image) == answers[0]


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "CMYK"])
def test_images_of_every_kind_become_red_green_and_blue(mode, tmp_path):
    image = Image.fromarray(pixels((200, 200, 200))).convert(mode)
    assert as_image(image).mode == "RGB" and as_image(image).size == (30, 20)
    image.save(tmp_path / ("a.tif" if mode == "CMYK" else "a.png"))
    predictor = ImagePredictor(Colors(), NAMES, 16)
    found = predictor.predict(next(tmp_path.iterdir()))
    assert set(found.probabilities) == set(NAMES)
    assert predictor.predict(np.full((20, 30), 200, np.uint8)).name in NAMES  # grey, as an array


@pytest.mark.parametrize(
    "nonsense",
    [np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros(4, np.uint8)],
    ids=["four", "float", "flat"],
)
def test_an_array_that_is_no_image_is_refused(nonsense):
    with pytest.raises(InputError, match=r"an image as an array must be uint8 of shape \(rows, columns, 3\) or"):
        ImagePredictor(Colors(), NAMES, 16).predict(nonsense)


def test_a_file_that_is_no_image_is_refused(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no image at all")
    predictor = ImagePredictor(Colors(), NAMES, 16)
    with pytest.raises(InputError, match="a.jpg is not an image that can be read"):
        predictor.predict(tmp_path / "a.jpg")
    with pytest.raises(InputError, match="b.jpg is missing"):
        predictor.predict(tmp_path / "b.jpg")


def test_every_pixel_of_an_image_of_any_size_gets_its_class():
    model = PixelColors()
    found = ImageSegmentationPredictor(model, NAMES).predict(flag())
    assert isinstance(found, SegmentationPrediction) and found.labels.shape == (11, 14)
    assert (found.labels[:4] == 0).all() and (found.labels[4:] == 1).all()
    assert model.seen == [(12, 16)]
    assert list(found.shares) == ["car", "bed"] and sum(found.shares.values()) == pytest.approx(1)
    assert found.class_names == tuple(NAMES)


def test_padding_has_the_mean_color_and_is_cropped_again():
    model = PixelColors()
    seen = []
    model.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    segment(model, normalize(torch.from_numpy(flag()).permute(2, 0, 1))[None])
    assert (seen[0][..., 11:, :] == 0).all() and (seen[0][..., 14:] == 0).all()
    mean = torch.tensor(MEAN).mul(255).round().byte().view(3, 1, 1)
    assert normalize(mean).abs().max() < 0.02


def test_a_sliding_window_gives_each_pixel_the_mean_of_its_windows():
    model, image = PixelColors(), normalize(torch.randint(256, (3, 18, 23), dtype=torch.uint8))[None]
    slid = segment(model, image, window=8)
    assert set(model.seen) == {(8, 8)} and slid.shape == (1, 3, 18, 23)
    torch.testing.assert_close(slid.softmax(1), (image * 4).softmax(1), atol=1e-4, rtol=1e-4)
    found = ImageSegmentationPredictor(model, NAMES, window=40).predict(flag())  # larger than the image
    assert (found.labels[:4] == 0).all() and (found.labels[4:] == 1).all()


def test_windows_start_two_thirds_apart_and_end_with_the_image():
    assert window_places(8, 8) == [0]
    assert window_places(18, 8) == [0, 5, 10]
    assert window_places(20, 9) == [0, 6, 11]


def test_a_run_gives_the_predictor_of_its_task(make_run, tmp_path):
    classes = load_run(make_run("image classification", CLASSIFIER))
    assert isinstance(classes, ImagePredictor)
    assert (classes.size, classes.crop_fraction, classes.class_names) == (16, 0.5, tuple(NAMES))
    assert classes.predict(flag()).name in NAMES
    for window in (None, 8):
        text = SEGMENTER.replace("WINDOW", "null" if window is None else str(window))
        segments = load_run(make_run("image segmentation", text) / "model.safetensors")
        assert isinstance(segments, ImageSegmentationPredictor) and segments.window == window
        assert segments.predict(flag()).labels.shape == (11, 14)


def test_predictions_equal_the_output_of_the_model(make_run):
    predictor = load_run(make_run("image classification", CLASSIFIER))
    image = predictor.prepare(flag())
    with torch.no_grad():
        expected = predictor.model(image[None])[0].softmax(0)
    found = predictor.predict(flag())
    assert [found.probabilities[name] for name in NAMES] == pytest.approx(expected.tolist())


def test_weights_that_do_not_fit_and_runs_of_another_task_are_refused(make_run, tmp_path):
    run = make_run("image classification", CLASSIFIER)
    with pytest.raises(InputError, match="comes from an image classification run, but a classification run is needed"):
        read_run(run, "classification")
    model = create_model(CLASSIFIER, 2)
    write_run(tmp_path / "model.safetensors", model, "image classification", CLASSIFIER, class_names=NAMES)
    with pytest.raises(InputError, match="contains the weights of another model: .*such as head"):
        load_run(tmp_path)
