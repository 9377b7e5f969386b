"""Runs on scenes: they train, resume, are tested and predict, with weights for rare classes and the Lovász loss."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bixt3d import load_run
from bixt3d.cli import test as test_command
from bixt3d.cli import train as train_command
from bixt3d.datasets.scenes.tiles import make_tile_cloud
from bixt3d.tasks.calibration import calibration_bins, calibration_error
from bixt3d.tasks.scene_metrics import score_confusion
from bixt3d.tasks.scene_segmentation import SceneSegmentation, SceneTrain
from bixt3d.types import InputError
from bixt3d.viz import scenes
from bixt3d.viz.scenes import write_scene_report

TINY = """
data:
  class_path: Tiles
  init_args:
    {train_scenes: 1, test_scenes: 1, grid: 2.0, num_points: [128, 256], crops: 8, shape: cylinder, features: height}
augment: {rotate: z, shuffle: true}
model:
  class_path: TokenSegmenter
  init_args:
    tokenizer: {class_path: PointTokenizer, init_args: {dim: 16, temperature: 100, scale: 3.0}}
    encoder: {class_path: BixtEncoder, init_args: {dim: 16, depth: 1, num_heads: 2, num_latents: 4, reads: tokens}}
    use_category: false
optim: {name: adamw, lr: 5.0e-3}
train: {epochs: 2, batch_size: 4}
runtime: {accelerator: cpu, threads: 1}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SceneSegmentation, "write_report", lambda *_: None)  # it takes longer than the run
        train_command.main(
            ["scenes", f"--cfg={TINY}", f"--run_dir={folder}", "--train.balance=0.5", "--train.lovasz=1"]
        )
    return folder


def test_a_run_is_scored_over_all_points_and_tested_with_the_same_result(run, monkeypatch):
    monkeypatch.setattr(SceneSegmentation, "write_report", lambda *_: None)
    result = json.loads((run / "result.json").read_text())
    assert test_command.main(["scenes", str(run)])["miou"] == result["miou"]
    assert sum(result["shares"].values()) == pytest.approx(1) and 0 < result["miou"] < 1


def test_a_test_averages_votes_and_records_them(run, tmp_path, monkeypatch):
    monkeypatch.setattr(SceneSegmentation, "write_report", lambda *_: None)
    facts = test_command.main(["scenes", str(run), "--votes=3", f"--out={tmp_path}"])
    assert facts["votes"] == 3 and json.loads((tmp_path / "result.json").read_text())["votes"] == 3
    assert facts["miou"] != json.loads((run / "result.json").read_text())["miou"]


def test_a_run_predicts_a_class_for_every_point_in_their_order(run):
    predictor = load_run(run)
    assert predictor.window == 256  # the largest crops
    xyz, _, label = make_tile_cloud(np.random.default_rng((0, 1, 0)))
    prediction = predictor.predict(xyz)
    assert len(prediction.labels) == len(xyz)
    again = predictor.predict(xyz[::-1].copy())
    assert (again.labels.flip(0) == prediction.labels).float().mean() > 0.99
    result = json.loads((run / "result.json").read_text())
    accuracy = float((prediction.labels.numpy() == label).mean())
    assert accuracy == pytest.approx(result["overall_accuracy"], abs=1e-9)
    bins = calibration_bins(prediction.confidence, prediction.labels == torch.from_numpy(label))
    assert calibration_error(bins) == pytest.approx(result["expected_calibration_error"], abs=1e-5)


def test_a_report_shows_classes_confusion_and_scenes(run, tmp_path):
    test_command.main(["scenes", str(run), f"--out={tmp_path}"])
    names = {path.name for path in tmp_path.iterdir()}
    assert {"report.html", "scenes.html", "predictions.png", "confusion.png", "result.json"} <= names
    assert "vegetation" in (tmp_path / "report.html").read_text()


def write_report_of(folder, *scenes: tuple[list[float], list[int]]) -> str:
    """Write the report of scenes of these heights and labels; return its page."""
    made = [
        SimpleNamespace(xyz=torch.tensor([[i, 0.0, z] for i, z in enumerate(zs)]), label=torch.tensor(labels), name="a")
        for zs, labels in scenes
    ]
    names, predicted = ("ground", "roof"), [torch.zeros_like(scene.label) for scene in made]
    page = {"rows": [], "title": "a run", "command": "bixt3d train scenes", "settings": ""}
    page["result"] = {"epochs": 1, "crops_per_second": 8.4}
    scores = score_confusion(np.eye(2, dtype=int), names)
    write_scene_report(folder, scores, predicted, SimpleNamespace(scenes=made, class_names=names), page)
    return (folder / "report.html").read_text()


def test_scenes_without_a_known_class_are_left_out_of_the_report(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(scenes, "parts_png", lambda clouds, *_: (shown.extend(clouds), (b"", "none"))[1])
    void, cut = ([0.0, 1, 2], [-1, -1, -1]), ([0.0, 0, 10], [-1, -1, 1])
    assert "<h2>Scenes" not in write_report_of(tmp_path, void, void) and not shown
    assert not (tmp_path / "scenes.html").exists()
    assert "Scenes" in write_report_of(tmp_path, void, cut, ([0.0, 1, 2], [0, 1, -1]))
    assert [scene.truth.tolist() for scene in shown] == [[1], [0, 1]]


def test_a_report_of_scenes_has_their_number_the_speed_and_says_where_high_points_are_not_shown(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(scenes, "parts_png", lambda clouds, *_: (shown.extend(clouds), (b"", "none"))[1])
    page = write_report_of(tmp_path, ([0.0, 0, 0, 0, 0, 0, 0, 0, 0, 10], [0] * 10))
    assert "tested on 1 scene\n" in page and "<dt>crops per second</dt><dd>8</dd>" in page
    page = write_report_of(tmp_path, ([0.0, 0, 10, 10], [0, 0, 1, 1]), ([0.0] * 9 + [1], [0] * 10))
    assert "tested on 2 scenes\n" in page and "ceiling" not in page
    assert ["the highest not shown" in scene.title for scene in shown] == [False, True, False]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"relief": 257.0}, "train.relief must be at most 256 voxels, the largest height that models read"),
        ({"relief": -1.0}, "train.relief must not be negative, but is -1.0"),
        ({"noise": 0.6}, "train.noise must be between 0 and 0.5, not 0.6"),
        ({"mix": 1.5}, "train.mix must be between 0 and 1, not 1.5"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, sentence):
    with pytest.raises(InputError) as refused:
        SceneTrain(**settings)
    assert str(refused.value) == sentence
