"""The example of a task in one file: programs train, resume, test, predict, export and report it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import forks
import numpy as np
import onnxruntime
import pytest
import regression

from bixt3d import __version__, load_run
from bixt3d.cli import export, predict, visualize
from bixt3d.datasets.shapes.shapes import Shapes
from bixt3d.engine.report import read_rows
from bixt3d.inference.runs import read_run
from bixt3d.tasks.task import path_of_task
from bixt3d.types import InputError

CONFIG = Path(regression.__file__).with_suffix(".yaml")
SMALL = ("--data.train_per_class=6", "--data.num_points=64", "--train.epochs=3", "--runtime.accelerator=cpu")

PREDICT = """
import json, os, sys
import bixt3d.cli.predict_clouds, bixt3d.inference.runs
from bixt3d.cli.main import run
from forks import end_fork
sys.path.pop(0)  # the working directory
for place, sys.argv[1:] in json.loads(sys.argv[1]):
    if pid := os.fork():
        print("exit code", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
        continue
    os.dup2(1, 2)
    sys.path.insert(0, place)
    end_fork(lambda: run("predict"))
"""
"""A program that forks `bixt3d predict` for each folder to import from, and arguments."""


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


@pytest.fixture
def cloud(tmp_path) -> Path:
    xyz = Shapes(train_per_class=1, test_per_class=1, num_points=64).load()[1].xyz[0].numpy()
    np.savetxt(tmp_path / "cloud.xyz", xyz, fmt="%.6f")
    return tmp_path / "cloud.xyz"


def test_a_file_is_predicted_by_the_weights_alone(run, cloud, capsys):
    assert predict.main([f"--checkpoint={run}", "--json", str(cloud)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["height"] == load_run(run).predict(cloud).height and 0 < facts["height"] < 3
    assert facts["points"] == 64 and facts["notes"] == ["y taken for up"]
    assert predict.main([f"--checkpoint={run / 'model.safetensors'}", str(cloud)]) == 0
    assert capsys.readouterr().out == f"{cloud}: 64 points\n  note: y taken for up\n  height: {facts['height']}\n"
    assert read_run(run).names == {"outputs": ["height"]}


def test_what_it_predicts_is_not_drawn_and_both_programs_say_so(run, cloud, tmp_path):
    with pytest.raises(InputError, match="--out cannot draw what a HeightPredictor predicts"):
        predict.main([f"--checkpoint={run}", f"--out={tmp_path / 'out'}", str(cloud)])
    with pytest.raises(InputError, match="bixt3d visualize cannot draw a height regression run"):
        visualize.main([str(run)])
    assert not (tmp_path / "out").exists()


def test_the_exported_file_computes_the_same_heights_and_says_what_they_are(run, tmp_path, capsys):
    file = export.main([str(run), f"--out={tmp_path / 'height.onnx'}"])
    assert "labels" not in capsys.readouterr().out
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map
    assert facts == {
        "task": "height regression", "outputs": '["height"]', "num_points": "64", "features": "", "up": "y",
        "version": __version__,
    }  # fmt: skip
    xyz = np.random.default_rng(0).normal(size=(3, 100, 3))
    expected = np.stack([answer.height for answer in load_run(run).predict(xyz)])
    np.testing.assert_allclose(session.run(None, {"xyz": xyz})[0][:, 0], expected, atol=1e-4, rtol=1e-4)


def test_a_program_that_has_not_imported_the_task_does_so_with_trust_alone(run, cloud, tmp_path):
    """The task lies in a file of its own that the program does not know."""
    root = Path(__file__).parents[2]
    shutil.copy(regression.__file__, tmp_path / "regression.py")
    plain, trusted = [str(cloud), f"--checkpoint={run}"], [str(cloud), f"--checkpoint={run}", "--trust"]
    cases = {
        (2, "the task 'regression.HeightRegression', which is not bixt3d's: import it before, or let"): (
            tmp_path,
            plain,
        ),
        (0, "height: "): (tmp_path, trusted),
        (2, "cannot be imported (No module named 'regression'): its module must be in a folder"): (root, trusted),
    }
    given = json.dumps([(str(place), arguments) for place, arguments in cases.values()])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), str(Path(forks.__file__).parent)])}
    command = [sys.executable, "-W", "ignore", "-c", PREDICT, given]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    ended = re.findall(r"(.*?)exit code (\d+)\n", done.stdout, flags=re.DOTALL)
    for (code, words), (said, ended_with) in zip(cases, ended, strict=True):
        assert int(ended_with) == code and words in said, done.stdout + done.stderr


def test_the_task_of_the_program_that_runs_is_named_as_others_import_it(monkeypatch):
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "examples/regression.py", raising=False)
    own = type("HeightRegression", (regression.HeightRegression,), {"__module__": "__main__"})
    assert path_of_task(own()) == path_of_task(regression.HeightRegression()) == "regression.HeightRegression"


@pytest.mark.parametrize("argv", [[], ["trian"], ["predict"]])
def test_a_word_that_is_no_program_is_refused(argv):
    with pytest.raises(InputError, match="begin with train or test"):
        regression.main(argv)
