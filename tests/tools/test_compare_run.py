"""``bixt3d compare run``: configs trained under one budget, skipped or resumed, and compared in one table."""

import csv
import json
import re
import shutil
import statistics
from pathlib import Path

import pytest

from bixt3d.cli import compare, side_by_side
from bixt3d.cli.compare_run import make_plan
from bixt3d.cli.main import call
from bixt3d.engine.folder import make_folder, record_now
from bixt3d.tasks import training
from bixt3d.tasks.classification import Classification
from bixt3d.tasks.command import parse_command
from bixt3d.types import InputError, Stopped

SMALLER = (
    "model:\n  init_args:\n    encoder: {class_path: BixtEncoder, init_args: {dim: 16, depth: 1, num_latents: 2}}\n"
)
BUDGET = "--budget is a time such as 90s, 15m or 2h, a number of steps such as 2000, or tiny, not "


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch):
    """Draw no report: it takes longer than all the rest."""
    monkeypatch.setattr(Classification, "write_report", lambda *_: None)


@pytest.fixture
def compare_run(tiny, tmp_path, monkeypatch):
    """Return a function that compares two small models; each trains in this process, not in one of its own."""
    (tmp_path / "small.yaml").write_text(SMALLER)
    started = []

    def start(command, threads, log, running):
        started.append(command)
        call(list(command))
        return 0

    monkeypatch.setattr(side_by_side, "start", start)

    def run(*more: str) -> list[list[str]]:
        started.clear()
        cfgs = [str(tiny), f"{tiny}+{tmp_path / 'small.yaml'}"]
        compare.main(["run", "--cfgs", *cfgs, "--out", str(tmp_path / "out"), "--budget", "tiny", *more])
        return started

    return run


def result_of(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def test_two_configs_are_trained_with_two_seeds_and_stand_in_one_table(compare_run, tmp_path, capsys):
    assert len(compare_run("--seeds", "0,1", "--train.batch_size", "8")) == 2
    out, said = tmp_path / "out", capsys.readouterr().out
    names = ["table.md", "table.csv", "curves.png", "cost.png"]
    assert all((out / name).is_file() for name in names) and (out / "table.md").read_text() in said
    with (out / "table.csv").open(newline="") as file:
        rows = {Path(row["run"]).name: row for row in csv.DictReader(file)}
    assert list(rows) == ["tiny", "tiny+small"]
    for name, row in rows.items():
        results = [result_of(out / name / f"seed{seed}") for seed in (0, 1)]
        for key in ("overall_accuracy", "mean_accuracy"):
            values = [result[key] for result in results]
            assert float(row[key]) == pytest.approx(sum(values) / 2)
            assert float(row[f"{key}_deviation"]) == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
        for key in ("clouds_per_second", "inference_clouds_per_second", "peak_memory", "expected_calibration_error"):
            assert float(row[key]) == pytest.approx(statistics.mean(result[key] for result in results))
        assert {result["steps"] for result in results} == {4} and float(row["steps"]) == 4
        assert int(row["parameters"]) == results[0]["parameters"] and float(row["peak_memory"]) > 1e7
    assert 0 < int(rows["tiny+small"]["flops"]) < int(rows["tiny"]["flops"])
    assert "best" not in said and "Budget of training for each seed: 4 steps." in said


def test_what_is_finished_is_skipped_and_what_was_stopped_is_resumed(compare_run, tmp_path, monkeypatch, capsys):
    whole, save = training.save_checkpoint, []

    def stop_in_the_second_config(path, state):
        whole(path, state)
        save.append(path)
        if len(save) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "save_checkpoint", stop_in_the_second_config)
        with pytest.raises(KeyboardInterrupt):
            compare_run()
    capsys.readouterr()
    (command,) = compare_run()
    folder = tmp_path / "out/tiny+small"
    assert command[:3] == ["train", "cls", f"--resume={folder}"]
    assert "tiny: finished, skipped" in capsys.readouterr().out and result_of(folder / "seed0")["steps"] == 4
    assert compare_run() == []
    capsys.readouterr()
    with pytest.raises(InputError, match="has the seeds 0: name these first, then more"):
        compare_run("--seeds=1")
    assert "resumed" not in capsys.readouterr().out
    call(["info", str(folder)])
    assert re.search(r"finished, 1 seed\n.* overall accuracy \d+\.\d\d%, mean", capsys.readouterr().out, re.DOTALL)
    assert result_of(folder)["overall_accuracy"]["deviation"] is None  # of one seed
    assert [command[3] for command in compare_run("--seeds=0,1")] == ["--seeds=0,1"] * 2
    with pytest.raises(InputError, match=r"has a run of train.batch_size 16, not 8: name another --out"):
        compare_run("--train.batch_size=8")


@pytest.mark.parametrize("lost", ["seed0/result.json", "seed1"])
def test_what_is_missing_of_a_finished_run_is_trained_again(compare_run, tmp_path, capsys, lost):
    compare_run("--seeds=0,1")
    out, place = tmp_path / "out", tmp_path / "out/tiny" / lost
    before = (out / "tiny/result.json").read_text()
    place.unlink() if place.is_file() else shutil.rmtree(place)
    compare.main(["show", str(out / "tiny")])
    said = capsys.readouterr().out
    assert f"Seeds without a run, or with an unfinished one: {out / 'tiny' / lost.split('/')[0]}." in said
    (command,) = compare_run("--seeds=0,1")
    assert command[2] == f"--resume={out / 'tiny'}" and (out / "tiny/result.json").read_text() == before
    assert result_of(out / "tiny/seed0")["steps"] == result_of(out / "tiny/seed1")["steps"] == 4
    said = capsys.readouterr().out
    assert "tiny: resumed" in said and "Unfinished" not in said and "| - " not in said


def test_a_smaller_comparison_in_the_same_folder_keeps_the_other_runs_in_the_table(
    compare_run, tiny, tmp_path, train, capsys
):
    compare_run()
    out, again = tmp_path / "out", ["run", "--cfgs", str(tiny), "--out", str(tmp_path / "out"), "--budget", "tiny"]
    train(out / "longer", "--train.steps=5")
    (out / "damaged").mkdir()
    (out / "damaged/run.json").write_text("{")
    compare.main(again)
    said = capsys.readouterr().out
    with (out / "table.csv").open(newline="") as file:
        assert [Path(row["run"]).name for row in csv.DictReader(file)] == ["tiny", "tiny+small"]
    assert f"not in the table, as its task or budget differs: {out / 'longer'}" in said
    assert f"not in the table: {out / 'damaged/run.json'} is damaged" in said


@pytest.mark.parametrize("threads", [["--runtime.threads=1"], ["--runtime.threads", "1"]], ids=["=", "two words"])
def test_a_resumed_run_gets_the_threads_of_the_command_line(tiny, tmp_path, threads):
    task = Classification()
    options = [f"--cfg={tiny}", *threads, "--trust", "--train.steps=4"]
    _, parser, settings = parse_command(task, None, options)
    make_folder(tmp_path / "tiny", "", record_now(task.name, [0]), parser.dump(settings, skip_unset=False))
    plan = make_plan("tiny", tmp_path / "tiny", task, options, [0])
    assert plan.state == "resumed" and plan.command[4:] == ("--trust", "--runtime.threads=1")
    assert parse_command(task, None, plan.command[2:])[2].runtime.threads == 1


@pytest.mark.parametrize("words", [["--seed=3"], ["--seed", "3"], ["--cfg", "shapes_cls"]], ids=" ".join)
def test_what_the_comparison_sets_itself_is_refused_in_both_spellings(words):
    with pytest.raises(InputError, match=f"{words[0].split('=')[0]} is not for all runs"):
        compare.main(["run", "--cfgs", "shapes_cls", "--budget", "tiny", *words])


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--train.epochs=3"], "--train.epochs is not for all runs"),
        (["--seeds=0,0"], "names a seed twice"),
        (["--budget=15 parsecs"], f"{BUDGET}'15 parsecs'"),
        (["--budget=0"], f"{BUDGET}'0'"),
        (["--budget=10.5"], f"{BUDGET}'10.5'"),
        (["--cfgs", "shapes_cls+"], "there is no config ''; there are:"),
        (["--jobs=0"], "--jobs must be at least 1"),
        (["--data.rot=x"], "unknown setting 'data.rot'"),
        (["--cfgs", "shapes_cls", "shapes_partseg"], "configs of one task can be compared, but shapes_cls does class"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_mistake_is_one_sentence_before_anything_is_trained(compare_run, tmp_path, more, sentence):
    with pytest.raises(InputError) as caught:
        compare_run(*more)
    assert sentence in str(caught.value) and not (tmp_path / "out").exists()


def test_a_run_that_fails_does_not_stop_the_others(compare_run, tmp_path, monkeypatch):
    inside = side_by_side.start

    def fail_first(command, *more):
        return inside(command, *more) if command[-1].endswith("small") else 2

    monkeypatch.setattr(side_by_side, "start", fail_first)
    with pytest.raises(InputError, match=r"1 of 2 configs did not end: tiny; .*: mend what .* then the same command"):
        compare_run()
    assert result_of(tmp_path / "out/tiny+small/seed0")["steps"] == 4


@pytest.mark.parametrize("file", ["out", "out/tiny"])
def test_a_file_in_place_of_a_folder_is_refused_before_anything_is_trained(compare_run, tmp_path, capsys, file):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("mine")
    with pytest.raises(InputError, match=rf"{file} is a file: --out names the folder of the comparison"):
        compare_run()
    assert "new" not in capsys.readouterr().out and (tmp_path / file).read_text() == "mine"


def test_a_run_without_its_record_is_refused_before_anything_is_trained(compare_run, tmp_path, capsys):
    place = tmp_path / "out/tiny+small"
    place.mkdir(parents=True)
    (place / "config.yaml").write_text("")
    with pytest.raises(InputError, match=r"tiny\+small has files of a run, but no run.json .* name another --out"):
        compare_run()
    assert not (tmp_path / "out/tiny").exists() and "new" not in capsys.readouterr().out


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_says_that_the_same_command_goes_on(compare_run, monkeypatch, jobs):
    def interrupted(command, threads, log, running):
        raise KeyboardInterrupt

    monkeypatch.setattr(side_by_side, "start", interrupted)
    with pytest.raises(Stopped, match="stopped by SIGINT: what is finished is kept, and the same command goes on"):
        compare_run("--jobs", jobs)


def test_a_run_that_a_signal_stopped_has_not_failed():
    assert {side_by_side.ending(code) for code in (130, 143, -2, -15)} == {"stopped by a signal"}
    assert [side_by_side.ending(code) for code in (0, 2)] == ["ended", "failed with exit code 2"]
    assert {side_by_side.ending(code) for code in (-9, 137)} == {"was killed, perhaps as the machine lacked memory"}
