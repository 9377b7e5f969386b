"""``bixt3d data check`` and ``convert``: what is wrong with a folder, how to train on it, and the same set as HDF5."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from bixt3d.cli import data
from bixt3d.cli.choice import find
from bixt3d.cli.data_scenes import scene_commands
from bixt3d.datasets import ModelNetHDF5, PartHDF5
from bixt3d.datasets.clouds.poses import find_poses
from bixt3d.datasets.files.las_new import write_las
from bixt3d.datasets.scenes.folder import SceneFolder
from bixt3d.datasets.shapes.shapes import make_shape
from bixt3d.tasks.command import parse_command
from bixt3d.types import VOID, InputError

RNG = np.random.default_rng(0)


@pytest.fixture
def clouds(tmp_path: Path) -> Path:
    """Return a folder of small clouds of two classes."""
    root = tmp_path / "my clouds"
    for split, number in (("train", 4), ("test", 2)):
        for name in ("chair", "lamp"):
            (root / split / name).mkdir(parents=True)
            for place in range(number):
                xyz = make_shape(name, 60, RNG)[0]
                np.savetxt(root / split / name / f"{place}.xyz", np.c_[xyz, xyz[:, :1]], header="x y z intensity")
    return root


def test_check_finds_a_duplicate_a_broken_file_and_an_empty_class(clouds: Path, capsys):
    shutil.copy(clouds / "train/chair/0.xyz", clouds / "test/chair/copy.xyz")
    np.save(clouds / "test/lamp/again.npy", np.loadtxt(clouds / "train/lamp/1.xyz")[::-1, :3])
    (clouds / "train/lamp/broken.ply").write_bytes(b"ply\n")
    (clouds / "train/sofa").mkdir()
    assert data.main(["check", str(clouds)]) == 0
    said = capsys.readouterr().out
    assert ["chair", "4", "3", "60", "60", "60"] in [line.split() for line in said.splitlines()]
    for words in (
        "14 clouds in 15 files, 2 classes",
        "intensity  13 of 14",
        "empty class: train/sofa",
        "broken: train/lamp/broken.ply ",
        "duplicate in training and test: train/chair/0.xyz and test/chair/copy.xyz (the same file)",
        "duplicate in training and test: train/lamp/1.xyz and test/lamp/again.npy (the same geometry)",
        "fewer than 10 clouds to train on: chair (4), lamp (4)",
        "columns that some clouds lack: intensity",
        "spacing",
        f"bixt3d train cls --cfg folder_cls --data.root '{clouds}'",
        "--data.skip_broken true",
        f"bixt3d predict '{clouds}/test'",
    ):
        assert words in said
    assert "--data.features" not in said


def test_check_names_files_that_are_not_read(clouds: Path, tmp_path: Path, capsys):
    (clouds / "train/lamp/5.xyz.gz").touch()
    assert data.main(["check", str(clouds)]) == 0
    assert "  note: 1 file of other kinds not read: train/lamp/5.xyz.gz\n" in capsys.readouterr().out
    scenes = scenes_of(tmp_path / "scenes", [2, 6], [2, 6])
    (scenes / "train/2.ptx").touch()
    (scenes / "classes.yaml").write_text("labels: {2: ground, 6: building}")
    assert data.main(["check", str(scenes)]) == 0
    assert "  note: 1 file of other kinds not read: train/2.ptx\n" in capsys.readouterr().out


def test_check_names_the_columns_that_can_be_features(clouds: Path, capsys):
    assert data.main(["check", str(clouds)]) == 0
    assert "every cloud has intensity: the model reads them with --data.features intensity" in capsys.readouterr().out


def test_check_ends_with_code_2_for_what_cannot_be_trained_on(clouds: Path, capsys):
    for split in ("train", "test"):
        shutil.rmtree(clouds / split / "lamp")
    assert data.main(["check", str(clouds)]) == 2
    assert "cannot train: there is one class alone (chair)" in capsys.readouterr().out
    for path in (clouds / "test").rglob("*.xyz"):
        path.write_text("nothing")
    assert data.main(["check", str(clouds)]) == 2
    assert "cannot train: there is no cloud to test on that can be used" in capsys.readouterr().out
    with pytest.raises(InputError, match="there is no folder"):
        data.main(["check", str(clouds / "nowhere")])


def test_check_counts_the_labels_of_parts(tmp_path: Path, capsys):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        np.savez(tmp_path / split / "1.npz", xyz=RNG.random((40, 3)), label=np.repeat([0, 7], [10, 30]))
    assert data.main(["check", str(tmp_path)]) == 0  # no class folders: parts
    said = capsys.readouterr().out
    assert ["object", "7", "75.0%", "75.0%"] in [line.split() for line in said.splitlines()]
    assert f"bixt3d train partseg --cfg folder_partseg --data.root {tmp_path}" in said


def test_check_counts_points_without_a_label_and_says_labels_of_two_kinds(tmp_path: Path, capsys):
    for split, names in (("train", ("0", "1")), ("test", ("0", "leg"))):
        (tmp_path / split).mkdir()
        rows = "".join(f"{x},{y},{z},{[*names, ''][k % 3]}\n" for k, (x, y, z) in enumerate(RNG.random((30, 3))))
        (tmp_path / split / "1.csv").write_text("x,y,z,part\n" + rows)
    assert data.main(["check", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert ["object", "0", "50.0%", "50.0%"] in [line.split() for line in said.splitlines()]
    assert "  20 of 60 points have no label: not counted in loss and scores\n" in said
    assert "  some labels are numbers (0, 1) and others words (leg): each is a class of its own\n" in said
    np.savez(tmp_path / "test/2.npz", xyz=RNG.random((40, 3)), part=np.full(40, 2**63, np.uint64))
    data.main(["check", str(tmp_path)])
    fault = "not usable: test/2.npz has part with values above 9223372036854775807: are these labels?"
    assert fault in capsys.readouterr().out


def test_check_calls_no_file_broken_that_lacks_labels_and_names_its_own_option(tmp_path: Path, capsys):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        rows = "".join(f"{x},{y},{z},{'ab'[k % 2]}\n" for k, (x, y, z) in enumerate(RNG.random((30, 3))))
        (tmp_path / split / "1.csv").write_text("x,y,z,klasse\n" + rows)
    assert data.main(["check", str(tmp_path)]) == 2
    said = capsys.readouterr().out
    assert "  not usable: train/1.csv has no column of labels (it has klasse): name it by --label NAME" in said
    assert "broken" not in said and "cannot train: there is no cloud to train on that can be used" in said
    assert data.main(["check", str(tmp_path), "--label", "klasse"]) == 0


def test_check_counts_points_without_a_number_and_proposes_no_such_column(tmp_path: Path, capsys):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        cells = [f"{k % 9},{k % 7},{k % 3}" for k in range(40)]
        if split == "train":
            cells[3] = ",5,1"
        rows = "".join(f"{x},{y},{z},{cell}\n" for (x, y, z), cell in zip(RNG.random((40, 3)), cells, strict=True))
        (tmp_path / split / "1.csv").write_text("x,y,z,intensity,other,label\n" + rows)
    assert data.main(["check", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "  intensity has no number (an empty cell, NaN) in 1 of 80 points, in 1 cloud: fill it or" in said
    assert "--data.features other\n" in said and "--data.features intensity" not in said


def test_check_of_scenes_says_grid_and_points_without_a_class_and_the_command(tmp_path: Path, capsys):
    for split, number in (("train", 25_000), ("test", 20_000)):
        (tmp_path / split).mkdir()
        xyz = np.stack(np.divmod(np.arange(number), 100), 1) / 10
        np.savez(tmp_path / split / "1.npz", xyz=np.c_[xyz, 0 * xyz[:, :1]], label=np.arange(number) % 4)
    (tmp_path / "classes.yaml").write_text("labels: {0: ground, 1: grass, 3: tree}")
    assert data.main(["check", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "grid     0.3 for scenes (3 x the spacing): " in said and " voxels" in said
    assert "no class 25.0% of the points: labels 2, which classes.yaml gives no class\n" in said
    rows = [line.split() for line in said.splitlines()]
    assert ["object", "1", "grass", "25.0%", "25.0%"] in rows and ["object", "2", "-", "25.0%", "25.0%"] in rows
    command = f"bixt3d train scenes --cfg folder_scenes --data.root {tmp_path} --data.grid 0.3"
    assert command in said
    words = next(line for line in said.splitlines() if command in line).split()[3:]
    assert parse_command(find("scenes"), None, words)


def test_the_command_for_scenes_names_the_columns_that_models_read_and_computed_features():
    train, *_ = scene_commands(Path("a"), "class", [0.1, 0.3], ["gps_time", "intensity"], Path("a/train/1.laz"))
    assert train == (
        "bixt3d train scenes --cfg folder_scenes --data.root a --data.grid 0.6 --data.shape cylinder --data.features "
        "intensity,height,linearity:2,planarity:2,scattering:2,verticality:2 --data.label class"
    )


def scenes_of(root: Path, train: list[int], test: list[int]) -> Path:
    """Make a folder of a small LAS tile with these classifications in each split."""
    for split, labels in (("train", train), ("test", test)):
        (root / split).mkdir(parents=True)
        codes = np.resize(labels, 60).astype(np.uint8)
        write_las(root / split / "1.las", RNG.random((60, 3)) * 40, {"classification": codes[:, None]})
    return root


def test_check_takes_small_tiles_for_scenes_and_names_labels_that_are_only_tested(tmp_path: Path, capsys):
    assert data.main(["check", str(scenes_of(tmp_path, [2, 6], [2, 17]))]) == 0
    said = capsys.readouterr().out
    assert "bixt3d train scenes --cfg folder_scenes" in said and "--data.shape cylinder" in said
    assert "no class 25.0% of the points: labels 17, which no training scene has\n" in said


@pytest.mark.parametrize("kind", ["on a map", "labels beside", "neither"])
def test_check_takes_small_clouds_on_a_map_or_with_labels_beside_for_scenes_and_else_says_both(
    tmp_path: Path, capsys, kind: str
):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        xyz, label = RNG.random((60, 3)) * 40 + [5e5 * (kind == "on a map"), 0, 0], np.arange(60) % 2
        table = xyz if kind == "labels beside" else np.c_[xyz, label]
        np.savetxt(tmp_path / split / "1.txt", table, "%.3f", header="x y z label" if table.shape[1] > 3 else "x y z")
        if kind == "labels beside":
            np.savetxt(tmp_path / split / "1.labels", label, "%d")
    assert data.main(["check", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert f"  bixt3d train scenes --cfg folder_scenes --data.root {tmp_path} --data.grid " in said
    assert ("or, if these are scenes:\n" in said) == ("bixt3d train partseg" in said) == (kind == "neither")


def test_check_says_what_scenes_need_where_parts_lie_in_no_split(tmp_path: Path, capsys):
    for place in range(4):
        np.savez(tmp_path / f"{place}.npz", xyz=RNG.random((40, 3)), label=np.arange(40) % 2)
    assert data.main(["check", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "bixt3d train partseg" in said and "bixt3d train scenes" not in said
    assert "if these are scenes: there is no folder" in said and "put labelled scenes into train/ and test/" in said


def test_check_names_the_classes_that_no_point_has(tmp_path: Path, capsys):
    root = scenes_of(tmp_path, [2, 6], [2])
    (root / "classes.yaml").write_text("labels: {2: ground, 6: building, 66: car, 67: car}")
    assert data.main(["check", str(root)]) == 0
    said = capsys.readouterr().out
    assert "  classes without points to train on: car (66, 67)\n" in said
    assert "  classes without points to test on: building (6), car (66, 67)\n" in said


def test_check_refuses_scenes_that_training_would_refuse(tmp_path: Path, capsys):
    cases = {
        "there is one class alone (2)": scenes_of(tmp_path / "a", [2], [2, 6]),
        "no point to test on has one of the classes (2, 6), but 9": scenes_of(tmp_path / "b", [2, 6], [9]),
        "mend or remove 1 file: of scenes none are left out": (broken := scenes_of(tmp_path / "c", [2, 6], [2])),
        "put labelled scenes into train/ and test/": (unsplit := scenes_of(tmp_path / "d", [2, 6], [2])),
    }
    (broken / "train/2.las").write_bytes(b"LASF")
    for split in ("train", "test"):
        (unsplit / split / "1.las").rename(unsplit / f"{split}.las")
        (unsplit / split).rmdir()
    for words, root in cases.items():
        assert data.main(["check", str(root)]) == 2
        assert words in (said := capsys.readouterr().out), said
        if root.name != "a":  # training itself refuses one class
            with pytest.raises(InputError):
                SceneFolder(str(root)).load()


def test_check_reads_the_column_that_classes_yaml_names_and_labels_beside_the_points(tmp_path: Path, capsys):
    for split in ("train", "test"):
        (tmp_path / split / "street").mkdir(parents=True)
        np.savetxt(tmp_path / split / "street/1.txt", RNG.random((40, 3)))
        (tmp_path / split / "street/1.labels").write_text("7\n8\n" * 20)
        np.savez(tmp_path / split / "2.npz", xyz=RNG.random((40, 3)), label=np.arange(40), own=np.full(40, 7))
    (tmp_path / "classes.yaml").write_text("labels: {7: ground, 8: tree}")
    assert data.main(["check", str(tmp_path)]) == 0
    assert "no class 47.5% of the points: labels 0, 1, 10" in (said := capsys.readouterr().out)
    assert "bixt3d train scenes" in said
    shutil.rmtree(tmp_path / "train/street")
    shutil.rmtree(tmp_path / "test/street")
    (tmp_path / "classes.yaml").write_text("{label: none, labels: {7: ground, 8: tree}}")
    assert data.main(["check", str(tmp_path)]) == 2
    assert "2.npz has no column none" in capsys.readouterr().out
    (tmp_path / "classes.yaml").write_text("{label: own, labels: {7: ground, 8: tree}}")
    assert data.main(["check", str(tmp_path)]) == 0
    assert ["object", "7", "ground", "100.0%", "100.0%"] in [
        line.split() for line in capsys.readouterr().out.splitlines()
    ]


def turned(xyz: np.ndarray, upright: bool) -> np.ndarray:
    """Return a cloud turned about z or about all axes."""
    if upright:
        angle = RNG.uniform(0, 2 * np.pi)
        x, y, z = xyz.T
        return np.stack([x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle), z], axis=1)
    rotation, upper = np.linalg.qr(RNG.normal(size=(3, 3)))
    return xyz @ (rotation * np.sign(np.diag(upper)))


def test_the_rotation_that_a_set_needs_is_told_by_its_poses():
    names = ("chair", "lamp", "airplane", "mug", "car")
    aligned = [[make_shape(name, 100, RNG)[0][:, [2, 0, 1]] for _ in range(8)] for name in names]  # y up to z up
    found = {
        "none": find_poses(aligned),
        "z": find_poses([[turned(xyz, True) for xyz in own] for own in aligned]),
        "so3": find_poses([[turned(xyz, False) for xyz in own] for own in aligned]),
    }
    assert {name: poses.rotate for name, poses in found.items()} == {name: name for name in found}
    assert find_poses([[aligned[0][0]] * 2]) is None


def test_a_converted_folder_loads_as_hdf5_and_nothing_is_overwritten(clouds: Path, tmp_path: Path, capsys):
    command = ["convert", str(clouds), str(tmp_path / "out"), "--points", "64", "--features", "intensity"]
    data.main(command)
    said = capsys.readouterr().out
    assert "wrote 8 clouds to train on and 4 to test on" in said and "--data ModelNetHDF5" in said
    train, test = ModelNetHDF5(str(tmp_path / "out"), 64, "intensity", up="z").load()
    assert train.class_names == ("chair", "lamp") and len(test) == 4 and train.feats.shape == (8, 64, 1)
    with pytest.raises(InputError, match="train.h5 exists already: name another OUT"):
        data.main(command)


def test_parts_convert_to_a_file_of_the_given_name(tmp_path: Path):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        np.savez(tmp_path / split / "1.npz", xyz=RNG.random((40, 3)), label=np.repeat([0, 5, 7], [10, 10, 20]))
    data.main(["convert", str(tmp_path), str(tmp_path / "new/mine.h5"), "--points=32", "--parts", "--ignore=0"])
    with h5py.File(tmp_path / "new/mine.h5") as file:
        assert file["data"].shape == (1, 32, 3)
    train, _ = PartHDF5(str(tmp_path / "new"), 32, up="z").load()
    assert train.part_names == ("5", "7") and train.parts.unique().tolist() == [VOID, 0, 1]
    assert isinstance(train.parts, torch.Tensor)


def test_check_counts_a_set_in_hdf5_and_takes_its_lists_for_no_clouds(clouds: Path, tmp_path: Path, capsys):
    out = tmp_path / "out"
    data.main(["convert", str(clouds), str(out), "--points=64"])
    capsys.readouterr()
    assert data.main(["check", str(out)]) == 0
    said = capsys.readouterr().out
    assert f"{out}: 12 clouds in HDF5, as ModelNetHDF5 reads them, of 64 points\n" in said and "broken" not in said
    assert ["chair", "4", "2"] in [line.split() for line in said.splitlines()]
    command = f"bixt3d train cls --cfg folder_cls --data ModelNetHDF5 --data.root {out} --data.num_points 64"
    assert f"  {command}\n" in said and parse_command(find("cls"), None, command.split()[3:])
    (out / "shape_names.txt").write_text("chair\nlamp\nsofa\n")
    data.main(["check", str(out)])
    assert "  no clouds to train on: sofa\n  no clouds to test on: sofa\n" in capsys.readouterr().out
    (out / "test.h5").unlink()
    with pytest.raises(InputError, match="test.h5 is missing"):
        data.main(["check", str(out)])


def test_check_counts_a_set_of_parts_in_hdf5(tmp_path: Path, capsys):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        np.savez(tmp_path / split / "1.npz", xyz=RNG.random((40, 3)), label=np.repeat([0, 5], 20))
    data.main(["convert", str(tmp_path), str(tmp_path / "new"), "--points=32", "--parts"])
    assert data.main(["check", str(tmp_path / "new")]) == 0
    said = capsys.readouterr().out
    assert ["object", "1", "1"] in [line.split() for line in said.splitlines()]
    assert "bixt3d train partseg --cfg folder_partseg --data PartHDF5 --data.root" in said


def test_an_unknown_action_is_refused(capsys):
    with pytest.raises(InputError, match="there is no action 'chek'; did you mean 'check'"):
        data.main(["chek"])
    with pytest.raises(SystemExit):
        data.main(["--help"])
    assert "labels.csv" in capsys.readouterr().out
