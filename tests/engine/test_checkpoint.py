"""Files are written whole or not at all, damaged ones are named, and loading runs no code of a file."""

import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from bixt3d.engine.checkpoint import load_checkpoint, must_fit, save_checkpoint, write_json, write_text
from bixt3d.io.weights import fit_weights, load_weights, save_weights
from bixt3d.io.writing import WriteError, host_name, write_whole, writing
from bixt3d.types import InputError


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_text_is_written_into_folders_that_do_not_exist_yet(tmp_path):
    write_json(tmp_path / "a" / "b.json", {"x": [1, 2]})
    assert (tmp_path / "a" / "b.json").read_text() == '{\n  "x": [\n    1,\n    2\n  ]\n}\n'
    assert files(tmp_path / "a") == ["b.json"]


@pytest.mark.parametrize("error", [OSError("the cable is out"), RuntimeError("PytorchStreamWriter failed")])
def test_a_writer_that_fails_half_way_leaves_the_old_file(tmp_path, error):
    def half(path: Path):
        path.write_text("ha")
        raise error

    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(InputError, match=r"could not write .*a\.txt: (the cable|Pytorch)") as caught:
        write_whole(tmp_path / "a.txt", half)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "a.txt").read_text() == "old"
    assert files(tmp_path) == ["a.txt"]


def test_a_file_is_flushed_to_the_disk_before_it_replaces_the_old_one(tmp_path, monkeypatch):
    done = []

    def synced(handle: int) -> None:
        name = Path(os.readlink(f"/proc/self/fd/{handle}")).name
        done.append("folder" if name == tmp_path.name else "file")
        os.fdatasync(handle)

    def replaced(one: Path, other: Path) -> None:
        done.append("replaced")
        os.rename(one, other)

    if not Path("/proc/self/fd").exists():
        pytest.skip("this system does not name open files")
    monkeypatch.setattr("bixt3d.io.writing.os.fsync", synced)
    monkeypatch.setattr("bixt3d.io.writing.os.replace", replaced)
    save_checkpoint(tmp_path / "c.pt", {"epoch": 1})
    assert done == ["file", "replaced", "folder"]


def test_a_new_file_replaces_no_other(tmp_path):
    write_whole(tmp_path / "a.txt", lambda path: path.write_text("first"), new=True)
    with pytest.raises(InputError, match=r"a\.txt: there is one already"):
        write_whole(tmp_path / "a.txt", lambda path: path.write_text("second"), new=True)
    assert (tmp_path / "a.txt").read_text() == "first"
    assert files(tmp_path) == ["a.txt"]


def test_equal_weights_are_equal_files(tmp_path):
    metadata = {"task": "naps", "config": "long: 1\n", "class_names": '["a", "ü"]', "up": "y", "more": "x"}
    for i in range(8):
        save_weights(tmp_path / f"{i}", {"b": torch.arange(3), "a": torch.ones(2, dtype=torch.float64)}, metadata)
    assert len({(tmp_path / f"{i}").read_bytes() for i in range(8)}) == 1
    weights, found = load_weights(tmp_path / "0")
    assert found == metadata
    assert weights["b"].tolist() == [0, 1, 2] and weights["a"].tolist() == [1, 1]


def test_an_interrupted_writer_leaves_nothing_either(tmp_path):
    def stopped(path: Path):
        path.write_text("ha")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "a.txt", stopped)
    assert files(tmp_path) == []


def test_space_is_advised_only_where_the_disk_is_full(tmp_path):
    def fail(error: Exception):
        def write(path: Path):
            raise error

        return write

    with pytest.raises(InputError, match=r"could not write .*a.txt: the disk is full; free some space or"):
        write_whole(tmp_path / "a.txt", fail(RuntimeError("I/O error: No space left on device (os error 28)")))
    with pytest.raises(InputError, match=r"could not write .*a.txt: Read-only file system; choose another folder$"):
        write_whole(tmp_path / "a.txt", fail(OSError(30, "Read-only file system")))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full on this system")
def test_a_full_disk_is_named_in_the_message(tmp_path):
    def full(path: Path):
        with open("/dev/full", "w") as file:
            file.write("x")

    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(InputError, match="the disk is full; free some space"):
        write_whole(tmp_path / "a.txt", full)
    assert (tmp_path / "a.txt").read_text() == "old"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full on this system")
@pytest.mark.parametrize("error", [RuntimeError("IoError: Failed to call write"), OSError("9 requested and 0 written")])
def test_a_full_disk_is_named_where_a_library_hides_it(tmp_path, error):
    def fail(path: Path):
        path.symlink_to("/dev/full")
        raise error

    with pytest.raises(WriteError, match="the disk is full; free some space"):
        write_whole(tmp_path / "a.laz", fail)
    with pytest.raises(WriteError, match="the disk is full; free some space"), writing(tmp_path / "b"):
        (tmp_path / "b").symlink_to("/dev/full")
        raise OSError(str(error))
    assert files(tmp_path) == ["b"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full on this system")
def test_a_checkpoint_that_does_not_fit_on_the_disk_gets_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("bixt3d.io.writing.os.getpid", lambda: "full")
    (tmp_path / f".a.pt.{host_name()}.full.tmp").symlink_to("/dev/full")  # the file that is written before it is moved
    with pytest.raises(InputError, match="could not write") as caught:
        save_checkpoint(tmp_path / "a.pt", {"w": torch.zeros(100_000)})
    assert "\n" not in str(caught.value)
    assert files(tmp_path) == []
    assert Path("/dev/full").is_char_device()


@pytest.mark.parametrize("place", ["file", "file/deeper", "/proc/nobody/here"])
def test_a_place_that_takes_no_files_is_refused_with_one_sentence(tmp_path, place):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="could not write") as caught:
        write_text(tmp_path / place / "a.txt", "x")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="could not write"):
        save_weights(tmp_path / place / "a.safetensors", {"w": torch.zeros(1)}, {})
    assert (tmp_path / "file").read_text() == "in the way"


def training_state(weight: torch.Tensor) -> dict:
    training = {"model": {"w": weight}, "optimizer": {}, "schedule": {}, "average": None}
    return {"epoch": 3, "seconds": 1.5, "rows": [{"loss": 0.5}], "learner": training}


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    state = training_state(torch.arange(3.0))
    save_checkpoint(tmp_path / "c.pt", state)
    loaded = load_checkpoint(tmp_path / "c.pt")
    assert loaded["learner"]["model"]["w"].tolist() == [0, 1, 2]
    assert (loaded["epoch"], loaded["rows"], loaded["learner"]["average"]) == (3, [{"loss": 0.5}], None)


@pytest.mark.parametrize(
    "harm",
    [
        {"epoch": "3"},
        {"epoch": -1},
        {"epoch": True},
        {"seconds": None},
        {"seconds": float("nan")},
        {"rows": {"loss": 1.0}},
        {"rows": [{"loss": "low"}]},
        {"rows": [{3: 1.0}]},
        {"learner": None},
        {"learner": {"model": {}}},
        {"learner": {"model": {"w": "x"}, "optimizer": {}, "schedule": {}}},
    ],
    ids=str,
)
def test_a_checkpoint_with_other_content_is_refused_with_one_sentence(tmp_path, harm):
    save_checkpoint(tmp_path / "c.pt", training_state(torch.zeros(1)) | harm)
    with pytest.raises(InputError, match=r"c\.pt is not a checkpoint of bixt3d, or it is damaged: it") as caught:
        load_checkpoint(tmp_path / "c.pt")
    assert "\n" not in str(caught.value)


def test_a_state_that_fits_nothing_is_refused_with_one_sentence(tmp_path):
    layer = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    with (
        pytest.raises(InputError, match=r"c\.pt does not fit this run, or it is damaged") as caught,
        must_fit(tmp_path / "c.pt"),
    ):
        optimizer.load_state_dict({"state": [], "param_groups": []})
    assert "\n" not in str(caught.value)


def test_figures_that_are_not_finite_are_not_written_as_json(tmp_path):
    with pytest.raises(InputError, match="a figure is not a finite number"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert files(tmp_path) == []


def test_weights_come_back_with_their_metadata(tmp_path):
    save_weights(tmp_path / "w.safetensors", {"w": torch.arange(6.0).view(2, 3).T}, {"task": "naps"})
    weights, metadata = load_weights(tmp_path / "w.safetensors")
    assert weights["w"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert metadata == {"task": "naps"}


@pytest.mark.parametrize(
    ("load", "save"),
    [
        (load_checkpoint, lambda path, weights: save_checkpoint(path, training_state(weights["w"]))),
        (load_weights, save_weights),
    ],
)
@pytest.mark.parametrize("harm", ["missing", "folder", "empty", "garbage", "truncated"])
def test_a_file_that_is_missing_or_broken_is_named(tmp_path, load, save, harm):
    path = tmp_path / "w.bin"
    save(path, {"w": torch.randn(1000)}, *([{}] if save is save_weights else []))
    whole = path.read_bytes()
    path.unlink()
    if harm == "folder":
        path.mkdir()
    elif harm != "missing":
        path.write_bytes({"empty": b"", "garbage": b"\x93junk" * 99, "truncated": whole[: len(whole) // 2]}[harm])
    with pytest.raises(InputError, match=r"w\.bin") as caught:
        load(path)
    assert "\n" not in str(caught.value)


class Trap:
    """Unpickling this writes a file."""

    def __reduce__(self):
        return Path.write_text, (Path(TRAP[0]), "code of the file was run")


TRAP = [""]


def test_loading_a_checkpoint_runs_no_code_of_the_file(tmp_path):
    TRAP[0] = str(tmp_path / "sprung")
    torch.save({"epoch": Trap()}, tmp_path / "evil.pt")
    with pytest.raises(InputError, match="not a checkpoint"):
        load_checkpoint(tmp_path / "evil.pt")
    assert not (tmp_path / "sprung").exists()
    pickle.loads(pickle.dumps(Trap()))
    assert (tmp_path / "sprung").exists()  # the trap works


def test_a_compressed_checkpoint_which_may_be_larger_than_the_memory_is_refused(tmp_path):
    save_checkpoint(tmp_path / "c.pt", {"w": torch.zeros(100_000)})
    with zipfile.ZipFile(tmp_path / "c.pt") as plain, zipfile.ZipFile(tmp_path / "bomb.pt", "w", 8) as bomb:
        for one in plain.namelist():
            bomb.writestr(one, plain.read(one))
    assert (tmp_path / "bomb.pt").stat().st_size < 10_000
    with pytest.raises(InputError, match=r"bomb\.pt is not a checkpoint"):
        load_checkpoint(tmp_path / "bomb.pt")


def test_weights_that_fit_are_taken():
    model = nn.Linear(2, 1)
    fit_weights(model, {"weight": torch.tensor([[3.0, 4]]), "bias": torch.tensor([5.0])}, "here")
    assert model(torch.ones(1, 2)).item() == 12


@pytest.mark.parametrize(
    ("foreign", "what"),
    [
        ({"weight": torch.ones(1, 2)}, "1 tensors missing, 0 unknown, 0 of another shape .such as bias"),
        ({"weight": torch.ones(1, 2), "bias": torch.ones(1), "more": torch.ones(1)}, "0 tensors missing, 1 unknown"),
        ({"weight": torch.ones(1, 3), "bias": torch.ones(1)}, "1 of another shape .such as weight"),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_change_nothing(foreign, what):
    model = nn.Linear(2, 1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(InputError, match=f"here contains the weights of another model: .*{what}"):
        fit_weights(model, foreign, "here")
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())
