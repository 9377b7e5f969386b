"""Data sets are mapped from disk where several processes or a large set need it, and read with little memory."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from small_disk import largest_file
from torch import distributed

from bixt3d.datasets.clouds import cache
from bixt3d.datasets.clouds.modelnet import ModelNetHDF5
from bixt3d.datasets.clouds.part_hdf5 import PartHDF5
from bixt3d.datasets.clouds.source import CloudSource
from bixt3d.types import CloudSet, InputError

PACKAGE = Path(cache.__file__).parents[3]
HDF5: dict[str, Callable[[Path], CloudSource]] = {
    "ModelNetHDF5": lambda root: ModelNetHDF5(str(root), num_points=16, features="normal,heat"),
    "PartHDF5": lambda root: PartHDF5(str(root), num_points=16, features="normal,heat"),
}


def write_set(root: Path, num_clouds: int = 70, num_points: int = 16) -> None:
    """Write HDF5 files, in the layouts of both sources."""
    root.mkdir(exist_ok=True)
    for number, (name, count) in enumerate({"train.h5": num_clouds, "test.h5": 8}.items()):
        data = np.random.default_rng(number).random((count, num_points, 3), np.float32)
        with h5py.File(root / name, "w") as file:
            file["data"], file["normal"], file["heat"] = data, data, data[..., 0]
            file["label"], file["pid"] = np.zeros(count, int), (data[..., 1] > 0.5).astype(np.uint8)
    (root / "shape_names.txt").write_text("ball\n")
    (root / "seg_classes.json").write_text(json.dumps({"Ball": [0, 1]}))
    for split in ("train", "test"):
        (root / f"{split}_files.txt").write_text(f"{split}.h5\n")


def tensors_of(sets: tuple[CloudSet, ...]) -> list[torch.Tensor]:
    return [each for one in sets for each in (one.xyz, one.feats, one.label, one.parts) if each is not None]


@contextmanager
def two_processes() -> Iterator[None]:
    """Make this process the first of two, which never talk to each other."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    try:
        yield
    finally:
        distributed.destroy_process_group()


@pytest.mark.parametrize("name", HDF5)
def test_several_processes_map_the_clouds_that_one_reads(tmp_path, name):
    write_set(tmp_path)
    source = HDF5[name](tmp_path)
    alone = source.load()
    kind = "parts_" if name == "PartHDF5" else ""
    full = list(source.full_clouds()) if name == "PartHDF5" else []
    assert [one.notes for one in alone] == [(), ()] and list(tmp_path.glob("bixt3d_*")) == []
    with two_processes():
        for _ in range(2):  # written, found
            mapped = source.load()
            assert all(map(torch.equal, tensors_of(mapped), tensors_of(alone)))
            for split, one in zip(("train", "test"), mapped, strict=True):
                (note,) = one.notes
                assert note.startswith(f"0.0 GB of the data set are mapped from {tmp_path}/bixt3d_hdf5_{kind}{split}_")
        for one, other in zip(full, source.full_clouds() if full else (), strict=True):
            assert all(map(torch.equal, one, other))
    assert len(list(tmp_path.glob("bixt3d_*"))) == 2


@pytest.mark.parametrize("name", HDF5)
def test_a_set_too_large_for_the_memory_is_mapped_in_one_process_too(tmp_path, name, monkeypatch):
    write_set(tmp_path)
    alone = HDF5[name](tmp_path).load()
    monkeypatch.setattr(cache, "LARGEST_IN_MEMORY", 1e-9)
    mapped = HDF5[name](tmp_path).load()
    assert all(map(torch.equal, tensors_of(mapped), tensors_of(alone))) and "mapped from" in mapped[0].notes[0]


@pytest.mark.parametrize("name", HDF5)
def test_a_changed_hdf5_file_replaces_its_cache(tmp_path, name):
    write_set(tmp_path)
    with two_processes():
        first = HDF5[name](tmp_path).load()[0].xyz
        with h5py.File(tmp_path / "train.h5", "r+") as file:
            file["data"][0] = np.eye(16, 3)
        again = HDF5[name](tmp_path).load()[0].xyz
    assert not torch.equal(again[0], first[0]) and torch.equal(again[1:], first[1:])
    assert len(list(tmp_path.glob("bixt3d_*"))) == 2


@pytest.mark.parametrize("name", HDF5)
def test_a_cache_with_labels_out_of_range_is_written_again(tmp_path, name):
    write_set(tmp_path)
    with two_processes():
        expected = HDF5[name](tmp_path).load()
        for path in tmp_path.glob("bixt3d_*"):
            found = dict(cache.read_mapped(path, ""))
            found[next(key for key in ("parts", "label") if key in found)] += 100
            layout = {key: (each.dtype, tuple(each.shape)) for key, each in found.items()}
            facts = json.loads(path.read_bytes()[8:].split(b"  ")[0].split(b"}}")[0] + b"}}")["__metadata__"]
            source = facts["source"]

            def fill(allocate: cache.Allocate, layout: cache.Layout = layout, found: cache.Tensors = found) -> None:
                for key, each in allocate(layout).items():
                    each.copy_(found[key])

            cache.write_mapped(path, fill, source)
        assert all(map(torch.equal, tensors_of(HDF5[name](tmp_path).load()), tensors_of(expected)))


@pytest.mark.parametrize("name", HDF5)
def test_without_space_for_a_cache_each_process_reads_a_set_that_fits_and_says_so(tmp_path, name, monkeypatch):
    write_set(tmp_path)
    alone = HDF5[name](tmp_path).load()
    with two_processes(), largest_file(100):
        sets = HDF5[name](tmp_path).load()
        assert all(map(torch.equal, tensors_of(sets), tensors_of(alone)))
        assert "could not write" in sets[0].notes[0] and "into its own memory" in sets[0].notes[0]
        monkeypatch.setattr(cache, "LARGEST_IN_MEMORY", 1e-9)
        with pytest.raises(InputError, match="could not write .*bixt3d_hdf5_.*train"):
            HDF5[name](tmp_path).load()
    assert list(tmp_path.glob("*bixt3d_*")) == []


def test_a_cache_that_nobody_can_write_anywhere_is_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "home").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    (tmp_path / "set").mkdir(mode=0o555)
    with pytest.raises(
        InputError, match="set is read-only, and .* cannot be made for its cache .*: set XDG_CACHE_HOME"
    ):
        cache.cache_folder(tmp_path / "set")


def write_texts(root: Path, num_clouds: int, num_points: int) -> None:
    """Write a set of text files in the layouts of ModelNetNormals, ShapeNetPart and ModelNetMeshes."""
    points = np.random.default_rng(0).random((num_points, 6))
    text = "\n".join(",".join(f"{value:.4f}" for value in point) for point in points)
    names = [f"ball_{number}" for number in range(num_clouds)]
    for folder in (
        "ball",
        "04379243",
        "train_test_split",
        *(f"ModelNet10/ball/{split}" for split in ("train", "test")),
    ):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "modelnet40_shape_names.txt").write_text("ball\n")
    (root / "synsetoffset2category.txt").write_text("Table\t04379243\n")
    for split, listed in (("train", names), ("val", []), ("test", names[:1])):
        (root / f"modelnet40_{split}.txt").write_text("\n".join(listed))
        shapes = [f"shape_data/04379243/{name}" for name in listed]
        (root / f"train_test_split/shuffled_{split}_file_list.json").write_text(json.dumps(shapes))
    for name in names:
        for split in ("train", "test"):
            (root / f"ModelNet10/ball/{split}/{name}.off").write_text("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n")
        (root / f"ball/{name}.txt").write_text(text)
        (root / f"04379243/{name}.txt").write_text(text.replace(",", " ").replace("\n", " 47\n") + " 47\n")


MEASURE = """
import pathlib, re, sys
from bixt3d.datasets.clouds import cache, meshes, modelnet, part_hdf5, reading, shapenetpart
from bixt3d.datasets.files import hdf5
from bixt3d.datasets import ModelNetHDF5, ModelNetMeshes, ModelNetNormals, PartHDF5, ShapeNetPart
def memory(what):
    return 1024 * int(re.search(f"{what}:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
hdf5.BLOCK_BYTES = 1 << 18  # so that a small set shows it
highest = 0
def watched(function):  # anonymous memory alone: Linux does not record its maximum
    def call(*arguments, **named):
        global highest
        highest = max(highest, memory("RssAnon"))
        return function(*arguments, **named)
    return call
for module in (cache, meshes, modelnet, part_hdf5, reading, shapenetpart):
    for name in ("normalize_clouds", "unit_normals", "check_each", "feature_numbers", "fit_layout", "are_finite"):
        if hasattr(module, name):
            setattr(module, name, watched(getattr(module, name)))
texts, hdf5 = (ModelNetNormals, ShapeNetPart, ModelNetMeshes), (ModelNetHDF5, PartHDF5)
for mapped, make in [(1, each) for each in texts] + [(mapped, each) for mapped in (1, 0) for each in hdf5]:
    cache.LARGEST_IN_MEMORY = 0 if mapped else 1
    for folder in ("small", "large"):  # the small one brings all that is imported on the way
        pathlib.Path("/proc/self/clear_refs").write_text("5")  # forgets the highest so far
        before, anonymous, highest = memory("VmRSS"), memory("RssAnon"), 0
        sets = make(f"{sys.argv[1]}/{folder}", num_points=2048, features="normal").load()
        size = sum(t.nbytes for one in sets for t in (one.xyz, one.feats, one.label, one.parts) if t is not None)
        every, highest = memory("VmHWM") - before, max(highest, memory("RssAnon")) - anonymous
        del sets
    print(("mapped " if mapped else "") + make.__name__, every / size, highest / size, sep=",")
"""
"""Prints the highest memory, and the highest anonymous memory, while a set was read, as multiples of its size."""


@pytest.mark.slow
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="Linux alone says how much memory was used")
def test_a_set_takes_less_than_twice_its_size_while_it_is_read_and_less_than_its_size_if_it_is_mapped(tmp_path):
    pytest.importorskip("torch_geometric.datasets", reason="needs torch-geometric", exc_type=ImportError)
    for folder, num_clouds, num_texts in (("small", 8, 8), ("large", 600, 50)):
        write_set(tmp_path / folder, num_clouds, 2048)
        write_texts(tmp_path / folder, num_texts, 2048)
    environment = os.environ | {"PYTHONPATH": str(PACKAGE), "OMP_NUM_THREADS": "1"}
    environment["MALLOC_MMAP_THRESHOLD_"] = "65536"  # glibc gives freed memory back, so none is there to be used again
    command = [sys.executable, "-c", MEASURE, str(tmp_path)]
    lines = subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout.splitlines()
    print(lines)
    assert len(lines) == 7
    for kind, every, anonymous in (line.split(",") for line in lines):
        if kind.startswith("mapped"):
            assert float(anonymous) < (1 if kind.endswith("ShapeNetPart") else 0.5), lines
        else:
            assert 0.9 < float(every) < 2, lines
