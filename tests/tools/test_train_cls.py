"""Training end to end on tiny procedural shapes: it learns, repeats itself, and refuses nonsense."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from bixt3d.cli import train as train_command
from bixt3d.datasets.shapes.shapes import Shapes
from bixt3d.engine.report import read_rows
from bixt3d.io.weights import load_weights
from bixt3d.models.encoder import BixtEncoder
from bixt3d.tasks import training
from bixt3d.tasks.classification import Classification
from bixt3d.types import InputError

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tools" / "train_cls.py"


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch):
    """Draw no report at the end of a run, but for the one that every test shares: it takes longer than the run."""

    monkeypatch.setattr(Classification, "write_report", lambda *_: None)


def weights_of(folder: Path, name: str = "model") -> dict[str, torch.Tensor]:
    return load_weights(folder / f"{name}.safetensors")[0]


def same_weights(one: Path, other: Path) -> bool:
    first, second = weights_of(one), weights_of(other)
    return first.keys() == second.keys() and all(first[name].equal(second[name]) for name in first)


def result_of(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def program(*arguments: object, **options) -> subprocess.Popen:
    """Start the program as a user would."""
    command = [sys.executable, str(PROGRAM), *map(str, arguments)]
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **quiet | options, env=os.environ | {"OMP_NUM_THREADS": "1"})


def test_a_run_leaves_all_that_one_needs(tiny_run):
    found = {path.name for path in tiny_run.iterdir()}
    pages = {"curves.png", "confusion.png", "report.html", "tensorboard"}
    assert found >= {"config.yaml", "metrics.csv", "result.json", "model.safetensors", "checkpoint.pt"} | pages
    assert not [name for name in found if name.startswith(".")]  # nothing half-written
    assert all(path.stat().st_size for path in tiny_run.iterdir())
    assert len(list((tiny_run / "tensorboard").glob("events.*"))) == 1


def test_the_result_says_what_was_reached_and_how(tiny_run):
    result, rows = result_of(tiny_run), read_rows(tiny_run / "metrics.csv")
    speed = {"epochs", "seconds", "clouds_per_second", "parameters", "device"}
    assert {"overall_accuracy", "mean_accuracy", "per_class", "best_on_test", "seed", "task"} | speed <= set(result)
    assert [row["epoch"] for row in rows] == [1, 2]
    assert result["overall_accuracy"] == pytest.approx(rows[-1]["test_accuracy"], rel=1e-5)
    assert result["mean_accuracy"] == pytest.approx(rows[-1]["test_mean_accuracy"], rel=1e-5)
    assert result["parameters"] == sum(weight.numel() for weight in weights_of(tiny_run).values())
    assert result["seconds"] > 0
    assert result["clouds_per_second"] > 0
    assert len(result["per_class"]) == 16
    assert "selected_on_val" not in result


def test_the_headline_is_the_last_epoch_not_the_best(tmp_path, train, monkeypatch):
    faked = iter([0.75, 0.25])

    def score(*arguments) -> dict[str, float]:
        accuracy = next(faked)
        return {"test_accuracy": accuracy, "test_mean_accuracy": accuracy, "test_loss": 1.0}

    monkeypatch.setattr(training, "score_sets", score)
    result = result_of(train(tmp_path / "run"))
    assert result["best_on_test"]["overall_accuracy"] == {"value": 0.75, "epoch": 1}
    assert result["overall_accuracy"] < 0.5  # what the last weights reach, whatever the rows say


def test_it_learns(tmp_path, train):
    plain = [f"--model.encoder.drop_path_{part}=0" for part in ("cross", "self")] + ["--model.dropout=0"]
    plain += ["--augment.scale=[1,1]", "--augment.shift=0", "--train.label_smoothing=0", "--optim.ema=0"]
    more = ["--data.train_per_class=12", "--train.epochs=12", "--train.eval_every=12", "--optim.lr=0.01"]
    rows = read_rows(train(tmp_path / "run", *plain, *more) / "metrics.csv")
    assert rows[-1]["loss"] < 0.6 * rows[0]["loss"]
    assert rows[-1]["train_accuracy"] > 0.5
    assert rows[-1]["test_accuracy"] > 0.3  # chance is 1 in 16
    assert ["test_accuracy" in row for row in rows] == [False] * 11 + [True]


def test_the_saved_settings_repeat_the_run(tmp_path, tiny_run):
    again = train_command.main(["cls", f"--cfg={tiny_run / 'config.yaml'}", f"--run_dir={tmp_path / 'again'}"])
    assert same_weights(tiny_run, again)
    assert (again / "config.yaml").read_text() == (tiny_run / "config.yaml").read_text()


def test_another_seed_is_another_run(tmp_path, train, tiny_run):
    assert not same_weights(tiny_run, train(tmp_path / "run", "--seed=1", "--train.epochs=1"))


def test_a_run_that_was_finished_can_go_on_where_it_is_named(tmp_path, train, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = train(Path("runs") / "a", "--train.epochs=1")
    with pytest.raises(InputError, match="name it and say how long, as in `.*--resume runs/a --train.epochs 2`"):
        train_command.main(["cls", "--resume", "--train.epochs=2"])  # the newest, but it was not named
    assert train_command.main(["cls", "--resume", "runs/a", "--train.epochs=2"]) == folder
    assert [row["epoch"] for row in read_rows(folder / "metrics.csv")] == [1, 2]
    assert result_of(folder)["epochs"] == 2


def test_a_run_without_a_name_gets_one_of_its_config_and_the_time(tmp_path, tiny, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = train_command.main(["cls", f"--cfg={tiny}", "--train.epochs=1"])
    assert folder.parent == Path("runs")
    assert folder.name.startswith("tiny-")
    assert (folder / "config.yaml").is_file()


def test_several_seeds_give_several_runs_and_their_mean(tmp_path, train, tiny_run):
    folder = train(tmp_path / "seeds", "--seeds=0,1")
    values = [result_of(folder / f"seed{seed}")["overall_accuracy"] for seed in (0, 1)]
    summary = result_of(folder)
    assert summary["seeds"] == [0, 1]
    assert summary["overall_accuracy"]["values"] == values
    assert summary["overall_accuracy"]["mean"] == pytest.approx(sum(values) / 2)
    assert summary["overall_accuracy"]["deviation"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert same_weights(folder / "seed0", tiny_run)  # a seed is the same run wherever it is started
    assert not same_weights(folder / "seed0", folder / "seed1")


def test_a_model_is_built_once_for_each_seed(tmp_path, train, monkeypatch):
    built, widths = [], BixtEncoder._widths
    monkeypatch.setattr(BixtEncoder, "_widths", staticmethod(lambda *given: built.append(given) or widths(*given)))
    train(tmp_path / "run", "--seeds=0,1", "--train.epochs=1")
    assert len(built) == 2


def test_a_model_selected_on_validation_clouds_has_not_seen_the_test_set(tmp_path, train, monkeypatch):
    folder = train(tmp_path / "run", "--data.val_fraction=0.5", "--train.epochs=3")
    rows, selected = read_rows(folder / "metrics.csv"), result_of(folder)["selected_on_val"]
    best = max(rows, key=lambda row: row["val_accuracy"])  # the first of equals
    assert (selected["epoch"], selected["val_accuracy"]) == (best["epoch"], pytest.approx(best["val_accuracy"]))
    assert selected["overall_accuracy"] == pytest.approx(best["test_accuracy"], rel=1e-5)

    load = Shapes.load

    def load_with_another_test_set(self):
        train_set, test = load(self)
        return train_set, test.subset(torch.arange(len(test)).flip(0)[:16])

    monkeypatch.setattr(Shapes, "load", load_with_another_test_set)
    other = train(tmp_path / "other", "--data.val_fraction=0.5", "--train.epochs=3")
    assert same_weights(folder, other)
    first, second = weights_of(folder, "best_on_val"), weights_of(other, "best_on_val")
    assert all(first[name].equal(second[name]) for name in first)
    assert result_of(other)["selected_on_val"]["epoch"] == selected["epoch"]


def test_validation_clouds_are_not_trained_on_and_a_batch_of_more_than_there_are_is_said_to_have_them_all(
    tmp_path, train, capsys
):
    train(tmp_path / "run", "--data.val_fraction=0.5", "--train.batch_size=33", "--train.epochs=1")
    assert capsys.readouterr().out.count("batches have 32 clouds, not 33: the training set has no more") == 1


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_checkpoint(tmp_path, train):
    folder = train(tmp_path / "run", "--train.epochs=1")
    before = (folder / "checkpoint.pt").read_bytes(), weights_of(folder)
    with pytest.raises(InputError, match="the loss was not a number at step .* of this epoch.*lower --optim.lr"):
        train_command.main(["cls", "--resume", str(folder), "--train.epochs=4", "--optim.lr=1e30"])
    assert (folder / "checkpoint.pt").read_bytes() == before[0]
    assert all(weight.equal(before[1][name]) for name, weight in weights_of(folder).items())


def test_the_rival_trains_with_the_same_tool(tmp_path, train):
    folder = train(tmp_path / "run", "--model=PointMLPElite", "--model.num_neighbors=4", "--train.epochs=1")
    assert result_of(folder)["parameters"] > 500_000
    assert load_weights(folder / "model.safetensors")[1]["task"] == "classification"


GROUPS = ["--model.tokenizer=GroupTokenizer", "--model.tokenizer.dim=16", "--model.tokenizer.points=PointTokenizer"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--data=ModelNetHDF5", "--data.root=nowhere"],
            "nowhere/.* is missing: run `bixt3d download modelnet40 --root ",
        ),
        (["--data.num_points=0"], "num_points must be positive"),
        ([*GROUPS, "--model.tokenizer.num_neighbors=65"], "asked for 65 neighbors in clouds of 64 points"),
        (
            [*GROUPS, "--model.tokenizer.num_neighbors=4", "--model.tokenizer.num_groups=65"],
            "asked for 65 farthest points of clouds of 64 points",
        ),
        (["--train.batch_size=0"], "train.batch_size must be at least 1"),
        (["--train.epochs=0"], "train.epochs must be at least 1"),
        (["--train.eval_every=0"], "train.eval_every must be at least 1"),
        (["--train.eval_batch_size=0"], "train.eval_batch_size must be at least 1"),
        (["--train.label_smoothing=2"], "train.label_smoothing must be between"),
        (["--optim.lr=0"], "optim.lr must be positive"),
        (["--optim.ema=2"], "optim.ema must be"),
        (["--optim.lrr=1"], "did you mean 'optim.lr'"),
        (["--out=runs/mine"], "unknown setting 'out'; it is 'run_dir' here"),
        (["--train.epoch=1"], "did you mean 'train.epochs'"),
        (["--data.val_fraction=2"], "must be between 0 and 1"),
        (["--augment.scale=[2,1]"], "the smaller first"),
        (["--model.dropout=2"], "dropout probability"),
        (["--model.encoder.num_heads=3"], "does not divide"),
        (["--model.encoder.depth=0"], "at least 1 layer"),
        (["--model.encoder.num_latents=0"], "at least 1 latent"),
        (["--model.encoder.drop_path_self=1"], "stochastic depth rate must be at least 0 and below 1"),
        (["--model.tokenizer.num_features=-2"], "at least 2 features per axis"),
        (["--model.tokenizer.num_features=7"], "even number of features"),
        (["--model.encoder.dim=32"], "tokens of width 16, but the encoder reads 32"),
        (["--model.tokenizer.features=normal"], "reads normal, but the data set gives none"),
        (["--runtime.devices=0"], "runtime.devices must be at least 1"),
        (["--runtime.threads=-1"], "runtime.threads must be at least 1"),
        (["--runtime.threads=1000000000"], "runtime.threads must be at most 4096, not 1000000000"),
        (
            ["--seed=99999999999999999999"],
            "a seed must be between -2147483648 and 2147483647, not 99999999999999999999",
        ),
        (["--seeds=0,99999999999999999999"], "a seed must be between -2147483648 and 2147483647, not 999999"),
        (["--seeds=a,b"], "--seeds takes whole numbers"),
        (["--seeds="], "--seeds takes whole numbers"),
        (["--seeds=1,1"], "names a seed twice"),
        (["--cfg=group.yaml"], "setting 'optim' is a group of settings, not the value 3"),
        (["--resume=nowhere"], "nowhere is no run folder"),
        (["--resume"], "no classification run under runs/ yet: make one with `bixt3d train cls"),
        (["--run_dir"], "--run_dir: expected one argument"),
        (["--run_dir=in_the_way"], "in_the_way is a file"),
        (["--run_dir=in_the_way/deeper"], "could not write in_the_way/deeper"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_nonsense_is_refused_with_one_sentence_before_anything_is_written(
    tmp_path, tiny, monkeypatch, arguments, sentence
):
    monkeypatch.chdir(tmp_path)
    Path("in_the_way").write_text("a file")
    Path("group.yaml").write_text("optim: 3")
    with pytest.raises(InputError, match=sentence) as caught:
        train_command.main(["cls", f"--cfg={tiny}", *arguments])
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["group.yaml", "in_the_way"]


def test_without_a_config_one_is_named():
    with pytest.raises(InputError, match="no data set and model given: name a config, as in `bixt3d train cls"):
        train_command.main(["cls"])


def test_more_points_than_stored_are_refused_before_anything_is_written(tmp_path, train, monkeypatch):
    load = Shapes.load

    def load_smaller(self):
        self.num_points = 32
        small = load(self)
        self.num_points = 64
        return small

    monkeypatch.setattr(Shapes, "load", load_smaller)
    with pytest.raises(InputError, match="asked for 64 points of clouds that have 32"):
        train(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_of_another_model_is_not_gone_on_with_and_stays_as_it_is(tmp_path, train):
    folder = train(tmp_path / "run", "--train.epochs=1")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with pytest.raises(InputError, match="contains the weights of another model"):
        train_command.main(["cls", "--resume", str(folder), "--train.epochs=2", "--model.encoder.depth=3"])
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_a_mistake_ends_the_program_with_code_2_and_one_line(tmp_path, tiny):
    process = program("--cfg", tiny, "--optim.lrr", 1, cwd=tmp_path)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert output == ""
    assert errors == "error: unknown setting 'optim.lrr'; did you mean 'optim.lr'?\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("balance", "loss"), [("false", math.log(2)), ("true", 0.5623)])
def test_balanced_training_starts_from_how_frequent_the_classes_are(train, tmp_path, balance: str, loss: float):
    """A new head says nothing: cross entropy is log 2, or with balance the entropy of shares of 3/4 and 1/4."""
    root = tmp_path / "unbalanced"
    root.mkdir()
    (root / "shape_names.txt").write_text("often\nrare\n")
    for split in ("train", "test"):
        (root / f"{split}_files.txt").write_text(f"{split}.h5\n")
        with h5py.File(root / f"{split}.h5", "w") as file:
            file["data"] = np.random.default_rng(0).normal(size=(16, 64, 3)).astype(np.float32)
            file["label"] = np.array([0] * 12 + [1] * 4, dtype=np.uint8)[:, None]
    run = train(
        tmp_path / "run",
        f'--data={{"class_path": "ModelNetHDF5", "init_args": {{"root": "{root}", "num_points": 64}}}}',
        f"--train.balance={balance}",
        "--train.epochs=1",
        "--train.label_smoothing=0",
    )
    assert read_rows(run / "metrics.csv")[0]["loss"] == pytest.approx(loss, abs=1e-3)
