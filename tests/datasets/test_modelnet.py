import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from bixt3d.datasets.clouds import cache, modelnet
from bixt3d.datasets.clouds.meshes import ModelNetMeshes
from bixt3d.datasets.clouds.modelnet import ModelNetHDF5, ModelNetNormals
from bixt3d.datasets.files import hdf5 as hdf5_reading
from bixt3d.types import CloudSet, InputError

REAL = Path(__file__).parents[2].parent / "shared/data"


def real(folder: str) -> Path:
    if not (REAL / folder).is_dir():
        pytest.skip(f"real data are absent: {REAL / folder}")
    return REAL / folder


def assert_normalized(clouds: CloudSet) -> None:
    assert clouds.xyz.mean(dim=1).abs().max() < 1e-5
    assert torch.allclose(clouds.xyz.norm(dim=2).amax(dim=1), torch.ones(len(clouds)), atol=1e-5)


# HDF5 files


def write_hdf5(path: Path, num_clouds: int = 4, num_points: int = 8, **changed: np.ndarray | None) -> None:
    random = np.random.default_rng(len(path.name))
    arrays = {
        "data": random.normal(size=(num_clouds, num_points, 3)).astype(np.float32),
        "label": np.arange(num_clouds, dtype=np.uint8)[:, None] % 2,
    }
    with h5py.File(path, "w") as file:
        for name, array in (arrays | changed).items():
            if array is not None:
                file[name] = array


@pytest.fixture
def hdf5(tmp_path) -> Path:
    (tmp_path / "shape_names.txt").write_text("bed\nchair\n")
    (tmp_path / "train_files.txt").write_text("data/elsewhere/a.h5\n/abs/b.h5\n")
    (tmp_path / "test_files.txt").write_text("c.h5\n")
    for name, num_clouds in (("a.h5", 4), ("b.h5", 3), ("c.h5", 2)):
        write_hdf5(tmp_path / name, num_clouds)
    return tmp_path


def test_the_files_of_the_lists_are_read_in_order_wherever_their_author_had_them(hdf5):
    train, test = ModelNetHDF5(str(hdf5), num_points=8).load()
    assert (len(train), len(test)) == (7, 2)
    assert train.class_names == ("bed", "chair")
    assert train.label.tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert train.feats.shape == (7, 8, 0)
    assert_normalized(train)


def test_labels_without_a_second_axis_are_read_too(hdf5):
    write_hdf5(hdf5 / "c.h5", 2, label=np.array([1, 0], dtype=np.int64))
    assert ModelNetHDF5(str(hdf5), num_points=8).load()[1].label.tolist() == [1, 0]


def test_normals_of_length_1_become_feats_to_the_bit_and_others_are_scaled(hdf5):
    normal = np.random.default_rng(0).normal(size=(4, 8, 3))
    normal = (normal / np.linalg.norm(normal, axis=2, keepdims=True)).astype(np.float32)
    wrong = normal.copy()
    wrong[0, 1:] *= 3
    for name, num_clouds in (("a.h5", 4), ("b.h5", 3), ("c.h5", 2)):
        write_hdf5(hdf5 / name, num_clouds, normal=normal[:num_clouds])
    train, test = ModelNetHDF5(str(hdf5), num_points=8, features="normal").load()
    assert np.array_equal(train.feats[:4], normal)
    assert np.array_equal(test.feats, normal[:2])
    for name, features in (("normal", "normal"), ("axis", "axis:normal")):
        for path, num_clouds in (("a.h5", 4), ("b.h5", 3), ("c.h5", 2)):
            write_hdf5(hdf5 / path, num_clouds, **{name: wrong[:num_clouds]})
        feats = ModelNetHDF5(str(hdf5), num_points=8, features=features).load()[0].feats[:4]
        assert np.array_equal(feats[0, 0], normal[0, 0]) and np.array_equal(feats[1:], normal[1:])
        np.testing.assert_allclose(feats, normal, atol=1e-6)


def bad_value(index: tuple[int, ...], value: float) -> np.ndarray:
    data = np.random.default_rng(0).normal(size=(4, 8, 3)).astype(np.float32)
    data[index] = value
    return data


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"data": bad_value((3,), np.nan)}, "cloud 3 of {path} has no point with a position: all are NaN or infinite"),
        ({"data": bad_value((2,), 0)}, "cloud 2 of {path} has all its points in one place"),
        ({"label": np.array([0, 1, 2, 0])}, "cloud 2 of {path} has a label outside the 2 classes of shape_names.txt"),
        ({"label": np.array([0, -1, 2, 0])}, "cloud 1 of {path} has a label outside the 2 classes of shape_names.txt"),
        ({"label": np.array([0, 1])}, "{path} must contain one integer label for each of its 4 clouds"),
        ({"label": np.array([0.0, 1, 1, 0])}, "{path} must contain one integer label for each of its 4 clouds"),
        ({"label": None}, "{path} has no dataset 'label' (it has data)"),
        ({"data": None, "points": np.zeros(3)}, "{path} has no dataset 'data' (it has label, points)"),
        (
            {"data": np.zeros((4, 8, 2), np.float32)},
            "{path} must contain data of shape (clouds, points, 3) as floats, not float32 (4, 8, 2)",
        ),
        (
            {"data": bad_value((0, 0, 0), 0)[:, :7]},
            "asked for 8 points, but the clouds of {path} have 7; set --data.num_points to at most 7",
        ),
    ],
)
def test_each_fault_of_a_file_is_one_sentence_with_its_name(hdf5, changed, sentence):
    write_hdf5(hdf5 / "a.h5", **changed)
    with pytest.raises(InputError) as caught:
        ModelNetHDF5(str(hdf5), num_points=8).load()
    assert str(caught.value) == sentence.format(path=hdf5 / "a.h5")


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({}, "{path} has no dataset 'normal' (it has data, label); leave it out of --data.features to do without"),
        ({"normal": np.zeros((4, 7, 3))}, "{path} has data of shape (4, 8, 3), but normal of shape (4, 7, 3)"),
        (
            {"normal": bad_value((1, 0, 0), np.inf)},
            "{path} has normal that is not finite (an empty cell, NaN): give them a number, take them out, or train "
            "without normal",
        ),
    ],
)
def test_normals_that_are_asked_for_must_be_there(hdf5, changed, sentence):
    (hdf5 / "train_files.txt").write_text("a.h5\n")
    write_hdf5(hdf5 / "a.h5", **changed)
    with pytest.raises(InputError) as caught:
        ModelNetHDF5(str(hdf5), num_points=8, features="normal").load()
    assert str(caught.value) == sentence.format(path=hdf5 / "a.h5")


def test_files_of_different_sizes_are_refused(hdf5):
    write_hdf5(hdf5 / "b.h5", num_points=9)
    with pytest.raises(InputError, match=r"b.h5 have 9 points, but those of .*a.h5 have 8"):
        ModelNetHDF5(str(hdf5), num_points=8).load()


@pytest.mark.parametrize("content", [b"", b"<html>", None])
def test_a_truncated_or_foreign_file_is_named(hdf5, content):
    path = hdf5 / "a.h5"
    path.write_bytes(path.read_bytes()[:-200] if content is None else content)
    with pytest.raises(InputError, match=r"a.h5 cannot be read as HDF5"):
        ModelNetHDF5(str(hdf5), num_points=8).load()


@pytest.mark.parametrize("name", ["a.h5", "shape_names.txt", "test_files.txt"])
def test_a_missing_file_is_named(hdf5, name):
    (hdf5 / name).unlink()
    with pytest.raises(InputError, match=f"{name} is missing"):
        ModelNetHDF5(str(hdf5), num_points=8).load()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (ModelNetHDF5, ("download modelnet40 --root", "huggingface.co", "modelnet40_ply_hdf5_2048.zip")),
        (ModelNetNormals, ("download modelnet40_normals --root", "modelnet40_normal_resampled.tar.gz")),
        (ModelNetMeshes, ("download modelnet10_meshes --root", "princeton.edu", "ModelNet10.zip")),
    ],
)
def test_without_data_one_sentence_says_how_to_get_them_or_do_without(source, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        source().load()
    assert all(
        word in str(caught.value) for word in (*words, "by hand", "bixt3d download --layouts", "--cfg shapes_cls")
    )
    assert list(tmp_path.iterdir()) == []


def test_the_readers_import_neither_h5py_nor_torch_geometric():
    check = "import sys, bixt3d.datasets.clouds.modelnet, bixt3d.datasets.clouds.meshes\n"
    check += "print([name for name in ('h5py', 'torch_geometric') if name in sys.modules])"
    environment = os.environ | {"PYTHONPATH": str(Path(modelnet.__file__).parents[3])}
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, env=environment, check=True)
    assert result.stdout.strip() == "[]"


def test_the_real_modelnet10_is_whole():
    train, test = ModelNetHDF5(str(real("modelnet10_ply_hdf5_1024"))).load()
    assert (len(train), len(test), len(train.class_names)) == (3991, 908, 10)
    assert test.label.bincount().tolist() == [50, 100, 100, 86, 86, 100, 86, 100, 100, 100]
    assert_normalized(train)


# text files with normals


def write_texts(root: Path, subset: str = "modelnet40", num_lines: int = 20) -> Path:
    random = np.random.default_rng(0)
    (root / f"{subset}_shape_names.txt").write_text("bed\nnight_stand\n")
    (root / f"{subset}_train.txt").write_text("night_stand_0001\nbed_0001\n")
    (root / f"{subset}_test.txt").write_text("night_stand_0002\n")
    for name, cloud in (("night_stand", "night_stand_0001"), ("bed", "bed_0001"), ("night_stand", "night_stand_0002")):
        (root / name).mkdir(exist_ok=True)
        np.savetxt(root / name / f"{cloud}.txt", random.normal(size=(num_lines, 6)), "%.6f", ",")
    return root


def texts(root: Path, **arguments: object) -> ModelNetNormals:
    return ModelNetNormals(str(root), **({"num_points": 8, "stored_points": 16, "features": "normal"} | arguments))


@pytest.mark.parametrize("subset", ["modelnet40", "modelnet10"])
def test_the_class_is_the_name_without_its_number(tmp_path, subset):
    train, test = texts(write_texts(tmp_path, subset), subset=subset).load()
    assert (train.label.tolist(), test.label.tolist()) == ([1, 0], [1])
    assert train.xyz.shape == train.feats.shape == (2, 16, 3)
    assert_normalized(train)


def test_normals_keep_to_their_points_and_points_are_distinct(tmp_path):
    write_texts(tmp_path)
    line = np.arange(20.0)
    lines = np.stack([line, 0 * line, 0 * line, 3 * np.cos(line / 10), 3 * np.sin(line / 10), 0 * line], 1)
    np.savetxt(tmp_path / "bed/bed_0001.txt", lines, "%.6f", ",")
    bed = texts(tmp_path).load()[0]
    x, y, _ = bed.feats[1].T
    torch.testing.assert_close(x.square() + y.square(), torch.ones(16))
    found = (10 * torch.atan2(y, x)).round()
    assert len(set(found.tolist())) == 16 and found.tolist() != sorted(found.tolist())
    # the coordinates are those of the same lines
    assert torch.corrcoef(torch.stack([found, bed.xyz[1, :, 0]]))[0, 1] > 0.9999


def test_without_normals_feats_are_empty_and_the_cache_serves_both(tmp_path):
    write_texts(tmp_path)
    with_normals, without = texts(tmp_path).load()[0], texts(tmp_path, features="").load()[0]
    assert without.feats.shape == (2, 16, 0)
    assert torch.equal(with_normals.xyz, without.xyz)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2  # train and test


def test_the_second_read_comes_from_the_cache(tmp_path):
    first = texts(write_texts(tmp_path)).load()
    for path in tmp_path.glob("*/*.txt"):
        path.unlink()
    second = texts(tmp_path).load()
    assert all(torch.equal(a.xyz, b.xyz) and torch.equal(a.feats, b.feats) for a, b in zip(first, second, strict=True))
    assert list(tmp_path.glob(".*")) == []


def test_a_changed_list_or_number_of_points_is_read_anew(tmp_path):
    texts(write_texts(tmp_path)).load()
    (tmp_path / "modelnet40_train.txt").write_text("bed_0001\n")
    assert len(texts(tmp_path).load()[0]) == 1
    assert texts(tmp_path, stored_points=9).load()[0].xyz.shape[1] == 9


def test_a_broken_cache_is_read_anew(tmp_path):
    before = texts(write_texts(tmp_path)).load()[0].xyz.clone()  # the file that it is mapped from is overwritten
    for path in tmp_path.glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:100])
    assert torch.equal(texts(tmp_path).load()[0].xyz, before)


def test_a_folder_that_cannot_be_written_gets_its_cache_elsewhere(tmp_path, monkeypatch):
    root = tmp_path / "read_only"
    root.mkdir()
    write_texts(root)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(cache.os, "access", lambda path, mode: Path(path) != root)
    texts(root).load()
    assert len(list((tmp_path / "home/bixt3d").glob("read_only_*/*.safetensors"))) == 2
    assert list(root.glob("*.safetensors")) == []


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "{path} is missing"),
        ("1,2,3,0,0,1\n" * 5, "asked for 16 stored points, but {path} has 5; set --data.stored_points to at most 5"),
        ("1,2,3\n" * 20, "{path} must contain lines of six finite numbers x,y,z,nx,ny,nz"),
        ("1,2,nan,0,0,1\n" * 20, "{path} must contain lines of six finite numbers x,y,z,nx,ny,nz"),
        ("1,2,3,0,0,1\n" * 20, "cloud 0 of {path} has all its points in one place"),
        ("1,2,x,0,0,1\n" * 20, "{path} must contain lines of x,y,z,nx,ny,nz: "),
    ],
)
def test_each_fault_of_a_text_is_one_sentence_with_its_name(tmp_path, content, sentence):
    path = write_texts(tmp_path) / "bed/bed_0001.txt"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(InputError) as caught:
        texts(tmp_path).load()
    assert str(caught.value).startswith(sentence.format(path=path))
    assert list(tmp_path.glob("*.safetensors")) == []


def test_an_unknown_class_and_too_many_points_are_refused(tmp_path):
    write_texts(tmp_path)
    with pytest.raises(InputError, match="set --data.stored_points to at least 17"):
        texts(tmp_path, num_points=17).load()
    (tmp_path / "modelnet40_train.txt").write_text("sofa_0001\n")
    with pytest.raises(InputError, match="lists sofa_0001, but 'sofa' is not a class name"):
        texts(tmp_path).load()


def test_the_real_sample_with_normals_is_read(tmp_path):
    source = real("modelnet40_normal_resampled_sample")
    for path in source.iterdir():  # links, so that the cache is written here
        (tmp_path / path.name).symlink_to(path)
    train, test = ModelNetNormals(str(tmp_path), features="normal").load()
    assert (len(train), len(test), len(train.class_names)) == (9, 14, 40)
    assert train.label.tolist() == [0, 0, 0, 1, 1, 1, 3, 3, 3]
    assert train.feats.shape == (9, 2048, 3)
    unit_mask = (train.feats.norm(dim=2) - 1).abs() < 1e-2
    assert unit_mask.float().mean() > 0.999  # the files give (1, 1, 1) for a few points on faces without area
    assert_normalized(test)


def test_a_set_far_from_the_origin_is_the_set_at_the_origin(hdf5):
    """float32 has steps of 0.5 m at 5,000 km."""
    clouds = np.random.default_rng(0).normal(size=(4, 8, 3))
    found = []
    for shift in ([0, 0, 0], [500_000, 5_400_000, 100]):
        write_hdf5(hdf5 / "a.h5", data=clouds + shift)
        found.append(ModelNetHDF5(str(hdf5), num_points=8).load()[0].xyz[:4])
    assert (found[0] - found[1]).abs().max() < 1e-6


def test_a_text_set_far_from_the_origin_is_the_set_at_the_origin(tmp_path):
    near = texts(write_texts(tmp_path)).load()[0].xyz
    for path in tmp_path.glob("bixt3d_*"):
        path.unlink()
    for path in tmp_path.glob("*/*.txt"):
        table = np.loadtxt(path, delimiter=",") + [500_000, 5_400_000, 100, 0, 0, 0]
        np.savetxt(path, table, "%.6f", ",")
    assert (texts(tmp_path).load()[0].xyz - near).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("cloud", "fault"),
    [
        (np.full((8, 3), 7.0), "has all its points in one place"),
        (np.array([[0, 0, 0], [0, 0, 5e-324]]).repeat(4, 0), "is too small or too large to be scaled"),
        (np.array([[0, 0, 0], [0, 0, 1e300]]).repeat(4, 0), "has all its points in one place"),  # 1e300: no position
    ],
)
def test_a_cloud_that_cannot_be_scaled_is_named(hdf5, cloud, fault):
    data = np.random.default_rng(0).normal(size=(4, 8, 3))
    data[2] = cloud
    write_hdf5(hdf5 / "a.h5", data=data)
    with pytest.raises(InputError, match=f"cloud 2 of .*a.h5 {fault}"):
        ModelNetHDF5(str(hdf5), num_points=8).load()


def test_a_cloud_of_two_distinct_points_stays(hdf5):
    data = np.random.default_rng(0).normal(size=(4, 8, 3))
    data[1] = np.array([[0, 0, 0], [0, 0, 1e-30]]).repeat(4, 0)
    write_hdf5(hdf5 / "a.h5", data=data)
    cloud = ModelNetHDF5(str(hdf5), num_points=8).load()[0].xyz[1]
    assert cloud[:, 2].tolist() == [-1] * 4 + [1] * 4


def test_colors_are_scaled_by_the_brightest_of_a_file_however_it_is_read(hdf5, monkeypatch):
    rgb = np.zeros((4, 8, 3), np.uint8)
    rgb[0], rgb[3] = 255, 1
    write_hdf5(hdf5 / "a.h5", rgb=rgb)
    for path in (hdf5 / "b.h5", hdf5 / "c.h5"):
        write_hdf5(path, 1, rgb=rgb[:1])
    monkeypatch.setattr(hdf5_reading, "BLOCK_BYTES", 1)  # a cloud at a time
    feats = ModelNetHDF5(str(hdf5), num_points=8, features="rgb").load()[0].feats
    assert feats[0].eq(1).all() and torch.allclose(feats[3], torch.tensor(1 / 255))


def test_colors_without_a_type_that_says_it_have_one_unit_in_all_files_of_a_set(hdf5):
    for path, value in (("a.h5", 51.0), ("b.h5", 1.0), ("c.h5", 51.0)):
        write_hdf5(hdf5 / path, 4, rgb=np.full((4, 8, 3), value, np.float32))
    feats = ModelNetHDF5(str(hdf5), num_points=8, features="rgb").load()[0].feats
    assert torch.allclose(feats[0], torch.tensor(0.2)) and torch.allclose(feats[-1], torch.tensor(1 / 255))


def test_the_unit_of_float_colors_is_one_for_training_and_test_and_is_said(hdf5):
    for path in hdf5.glob("*.h5"):
        write_hdf5(path, 4, rgb=np.full((4, 8, 3), 0.5, np.float32))
    listed = (hdf5 / "test_files.txt").read_text().split()
    train, test = ModelNetHDF5(str(hdf5), num_points=8, features="rgb").load()
    assert train.feats.eq(0.5).all() and test.feats.eq(0.5).all() and train.notes == ()
    write_hdf5(hdf5 / Path(listed[0]).name, 4, rgb=np.full((4, 8, 3), 51, np.float32))
    train, test = ModelNetHDF5(str(hdf5), num_points=8, features="rgb").load()
    assert torch.allclose(train.feats, torch.tensor(0.5 / 255)) and torch.allclose(test.feats[0], torch.tensor(0.2))
    assert train.notes == test.notes == ("rgb: colors taken for 0 to 255 in all files of the set",)


def test_a_dataset_that_comes_twice_and_a_scalar_too_far_from_0_are_refused(hdf5):
    for path in ("a.h5", "b.h5", "c.h5"):
        write_hdf5(hdf5 / path, 4, color=np.zeros((4, 8, 3)), rgb=np.zeros((4, 8, 3)), gps_time=3e8 + np.eye(4, 8))
    with pytest.raises(InputError, match="a.h5 has color, rgb, which all mean rgb: keep one of them"):
        ModelNetHDF5(str(hdf5), num_points=8, features="rgb").load()
    with pytest.raises(InputError, match="gps_time from 300000000 to 300000001, too far from 0 for its spread: subt"):
        ModelNetHDF5(str(hdf5), num_points=8, features="gps_time").load()
