import os
import pickle
from pathlib import Path

import pytest
import torch

from bixt3d.datasets.clouds import cache
from bixt3d.datasets.clouds.meshes import ModelNetMeshes
from bixt3d.types import CloudSet, InputError

TETRAHEDRON = "0 0 0\n2 0 0\n0 2 0\n0 0 2\n3 0 1 2\n3 0 1 3\n3 0 2 3\n3 1 2 3\n"
SQUARE = "0 0 5\n1 0 5\n1 1 5\n0 1 5\n4 0 1 2 3"  # one face of four corners, no newline at the end


def assert_normalized(clouds: CloudSet) -> None:
    assert clouds.xyz.mean(dim=1).abs().max() < 1e-5
    assert torch.allclose(clouds.xyz.norm(dim=2).amax(dim=1), torch.ones(len(clouds)), atol=1e-5)


@pytest.fixture
def meshes(tmp_path) -> Path:
    pytest.importorskip("torch_geometric.datasets", reason="needs torch-geometric", exc_type=ImportError)
    for split, number in (("train", 1), ("test", 2)):
        for name, text in (("chair", f"OFF4 4 0\n{TETRAHEDRON}"), ("bed", f"OFF\n# a square\n4 1 0\n{SQUARE}")):
            path = tmp_path / f"ModelNet10/raw/{name}/{split}/{name}_000{number}.off"
            path.parent.mkdir(parents=True)
            path.write_text(text)
    return tmp_path


def sampled(root: Path, **arguments: object) -> ModelNetMeshes:
    return ModelNetMeshes(str(root), **({"num_points": 100, "stored_points": 200, "features": "normal"} | arguments))


def test_extensions_may_be_in_capitals(meshes):
    before = sampled(meshes, stored_points=100).load()[0]
    for path in meshes.glob("ModelNet10/raw/*/*/*.off"):
        path.rename(path.with_suffix(".OFF"))
    assert sampled(meshes, stored_points=100).load()[0].xyz.equal(before.xyz)


def test_meshes_become_clouds_on_their_faces(meshes):
    train, test = sampled(meshes).load()
    assert train.class_names == ("bed", "chair")
    assert train.label.tolist() == test.label.tolist() == [0, 1]
    assert train.xyz.shape == train.feats.shape == (2, 200, 3)
    assert_normalized(train)
    assert train.xyz[0, :, 2].abs().max() < 1e-5  # the square is flat
    assert train.feats[0].abs().sum(dim=0).tolist() == [0, 0, 200]
    sides = {tuple(normal) for normal in train.feats[1].abs().round(decimals=3).tolist()}
    assert len(sides) == 4  # of the tetrahedron of the file that begins with "OFF4 4 0"


def test_the_seed_decides_about_the_points_and_the_global_generator_does_not(meshes):
    first = sampled(meshes).load()[0].xyz
    state = torch.get_rng_state()
    for path in (meshes / "ModelNet10").glob("*.safetensors"):
        path.unlink()
    assert torch.equal(sampled(meshes).load()[0].xyz, first)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(sampled(meshes, seed=1).load()[0].xyz, first)


def test_meshes_are_sampled_once(meshes):
    first = sampled(meshes).load()[0]
    for path in meshes.rglob("*.off"):
        found = path.stat()
        path.write_text("x" * found.st_size)
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert torch.equal(sampled(meshes, features="").load()[0].xyz, first.xyz)
    assert sampled(meshes, features="").load()[0].feats.shape == (2, 200, 0)


def test_a_changed_mesh_is_noticed(meshes):
    first = sampled(meshes).load()[0].xyz.clone()
    path = meshes / "ModelNet10/raw/bed/train/bed_0001.off"
    path.write_text(path.read_text().replace("1 1 5", "9 9 5"))
    again = sampled(meshes).load()[0].xyz
    assert not torch.equal(again[0], first[0]) and torch.equal(again[1], first[1])
    assert len(list(meshes.rglob("*.safetensors"))) == 2  # train and test: the old one is gone


def test_a_new_mesh_is_noticed(meshes):
    sampled(meshes).load()
    (meshes / "ModelNet10/raw/bed/train/bed_0009.off").write_text(f"OFF\n4 4 0\n{TETRAHEDRON}")
    assert sampled(meshes).load()[0].label.tolist() == [0, 0, 1]


def test_a_zip_unpacked_by_hand_has_no_raw_folder(meshes):
    (meshes / "ModelNet10/raw").rename(meshes / "ModelNet40")
    assert sampled(meshes, name="40").load()[0].label.tolist() == [0, 1]


def test_meshes_on_a_disk_that_cannot_be_written_are_cached_elsewhere(meshes, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(meshes / "home"))
    monkeypatch.setattr(cache.os, "access", lambda path, mode: "ModelNet10" not in str(path))
    sampled(meshes).load()
    assert len(list((meshes / "home/bixt3d").rglob("*.safetensors"))) == 2
    assert [path.name for path in (meshes / "ModelNet10").iterdir()] == ["raw"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it does not begin with OFF"),
        ("ply\n", "it does not begin with OFF"),
        ("OFF\n4 4 0\n0 0 0\n", "it ends before its 4 vertices and 4 faces"),
        ("OFF\n", ""),
        ("OFF\n3 1 0\n0 0 0\n1 1 1\n2 2 2\n3 0 1 2\n", ""),  # no area
        ("OFF\n3 1 0\n0 0 0\n1 x 1\n2 2 0\n3 0 1 2\n", ""),
        ("OFF\n3 1 0\n0 0 0\n1 1 1\n2 2 0\n3 0 1 7\n", ""),
        ("OFF\n3 0 0\n0 0 0\n1 1 1\n2 2 0\n", ""),
    ],
)
def test_a_broken_mesh_is_named_and_leaves_no_cache(meshes, text, reason):
    path = meshes / "ModelNet10/raw/bed/test/bed_0002.off"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        sampled(meshes).load()
    assert str(caught.value).startswith(f"{path} is not a mesh that can be sampled: {reason}")
    assert list(meshes.rglob("*_test_*")) == []
    path.write_text(f"OFF4 4 0\n{TETRAHEDRON}")
    assert len(sampled(meshes).load()[1]) == 2


def test_nothing_is_fetched_where_meshes_are_missing(meshes):
    for path in meshes.rglob("test/*.off"):
        path.unlink()
    with pytest.raises(InputError, match=r"has no meshes in \*/test/\*.off"):
        sampled(meshes).load()


class Spy:
    """A pickle of this writes a file when it is loaded."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_no_pickle_is_opened_wherever_it_lies(meshes):
    """PyTorch Geometric loads the pickles in ``processed``."""
    first = sampled(meshes).load()[0].xyz.clone()  # not mapped from the file that is overwritten
    caches = list((meshes / "ModelNet10").glob("*.safetensors"))
    assert len(caches) == 2
    for path in [*caches, *(meshes / f"ModelNet10/processed/{name}.pt" for name in ("training", "test", "pre_filter"))]:
        path.parent.mkdir(exist_ok=True)
        torch.save(Spy(meshes / "ran"), path)
        assert torch.equal(sampled(meshes).load()[0].xyz, first)
        path.write_bytes(pickle.dumps(Spy(meshes / "ran")))
        assert torch.equal(sampled(meshes).load()[0].xyz, first)
    assert not (meshes / "ran").exists()
    pickle.loads(path.read_bytes())
    assert (meshes / "ran").exists()  # it would have


def test_a_mesh_far_from_the_origin_is_sampled_as_one_at_the_origin(meshes):
    near = sampled(meshes).load()[0].xyz
    for path in (meshes / "ModelNet10").glob("*.safetensors"):
        path.unlink()
    for path in meshes.rglob("*.off"):
        head, counts, *lines = path.read_text().replace("OFF4", "OFF\n4").replace("# a square\n", "").splitlines()
        for place in range(4):
            x, y, z = map(int, lines[place].split())
            lines[place] = f"{x + 500_000} {y + 5_400_000} {z + 100}"
        path.write_text("\n".join((head, counts, *lines)))
    assert (sampled(meshes).load()[0].xyz - near).abs().max() < 1e-5


def test_classes_that_are_only_tested_on_are_named(meshes):
    path = meshes / "ModelNet10/raw/lamp/test/lamp_0001.off"
    path.parent.mkdir(parents=True)
    path.write_text(f"OFF\n4 4 0\n{TETRAHEDRON}")
    with pytest.raises(InputError, match="has meshes of lamp to test on, but none to train on"):
        sampled(meshes).load()
