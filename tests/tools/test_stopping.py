"""No work is lost: a run that is stopped or killed, finished, or one of several seeds, and what is said of it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from functools import reduce
from operator import getitem
from pathlib import Path

import pytest
import torch
from other_processes import locked_by_another
from same_runs import assert_same_run

from bixt3d.cli import test as test_command
from bixt3d.cli import train as train_command
from bixt3d.engine.checkpoint import load_checkpoint
from bixt3d.engine.report import read_rows
from bixt3d.tasks import classification, training
from bixt3d.tasks.part_segmentation import PartSegmentation
from bixt3d.types import InputError, Stopped


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch):
    """Draw no report at the end of a run: it takes longer than the run."""

    monkeypatch.setattr(classification.Classification, "write_report", lambda *_: None)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def stop_at(monkeypatch, number: int, step: int) -> None:
    """Let the process signal itself in the middle of the training step of this number."""
    steps, make_step = iter(range(1, 10_000)), classification.Classification.make_step

    def make(self, run, train):
        do = make_step(self, run, train)

        def signalling(model, batch):
            if next(steps) == step:
                os.kill(os.getpid(), number)
            return do(model, batch)

        return signalling

    monkeypatch.setattr(classification.Classification, "make_step", make)


def lack_memory(monkeypatch, step: int) -> None:
    """Let the training step of this number ask for more memory than any machine has."""
    steps, make_step = iter(range(1, 10_000)), classification.Classification.make_step

    def make(self, run, train):
        do = make_step(self, run, train)
        return lambda model, batch: torch.empty(2**50) if next(steps) == step else do(model, batch)

    monkeypatch.setattr(classification.Classification, "make_step", make)


def test_too_little_memory_in_training_names_the_settings_to_lower_and_what_is_safe(tmp_path, train, monkeypatch):
    lack_memory(monkeypatch, step=6)
    with pytest.raises(InputError) as caught:
        train(tmp_path / "run")
    assert str(caught.value) == (
        "out of memory: lower --train.batch_size (it is 16) or --data.num_points, or use --runtime.accumulate 2 or "
        "--runtime.checkpointing true; "
        f"epoch 1 of 2 safe in {tmp_path / 'run'}; go on with `bixt3d train cls --resume {tmp_path / 'run'}`"
    )
    assert load_checkpoint(tmp_path / "run" / "checkpoint.pt")["epoch"] == 1


def test_too_little_memory_in_evaluation_names_its_batch_size_and_loses_no_epoch(
    tmp_path, train, tiny_run, monkeypatch
):
    calls, evaluate = iter(range(9)), classification.Classification.evaluate

    def lacking(*arguments):
        return torch.empty(2**50) if next(calls) else evaluate(*arguments)

    words = r"out of memory: lower --train.eval_batch_size \(it is 64\), which changes no result"
    with monkeypatch.context() as patch:
        patch.setattr(classification.Classification, "evaluate", lacking)
        with pytest.raises(InputError, match=f"{words}; epoch 1 of 2 safe in .*; go on with"):
            train(tmp_path / "run")
    train_command.main(["cls", "--resume", str(tmp_path / "run")])
    assert_same_run(tiny_run, tmp_path / "run")
    calls = iter([1])
    monkeypatch.setattr(classification.Classification, "evaluate", lacking)
    with pytest.raises(InputError, match=f"{words}$"):
        test_command.main(["cls", str(tiny_run), f"--out={tmp_path}"])


def test_a_model_too_large_for_the_machine_is_refused_before_anything_is_written(tmp_path, train):
    with pytest.raises(InputError, match="out of memory: the data set or the model is too large for this machine"):
        train(tmp_path / "run", "--model.encoder.num_latents=1000000000000")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("left", ["result.json", "metrics.csv", "no run.json"])
def test_weights_without_a_checkpoint_are_not_replaced_by_a_run_that_resumes_there(tmp_path, tiny_run, left):
    folder = tmp_path / "run of mine"
    folder.mkdir()
    for name in ("model.safetensors", "config.yaml", *(["run.json", left] if left != "no run.json" else [])):
        shutil.copy(tiny_run / name, folder)
    before = files(folder)
    with pytest.raises(InputError, match="has weights, but no checkpoint.pt .*--train.init '.*/run of mine' with"):
        train_command.main(["cls", "--resume", str(folder)])
    assert files(folder) == before


@pytest.mark.parametrize(("key", "word"), [("class_names", "class"), ("part_names", "part")])
def test_a_set_with_nothing_to_tell_apart_is_refused(tmp_path, train, train_parts, monkeypatch, key, word):
    one, run = (PartSegmentation, train_parts) if word == "part" else (classification.Classification, train)
    names = one.names
    monkeypatch.setattr(one, "names", lambda self, clouds: names(self, clouds) | {key: ["ball"]})
    with pytest.raises(InputError, match=rf"the data set has one {word} alone \(ball\): a model needs two"):
        run(tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("--model.encoder.num_latents=18446744073709551615", "cannot be built"),
        ("--model={class_path: PointNet2, init_args: {dims: []}}", "cannot be built as the settings say: list index"),
        ("--data.test_per_class=null", "setting 'data.test_per_class' must be of type int, and is null"),
        ("--data.num_points=null", "setting 'data.num_points' must be of type int, and is null"),
        ("--model.dropout=null", "setting 'model.dropout' must be of type float, and is null"),
        ("--model.tokenizer.scale=null", "setting 'model.tokenizer.scale'"),
    ],
)
def test_values_that_no_class_takes_are_refused_in_one_sentence(tmp_path, train, setting, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        train(tmp_path / "run", setting)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGUSR1", 138)])
def test_a_signal_ends_a_run_after_its_step_and_says_what_is_safe(tmp_path, train, tiny_run, monkeypatch, name, code):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
    with monkeypatch.context() as patch:
        stop_at(patch, getattr(signal, name), step=6)  # of four in an epoch
        with pytest.raises(Stopped) as caught:
            train(tmp_path / "run")
    assert str(caught.value) == (
        f"stopped by {name}: 2 steps of epoch 2 lost, epoch 1 of 2 safe in {tmp_path / 'run'}; go on with "
        f"`bixt3d train cls --resume {tmp_path / 'run'}`"
    )
    assert caught.value.code == code
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)] == before
    train_command.main(["cls", "--resume", str(tmp_path / "run")])
    assert_same_run(tiny_run, tmp_path / "run")


def test_a_run_stopped_in_its_first_epoch_is_the_newest_and_no_other_is_touched(tmp_path, train, tiny_run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_run, "runs/finished")
    before = files(Path("runs/finished"))
    with monkeypatch.context() as patch:
        stop_at(patch, signal.SIGTERM, step=2)
        with pytest.raises(Stopped, match="2 steps of epoch 1 lost, no epoch is finished in runs/begun; go on with"):
            train(Path("runs/begun"))
    assert not Path("runs/begun/checkpoint.pt").exists()
    assert train_command.main(["cls", "--resume"]) == Path("runs/begun")
    assert_same_run(tiny_run, Path("runs/begun"))
    assert files(Path("runs/finished")) == before


def test_a_run_stopped_after_its_last_step_is_only_scored_and_writes_its_result(tmp_path, train, tiny_run, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(patch, signal.SIGTERM, step=8)
        with pytest.raises(Stopped, match="stopped by SIGTERM: epochs 1 to 2 of 2 safe in"):
            train(tmp_path / "run")
    assert not (tmp_path / "run" / "result.json").exists()
    assert "test_accuracy" not in load_checkpoint(tmp_path / "run" / "checkpoint.pt")["rows"][1]
    with monkeypatch.context() as patch:
        patch.setattr(training, "train_one_epoch", None)
        train_command.main(["cls", "--resume", str(tmp_path / "run")])
    assert_same_run(tiny_run, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "result.json").read_text())["epochs"] == 2


def interrupt_at(monkeypatch, name: str, call: int) -> None:
    """Let the process signal itself in this call of a method of the task."""
    calls, method = iter(range(1, 10_000)), getattr(classification.Classification, name)

    def interrupted(*arguments):
        if next(calls) == call:
            os.kill(os.getpid(), signal.SIGINT)
        return method(*arguments)

    monkeypatch.setattr(classification.Classification, name, interrupted)


def rows_of(folder: Path) -> list[int]:
    return [int(row["epoch"]) for row in load_checkpoint(folder / "checkpoint.pt")["rows"]]


def test_an_interrupt_in_an_evaluation_ends_the_run_at_once_and_loses_no_epoch(tmp_path, train, tiny_run, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_at(patch, "evaluate", 2)  # the first one tries what fits
        with pytest.raises(Stopped, match=r"stopped by SIGINT: epoch 1 of 2 safe in .*; go on with `.*--resume .*run`"):
            train(tmp_path / "run")
    assert rows_of(tmp_path / "run") == [1]
    assert "test_accuracy" not in read_rows(tmp_path / "run" / "metrics.csv")[0]
    train_command.main(["cls", "--resume", str(tmp_path / "run")])
    assert_same_run(tiny_run, tmp_path / "run")


@pytest.mark.parametrize(("name", "call"), [("evaluate", 4), ("describe_result", 1), ("write_results", 1)])
def test_an_interrupt_after_the_last_epoch_says_how_to_go_on(tmp_path, train, tiny_run, monkeypatch, name, call):
    with monkeypatch.context() as patch:
        interrupt_at(patch, name, call)
        with pytest.raises(
            Stopped, match=r"SIGINT: epochs 1 to 2 of 2 safe in .*; go on with `.*--resume .*run`$"
        ) as caught:
            train(tmp_path / "run")
    assert caught.value.code == 130
    train_command.main(["cls", "--resume", str(tmp_path / "run")])
    assert_same_run(tiny_run, tmp_path / "run")


def test_an_interrupt_while_data_load_says_that_nothing_has_begun(tmp_path, train, monkeypatch):
    interrupt_at(monkeypatch, "load", 1)
    with pytest.raises(Stopped, match="stopped by SIGINT: no run has begun and none was changed, for data and model"):
        train(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_finished_run_of_several_seeds_says_how_many_steps_make_it_longer(tmp_path, train):
    folder = train(tmp_path / "run", "--seeds=0,1", "--train.steps=3")
    with pytest.raises(InputError, match=r"to train all its seeds longer, .* --resume .*run --train.steps 6`"):
        train_command.main(["cls", f"--resume={folder}"])


def test_an_interrupt_between_seeds_says_how_to_go_on(tmp_path, train, monkeypatch):
    interrupt_at(monkeypatch, "build", 2)
    with pytest.raises(Stopped, match="SIGINT: all finished epochs are safe in .*run; go on with `.*--resume .*run`"):
        train(tmp_path / "run", "--seeds=0,1", "--train.epochs=1")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--run_dir=runs/a"],
            "runs/a contains a run already: go on with it by `--resume runs/a`, or name a free folder",
        ),
        (["--run_dir=runs/a", "--seeds=0,1"], "runs/a contains a run already"),
        (["--resume=runs/a"], r"runs/a is finished \(2 epochs\) and stays as it is: .* --train.epochs 4`"),
        (["--resume=runs/a", "--train.epochs=1"], "runs/a is finished"),
        (["--resume=runs/a", "--optim.ema=0.5"], "runs/a is finished"),
        (["--resume"], "runs/a is finished"),
        (["--resume", "--train.epochs=3"], r"name it and say how long, as in `.* --resume runs/a --train.epochs 3`"),
        (["--resume=runs/a", "--run_dir=runs/b"], "leave out --run_dir"),
        (["--resume=runs/a", "--seeds=0,1"], "runs/a is a run of one seed"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_finished_run_stays_as_it_is(tmp_path, tiny, tiny_run, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_run, "runs/a")
    before = files(Path("runs"))
    settings = [] if "--resume" in arguments[0] else [f"--cfg={tiny}"]
    with pytest.raises(InputError, match=sentence):
        train_command.main(["cls", *settings, *arguments])
    assert files(Path("runs")) == before


def test_an_unfinished_run_is_not_trained_over(tmp_path, train, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(patch, signal.SIGTERM, step=5)
        with pytest.raises(Stopped):
            train(tmp_path / "run")
    before = files(tmp_path / "run")
    with pytest.raises(
        InputError, match=r"contains a run already: .*or name a free folder, such as `--run_dir .*run-2`"
    ):
        train(tmp_path / "run")
    assert files(tmp_path / "run") == before


def test_a_run_of_another_task_is_not_gone_on_with(tiny_part_run):
    with pytest.raises(InputError, match="is a run of part segmentation, and this program trains classification"):
        train_command.main(["cls", "--resume", str(tiny_part_run)])


def test_a_seed_that_another_process_trains_is_left_to_it(tmp_path, train, monkeypatch):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_at(patch, signal.SIGTERM, step=9)
        with pytest.raises(Stopped):
            train(run, "--seeds=0,1")
    before = files(run / "seed1")
    with (
        locked_by_another(run / "seed1"),
        pytest.raises(InputError, match="another process trains in .*seed1 now"),
    ):
        train_command.main(["cls", f"--resume={run}"])
    assert files(run / "seed1") == before


def test_seeds_go_on_where_they_stood(tmp_path, train, tiny_run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        stop_at(patch, signal.SIGTERM, step=9)
        with pytest.raises(
            Stopped, match="1 step of epoch 1 lost, no epoch is finished in runs/a/seed1; .*--resume runs/a`"
        ):
            train(Path("runs/a"), "--seeds=0,1")
    finished = files(Path("runs/a/seed0"))
    assert not Path("runs/a/result.json").exists()
    assert train_command.main(["cls", "--resume"]) == Path("runs/a")
    assert files(Path("runs/a/seed0")) == finished
    assert_same_run(tiny_run, Path("runs/a/seed0"))
    assert sorted(path.name for path in Path("runs/a").iterdir()) == [
        "config.yaml",
        "result.json",
        "run.json",
        "seed0",
        "seed1",
    ]
    summary = json.loads(Path("runs/a/result.json").read_text())
    results = [json.loads(Path(f"runs/a/seed{seed}/result.json").read_text()) for seed in (0, 1)]
    assert summary["seeds"] == [0, 1]
    assert summary["overall_accuracy"]["values"] == [result["overall_accuracy"] for result in results]

    before = files(Path("runs"))
    for arguments in (["--resume"], ["--resume=runs/a"], ["--resume=runs/a", "--seeds=0,1"]):
        with pytest.raises(InputError, match=r"runs/a is finished, .* --train.epochs 4`; .* --seeds 0,1,2"):
            train_command.main(["cls", *arguments])
    with pytest.raises(InputError, match="runs/a has the seeds 0,1: name these first, then more"):
        train_command.main(["cls", "--resume=runs/a", "--seeds=1,2"])
    assert files(Path("runs")) == before

    train_command.main(["cls", "--resume=runs/a", "--seeds=0,1,5"])
    assert json.loads(Path("runs/a/result.json").read_text())["seeds"] == [0, 1, 5]
    after = files(Path("runs"))
    assert all(after[name] == content for name, content in before.items() if "/seed" in name)


def test_more_epochs_of_a_named_run_are_trained_with_a_new_average(tmp_path, train):
    run = train(tmp_path / "run", "--train.epochs=1", "--optim.ema=0")
    first = load_checkpoint(run / "checkpoint.pt")["learner"]["model"]
    train_command.main(["cls", "--resume", str(run), "--train.epochs=2", "--optim.ema=0.999"])
    state = load_checkpoint(run / "checkpoint.pt")["learner"]
    assert int(state["average"]["n_averaged"]) == 4
    name = next(name for name in first if name.endswith("latents"))
    assert not state["average"][f"module.{name}"].equal(first[name])
    assert json.loads((run / "result.json").read_text())["epochs"] == 2


def rates(run: Path) -> list[float]:
    """Return the learning rate at the beginning of each epoch."""
    return [row["lr"] for row in load_checkpoint(run / "checkpoint.pt")["rows"]]


def test_a_run_that_goes_on_with_another_batch_size_has_the_learning_rates_of_that_size(tmp_path, train):
    run = train(tmp_path / "run", "--train.epochs=1", "--train.batch_size=16")  # 4 steps an epoch
    train_command.main(["cls", "--resume", str(run), "--train.epochs=4", "--train.batch_size=8"])
    whole = train(tmp_path / "whole", "--train.epochs=4", "--train.batch_size=8")
    assert rates(run)[1:] == rates(whole)[1:]
    assert load_checkpoint(run / "checkpoint.pt")["learner"]["schedule"]["last_epoch"] == 4 * 8


def test_a_run_that_goes_on_for_more_steps_makes_as_many_updates_as_asked(tmp_path, train):
    run = train(tmp_path / "run", "--train.steps=10", "--train.batch_size=16", "--optim.ema=0.9")  # 4 steps an epoch
    with pytest.raises(InputError, match=r"is finished .* --train.steps 20`"):
        train_command.main(["cls", "--resume", str(run)])
    train_command.main(["cls", "--resume", str(run), "--train.steps=20"])
    state = load_checkpoint(run / "checkpoint.pt")
    assert int(state["learner"]["average"]["n_averaged"]) == state["learner"]["schedule"]["last_epoch"] == 20
    assert [row["epoch"] for row in state["rows"]] == [1, 2, 3, 4, 5, 6]
    assert any(name.startswith("test_") for name in state["rows"][-1])
    with pytest.raises(InputError, match=r"is finished \(6 epochs\) .* --train.steps 40`"):
        train_command.main(["cls", "--resume", str(run)])


NOT_MOMENTS = {"step": torch.tensor(1.0), "exp_avg": torch.zeros(1), "exp_avg_sq": torch.zeros(1)}


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ((), []),
        ((), {}),
        (("epoch",), "two"),
        (("epoch",), 7),
        (("epoch",), float("nan")),
        (("seconds",), None),
        (("rows",), 5),
        (("rows",), []),
        (("rows",), [{"epoch": 1.0}, {"epoch": 2.0}]),
        (("rows", 0, "loss"), "low"),
        (("rows", 1, "epoch"), 1.0),
        (("learner",), None),
        (("learner", "model"), {"w": 1}),
        (("learner", "model", "encoder.latents"), 3),
        (("learner", "optimizer"), {}),
        (("learner", "optimizer", "state"), {}),
        (("learner", "optimizer", "state", 0), 5),
        (("learner", "optimizer", "state", 0), NOT_MOMENTS),
        (("learner", "schedule", "last_epoch"), "x"),
        (("learner", "average"), {"n_averaged": 3}),
        (("learner", "average", "n_averaged"), torch.tensor(-10)),
    ],
    ids=str,
)
def test_a_checkpoint_of_another_kind_is_named_in_one_sentence(tmp_path, tiny_run, place, value):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    whole = {"state": load_checkpoint(run / "checkpoint.pt")}
    *path, last = ("state", *place)
    reduce(getitem, path, whole)[last] = value
    torch.save(whole["state"], run / "checkpoint.pt")
    before = files(run)
    words = "is not a checkpoint of|does not fit this run|contains the weights of another model"
    with pytest.raises(InputError, match=rf"checkpoint\.pt ({words})") as caught:
        train_command.main(["cls", "--resume", str(run), "--train.epochs=3"])
    assert "\n" not in str(caught.value)
    assert files(run) == before


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\xff\xfe\x00",
        b"[1, 2",
        b"- 1\n- 2\n",
        b"seed: [a]\n",
        b"5",
        b"optim: 3\n",
        b"[" * 5000,
        b"a: &a [*a]\n",
        b"!!python/object:os.system {}\n",
        b"seed: " + b"9" * 6000,
    ],
    ids=lambda content: str(content[:40])[2:-1],
)
def test_damaged_settings_of_a_run_are_named_in_one_sentence(tmp_path, tiny_run, damage):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    (run / "config.yaml").write_bytes(damage)
    before = files(run)
    with pytest.raises(InputError, match=r"config\.yaml") as caught:
        train_command.main(["cls", "--resume", str(run), "--train.epochs=3"])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert files(run) == before


def test_a_second_interrupt_ends_at_once():
    code = """
import os, signal
from lightning_fabric import Fabric
from bixt3d.engine.ending import Stop
with Stop(Fabric(accelerator="cpu", devices=1)) as stop:
    os.kill(os.getpid(), signal.SIGINT)
    print(int(stop.number), flush=True)
    os.kill(os.getpid(), signal.SIGINT)
    print("still here")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (-signal.SIGINT, "2\n")
