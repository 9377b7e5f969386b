"""Training classifiers of images end to end on tiny pictures: it learns, resumes, and refuses nonsense."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bixt3d.cli import test as test_command
from bixt3d.cli import train as train_command
from bixt3d.engine.checkpoint import load_checkpoint
from bixt3d.engine.report import read_rows
from bixt3d.io.weights import load_weights
from bixt3d.tasks import training
from bixt3d.tasks.image_classification import ImageClassification
from bixt3d.types import InputError

SAMPLE = Path(__file__).parents[2].parent / "shared/data/imagenet_sample"
CLASSES = ("circle", "cross", "stripe")

TINY = """
data: {class_path: ImageFolder, init_args: {root: ROOT, size: 16, crop_fraction: 1.0, workers: 0}}
augment: {crop: simple, color_jitter: 0.2, erase: 0.2, mixup: 0.8, cutmix: 1.0, mix_rate: 0.5}
model:
  class_path: BixtImageClassifier
  init_args:
    tokenizer: {class_path: PatchTokenizer, init_args: {dim: 32, kernel: 4}}
    encoder:
      class_path: BixtEncoder
      init_args: {dim: 32, depth: 2, num_heads: 2, num_latents: 4, drop_path_cross: 0.2, drop_path_self: 0.2}
    dropout: 0.2
optim: {name: lamb, lr: 5.0e-3, warmup_epochs: 1, ema: 0.9, decay_norms: false}
train: {epochs: 2, batch_size: 8, eval_batch_size: 4, label_smoothing: 0.1}
runtime: {accelerator: cpu, threads: 1}
"""


def draw(name: str, random: np.random.Generator) -> Image.Image:
    """Return a picture of 16 x 16 pixels of a shape in a color of its own, at a place of its own."""
    rows, columns = np.mgrid[:16, :16] - random.integers(5, 11, (2, 1, 1))
    shape = {
        "circle": abs(np.hypot(rows, columns) - 4) < 1.5,
        "cross": (abs(rows) < 2) | (abs(columns) < 2),
        "stripe": (rows + columns) % 6 < 3,
    }[name]
    dark, light = random.integers(0, 90, 3), random.integers(160, 256, 3)
    return Image.fromarray(np.where(shape[..., None], light, dark).astype(np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return pictures of three shapes: 16 of each to train on, 5 to test on."""
    root, random = tmp_path_factory.mktemp("shapes"), np.random.default_rng(0)
    for split, count in {"train": 16, "test": 5}.items():
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
            for place in range(count):
                draw(name, random).save(root / split / name / f"{place}.png")
    return root


@pytest.fixture(scope="module")
def tiny(folder, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(TINY.replace("ROOT", str(folder)))
    return path


@pytest.fixture
def train(tiny, monkeypatch):
    """Return a function that trains with the tiny config and more arguments, in a folder, but draws no report."""
    monkeypatch.setattr(ImageClassification, "write_report", lambda *_: None)
    return lambda folder, *arguments: train_command.main(["imgcls", f"--cfg={tiny}", f"--run_dir={folder}", *arguments])


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory) -> Path:
    """Return the folder of a tiny run, with its report, that nobody changes."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    return train_command.main(["imgcls", f"--cfg={tiny}", f"--run_dir={folder}"])


def same_weights(one: Path, other: Path) -> bool:
    first, second = (load_weights(folder / "model.safetensors")[0] for folder in (one, other))
    return first.keys() == second.keys() and all(first[name].equal(second[name]) for name in first)


def result_of(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def test_a_run_leaves_all_that_one_needs(run):
    found = {path.name for path in run.iterdir()}
    pages = {"curves.png", "confusion.png", "report.html", "tensorboard"}
    assert found >= {"config.yaml", "metrics.csv", "result.json", "model.safetensors", "checkpoint.pt"} | pages
    assert found & {"predictions.png", "mistakes.png"}
    result, rows = result_of(run), read_rows(run / "metrics.csv")
    assert result["task"] == "image classification"
    assert result["top1"] == pytest.approx(rows[-1]["test_accuracy"], rel=1e-5)
    assert result["top5"] == rows[-1]["test_top5"] == 1.0  # there are three classes
    assert set(result["per_class"]) == set(CLASSES)
    assert result["images_per_second"] > 0 and "clouds_per_second" not in result
    assert set(result["best_on_test"]) == {"top1", "top5"}
    assert f"{result['top1']:.2%}"[:-1] in (run / "report.html").read_text()


def test_the_saved_settings_repeat_the_run_with_other_processes_and_a_cache(run, tmp_path, monkeypatch):
    monkeypatch.setattr(ImageClassification, "write_report", lambda *_: None)
    again = train_command.main(
        ["imgcls", f"--cfg={run / 'config.yaml'}", f"--run_dir={tmp_path / 'again'}", "--data.cache=true"]
    )
    assert same_weights(run, again)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # from Python 3.12 on
def test_a_run_that_is_interrupted_ends_as_if_it_had_not_been(train, tmp_path, monkeypatch):
    settings = ["--train.epochs=3"]
    undisturbed = train(tmp_path / "undisturbed", *settings)
    stopped, kept = tmp_path / "stopped", training.save_checkpoint

    def stop_after_first(path: Path, state: dict) -> None:
        kept(path, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training, "save_checkpoint", stop_after_first)
        train(stopped, *settings)
    assert load_checkpoint(stopped / "checkpoint.pt")["epoch"] == 1
    train_command.main(["imgcls", "--resume", str(stopped), "--data.workers=2"])
    assert same_weights(undisturbed, stopped)
    assert result_of(stopped)["per_class"] == result_of(undisturbed)["per_class"]


@pytest.mark.parametrize("loss", ["cross_entropy", "bce"])
def test_it_learns(train, tmp_path, loss):
    plain = [f"--model.encoder.drop_path_{part}=0" for part in ("cross", "self")] + ["--model.dropout=0"]
    plain += ["--augment.mix_rate=0", "--augment.erase=0", "--optim.ema=0", "--optim.name=adamw"]
    more = ["--train.epochs=28", "--train.eval_every=28", "--train.label_smoothing=0", f"--train.loss={loss}"]
    rows = read_rows(train(tmp_path / "run", *plain, *more) / "metrics.csv")
    assert rows[-1]["loss"] < 0.6 * rows[0]["loss"]
    assert rows[-1]["train_accuracy"] > 0.6
    assert rows[-1]["test_accuracy"] > 0.5  # chance is 1 in 3


def test_the_first_loss_is_that_of_a_head_that_says_nothing(train, tmp_path):
    """Cross entropy is log 3, binary cross entropy log 2, whatever is mixed."""
    for loss, expected in {"cross_entropy": math.log(3), "bce": math.log(2)}.items():
        arguments = ["--optim.lr=1e-9", "--optim.min_lr=0", "--train.epochs=1", f"--train.loss={loss}"]
        assert read_rows(train(tmp_path / loss, *arguments) / "metrics.csv")[0]["loss"] == pytest.approx(
            expected, abs=1e-4
        )


def test_a_run_of_so_many_steps_ends_within_an_epoch(train, tmp_path):
    folder = train(tmp_path / "run", "--train.steps=8", "--train.epochs=99", "--optim.min_lr=1e-4")  # 6 in an epoch
    state = load_checkpoint(folder / "checkpoint.pt")
    assert state["epoch"] == result_of(folder)["epochs"] == 2
    assert state["learner"]["schedule"]["last_epoch"] == 8
    assert state["learner"]["schedule"]["_last_lr"] == pytest.approx([1e-4] * 2)
    assert int(state["learner"]["optimizer"]["param_groups"][0]["step"]) == 8


def test_a_validation_set_is_carved_out_of_the_training_images(train, tmp_path):
    result = result_of(train(tmp_path / "run", "--data.val_fraction=0.25"))
    assert {"epoch", "val_accuracy", "top1", "top5"} == set(result["selected_on_val"])


def test_a_run_can_start_from_another_at_another_size(train, run, tmp_path, capsys):
    arguments = ["--data.size=24", f"--train.init={run}", "--train.epochs=1", "--optim.lr=1e-9", "--optim.min_lr=0"]
    folder = train(tmp_path / "larger", *arguments)
    assert "started from" in capsys.readouterr().out
    first, second = (load_weights(path / "model.safetensors")[0] for path in (run, folder))
    assert all(first[name].allclose(second[name], atol=1e-5) for name in first)
    shutil.rmtree(tmp_path / "larger" / "tensorboard")
    train_command.main(
        ["imgcls", "--resume", str(folder), "--train.epochs=2", "--train.init=nowhere"]
    )  # is not needed any more


def test_the_figures_are_those_that_training_wrote(run, tmp_path, capsys):
    result = test_command.main(["imgcls", f"--checkpoint={run}", f"--out={tmp_path / 'out'}"])
    assert {name: result[name] for name in ("top1", "top5", "per_class")} == {
        name: result_of(run)[name] for name in ("top1", "top5", "per_class")
    }
    assert "votes" not in result
    assert (tmp_path / "out" / "report.html").stat().st_size > 1000
    said = capsys.readouterr().out
    assert f"top-1 {result['top1']:.2%}, top-5 100.00%" in said and "votes" not in said and "stripe" in said


def test_images_of_other_classes_are_refused(run, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "fewer")
    for split in ("train", "test"):
        shutil.rmtree(tmp_path / "fewer" / split / "cross")
    with pytest.raises(
        InputError, match=r"was trained on 3 classes \(circle, .*\), but the data set has 2 \(circle, stripe"
    ):
        test_command.main(["imgcls", f"--checkpoint={run}", f"--data.root={tmp_path / 'fewer'}"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--data.root=nowhere"], "nowhere/train is missing or empty"),
        (["--data.size=18"], "an image of 18 x 18 pixels does not divide into patches 4 pixels apart"),
        (["--data=SceneParse", "--data.root=nowhere"], "cannot be a SceneParse"),
        (["--model=LinearSegmenter"], "cannot be a LinearSegmenter"),
        (["--train.steps=0"], "train.steps must be at least 1"),
        (["--train.loss=huge"], "Expected one of 'cross_entropy', 'bce'"),
        (["--train.init=nowhere.safetensors"], "there is no run folder or weights file nowhere.safetensors"),
        (["--train.init=nowhere.pth"], "there is no run folder or weights file nowhere.pth"),
        (["--augment.jitter=0.1"], "did you mean 'augment.color_jitter'"),
        (["--augment.policy=four"], "Expected one of 'none', 'three', 'trivial', 'rand'"),
        (["--augment.scale=[2,1]"], "augment.scale must be two shares"),
        (["--optim.schedule=step"], "Expected one of 'cosine', 'poly'"),
        (["--model.tokenizer=PointTokenizer"], "PointTokenizer"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_nonsense_is_refused_with_one_sentence_before_anything_is_written(
    tmp_path, tiny, monkeypatch, arguments, sentence
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=sentence) as caught:
        train_command.main(["imgcls", f"--cfg={tiny}", *arguments])
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_evaluation_of_images_has_no_votes(run):
    with pytest.raises(InputError, match="unknown setting 'votes'"):
        test_command.main(["imgcls", f"--checkpoint={run}", "--votes=3"])


def test_an_image_that_does_not_decode_stops_training_with_one_sentence(train, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "broken")
    path = tmp_path / "broken" / "train" / "cross" / "9.png"
    path.write_text("no image")
    with pytest.raises(InputError, match=f"{path} is not an image that can be read") as caught:
        train(tmp_path / "run", f"--data.root={tmp_path / 'broken'}")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not SAMPLE.is_dir(), reason=f"real data are absent: {SAMPLE}")
def test_the_recipe_for_imagenet_trains_on_fifty_of_its_images(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageClassification, "write_report", lambda *_: None)
    for split in ("train", "val"):
        (tmp_path / "data" / split).mkdir(parents=True)
        for path in SAMPLE.glob("n*"):
            (tmp_path / "data" / split / path.name).symlink_to(path)
    config = Path(__file__).parents[2] / "cfgs" / "imagenet_ti16.yaml"
    small = ["--data.workers=0", "--data.size=64", "--train.epochs=1", "--train.batch_size=25"]
    folder = train_command.main(
        ["imgcls", f"--cfg={config}", f"--data.root={tmp_path / 'data'}", f"--run_dir={tmp_path / 'run'}", *small]
    )
    (row,) = read_rows(folder / "metrics.csv")
    assert row["loss"] < math.log(2) + 0.01
    assert 0 <= row["test_accuracy"] <= row["test_top5"] <= 1
    assert torch.isfinite(load_weights(folder / "model.safetensors")[0]["encoder.latents"]).all()


def test_larger_images_than_a_run_may_be_loaded_with_are_refused_before_it_begins(tiny, tmp_path):
    with pytest.raises(InputError, match="size of the run should be a whole number from 1 to 2048, not 2052"):
        train_command.main(["imgcls", f"--cfg={tiny}", f"--run_dir={tmp_path / 'run'}", "--data.size=2052"])
    assert not (tmp_path / "run").exists()
