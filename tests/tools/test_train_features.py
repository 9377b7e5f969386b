"""Facts about runs on clouds with features: what is learnt from them, and what their weights and files say."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open

from bixt3d import InputError, load_run
from bixt3d.cli import test as test_command
from bixt3d.cli import train as train_command
from bixt3d.inference.runs import read_run
from bixt3d.tasks import inputs
from bixt3d.tasks.classification import Classification

CLASSES = ("dark", "gray", "bright")
NUM_POINTS = 48
MODEL = [
    "--model=BixtClassifier",
    "--model.tokenizer=PointTokenizer",
    "--model.tokenizer.dim=24",
    "--model.encoder=BixtEncoder",
    "--model.encoder.dim=24",
    "--model.encoder.depth=2",
    "--model.encoder.num_latents=4",
    "--model.encoder.num_heads=2",
]
AUGMENT = [
    "--augment.scale=[0.66,1.5]",
    "--augment.mirror=xz",
    "--augment.shift=0.2",
    "--augment.rotate=so3",
    "--augment.jitter=0.02",
    "--augment.dropout=0.5",
    "--augment.resample=true",
]


def brightness_set(root: Path, split: str, num_clouds: int, seed: int) -> None:
    """Write clouds of one shape, whose class is how bright they are; the other datasets say nothing of it."""
    rng = np.random.default_rng(seed)
    label = np.arange(num_clouds) % 3
    gray = 60 + 65 * label[:, None, None] + rng.integers(-25, 26, (num_clouds, NUM_POINTS, 3))
    with h5py.File(root / f"{split}.h5", "w") as file:
        file["data"] = rng.standard_normal((num_clouds, NUM_POINTS, 3)).astype(np.float32)
        file["label"], file["Colors"] = label.astype(np.uint8), gray.astype(np.uint8)
        file["intensity"] = (1000 + 7 * gray.mean(2)).astype(np.float32)
        file["index"] = np.tile(np.arange(NUM_POINTS), (num_clouds, 1))
    (root / f"{split}_files.txt").write_text(f"{split}.h5\n")


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch):
    """Draw no report: it takes longer than a run."""
    monkeypatch.setattr(Classification, "write_report", lambda *_: None)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("brightness")
    (folder / "shape_names.txt").write_text("\n".join(CLASSES))
    brightness_set(folder, "train", 96, 0)
    brightness_set(folder, "test", 120, 1)
    return folder


def train(root: Path, run: Path, features: str, *more: str) -> dict:
    data = ["--data=ModelNetHDF5", f"--data.root={root}", f"--data.num_points={NUM_POINTS}"]
    how = [
        "--train.epochs=14",
        "--train.batch_size=16",
        "--train.eval_every=14",
        "--optim.lr=0.005",
        "--optim.name=adamw",
    ]
    train_command.main(["cls", *data, f"--data.features={features}", *MODEL, *AUGMENT, *how, f"--run_dir={run}", *more])
    return json.loads((run / "result.json").read_text())


@pytest.mark.parametrize("features", ["rgb", "intensity", "rgb,intensity"])
def test_what_only_a_feature_tells_is_learnt_under_all_augmentations(tmp_path, root, features):
    assert train(root, tmp_path / "run", features)["overall_accuracy"] >= 0.99


def test_scalars_are_standardised_by_the_training_set_and_the_weights_know_it(tmp_path, root):
    train(root, tmp_path / "run", "intensity", "--train.epochs=1")
    with safe_open(tmp_path / "run" / "model.safetensors", "pt") as file:
        mean, deviation = (file.get_tensor(f"tokenizer.feature_scale.{name}") for name in ("mean", "deviation"))
    with h5py.File(root / "train.h5") as file:
        values = torch.from_numpy(file["intensity"][:]).double()
    torch.testing.assert_close(mean, values.mean().float().view(1))
    torch.testing.assert_close(deviation, values.std(correction=0).float().view(1))
    assert str(load_run(tmp_path / "run").features) == "intensity"


def test_a_run_is_tested_with_the_features_that_it_was_trained_with(tmp_path, root):
    result = train(root, tmp_path / "run", "rgb", "--train.epochs=2")
    test_command.main(["cls", f"--checkpoint={tmp_path / 'run'}"])
    assert json.loads((tmp_path / "run/test/result.json").read_text())["overall_accuracy"] == result["overall_accuracy"]
    with pytest.raises(InputError, match="the model reads rgb, but the data set gives intensity"):
        test_command.main(["cls", f"--checkpoint={tmp_path / 'run'}", "--data.features=intensity"])


def test_one_setting_switches_a_feature_on_in_a_saved_config_too(tmp_path, root):
    train(root, tmp_path / "run", "", "--train.epochs=1")
    train_command.main(
        ["cls", f"--cfg={tmp_path / 'run/config.yaml'}", "--data.features=rgb", f"--run_dir={tmp_path / 'colors'}"]
    )
    assert str(load_run(tmp_path / "colors").features) == "rgb" and not load_run(tmp_path / "run").features
    tokenizer = yaml.safe_load((tmp_path / "colors/config.yaml").read_text())["model"]["init_args"]["tokenizer"]
    assert tokenizer["init_args"]["features"] is None
    assert read_run(tmp_path / "colors").model["init_args"]["tokenizer"]["init_args"]["features"] == "rgb"
    train_command.main(["cls", f"--resume={tmp_path / 'colors'}", "--train.epochs=2"])
    test_command.main(["cls", f"--checkpoint={tmp_path / 'colors'}"])


def test_more_points_than_a_run_may_be_loaded_with_are_refused_before_it_begins(tmp_path, root, monkeypatch):
    monkeypatch.setattr(inputs, "MAX_POINTS", NUM_POINTS - 1)
    with pytest.raises(InputError, match="num_points of the run should be a whole number from 1 to 47, not 48"):
        train(root, tmp_path / "run", "")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("features", "sentence"),
    [
        ("normal", "has no dataset 'normal' (it has Colors, data, index, intensity, label); leave it out"),
        ("rgb:scalar", "has rgb of width 3, but the feature rgb:scalar has 1"),
        ("intensity:2", "has intensity of width 1, but the feature intensity:2 has 2"),
        ("rgb,rgb", "features 'rgb,rgb' contain a name twice"),
        ("rgb:colour", "feature 'rgb:colour': after the colon comes a width, or normal, color, scalar"),
        ("r g b", "'r g b' is not a feature: write its name, such as normal, rgb or intensity"),
    ],
)
def test_features_that_the_data_have_not_are_refused_in_one_sentence(tmp_path, root, features, sentence):
    with pytest.raises(InputError) as caught:
        train(root, tmp_path / "run", features)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_feature_is_trained_and_predicted_by_any_of_its_names(tmp_path, root):
    train(root, tmp_path / "run", "Colour , Intensity,", "--train.epochs=1")
    predictor = load_run(tmp_path / "run")
    assert str(predictor.features) == "rgb,intensity"
    assert predictor.predict(root / "test.h5")[0].name in CLASSES


def test_a_run_with_feature_dropout_predicts_and_tests_clouds_that_lack_a_feature_and_says_so(tmp_path, root):
    train(root, tmp_path / "run", "rgb,intensity", "--augment.feature_dropout=0.3")
    test_command.main(["cls", f"--checkpoint={tmp_path / 'run'}", "--without=rgb"])
    result = json.loads((tmp_path / "run/test_rgb/result.json").read_text())
    assert result["without"] == "rgb" and result["overall_accuracy"] >= 0.9
    with h5py.File(root / "test.h5") as file:
        xyz, intensity = file["data"][2], file["intensity"][2]
    found = load_run(tmp_path / "run").predict(xyz, {"intensity": intensity})
    assert found.name == "bright"
    assert "no rgb: filled with 0.5, 0.5, 0.5, as in feature dropout" in found.notes


def test_without_feature_dropout_a_missing_feature_is_refused(tmp_path, root):
    train(root, tmp_path / "run", "rgb,intensity", "--train.epochs=1")
    with pytest.raises(InputError, match="has no rgb"):
        load_run(tmp_path / "run").predict(np.random.default_rng(0).random((50, 3)), {"intensity": np.ones(50)})
    with pytest.raises(InputError, match="was not trained with --augment.feature_dropout"):
        test_command.main(["cls", f"--checkpoint={tmp_path / 'run'}", "--without=rgb"])


@pytest.mark.parametrize("fill", [{}, {"rgb": [1, 2]}, {"rgb": [0, 0, "x"]}, {"rgb": [0, 0, float("nan")]}, [1], None])
def test_metadata_with_wrong_values_of_missing_features_are_refused(fill):
    given = {"num_points": 8, "up": "y", "normalization": "unit_sphere", "features": "rgb", "fill": fill}

    class Model(torch.nn.Module):
        features = "rgb"

    with pytest.raises(InputError, match="fill of the file|these entries"):
        inputs.read_clouds(given, Model(), "the file")
