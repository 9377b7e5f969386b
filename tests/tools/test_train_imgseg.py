"""Training segmenters of images end to end on tiny scenes: it learns, resumes, is evaluated, and refuses nonsense."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bixt3d.cli import test as test_command
from bixt3d.cli import train as train_command
from bixt3d.engine.checkpoint import load_checkpoint
from bixt3d.engine.report import read_rows
from bixt3d.io.weights import load_weights
from bixt3d.tasks import training
from bixt3d.tasks.image_segmentation import ImageSegmentation
from bixt3d.types import InputError

CAMVID = Path(__file__).parents[2].parent / "shared/data/camvid_sceneparse"
CLASSES = ("sky", "ground", "ball")

TINY = """
data: {class_path: SceneParse, init_args: {root: ROOT, size: 16, workers: 0}}
augment: {scale: [0.75, 1.5], color_jitter: 0.2}
model:
  class_path: LinearSegmenter
  init_args:
    tokenizer: {class_path: PatchTokenizer, init_args: {dim: 32, kernel: 4}}
    encoder: {class_path: BixtEncoder, init_args: {dim: 32, depth: 2, num_heads: 2, num_latents: 4, reads: tokens}}
    dropout: 0.1
optim: {name: adamw, lr: 5.0e-3, min_lr: 0.0, schedule: poly, warmup_epochs: 1, ema: 0.9}
train: {steps: 5, batch_size: 4, eval_batch_size: 2}
runtime: {accelerator: cpu, threads: 1}
"""


def draw(random: np.random.Generator, width: int, height: int) -> tuple[Image.Image, Image.Image]:
    """Return a ball before sky and ground, and the numbers of its pixels; the uppermost row has no class."""
    rows, columns = np.mgrid[:height, :width]
    numbers = np.where(rows < random.integers(height // 3, 2 * height // 3), 1, 2)
    numbers[np.hypot(rows - random.integers(4, height - 4), columns - random.integers(4, width - 4)) < 4] = 3
    colors = np.array([[0, 0, 0], [90, 140, 250], [60, 150, 60], [250, 60, 40]])[numbers]
    image = (colors + random.integers(-20, 20, colors.shape)).clip(0, 255).astype(np.uint8)
    numbers[0] = 0
    return Image.fromarray(image), Image.fromarray(numbers.astype(np.uint8))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    """Return nine scenes to train on, and five to test on, of sizes that patches do not divide."""
    root, random = tmp_path_factory.mktemp("scenes"), np.random.default_rng(0)
    (root / "objectInfo.txt").write_text("Idx\tName\n" + "".join(f"{i}\t{n}\n" for i, n in enumerate(CLASSES, 1)))
    for split, count in {"training": 9, "validation": 5}.items():
        for kind in ("images", "annotations"):
            (root / kind / split).mkdir(parents=True)
        for place in range(count):
            image, numbers = draw(random, 25, 18 + place % 2)
            image.save(root / "images" / split / f"{place}.jpg", quality=95)
            numbers.save(root / "annotations" / split / f"{place}.png")
    return root


@pytest.fixture(scope="module")
def tiny(scenes, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(TINY.replace("ROOT", str(scenes)))
    return path


@pytest.fixture
def train(tiny, monkeypatch):
    """Return a function that trains with the tiny config and more arguments, in a folder, but draws no report."""
    monkeypatch.setattr(ImageSegmentation, "write_report", lambda *_: None)
    return lambda folder, *arguments: train_command.main(["imgseg", f"--cfg={tiny}", f"--run_dir={folder}", *arguments])


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory) -> Path:
    """Return the folder of a tiny run, with its report, that nobody changes."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    return train_command.main(["imgseg", f"--cfg={tiny}", f"--run_dir={folder}"])


def result_of(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def same_weights(one: Path, other: Path) -> bool:
    first, second = (load_weights(folder / "model.safetensors")[0] for folder in (one, other))
    return first.keys() == second.keys() and all(first[name].equal(second[name]) for name in first)


def test_a_run_leaves_all_that_one_needs(run):
    found = {path.name for path in run.iterdir()}
    pages = {"curves.png", "predictions.png", "worst.png", "report.html", "tensorboard"}
    assert found >= {"config.yaml", "metrics.csv", "result.json", "model.safetensors", "checkpoint.pt"} | pages
    result, rows = result_of(run), read_rows(run / "metrics.csv")
    assert result["task"] == "image segmentation"
    assert result["miou"] == pytest.approx(rows[-1]["test_miou"], rel=1e-5)
    assert result["pixel_accuracy"] == pytest.approx(rows[-1]["test_accuracy"], rel=1e-5)
    assert set(result["per_class"]) <= set(CLASSES)
    assert set(result["best_on_test"]) == {"miou", "pixel_accuracy"}
    assert "intersection and union of each class over the pixels of all images" in (run / "report.html").read_text()


def test_five_steps_are_two_epochs_of_three_and_the_last_learning_rate_is_the_lowest(run):
    state = load_checkpoint(run / "checkpoint.pt")
    assert state["epoch"] == result_of(run)["epochs"] == 2
    assert state["learner"]["schedule"]["last_epoch"] == 5
    assert state["learner"]["schedule"]["_last_lr"] == [0.0]


def test_it_learns(train, tmp_path):
    settings = ["--train.steps=80", "--train.eval_every=99", "--optim.ema=0", "--model.dropout=0"]
    rows = read_rows(train(tmp_path / "run", *settings) / "metrics.csv")
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]
    assert rows[-1]["test_accuracy"] > 0.8
    assert rows[-1]["test_miou"] > 0.45  # two thirds of the pixels and two classes right by the mean color alone


def test_a_run_that_is_interrupted_ends_as_if_it_had_not_been(train, run, tmp_path, monkeypatch):
    stopped, kept = tmp_path / "stopped", training.save_checkpoint

    def stop_after_first(path: Path, state: dict) -> None:
        kept(path, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training, "save_checkpoint", stop_after_first)
        train(stopped)
    train_command.main(["imgseg", "--resume", str(stopped)])
    assert same_weights(run, stopped)
    assert result_of(stopped)["per_class"] == result_of(run)["per_class"]


def test_evaluation_by_windows_is_asked_for_and_said(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ImageSegmentation, "write_report", lambda *_: None)
    whole = test_command.main(["imgseg", f"--checkpoint={run}", f"--out={tmp_path}"])
    assert {name: whole[name] for name in ("miou", "pixel_accuracy", "window")} == {
        "miou": result_of(run)["miou"],
        "pixel_accuracy": result_of(run)["pixel_accuracy"],
        "window": None,
    }
    windows = test_command.main(["imgseg", f"--checkpoint={run}", f"--out={tmp_path}", "--train.window=12"])
    assert windows["window"] == 12
    assert windows["miou"] != whole["miou"]
    assert f"mIoU {windows['miou']:.2%}, pixel accuracy {windows['pixel_accuracy']:.2%}" in capsys.readouterr().out


def test_the_number_of_images_at_a_time_changes_no_figure(run, tmp_path, monkeypatch):
    monkeypatch.setattr(ImageSegmentation, "write_report", lambda *_: None)
    results = [
        test_command.main(["imgseg", f"--checkpoint={run}", f"--out={tmp_path}", f"--train.eval_batch_size={size}"])
        for size in (1, 5)
    ]
    assert results[0]["per_class"] == pytest.approx(results[1]["per_class"], abs=1e-6)


def test_a_segmenter_with_a_pyramid_trains_with_the_same_tool(train, tmp_path):
    pyramid = ["--model=SemanticFPNSegmenter", "--model.dim=8", "--model.head_dim=8", "--model.encoder.depth=4"]
    folder = train(tmp_path / "run", *pyramid, "--model.encoder.keep_layers=[1,2,3]", "--train.steps=2")
    assert 0 <= result_of(folder)["miou"] <= 1


def test_scenes_can_be_set_aside_to_select_on(train, tmp_path):
    result = result_of(train(tmp_path / "run", "--data.val_fraction=0.3"))
    assert {"epoch", "val_miou", "miou", "pixel_accuracy"} == set(result["selected_on_val"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--data.root=nowhere"], "nowhere/objectInfo150.txt is missing"),
        (["--data=ImageFolder"], "cannot be a ImageFolder"),
        (["--data.size=18"], "crops of 18 x 18 pixels do not fit the model's stride of 4 pixels"),
        (["--model=BixtImageClassifier"], "cannot be a BixtImageClassifier"),
        (["--model.encoder.reads=latents"], "an image segmenter reads tokens"),
        (["--model=SemanticFPNSegmenter"], "Semantic FPN reads the tokens of four layers"),
        (["--train.window=0"], "train.window must be at least 1 pixel"),
        (["--augment.scale=[2,1]"], "augment.scale must be two positive factors"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_nonsense_is_refused_with_one_sentence(tmp_path, tiny, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=sentence) as caught:
        train_command.main(["imgseg", f"--cfg={tiny}", *arguments])
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_annotation_of_another_size_stops_the_run_with_one_sentence(train, scenes, tmp_path):
    shutil.copytree(scenes, tmp_path / "broken")
    path = tmp_path / "broken" / "annotations" / "training" / "4.png"
    Image.fromarray(np.ones((7, 9), np.uint8)).save(path)
    with pytest.raises(InputError, match=f"{path} has 9 x 7 pixels, but its image ") as caught:
        train(tmp_path / "run", f"--data.root={tmp_path / 'broken'}")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not CAMVID.is_dir(), reason=f"real data are absent: {CAMVID}")
def test_two_steps_on_camvid(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(ImageSegmentation, "write_report", lambda *_: None)
    small = tmp_path / "camvid"
    for split, count in {"training": 8, "validation": 3}.items():
        for kind in ("images", "annotations"):
            (small / kind / split).mkdir(parents=True)
            for path in sorted((CAMVID / kind / split).iterdir())[:count]:
                (small / kind / split / path.name).symlink_to(path)
    (small / "objectInfo.txt").symlink_to(CAMVID / "objectInfo.txt")
    arguments = ["--data.size=64", "--train.steps=2", f"--run_dir={tmp_path / 'run'}", f"--data.root={small}"]
    result = result_of(train_command.main(["imgseg", f"--cfg={tiny}", *arguments]))
    assert result["epochs"] == 1
    assert 0 < result["pixel_accuracy"] < 1
