"""Run folders: each made and locked by one run, and found by when it began."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from other_processes import locked_by_another

from bixt3d.engine.ending import on_rank_zero
from bixt3d.engine.folder import (
    OF_A_RUN,
    RECORD,
    Record,
    check_free,
    lock,
    make_folder,
    new_folder,
    newest_run,
    newest_to_resume,
    read_record,
    record_now,
    take_folder,
    weights_file,
    words_of,
)
from bixt3d.io.weights import save_weights
from bixt3d.io.writing import host_name, remove_leftovers
from bixt3d.types import InputError

CLASSES = Record("classification", "2026-01-02T03:04:05+00:00")


def make_run(folder: Path, began: str, task: str = "classification", seeds: tuple[int, ...] | None = None) -> Path:
    return make_folder(folder, "", Record(task, f"2026-01-01T00:00:{began}+00:00", seeds), "seed: 0\n")


def make_weights(folder: Path, name: str = "model") -> Path:
    save_weights(folder / f"{name}.safetensors", {"w": torch.zeros(1)}, {"task": "classification"})
    return folder / f"{name}.safetensors"


def test_runs_of_one_second_get_a_folder_each(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: new_folder(tmp_path / "runs", "shapes"), range(24)))
    assert len(set(folders)) == 24
    assert all(folder.is_dir() and folder.name.startswith("shapes-") for folder in folders)


def test_of_several_processes_that_take_one_empty_folder_only_one_gets_it(tmp_path, monkeypatch):
    monkeypatch.setattr("bixt3d.io.writing.os.getpid", threading.get_ident)  # threads as processes

    def take(number: int) -> int | None:
        try:
            make_folder(tmp_path / "run", "", Record("naps", CLASSES.began, (number,)), f"seed: {number}\n")
        except InputError:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        (winner,) = [one for one in pool.map(take, range(8)) if one is not None]
    assert read_record(tmp_path / "run").seeds == (winner,)
    assert (tmp_path / "run" / "config.yaml").read_text() == f"seed: {winner}\n"
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["config.yaml", RECORD]


@pytest.mark.parametrize("name", [*OF_A_RUN, "model.safetensors", "best_on_val.safetensors", "worst.png"])
def test_a_folder_with_a_file_that_a_run_would_replace_is_refused(tmp_path, name):
    (tmp_path / "run-2").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_text("precious")
    with pytest.raises(InputError, match=r"run-3`$") as caught:
        make_folder(tmp_path / "run", "", CLASSES, "seed: 0\n")
    assert ("--resume" in str(caught.value)) == (name == "config.yaml")
    assert [path.name for path in (tmp_path / "run").iterdir()] == [name]


def test_a_folder_of_seeds_is_not_free(tmp_path):
    make_run(tmp_path / "seed0", "01")
    with pytest.raises(InputError, match=r"would replace \(seed0/\) already: name a free folder"):
        check_free(tmp_path)


def test_an_empty_folder_or_one_with_files_of_others_is_taken(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert make_folder(tmp_path, "", CLASSES, "seed: 0\n") == tmp_path
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert read_record(tmp_path) == CLASSES


def test_a_record_comes_back(tmp_path):
    record = record_now("naps", [3, 4])
    make_folder(tmp_path, "", record, "")
    assert read_record(tmp_path) == record
    assert record_now("naps", None).began > record.began
    assert read_record(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b'{"task": "a"}',
        b'{"task": 1, "began": "2026-01-01T00:00:00+00:00"}',
        b'{"task": "a", "began": "yesterday"}',
        b'{"task": "a", "began": 5}',
        b'{"task": "a", "began": "2026-01-01T00:00:00"}',
        b'{"task": "a", "began": "2026-01-01T00:00:00+00:00", "seeds": []}',
        b'{"task": "a", "began": "2026-01-01T00:00:00+00:00", "seeds": ["0"]}',
        b'{"task": "a", "began": "2026-01-01T00:00:00+00:00", "seeds": 7}',
        b"\xff\xfe",
        b"[" * 100_000,
        b" " * 2_000_000,
    ],
    ids=lambda content: str(content[:60])[2:-1],
)
def test_a_damaged_record_is_named_in_one_sentence(tmp_path, damage):
    (tmp_path / RECORD).write_bytes(damage)
    with pytest.raises(InputError, match=r"run\.json is damaged: it does not say which run"):
        read_record(tmp_path)


def test_the_newest_run_is_the_one_that_began_last_whatever_was_written_last(tmp_path):
    make_weights(make_run(tmp_path / "finished", "10"))
    begun = make_run(tmp_path / "deeper" / "begun", "20")  # stopped before its first weights
    make_run(tmp_path / "older", "05")
    make_run(tmp_path / "parts", "30", "part segmentation")
    make_weights(tmp_path / "finished")
    assert newest_to_resume(tmp_path, "classification", "make demo") == begun


def test_a_run_of_several_seeds_is_one_run(tmp_path):
    parent = make_run(tmp_path / "seeds", "20", seeds=(0, 1))
    make_run(parent / "seed0", "30")
    assert newest_to_resume(tmp_path, "classification", "make demo") == parent


def test_a_run_of_a_version_without_records_began_when_its_settings_were_written(tmp_path):
    for name, time in (("a", 1e9), ("b", 2e9), ("c", 1.5e9)):
        make_weights(tmp_path / name)
        (tmp_path / name / "config.yaml").write_text("seed: 0\n")
        os.utime(tmp_path / name / "config.yaml", (time, time))
    assert newest_to_resume(tmp_path, "classification", "make demo") == tmp_path / "b"
    with ExitStack() as stack:
        take_folder(tmp_path / "b", read_record(tmp_path / "b"), "seed: 1\n", stack)
    assert newest_to_resume(tmp_path, "classification", "make demo") == tmp_path / "b"


def test_without_runs_the_message_names_a_command_that_makes_one(tmp_path):
    make_run(tmp_path / "parts", "01", "part segmentation")
    with pytest.raises(InputError, match=r"no classification run under .* yet: make one with `make demo`"):
        newest_to_resume(tmp_path, "classification", "make demo")


def newest_classifier(root: Path) -> Path:
    return newest_run(root, "classification".__eq__, "classification run", "make demo")


def test_of_runs_with_weights_the_one_that_began_last_is_the_newest_too(tmp_path):
    first, last = make_run(tmp_path / "first", "10"), make_run(tmp_path / "seeds", "20", seeds=(0,)) / "seed0"
    make_run(last, "21")
    for folder in (last, first):
        make_weights(folder)
    os.utime(last / "model.safetensors", (0, 0))
    make_run(tmp_path / "stopped", "30")
    make_weights(make_run(tmp_path / "parts", "40", "part segmentation"))
    assert newest_classifier(tmp_path) == last


def test_of_weights_alone_those_written_last_are_the_newest(tmp_path):
    for name, time in (("a", 1e9), ("b", 2e9), ("c", 1.5e9)):
        content = bytearray(make_weights(tmp_path / name).read_bytes())
        content[-4:] = b"\xff" * 4  # a weight that is not a number: only the head is read
        (tmp_path / name / "model.safetensors").write_bytes(content)
        os.utime(tmp_path / name / "model.safetensors", (time, time))
    assert newest_classifier(tmp_path) == tmp_path / "b"


@pytest.mark.parametrize("folder", ["empty", "missing", "other"])
def test_without_weights_the_message_names_a_command_that_makes_a_run(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    make_run(tmp_path / "other", "01")
    with pytest.raises(InputError, match=r"there is no classification run under .* yet: make one with `make demo`"):
        newest_classifier(tmp_path / folder)


def test_a_folder_that_cannot_be_written_is_named_in_one_sentence(tmp_path):
    words = r"gone cannot be trained in: No such file or directory \(run\.json\)"
    with pytest.raises(InputError, match=words), lock(tmp_path / "gone"):
        pass
    one = Fabric(accelerator="cpu", devices=1)
    with pytest.raises(InputError, match="gone cannot be used: No such file or directory"):
        on_rank_zero(one, (tmp_path / "gone").rmdir)


def test_a_folder_is_locked_by_one_process_until_that_ends(tmp_path):
    run = make_run(tmp_path / "run", "01")
    with locked_by_another(run):
        with pytest.raises(InputError, match="another process trains in .*run now"), lock(run):
            pass
        with pytest.raises(InputError, match="another process trains"), ExitStack() as stack:
            take_folder(run, read_record(run), "seed: 9\n", stack)
        assert (run / "config.yaml").read_text() == "seed: 0\n"
    with lock(run):
        pass


def test_what_killed_programs_of_this_machine_left_half_written_is_removed_and_nothing_else(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    own = [f".c.pt.{host_name()}.{number}.tmp" for number in (dead.pid, os.getpid())]
    others = [
        f".c.pt.{host_name()}.{os.getppid()}.tmp",
        f".c.pt.elsewhere.{dead.pid}.tmp",
        "c.pt",
        ".c.tmp",
        ".x.y.z.tmp",
    ]
    for name in [*own, *others]:
        (tmp_path / name).write_text("half")
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)


def test_a_run_that_goes_on_loses_what_was_left_half_written_and_no_more(tmp_path):
    run = make_run(tmp_path / "run", "01")
    (run / f".checkpoint.pt.{host_name()}.{os.getpid()}.tmp").write_text("half")
    with ExitStack() as stack:
        take_folder(run, Record("classification", read_record(run).began, (0, 1)), "seed: 1\n", stack)
    assert sorted(path.name for path in run.iterdir()) == ["config.yaml", RECORD]
    assert read_record(run).seeds == (0, 1)
    assert (run / "config.yaml").read_text() == "seed: 1\n"


def test_the_weights_of_the_last_epoch_or_of_the_best_are_chosen_by_name(tmp_path):
    last = make_weights(tmp_path)
    with pytest.raises(InputError, match="no weights chosen on validation: train with --data.val_fraction"):
        weights_file(tmp_path, "best")
    best = make_weights(tmp_path, "best_on_val")
    assert (weights_file(tmp_path), weights_file(tmp_path, "best"), weights_file(last)) == (last, best, last)
    assert [words_of(path) for path in (last, best, Path("a.safetensors"))] == [
        "last",
        "best on validation",
        "a.safetensors",
    ]
    with pytest.raises(InputError, match="--weights best needs a run folder"):
        weights_file(last, "best")


def test_of_a_run_of_several_seeds_one_is_to_be_named(tmp_path):
    for seed in (0, 1):
        make_weights(tmp_path / f"seed{seed}")
    for which in ("last", "best"):
        with pytest.raises(InputError, match=r"contains a run for each seed: name one of \S+seed0, \S+seed1$"):
            weights_file(tmp_path, which)


def test_a_run_that_is_not_there_is_said_with_the_nearest_one(tmp_path):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo/run.json").write_text("{}")
    with pytest.raises(InputError, match="no run folder or weights file .*/dem; did you mean 'demo'"):
        weights_file(tmp_path / "dem")
    with pytest.raises(InputError, match="no run folder or weights file .*/other$"):
        weights_file(tmp_path / "other")


def test_a_file_is_refused_as_the_folder_of_a_run(tmp_path: Path):
    (path := tmp_path / "notes.txt").write_text("mine")
    for place in (path, Path("/dev/full")):
        with pytest.raises(InputError, match=f"{place} is a file: --run_dir names the folder of the run"):
            check_free(place)
