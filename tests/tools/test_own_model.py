"""A plain nn.Module in a file beside the config trains, goes on, is tested and predicts, with --trust alone."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

import bixt3d
from bixt3d.cli import test as test_command
from bixt3d.cli import train as train_command
from bixt3d.io import importing
from bixt3d.models import CloudClassifier, CloudSegmenter, ImageClassifier
from bixt3d.tasks.classification import Classification
from bixt3d.tasks.command import Where
from bixt3d.tasks.job import progress_outside
from bixt3d.types import InputError

MODELS = """
import torch
from torch import nn

class MyModel(nn.Module):
    def __init__(self, num_classes, dim=64):
        super().__init__()
        self.features = nn.Sequential(nn.Linear(3, dim), nn.ReLU())  # a name that bixt3d's own models use otherwise
        self.head = nn.Linear(dim, num_classes)

    def forward(self, xyz, feats=None):
        return self.head(self.features(xyz).amax(1))

class Masked(MyModel):
    def __init__(self, num_classes, dim=64):
        super().__init__(num_classes, dim)
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))

class MyParts(nn.Module):
    def __init__(self, num_parts, num_categories):
        super().__init__()
        self.category, self.head = nn.Embedding(num_categories, 8), nn.Linear(11, num_parts)

    def forward(self, xyz, feats=None, category=None):
        told = self.category(category)[:, None].expand(-1, xyz.shape[1], -1)
        return self.head(torch.cat([xyz, told], -1))

class MyImages(nn.Module):
    def forward(self, image):
        return image.mean((2, 3))

class Wrong(nn.Module):
    def __init__(self, num_classes):
        super().__init__()

    def forward(self, x):
        return x
"""
CONFIG = """
data: {class_path: Shapes, init_args: {train_per_class: 1, test_per_class: 1, num_points: 32}}
model: {class_path: my_plain_model.MyModel, init_args: {dim: 8}}
train: {epochs: 1, batch_size: 16}
runtime: {accelerator: cpu, threads: 1}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a config with models of the user's own beside it; what it imports is forgotten afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(importing, "_FOLDERS", [])
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "my_plain_model.py").write_text(MODELS)
    (tmp_path / "own" / "my.yaml").write_text(CONFIG)
    yield tmp_path / "own" / "my.yaml"
    sys.modules.pop("my_plain_model", None)


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next program begin as a new process would."""
    sys.modules.pop("my_plain_model", None)
    monkeypatch.setattr(sys, "path", [one for one in sys.path if not one.endswith(("own", "run"))])
    importing._FOLDERS.clear()


def test_a_plain_module_trains_goes_on_is_tested_and_predicts(config: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(Classification, "write_report", lambda *_: None)
    run = train_command.main(["cls", f"--cfg={config}", "--trust", f"--run_dir={tmp_path / 'run'}"])
    shutil.rmtree(config.parent)  # the run keeps what it needs
    forget(monkeypatch)
    train_command.main(["cls", f"--resume={run}", "--trust", "--train.epochs=2"])
    forget(monkeypatch)
    assert test_command.main(["cls", str(run), "--trust"])["parameters"] > 0
    forget(monkeypatch)
    with pytest.raises(InputError, match=r"names the class 'my_plain_model.MyModel', which is not bixt3d's"):
        bixt3d.load_run(run)
    predictor = bixt3d.load_run(run, trust=True)
    assert predictor.predict(torch.randn(40, 3)).name in predictor.class_names
    assert "model: MyModel" in repr(predictor) and not predictor.features


def test_the_commands_that_a_run_prints_have_what_it_needs(config: Path, tmp_path: Path, monkeypatch):
    pages = []
    monkeypatch.setattr(Classification, "write_report", lambda *given: pages.append(given[-1]))
    run = train_command.main(["cls", f"--cfg={config}", "--trust", f"--run_dir={tmp_path / 'my run'}"])
    with pytest.raises(InputError, match="as in `bixt3d train cls --resume '.*my run' --train.epochs 2 --trust`"):
        train_command.main(["cls", f"--resume={run}", "--trust"])
    where = Where(run, "my", None, trust=True)
    assert progress_outside(Classification(), where).endswith(f"`bixt3d train cls --resume '{run}' --trust`")
    overrides = ["--data.test_per_class=2", "--augment.scale=[0.9, 1.1]"]
    assert test_command.main(["cls", str(run), "--trust", *overrides])["overrides"] == overrides
    trained, tested = pages
    assert trained["command"] == f"bixt3d train cls --cfg '{run / 'config.yaml'}' --trust"
    more = "--data.test_per_class=2 '--augment.scale=[0.9, 1.1]' --trust"
    assert tested["command"] == f"bixt3d test cls '{run}' --votes 1 {more}"
    settings = yaml.safe_load(tested["settings"])
    assert settings["data"]["init_args"]["test_per_class"] == 2
    assert settings.keys() == yaml.safe_load(trained["settings"]).keys()


def test_a_model_whose_weights_could_not_be_loaded_again_is_not_trained(config: Path, tmp_path: Path):
    options = ["--trust", "--model=my_plain_model.Masked", f"--run_dir={tmp_path / 'run'}"]
    with pytest.raises(InputError, match="the model's buffer 'mask' has values that are not finite numbers"):
        train_command.main(["cls", f"--cfg={config}", *options])
    assert not (tmp_path / "run").exists()


def test_a_plain_part_segmenter_reads_the_category_unless_it_says_otherwise(config: Path, monkeypatch):
    monkeypatch.syspath_prepend(config.parent)
    from my_plain_model import MyParts

    given = ["back", "leg", "foot"], {"chair": [0, 1], "lamp": [2]}, 32
    predictor = bixt3d.PartPredictor(MyParts(3, 2), *given)
    assert predictor.predict(torch.randn(40, 3), category="lamp").shares == {"foot": 1.0}
    with pytest.raises(InputError, match="needs the category"):
        predictor.predict(torch.randn(40, 3))
    model = MyParts(3, 2)
    model.reads_category = False
    assert bixt3d.PartPredictor(model, *given).predict(torch.randn(40, 3)).category in ("chair", "lamp")


def test_the_parameters_of_forward_say_what_a_plain_module_is(config: Path, monkeypatch):
    monkeypatch.syspath_prepend(config.parent)
    import my_plain_model as mine

    found = {
        base: [one for one in (mine.MyModel, mine.MyParts, mine.MyImages, mine.Wrong) if issubclass(one, base)]
        for base in (CloudClassifier, CloudSegmenter, ImageClassifier)
    }
    assert found == {
        CloudClassifier: [mine.MyModel],
        CloudSegmenter: [mine.MyParts],
        ImageClassifier: [mine.MyImages],
    }
    assert not issubclass(mine.MyModel, bixt3d.BixtClassifier)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "names my_plain_model.MyModel, which is not bixt3d's: --trust imports it"),
        (
            ["--trust", "--model=my_plain_model.Wrong"],
            r"derive it from bixt3d's CloudClassifier, or from nn.Module with ",
        ),
        (["--trust", "--model=my_plain_model.MyParts"], "cannot be a MyParts: derive it from bixt3d's CloudClassifier"),
        (
            ["--trust", "--model=my_plain_modl.MyModel"],
            "module my_plain_modl, which cannot be imported: put its file beside",
        ),
        (["--trust", "--model=my_plain_model.Nothing"], "names a class that the module my_plain_model does not have"),
    ],
)
def test_a_class_that_cannot_be_used_is_one_sentence(config: Path, arguments: list[str], words: str):
    with pytest.raises(InputError, match=words) as caught:
        Classification().make_parser("a test").parse_args([f"--cfg={config}", *arguments])
    assert "\n" not in str(caught.value)
