"""Evaluating a trained run again: the same figures, votes that repeat, the newest run, and what does not fit."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from bixt3d.cli import test as test_command
from bixt3d.datasets import CORRUPTIONS
from bixt3d.datasets.shapes.shapes import Shapes
from bixt3d.tasks.classification import Classification
from bixt3d.tasks.corrupted import read_baseline, relative_errors
from bixt3d.tasks.part_segmentation import PartSegmentation
from bixt3d.types import CloudSet, InputError

SCORES = ("overall_accuracy", "mean_accuracy", "per_class", "parameters")


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch, request):
    """Draw no report, which takes longer than all the rest, where a test does not ask for one."""
    if "with_pictures" not in request.fixturenames:
        monkeypatch.setattr(Classification, "write_results", lambda *anything: None)


@pytest.fixture
def with_pictures():
    """Ask for the report."""


def test_the_figures_are_those_that_training_wrote(tiny_run, tmp_path, capsys):
    result = test_command.main(["cls", f"--checkpoint={tiny_run}", f"--out={tmp_path / 'out'}"])
    trained = json.loads((tiny_run / "result.json").read_text())
    assert {name: result[name] for name in SCORES} == {name: trained[name] for name in SCORES}
    said = capsys.readouterr().out
    assert f"overall accuracy {result['overall_accuracy']:.2%}" in said
    assert "airplane" in said


def test_the_weights_alone_are_enough(tiny_run, tmp_path):
    moved = tmp_path / "elsewhere.safetensors"
    shutil.copy(tiny_run / "model.safetensors", moved)
    (out := tmp_path / "out").mkdir()
    result = test_command.main(["cls", f"--checkpoint={moved}", f"--out={out}"])
    assert result["per_class"] == test_command.main(["cls", f"--checkpoint={tiny_run}", f"--out={out}"])["per_class"]


def test_results_go_into_the_run_unless_another_folder_is_named(tiny_run, tmp_path, monkeypatch):
    places = []
    monkeypatch.setattr(Classification, "write_results", lambda *given: places.append(given[1]))
    test_command.main(["cls", f"--checkpoint={tiny_run}"])
    test_command.main(["cls", f"--checkpoint={tiny_run}", f"--out={tmp_path}"])
    assert places == [tiny_run / "test", tmp_path]


def test_votes_repeat_themselves_and_differ_from_one_look(tiny_run, monkeypatch):
    seen = []
    monkeypatch.setattr(Classification, "write_results", lambda *given: seen.append(given[2].logits))
    for votes in (1, 3, 3):
        result = test_command.main(["cls", f"--checkpoint={tiny_run}", f"--votes={votes}"])
        assert result["votes"] == votes
    assert seen[1].equal(seen[2])
    assert not seen[0].softmax(1).allclose(seen[1].softmax(1))
    assert seen[1].exp().sum(1).allclose(seen[1].new_ones(len(seen[1])))  # logs of probabilities


def test_votes_do_not_depend_on_the_size_of_batches(tiny_run, monkeypatch):
    seen = []
    monkeypatch.setattr(Classification, "write_results", lambda *given: seen.append(given[2].logits))
    for size in (32, 7, 1):
        test_command.main(["cls", f"--checkpoint={tiny_run}", "--votes=3", f"--train.eval_batch_size={size}"])
    assert len(seen[0]) == 32
    torch.testing.assert_close(seen[1], seen[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(seen[2], seen[0], rtol=0, atol=1e-6)


def test_votes_look_at_a_cloud_as_training_did(tiny_run, monkeypatch):
    """A run that shows every cloud as it is has one view of it, however often it looks."""
    seen = []
    monkeypatch.setattr(Classification, "write_results", lambda *given: seen.append(given[2].logits))
    nothing = ["--augment.scale=[1,1]", "--augment.shift=0", "--augment.jitter=0", "--augment.resample=false"]
    for votes in (1, 3):
        test_command.main(["cls", f"--checkpoint={tiny_run}", f"--votes={votes}", *nothing])
    assert seen[0].softmax(1).allclose(seen[1].softmax(1))


def test_the_newest_run_is_taken_where_none_is_named(tiny_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_run, "runs/somewhere")
    assert test_command.main(["cls"])["checkpoint"] == str(Path("runs/somewhere/model.safetensors"))


def test_a_run_may_come_first_without_the_name_of_the_option(tiny_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert test_command.main(["cls", str(tiny_run), "--votes=1"])["checkpoint"] == str(tiny_run / "model.safetensors")
    with pytest.raises(InputError, match="nowhere"):
        test_command.main(["cls", "nowhere"])


def test_the_task_is_that_of_the_run_and_the_run_the_newest_of_any_task(tiny_run, tiny_part_run, tmp_path, monkeypatch):
    monkeypatch.setattr(PartSegmentation, "write_results", lambda *anything: None)
    monkeypatch.chdir(tmp_path)
    assert test_command.main([str(tiny_run)])["task"] == "classification"
    assert test_command.main(["--votes=1", f"--checkpoint={tiny_part_run}"])["task"] == "part segmentation"
    with pytest.raises(InputError, match="there is no run under runs/ yet: make one with `bixt3d train cls --cfg sha"):
        test_command.main([])
    shutil.copytree(tiny_part_run, "runs/parts")
    assert test_command.main([])["checkpoint"] == "runs/parts/model.safetensors"
    with pytest.raises(InputError, match="comes from a part segmentation run, but a classification run is needed"):
        test_command.main(["cls", "runs/parts"])


def test_other_clouds_can_be_named_on_the_command_line(tiny_run, monkeypatch):
    sizes = []
    monkeypatch.setattr(Classification, "write_results", lambda *given: sizes.append(given[2]))
    test_command.main(["cls", f"--checkpoint={tiny_run}", "--data.test_per_class=1", "--data.train_per_class=1"])
    assert sizes[0].scores.confusion.sum() == 16


def test_where_there_is_no_run_one_learns_how_to_make_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="make one with `bixt3d train cls --cfg shapes_cls`"):
        test_command.main(["cls"])


def test_corrupted_clouds_are_scored_beside_the_clean_ones(tiny_run, tmp_path, capsys, with_pictures):
    plain = test_command.main(["cls", str(tiny_run), f"--out={tmp_path / 'plain'}"])
    result = test_command.main(["cls", str(tiny_run), "--corrupted", f"--out={tmp_path / 'out'}"])
    assert (plain["corrupted"], result["corrupted"]) == (False, True)
    assert {name: result[name] for name in SCORES} == {name: plain[name] for name in SCORES}
    accuracies = [share for line in result["corruptions"].values() for share in line]
    assert len(result["corruptions"]) == 7
    assert len(accuracies) == 35
    assert result["corruptions_mean"] == pytest.approx(sum(accuracies) / 35)
    assert len(set(accuracies)) > 1
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == result
    said = capsys.readouterr().out
    assert f"overall accuracy on corrupted clouds {result['corruptions_mean']:.2%}" in said
    assert "drop_local" in said
    assert (tmp_path / "out" / "corruptions.png").is_file()
    pages = {name: (tmp_path / name / "report.html").read_text() for name in ("plain", "out")}
    assert not any("not recorded" in page for page in pages.values())  # time, epochs and seed of the training
    assert {name: "Corrupted clouds" in page for name, page in pages.items()} == {"plain": False, "out": True}
    assert json.loads((tmp_path / "plain" / "result.json").read_text()) == plain


def test_clouds_of_other_classes_are_refused(tiny_run, monkeypatch):
    load = Shapes.load

    def load_fewer(self) -> tuple[CloudSet, CloudSet]:
        train, test = load(self)
        first = test.subset((test.label < 2).nonzero().squeeze(1))
        return train, CloudSet(first.xyz, first.feats, first.label, test.class_names[:2], features=test.features)

    monkeypatch.setattr(Shapes, "load", load_fewer)
    with pytest.raises(
        InputError, match=r"was trained on 16 classes \(airplane, .*\), but the data set has 2 \(airplane, bed"
    ):
        test_command.main(["cls", f"--checkpoint={tiny_run}"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--votes=0"], "--votes must be at least 1"),
        (["--votes=many"], "--votes: invalid int value: 'many'"),
        (["--checkpoint=nowhere"], "there is no run folder or weights file nowhere"),
        (["--checkpoint=junk.safetensors"], "junk.safetensors is not a safetensors file"),
        (["--vots=3"], "unknown setting 'vots'; did you mean 'votes'"),
        (["--model.encoder.depth=3"], "contains the weights of another model"),
        (["--data.num_points=0"], "num_points must be positive"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_nonsense_is_refused_with_one_sentence(tiny_run, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    Path("junk.safetensors").write_bytes(b"junk")
    named = [] if arguments[0].startswith("--checkpoint") else [f"--checkpoint={tiny_run}"]
    with pytest.raises(InputError, match=sentence) as caught:
        test_command.main(["cls", *named, *arguments])
    assert "\n" not in str(caught.value)


def test_errors_on_corrupted_clouds_are_relative_to_those_of_a_baseline():
    own, baseline = {"jitter": [0.9, 0.7], "scale": [0.8, 0.8]}, {"jitter": [0.8, 0.4], "scale": [0.9, 0.9]}
    found = relative_errors({"corruptions": baseline}, {"corruptions": own})
    assert found["corruption_errors"] == {"jitter": pytest.approx(0.5), "scale": pytest.approx(2.0)}
    assert found["mean_corruption_error"] == pytest.approx(1.25)


LINES = {name: [0.9, 0.5, 0.5, 0.4, 1.0] for name in CORRUPTIONS}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({}, "^evaluated$"),
        ({"test_clouds": 32, "test_points": 64}, "^evaluated$"),
        ({"test_clouds": 400, "test_points": 64}, "on 400 clouds of 64 points, this run on 32 clouds of 64 points"),
        ({"per_class": {"car": 0.5}}, "tested on other classes or corruptions"),
        ({"per_class": None}, "tested on other classes or corruptions"),
        ({"corruptions": {"jitter": [0.9] * 5}}, "tested on other classes or corruptions"),
        ({"corruptions": LINES | {"scale": [0.5]}}, "tested on other classes or corruptions"),
        ({"corruptions": LINES | {"scale": [1.0] * 5}}, "the baseline makes no error under scale"),
        ({"corruptions": LINES | {"scale": ["0.5"] * 5}}, "result.json is damaged: scale has no accuracies"),
        ({"corruptions": LINES | {"scale": 0.5}}, "result.json is damaged: scale has no accuracies"),
    ],
)
def test_a_baseline_of_other_data_is_refused_before_the_evaluation(tiny_run, tmp_path, monkeypatch, change, sentence):
    result = {"per_class": dict.fromkeys(Shapes(1, 1).load()[1].class_names, 0.5), "corruptions": LINES}
    (tmp_path / "result.json").write_text(json.dumps(result | change))

    def evaluate(*_):
        raise InputError("evaluated")

    monkeypatch.setattr(Classification, "evaluate_more", evaluate)
    with pytest.raises(InputError, match=sentence):
        test_command.main(["cls", str(tiny_run), "--corrupted", f"--baseline={tmp_path}"])


def test_the_baseline_is_weights_by_name_that_were_tested(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clouds = Shapes(1, 1).load()[1]
    with pytest.raises(InputError, match="there is no run nowhere"):
        read_baseline(Path("nowhere"), clouds, 512)
    with pytest.raises(InputError, match="shapes-cls has no scores on corrupted clouds"):
        read_baseline(Path("shapes-cls"), clouds, 512)
    (tmp_path / "runs/shapes-cls/test").mkdir(parents=True)
    result = {"per_class": dict.fromkeys(clouds.class_names, 0.5), "corruptions": LINES}
    (tmp_path / "runs/shapes-cls/test/result.json").write_text(json.dumps(result))
    assert read_baseline(Path("shapes-cls"), clouds, 512) == result


def test_a_run_is_tested_relative_to_a_baseline(tiny_run, tmp_path, capsys, monkeypatch, with_pictures):
    monkeypatch.setattr("bixt3d.tasks.corrupted.LEVELS", (1,))
    monkeypatch.setattr(Classification, "write_report", lambda *_: None)
    command = ["cls", str(tiny_run), "--corrupted", f"--out={tmp_path / 'base/test'}"]
    with pytest.raises(InputError, match="base has no scores on corrupted clouds: make them with `bixt3d test .*base"):
        (tmp_path / "base").mkdir()
        test_command.main([*command, f"--baseline={tmp_path / 'base'}"])
    with pytest.raises(InputError, match="--baseline is for --corrupted: give both"):
        test_command.main(["cls", str(tiny_run), f"--baseline={tmp_path / 'base'}"])
    test_command.main(command)
    result = test_command.main([*command[:3], f"--out={tmp_path / 'own'}", f"--baseline={tmp_path / 'base'}"])
    assert result["mean_corruption_error"] == 1 and set(result["corruption_errors"]) == set(result["corruptions"])
    assert f"mean corruption error 1.000 (1: that of {tmp_path / 'base'})" in capsys.readouterr().out
