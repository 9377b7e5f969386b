"""Folders of people's own clouds: layouts, splits, mixed formats, broken files, the cache."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from bixt3d.datasets import CloudFolder
from bixt3d.datasets.clouds import folder_reading
from bixt3d.types import InputError

RNG = np.random.default_rng(0)
SMALL = {"num_points": 16, "stored_points": 32}


def write(path: Path, num_points: int = 40, columns: int = 3) -> Path:
    """Write a random cloud as .npy."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, RNG.random((num_points, columns)))
    return path


def folder(root: Path, *names: str, **options: int) -> Path:
    """Write a cloud for each name below a folder."""
    for name in names:
        write(root / name, **options)
    return root


def load(root: Path, **options):
    return CloudFolder(str(root), **SMALL | options).load()


def test_sub_folders_are_classes_and_splits(tmp_path: Path):
    root = folder(tmp_path, "train/cup/b.npy", "train/cup/deep/a.npy", "train/mug/a.NPY.npy", "test/mug/c.npy")
    train, test = load(root)
    assert train.class_names == ("cup", "mug") and train.label.tolist() == [0, 0, 1] and test.label.tolist() == [1]
    assert train.xyz.shape == (3, 32, 3)
    assert train.xyz.norm(dim=2).max() <= 1 + 1e-6


@pytest.mark.parametrize(
    ("names", "note"),
    [
        (("train/a/1.npy", "train/b/1.npy", "val/a/2.npy"), "the validation folder is the test set"),
        (("a/Train/1.npy", "b/Train/1.npy", "a/TEST/2.npy"), None),
        (("Training/a/1.npy", "Training/b/1.npy", "testing/a/2.npy"), None),
        (
            ("train/a/1.npy", "train/b/1.npy", "val/a/2.npy", "test/b/3.npy"),
            "1 cloud of the validation folder not used",
        ),
        (
            ("train/a/1.npy", "train/b/1.npy", "test/a/2.npy", "more/x.npy"),
            "1 file in none of the folders of the splits",
        ),
        (("train/a/1.npy", "train/b/1.npy", "test/a/2.npy", "train/x.npy"), "1 file in no class folder, not used"),
    ],
)
def test_splits_go_by_many_names_and_what_is_left_out_is_said(tmp_path: Path, names: tuple[str, ...], note: str | None):
    train, test = load(folder(tmp_path, *names))
    assert (len(train), len(test)) == (2, 1)
    assert train.class_names == ("a", "b")
    assert note is None or any(note in one for one in train.notes)


def test_without_a_split_a_share_of_each_class_is_the_test_set(tmp_path: Path):
    root = folder(tmp_path, *(f"{name}/{number}.npy" for name in "ab" for number in range(5)))
    train, test = load(root, test_fraction=0.4)
    assert train.label.tolist() == [0] * 3 + [1] * 3 and test.label.tolist() == [0, 0, 1, 1]
    assert "no test folder: 40% of each class, drawn with seed 0, are the test set" in train.notes
    assert torch.equal(load(root, test_fraction=0.4)[1].xyz, test.xyz)
    assert not torch.equal(load(root, test_fraction=0.4, seed=1)[1].xyz, test.xyz)
    with pytest.raises(InputError, match="set --data.test_fraction"):
        load(root, test_fraction=0.0)


def test_a_list_names_files_labels_and_splits(tmp_path: Path):
    folder(tmp_path, "x/1.npy", "x/2.npy", "3.npy", ".hidden/4.npy")
    text = 'file,who,label,split\nx/1.npy,me,"cup, large",train\nx\\2.npy,me,mug,Train\n3.npy,you,mug,val\n'
    (tmp_path / "labels.csv").write_text("\ufeff" + text, encoding="utf-8")
    train, test = load(tmp_path)
    assert train.class_names == ("cup, large", "mug")
    assert train.label.tolist() == [0, 1] and test.label.tolist() == [1]


def test_a_list_may_name_files_elsewhere_and_those_without_a_split_are_named_whole(tmp_path: Path):
    elsewhere = write(tmp_path / "elsewhere/5.npy")
    root = folder(tmp_path / "set", "1.npy", "2.npy", "3.npy", "4.npy")
    lines = ["file,label,split", "1.npy,a,train", "2.npy,b,train", "3.npy,a,test", "4.npy,b,", f"{elsewhere},b,"]
    (root / "labels.csv").write_text("\n".join(lines))
    train, test = load(root)
    assert (len(train), len(test)) == (2, 1)
    assert f"2 files in none of the folders of the splits, not used: {elsewhere}, 4.npy" in train.notes
    (root / "labels.csv").write_text("\n".join(f"{line}train" if line.endswith(",") else line for line in lines))
    assert load(root)[0].label.tolist() == [1, 0, 1, 1]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("path,label\n1.npy,a\n", "must begin with the line file,label"),
        ("file,label\n", "names no files"),
        ("file,label\n1.npy,a\n1.npy,b\n", "names files more than once: .*1.npy"),
        ("file,label\n9.npy,a\n", "names files that are missing: .*9.npy"),
        (f"file,label\n{'n' * 300}.npy,a\n", "names files that are missing: .*/nnn"),
        ("file,label\n1.npy\n", "line 2: needs a file and a label"),
        ("file,label,split\n1.npy,a,dev\n", "line 2: has the split 'dev'"),
    ],
)
def test_a_wrong_list_is_refused_with_its_line(tmp_path: Path, text: str, fault: str):
    write(tmp_path / "1.npy")
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(InputError, match=fault):
        load(tmp_path)


def test_formats_mix_and_clouds_of_any_size_are_resampled(tmp_path: Path):
    root, box = tmp_path, trimesh.creation.box()
    for split in ("train", "test"):
        (root / split / "box").mkdir(parents=True)
        (root / split / "dust").mkdir()
        box.export(root / split / "box/a.STL")
        trimesh.PointCloud(RNG.random((50, 3))).export(root / split / "dust/b.ply")
        np.savetxt(root / split / "dust/c.XYZ", RNG.random((9, 3)))
    (root / "train/dust/.c.xyz.swp").write_text("hidden")
    train, _ = load(root)
    assert train.label.tolist() == [0, 1, 1]
    sides = train.xyz[0].abs().max(1).values
    assert torch.allclose(sides, sides[0], atol=0.02)  # all points lie on the surface of the box
    assert len(train.xyz[2].unique(dim=0)) == 9
    assert any(
        "2 of 6 clouds have fewer than 32 points (the smallest 9): points are repeated" in n for n in train.notes
    )
    assert any("sampled from the faces of a mesh: in 2 of 6 clouds" in note for note in train.notes)


def test_features_are_columns_by_name_and_missing_ones_name_their_files(tmp_path: Path):
    for split in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            values = RNG.random((40, 4))
            np.savez(tmp_path / split / name / "1.npz", xyz=values[:, :3], intensity=values[:, 3], other=values[:, 0])
    train, _ = load(tmp_path, features="intensity")
    assert train.feats.shape == (2, 32, 1) and "columns that are not read: other" in train.notes
    write(tmp_path / "train/b/2.npy")
    with pytest.raises(InputError, match=r"1 of 5 files .* train/b/2.npy has no intensity \(it has no features\)"):
        load(tmp_path, features="intensity")
    train, _ = load(tmp_path, features="normal")
    assert torch.allclose(train.feats.norm(dim=2), torch.ones(3, 32), atol=1e-3)
    assert "normals estimated: in all of 5 clouds" in train.notes


def test_broken_files_are_listed_and_left_out_only_on_demand(tmp_path: Path):
    root = folder(tmp_path, "train/a/1.npy", "train/b/1.npy", "test/a/2.npy")
    (root / "train/a/empty.ply").write_bytes(b"")
    (root / "train/b/words.xyz").write_text("no points here")
    with pytest.raises(InputError, match=r"2 of 5 files .*train/a/empty.ply is empty; train/b/words.xyz contains no"):
        load(root)
    train, _ = load(root, skip_broken=True)
    assert len(train) == 2 and any(
        note.startswith("2 files left out: train/a/empty.ply is empty") for note in train.notes
    )


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        ((), "has no files to train on .*: put clouds and meshes into train/CLASS/"),
        (("train/a/1.npy", "test/b/2.npy"), "has clouds of b to test on, but none to train on"),
        (("test/b/2.npy",), "has no clouds to train on"),
        (("1.npy", "2.npy"), "has no files to train on"),
    ],
)
def test_a_folder_that_cannot_be_trained_on_is_refused(tmp_path: Path, names: tuple[str, ...], fault: str):
    with pytest.raises(InputError, match=fault):
        load(folder(tmp_path, *names))
    with pytest.raises(InputError, match="there is no folder"):
        load(tmp_path / "nowhere")


def test_files_are_read_once_and_a_changed_folder_makes_a_new_cache(tmp_path: Path, monkeypatch):
    root = folder(tmp_path, "train/a/1.npy", "train/b/1.npy", "test/a/2.npy")
    first, _ = load(root)
    (cache,) = root.glob("bixt3d_clouds_*.safetensors")
    with monkeypatch.context() as patch:
        patch.setattr(folder_reading, "read_file", None)  # calling it would fail
        again, _ = load(root)
    assert torch.equal(again.xyz, first.xyz) and again.notes == first.notes
    load(root, seed=1)
    assert len([*root.glob("bixt3d_clouds_*.safetensors")]) == 2  # other settings
    write(root / "train/a/1.npy")
    os.utime(root / "train/a/1.npy", ns=(1, 1))
    changed, _ = load(root)
    assert not torch.equal(changed.xyz[0], first.xyz[0]) and torch.equal(changed.xyz[1], first.xyz[1])
    assert not cache.exists() and len([*root.glob("bixt3d_clouds_*.safetensors")]) == 2


def test_a_cloud_far_from_the_origin_keeps_its_digits(tmp_path: Path):
    xyz = RNG.random((40, 3))
    for split, name, shift in (("train", "a", 0), ("train", "b", 5e6), ("test", "a", 0)):
        write(tmp_path / split / name / "1.npy")
        np.save(tmp_path / split / name / "1.npy", xyz + shift)
    train, _ = load(tmp_path)
    assert torch.allclose(train.xyz[0], train.xyz[1], atol=1e-6)


def test_the_points_are_prepared_as_for_prediction(tmp_path: Path):
    from bixt3d.datasets.clouds.preparing import prepare_cloud
    from bixt3d.datasets.files.reader import read_file
    from bixt3d.types import NO_FEATURES

    root = folder(tmp_path, "train/a/1.npy", "train/b/1.npy", "test/a/2.npy", num_points=100)
    (cloud,) = read_file(root / "train/a/1.npy")
    xyz, index, _ = prepare_cloud(cloud, NO_FEATURES, 32, "z", "z")
    assert torch.equal(load(root)[0].xyz[0], xyz[0, index])


def test_files_that_are_not_read_are_said_but_for_those_beside_the_data(tmp_path: Path):
    root = folder(tmp_path, "train/a/1.npy", "train/b/1.npy", "test/a/2.npy")
    said = ("train/a/2.xyz.gz", "train/a/scan.e57.zip", "b.bin")
    never = (".DS_Store", "train/a/Thumbs.db", "train/a/.1.npy.swp", "README.md", "LICENSE", "classes.yaml", "a.labels")
    for name in (*said, *never, "bixt3d_scenes/x", "train/.git/config", "train/b/scene.bin"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    (root / "train/b/scene.gltf").write_text('{"asset": {"version": "2.0"}}')
    (root / "train/a/broken.xyz").symlink_to(root / "nowhere")
    train, _ = load(root, skip_broken=True)
    assert [note for note in train.notes if "not read" in note] == [
        "3 files of other kinds not read: b.bin, train/a/2.xyz.gz, train/a/scan.e57.zip",
        "1 link to missing files not read: train/a/broken.xyz",
    ]


def test_linked_class_folders_are_followed_once(tmp_path: Path):
    root = folder(tmp_path / "set", "train/a/1.npy", "test/a/2.npy")
    write(tmp_path / "elsewhere/3.npy")
    (root / "train/b").symlink_to(tmp_path / "elsewhere")
    (root / "train/a/loop").symlink_to(root)
    train, test = load(root)
    assert train.class_names == ("a", "b") and (len(train), len(test)) == (2, 1)


@pytest.mark.parametrize("length", [200, 2000])
def test_the_names_of_files_in_long_folders_are_said_and_messages_are_short(tmp_path: Path, length: int):
    folders = "/".join(["a" * 49] * (length // 50))
    (tmp_path / "labels.csv").write_text(f"file,label\n{folders}/last.npy,a\n")
    with pytest.raises(InputError, match=r"names files that are missing: \S*a/last\.npy$") as caught:
        load(tmp_path)
    assert (f"{folders}/last.npy" in str(caught.value)) == (length < 500) and len(str(caught.value)) < 1000
