"""`bixt3d.train` from Python: a config by name, path or settings; errors as exceptions."""

import re
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import bixt3d
from bixt3d.config import read_config
from bixt3d.engine.folder import read_record
from bixt3d.engine.report import read_rows
from bixt3d.errors import InputError
from bixt3d.io.named_configs import find_config, known_configs
from bixt3d.tasks import find_task
from bixt3d.tasks.classification import Classification
from bixt3d.tasks.from_python import choose_task, flat

SMALL = {
    "data": {"train_per_class": 2, "test_per_class": 1, "num_points": 64},
    "model": {"encoder": {"depth": 1}},
    "train": {"epochs": 1, "batch_size": 16},
    "runtime": {"accelerator": "cpu", "threads": 1},
}


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch):
    monkeypatch.setattr(Classification, "write_report", lambda *_: None)


def test_a_config_by_name_with_other_settings_is_trained(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    folder = bixt3d.train("shapes_cls", **SMALL, **{"optim.lr": 0.01}, seed=3)
    assert folder.parent == Path("runs") and folder.name.startswith("shapes_cls")
    assert read_record(folder).task == "classification" and len(read_rows(folder / "metrics.csv")) == 1
    saved = yaml.safe_load((folder / "config.yaml").read_text())
    assert (saved["seed"], saved["optim"]["lr"], saved["train"]["batch_size"]) == (3, 0.01, 16)
    assert saved["model"]["init_args"]["encoder"]["init_args"]["depth"] == 1
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    said = capsys.readouterr()
    assert "it/s" not in said.err and said.out.count("epoch 1 ") == 1  # no progress bar in a log file: a line per epoch
    with pytest.raises(InputError, match="did you mean 'train.epochs'"):
        bixt3d.train("shapes_cls", train={"epoch": 1})


def test_settings_are_a_config_and_its_model_says_which_task_it_is(tmp_path):
    settings = read_config(str(find_config("shapes_cls")))
    settings["train"] |= SMALL["train"]
    settings["data"]["init_args"] = SMALL["data"]
    folder = bixt3d.train(settings, run_dir=tmp_path / "run", model={"encoder": {"depth": 1}}, runtime=SMALL["runtime"])
    assert folder == tmp_path / "run" and (folder / "model.safetensors").is_file()


@pytest.mark.parametrize("name", sorted(known_configs()))
def test_every_config_names_its_task_by_its_model(name):
    program = choose_task(None, name).program
    assert re.search(rf"bixt3d train {program} (--cfg \w+ )?--cfg {name}\b", find_config(name).read_text())


def test_a_task_is_found_by_its_names_or_is_given():
    own = find_task("part segmentation")
    assert choose_task(own, "") is own
    assert choose_task("partseg", "").name == choose_task("part segmentation", "").name == "part segmentation"
    with pytest.raises(InputError, match="there is no task 'parts'; task is one of 'cls', 'partseg', 'scenes', 'img"):
        choose_task("parts", "")
    with pytest.raises(InputError, match="the config's model is not one of bixt3d: give its task; task is one of"):
        choose_task(None, "{model: {class_path: mine.Model}}")


def test_settings_become_command_line_options():
    given = {"seed": 1, "train": {"epochs": 2, "init": None}, "data.root": "a b", "augment": {"scale": [0.8, 1.25]}}
    given["model"] = {"class_path": "PointMLP", "init_args": {"dim": 32}}
    assert list(flat(given)) == [
        ("seed", "1"),
        ("train.epochs", "2"),
        ("train.init", "null"),
        ("data.root", "a b"),
        ("augment.scale", "[0.8, 1.25]"),
        ("model", '{"class_path": "PointMLP", "init_args": {"dim": 32}}'),
    ]


def test_numbers_of_numpy_and_torch_become_numbers():
    given = {"seed": np.int64(3), "optim.lr": np.float32(0.5), "augment": {"scale": np.array([1.0, 2.0])}}
    given["model"] = {"class_path": "PointMLP", "init_args": {"dim": torch.tensor(32)}}
    assert list(flat(given)) == [
        ("seed", "3"),
        ("optim.lr", "0.5"),
        ("augment.scale", "[1.0, 2.0]"),
        ("model", '{"class_path": "PointMLP", "init_args": {"dim": 32}}'),
    ]


def test_several_processes_in_a_notebook_are_refused(monkeypatch, tmp_path):
    for name in ("__spec__", "__file__"):
        monkeypatch.setattr(sys.modules["__main__"], name, None, raising=False)
    monkeypatch.delattr(sys.modules["__main__"], "__file__")
    with pytest.raises(InputError, match="a notebook cannot start several processes: leave out"):
        bixt3d.train("shapes_cls", **SMALL | {"runtime": {"accelerator": "cpu", "devices": 2}}, run_dir=tmp_path / "a")
    assert not (tmp_path / "a").exists()
