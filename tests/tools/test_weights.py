"""Which weights of a run are put to use: those of the last epoch, or those that were best on validation."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from bixt3d.cli import export, predict, visualize
from bixt3d.cli import test as test_command
from bixt3d.cli.main import call
from bixt3d.io.weights import load_weights, save_weights
from bixt3d.tasks.classification import Classification
from bixt3d.types import InputError


@pytest.fixture
def run(tiny_run, tmp_path) -> Path:
    """Return a run whose weights that were best on validation differ from the last."""
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("config.yaml", "metrics.csv", "model.safetensors", "run.json"):
        shutil.copy(tiny_run / name, folder)
    weights, metadata = load_weights(folder / "model.safetensors")
    weights["head.weight"] = -weights["head.weight"]
    save_weights(folder / "best_on_val.safetensors", weights, metadata)
    return folder


@pytest.mark.parametrize(("which", "words"), [("last", "last"), ("best", "best on validation")])
def test_a_test_names_the_weights_it_scored_and_keeps_those_of_others(run, monkeypatch, capsys, which, words):
    seen = {}

    def write(task, folder: Path, ours, *rest) -> None:
        seen["folder"], seen["logits"] = folder, ours.logits

    monkeypatch.setattr(Classification, "write_results", write)
    result = test_command.main(["cls", str(run), f"--weights={which}"])
    assert result["weights"] == words
    assert f"({words})" in capsys.readouterr().out
    assert seen["folder"] == run / ("test" if which == "last" else "test_best")
    other = test_command.main(["cls", str(run), f"--weights={'last' if which == 'best' else 'best'}"])
    assert other["weights"] != words
    named = test_command.main(["cls", result["checkpoint"]])
    assert named["weights"] == words


def test_predictions_of_the_last_and_the_best_differ_and_say_which_they_are(run, tmp_path, capsys):
    np.savetxt(tmp_path / "cloud.xyz", np.random.default_rng(0).normal(size=(80, 3)))
    said = []
    for which in ("last", "best"):
        predict.main([str(tmp_path / "cloud.xyz"), f"--checkpoint={run}", f"--weights={which}", "--json"])
        said.append(capsys.readouterr())
    assert json.loads(said[0].out) != json.loads(said[1].out)
    assert "model.safetensors (last)" in said[0].err
    assert "best_on_val.safetensors (best on validation)" in said[1].err


def test_an_exported_file_is_called_as_its_weights_are(run, capsys):
    assert export.main([str(run), "--format=torch", "--weights=best"]) == run / "best_on_val.pt2"
    assert "best_on_val.safetensors (best on validation)" in capsys.readouterr().out


def test_pictures_of_the_best_weights_lie_in_a_folder_of_their_own(run, capsys):
    (path,) = visualize.main([str(run), "--count=1", "--weights=best"])
    assert path.parent == run / "pictures_best"
    assert "best_on_val.safetensors (best on validation)" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["test cls", "export", "visualize"])
def test_a_run_without_validation_has_no_best_weights(tiny_run, command):
    with pytest.raises(InputError, match="no weights chosen on validation: train with --data.val_fraction"):
        call([*command.split(), str(tiny_run), "--weights=best"])
    with pytest.raises(InputError, match="no weights chosen on validation"):
        predict.main(["cloud.xyz", f"--checkpoint={tiny_run}", "--weights=best"])


@pytest.mark.parametrize("command", ["test cls", "export", "visualize"])
def test_of_a_run_of_several_seeds_one_is_to_be_named(run, tmp_path, command):
    seeds = tmp_path / "seeds"
    for seed in (0, 1):
        shutil.copytree(run, seeds / f"seed{seed}")
    with pytest.raises(InputError, match=r"contains a run for each seed: name one of \S+seed0, \S+seed1"):
        call([*command.split(), str(seeds)])
