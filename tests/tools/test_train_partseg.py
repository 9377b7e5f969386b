"""Training a part segmenter: what the run leaves and says, other models and data, and what is refused."""

import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from bixt3d.cli import train as train_command
from bixt3d.datasets.shapes.shapes import CLASS_NAMES, CLASS_PARTS, PART_NAMES
from bixt3d.engine.checkpoint import load_checkpoint
from bixt3d.engine.report import read_rows
from bixt3d.io.weights import load_weights
from bixt3d.tasks import training
from bixt3d.tasks.part_metrics import CONVENTION, POINTMLP_CONVENTION
from bixt3d.types import InputError

DATA = Path(__file__).parents[3] / "shared" / "data"
CAPS = DATA / "shapenetcore_partanno_segmentation_benchmark_v0_normal"
PRINCETON = DATA / "psb_partseg"


def result_of(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def metadata_of(folder: Path) -> dict[str, str]:
    return load_weights(folder / "model.safetensors")[1]


def files_under(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_run_leaves_all_that_one_needs(tiny_part_run):
    found = {path.name for path in tiny_part_run.iterdir()}
    assert found >= {
        "config.yaml", "metrics.csv", "result.json", "run.json", "model.safetensors", "checkpoint.pt", "tensorboard"
    }  # fmt: skip
    metadata = metadata_of(tiny_part_run)
    assert metadata["task"] == "part segmentation"
    assert tuple(json.loads(metadata["class_names"])) == CLASS_NAMES
    assert tuple(json.loads(metadata["part_names"])) == PART_NAMES
    assert json.loads(metadata["class_parts"]) == {name: list(parts) for name, parts in CLASS_PARTS.items()}
    assert metadata["config"] == (tiny_part_run / "config.yaml").read_text()


def test_the_result_says_what_was_reached_and_by_which_convention(tiny_part_run):
    result, rows = result_of(tiny_part_run), read_rows(tiny_part_run / "metrics.csv")
    figures = {
        "convention",
        "instance_miou",
        "class_miou",
        "accuracy",
        "per_category",
        "per_part",
        "part_convention",
        "pointmlp",
        "expected_calibration_error",
        "calibration_convention",
    }
    run = {"task", "seed", "epochs", "seconds", "clouds_per_second", "parameters", "device", "version", "best_on_test"}
    run |= {"steps", "inference_clouds_per_second", "peak_memory"}
    assert figures | run | {"torch", "commit", "weights"} == set(result)
    assert (result["task"], result["convention"]) == ("part segmentation", CONVENTION)
    assert set(result["pointmlp"]) == {"convention", "instance_miou", "class_miou"}
    assert result["pointmlp"]["convention"] == POINTMLP_CONVENTION
    assert result["class_miou"] == pytest.approx(np.mean([*result["per_category"].values()]))
    assert tuple(result["per_category"]) == CLASS_NAMES
    assert [row["epoch"] for row in rows] == [1, 2]
    for name in ("instance_miou", "class_miou", "accuracy"):
        assert result[name] == pytest.approx(rows[-1][f"test_{name}"], rel=1e-5)
    weights = load_checkpoint(tiny_part_run / "checkpoint.pt")["learner"]["model"]
    trained = [name for name in weights if "running" not in name and "num_batches" not in name]
    assert result["parameters"] == sum(weights[name].numel() for name in trained)


def test_the_headline_is_the_last_epoch_not_the_best(tmp_path, train_parts, monkeypatch):
    faked = iter([0.75, 0.25])

    def score(*arguments) -> dict[str, float]:
        miou = next(faked)
        return {"test_instance_miou": miou, "test_class_miou": 1 - miou, "test_loss": 1.0}

    monkeypatch.setattr(training, "score_sets", score)
    result = result_of(train_parts(tmp_path / "run"))
    best = {"instance_miou": {"value": 0.75, "epoch": 1}, "class_miou": {"value": 0.75, "epoch": 2}}
    assert result["best_on_test"] == best
    assert result["instance_miou"] < 0.5  # what the last weights reach, whatever the rows say


def test_the_program_says_every_figure_with_its_convention(tmp_path, train_parts, capsys):
    result = result_of(train_parts(tmp_path / "run", "--train.epochs=1"))
    said = capsys.readouterr().out.splitlines()
    assert any(line.split() == ["airplane", f"{result['per_category']['airplane']:.2%}"] for line in said)
    for scores in (result, result["pointmlp"]):
        means = f"instance mIoU {scores['instance_miou']:.2%}, class mIoU {scores['class_miou']:.2%}"
        assert f"{means} ({scores['convention']})" in said
    assert f"point accuracy {result['accuracy']:.2%}" in said


def test_it_learns(tmp_path, train_parts):
    plain = ["--augment.scale=[1,1]", "--augment.shift=0", "--augment.jitter=0", "--optim.ema=0"]
    more = ["--data.train_per_class=8", "--train.epochs=10", "--train.eval_every=10", "--optim.lr=0.01"]
    folder = train_parts(tmp_path / "run", *plain, *more, "--model.decoder.dropout=0")
    rows, result = read_rows(folder / "metrics.csv"), result_of(folder)
    assert rows[-1]["loss"] < 0.4 * rows[0]["loss"]
    assert rows[-1]["train_accuracy"] > 0.75
    assert result["instance_miou"] > 0.35 and result["pointmlp"]["instance_miou"] > 0.2
    assert ["test_instance_miou" in row for row in rows] == [False] * 9 + [True]


def test_several_seeds_give_several_runs_and_their_mean(tmp_path, train_parts, tiny_part_run, capsys):
    folder = train_parts(tmp_path / "seeds", "--seeds=0,1")
    summary = result_of(folder)
    assert (summary["task"], summary["seeds"]) == ("part segmentation", [0, 1])
    for name in ("instance_miou", "class_miou"):
        values = [result_of(folder / f"seed{seed}")[name] for seed in (0, 1)]
        assert summary[name]["values"] == values and values[0] != values[1]
        assert summary[name]["mean"] == pytest.approx(sum(values) / 2)
        assert summary[name]["deviation"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert "instance_miou over seeds [0, 1]: " in capsys.readouterr().out
    assert result_of(folder / "seed0")["per_category"] == result_of(tiny_part_run)["per_category"]


def test_a_validation_set_selects_by_instance_miou(tmp_path, train_parts):
    folder = train_parts(tmp_path / "run", "--data.val_fraction=0.5", "--train.epochs=3")
    rows, selected = read_rows(folder / "metrics.csv"), result_of(folder)["selected_on_val"]
    best = max(rows, key=lambda row: row["val_instance_miou"])
    assert set(selected) == {"epoch", "val_instance_miou", "instance_miou", "class_miou"}
    assert selected["epoch"] == best["epoch"]
    assert selected["val_instance_miou"] == pytest.approx(best["val_instance_miou"], rel=1e-5)
    assert selected["instance_miou"] == pytest.approx(best["test_instance_miou"], rel=1e-5)
    assert (folder / "best_on_val.safetensors").is_file()


TOKENS = ["--model=TokenSegmenter", "--model.tokenizer=PointTokenizer", "--model.tokenizer.dim=16"]
POINTMLP = ["--model=PointMLPSegmenter", "--model.num_neighbors=4", "--model.dim=8", "--model.reduce=2"]
POINTMLP += ["--model.decoder_dims=[8,8,8,8]", "--model.decoder_blocks=[0,0,0,1]", "--data.features=normal"]


@pytest.mark.parametrize("arguments", [TOKENS, [*TOKENS, "--model.use_category=false"], POINTMLP], ids=len)
def test_other_models_train_with_the_same_tool(tmp_path, train_parts, arguments: list[str]):
    folder = train_parts(tmp_path / "run", *arguments, "--train.epochs=1")
    assert arguments[0].removeprefix("--model=") in metadata_of(folder)["config"]
    assert 0 < result_of(folder)["instance_miou"] < 1


def write_cups_and_tables(root: Path) -> Path:
    """Write a set of clouds whose part says which half they lie in: sides for one category, top for the other."""
    root.mkdir()
    (root / "seg_classes.json").write_text(json.dumps({"Cup": [0, 1], "Table": [2, 3, 4]}))
    rng = np.random.default_rng(0)
    for split, num_clouds in (("train", 16), ("test", 3)):
        label = np.arange(num_clouds) % 2
        data = rng.normal(size=(num_clouds, 96, 3)).astype(np.float32)
        axis = np.where(label == 0, 0, 1)
        pid = (np.take_along_axis(data, axis[:, None, None], 2)[..., 0] > 0) + 2 * label[:, None]
        with h5py.File(root / f"{split}.h5", "w") as file:
            file["data"], file["label"], file["pid"] = data, label.astype(np.uint8)[:, None], pid.astype(np.uint8)
    return root


def test_the_report_is_drawn_at_the_end_of_a_run(tmp_path, tiny_parts, capsys):
    root = write_cups_and_tables(tmp_path / "set")
    arguments = ["--data=PartHDF5", f"--data.root={root}", "--data.num_points=64", "--train.epochs=1"]
    folder = train_command.main(["partseg", f"--cfg={tiny_parts}", f"--run_dir={tmp_path / 'run'}", *arguments])
    pictures = {"curves.png", "predictions.png", "worst.png", "report.html"}
    assert pictures <= {path.name for path in folder.iterdir()}
    assert all((folder / name).stat().st_size > 5000 for name in pictures)
    result, page = result_of(folder), (folder / "report.html").read_text()
    assert tuple(result["per_category"]) == ("Cup", "Table")
    for words in (f"{100 * result['instance_miou']:.2f} %", CONVENTION.replace("'", "&#39;"), "Cup", "Table"):
        assert words in page
    assert re.search(r"The first test cloud of each category\. Drawn by (Open3D\.|matplotlib, because )", page)
    assert "The 3 test clouds with the lowest IoU." in page
    assert f"report: {folder / 'report.html'}" in capsys.readouterr().out
    assert json.loads(metadata_of(folder)["part_names"])[3] == "Table/part 1"


def test_the_genuine_caps_are_trained_on_and_their_folder_stays_as_it_is(tmp_path, train_parts, monkeypatch):
    if not CAPS.is_dir():
        pytest.skip(f"real data are absent: {CAPS}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = files_under(CAPS)
    arguments = [
        "--data=ShapeNetPart",
        f"--data.root={CAPS}",
        "--data.num_points=256",
        "--data.features=normal",
        "--train.batch_size=4",
    ]
    normals = ["--data.features=normal", "--train.epochs=2"]
    folder = train_parts(tmp_path / "run", *arguments, *normals)
    assert files_under(CAPS) == before
    result = result_of(folder)
    assert list(result["per_category"]) == ["Cap"] and 0 < result["accuracy"] < 1
    assert len(json.loads(metadata_of(folder)["part_names"])) == 50


def test_the_princeton_benchmark_is_trained_on(tmp_path, train_parts):
    if not PRINCETON.is_dir():
        pytest.skip(f"real data are absent: {PRINCETON}")
    arguments = ["--data=PartHDF5", f"--data.root={PRINCETON}", "--data.num_points=128", "--data.include_val=false"]
    result = result_of(train_parts(tmp_path / "run", *arguments, "--train.epochs=1", "--augment.resample=false"))
    assert len(result["per_category"]) == 19
    assert 0 < result["class_miou"] == pytest.approx(result["instance_miou"])  # four test shapes of each category


GROUPS = ["--model=TokenSegmenter"]  # with the tokenizer of the config, which makes 16 tokens of 64 points


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--data=ModelNetHDF5"], "setting 'data' cannot be a ModelNetHDF5: that class is meant for another task"),
        (["--model=PointMLP"], "setting 'model' cannot be a PointMLP: that class is meant for another task"),
        (["--model=PointMLPSegmentr"], "unknown class 'PointMLPSegmentr' in .*; did you mean 'PointMLPSegmenter'"),
        (
            ["--data=PartHDF5", "--data.root=nowhere"],
            "nowhere/train.h5 or .* is missing: run `bixt3d download shapenetpart_hdf5",
        ),
        (
            ["--data=ShapeNetPart", "--data.root=nowhere"],
            "nowhere/synsetoffset2category.txt is missing: run `bixt3d download shapenetpart ",
        ),
        (["--train.mix=0.5"], "unknown setting 'train.mix'"),
        (GROUPS, "16 tokens cannot label 64 points"),
        (["--model=PointMLPSegmenter", "--model.features=rgb"], "the model reads rgb, but the data set gives none"),
        (["--model.encoder.reads=latents"], "a part segmenter reads tokens"),
        (["--model.encoder.dim=32"], "tokens of width 16, but the encoder reads 32"),
        (["--model.decoder.dims=[16,16]"], "a decoder of 2 levels takes 1 steps, but dims has 2 numbers"),
        (
            ["--model.decoder.context_dim=-1"],
            "dims of a decoder must be at least 1, context_dim and category_dim at least 0",
        ),
        (["--model.decoder.category_dim=-1"], "category_dim at least 0"),
        (["--model.decoder.ratio=0"], "with a ratio of 0.0 has no hidden units"),
        (["--model.decoder.dropout=2"], "dropout probability"),
        (["--resume"], "no part segmentation run under runs/ yet: make one with `bixt3d train partseg --cfg"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_nonsense_is_refused_with_one_sentence_before_anything_is_written(
    tmp_path, tiny_parts, monkeypatch, arguments, sentence
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=sentence) as caught:
        train_command.main(["partseg", f"--cfg={tiny_parts}", *arguments])
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_one_cloud_at_a_time_is_refused_by_batch_normalization(tmp_path, train_parts):
    with pytest.raises(InputError, match="cannot train on one cloud at a time: set --train.batch_size to more"):
        train_parts(tmp_path / "run", "--train.batch_size=1")


def test_a_config_of_the_other_task_is_refused(tiny, tiny_parts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="setting 'model' cannot be a BixtClassifier: that class is meant for another"):
        train_command.main(["partseg", f"--cfg={tiny}"])
    with pytest.raises(InputError, match="setting 'model' cannot be a DecoderSegmenter: that class is meant for anot"):
        train_command.main(["cls", f"--cfg={tiny_parts}"])


def test_without_a_config_one_is_named():
    with pytest.raises(InputError, match="name a config, as in `bixt3d train partseg --cfg shapes_partseg"):
        train_command.main(["partseg"])
