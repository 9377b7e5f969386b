"""The example of a task in one file: it trains, resumes, tests, predicts and reports, and less error is better."""

import json
from pathlib import Path

import numpy as np
import pytest
import regression

from bixt3d import load_run
from bixt3d.datasets.shapes import Shapes
from bixt3d.engine.report import read_rows
from bixt3d.tasks.runs import read_run
from bixt3d.types import InputError

CONFIG = Path(regression.__file__).with_suffix(".yaml")
SMALL = ("--data.train_per_class=6", "--data.num_points=64", "--train.epochs=3", "--runtime.accelerator=cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Return the folder of a short run."""
    folder = tmp_path_factory.mktemp("runs") / "height"
    return regression.main(["train", f"--cfg={CONFIG}", f"--run_dir={folder}", *SMALL])


def test_the_best_epoch_is_the_one_with_the_least_error(run):
    rows, result = read_rows(run / "metrics.csv"), json.loads((run / "result.json").read_text())
    assert {"train_error", "val_error", "test_error"} <= set(rows[0]) and "train_accuracy" not in rows[0]
    best = min(rows, key=lambda row: row["test_error"])
    assert result["best_on_test"]["mean_absolute_error"]["epoch"] == best["epoch"]
    assert result["best_on_test"]["mean_absolute_error"]["value"] == pytest.approx(best["test_error"], rel=1e-5)
    selected = min(rows, key=lambda row: row["val_error"])
    assert result["selected_on_val"]["epoch"] == selected["epoch"]
    assert (run / "best_on_val.safetensors").is_file()


def test_it_learns_and_the_page_shows_errors_and_no_percent(run):
    result, page = json.loads((run / "result.json").read_text()), (run / "report.html").read_text()
    assert result["mean_absolute_error"] < read_rows(run / "metrics.csv")[0]["train_error"]
    assert f"{result['mean_absolute_error']:.4f}" in page and "mean absolute error" in page
    assert f"{100 * result['mean_absolute_error']:.1f} %" not in page
    assert (run / "curves.png").stat().st_size > 1000


def test_testing_gives_the_same_figure_and_a_finished_run_can_be_trained_longer(run, tmp_path):
    result = json.loads((run / "result.json").read_text())
    again = regression.main(["test", str(run), f"--out={tmp_path}"])
    assert again["mean_absolute_error"] == pytest.approx(result["mean_absolute_error"], rel=1e-5)
    assert json.loads((tmp_path / "result.json").read_text()) == again
    before = read_rows(run / "metrics.csv")
    regression.main(["train", f"--resume={run}", "--train.epochs=4"])
    assert read_rows(run / "metrics.csv")[:3] == before and len(read_rows(run / "metrics.csv")) == 4


def test_a_file_is_predicted_by_the_weights_alone(run, tmp_path, capsys):
    xyz = Shapes(train_per_class=1, test_per_class=1, num_points=64).load()[1].xyz[0].numpy()
    np.savetxt(tmp_path / "cloud.xyz", xyz, fmt="%.6f")
    regression.main(["predict", str(run / "model.safetensors"), str(tmp_path / "cloud.xyz")])
    assert 0 < float(capsys.readouterr().out) < 3
    assert read_run(run).names == {"outputs": ["height"]}
    assert load_run(run).num_points == 64


def test_a_word_that_is_no_program_is_refused():
    with pytest.raises(InputError, match="train, test or predict, not 'trian'"):
        regression.main(["trian"])
