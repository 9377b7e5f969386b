import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from bixt3d.datasets.clouds.part_hdf5 import PartHDF5
from bixt3d.datasets.clouds.shapenetpart import CLASS_PARTS, PART_NAMES
from bixt3d.types import InputError

REAL = Path(__file__).parents[3] / "shared/data/psb_partseg"
CUP_AND_TABLE = {"Cup": [0, 1], "Table": [2, 4, 3]}


def write_hdf5(path: Path, classes: list[int], num_points: int = 8, **changed: np.ndarray | None) -> None:
    """Write clouds whose normals are their points, and whose parts take turns along the points."""
    data = np.random.default_rng(len(path.name)).normal(size=(len(classes), num_points, 3)).astype(np.float32)
    pid = np.array([np.resize(list(CUP_AND_TABLE.values())[one], num_points) for one in classes], dtype=np.uint8)
    arrays = {"data": data, "normal": data, "label": np.array(classes, dtype=np.uint8)[:, None], "pid": pid}
    with h5py.File(path, "w") as file:
        for name, array in (arrays | changed).items():
            if array is not None:
                file[name] = array


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "seg_classes.json").write_text(json.dumps(CUP_AND_TABLE))
    for name, label in (("train.h5", [0, 1, 1]), ("val.h5", [0]), ("test.h5", [1, 0])):
        write_hdf5(tmp_path / name, label)
    return tmp_path


def parts_of(folder: Path, **arguments: object) -> PartHDF5:
    return PartHDF5(str(folder), **({"num_points": 8} | arguments))


def test_the_parts_of_every_category_are_numbered_by_the_json_file(folder):
    train, test = parts_of(folder).load()
    assert train.class_names == ("Cup", "Table") and train.label.tolist() == [0, 1, 1, 0]
    assert train.class_parts == {"Cup": (0, 1), "Table": (2, 4, 3)}
    assert [sorted(set(parts.tolist())) for parts in test.parts] == [[2, 3, 4], [0, 1]]


def test_parts_without_names_are_counted_within_their_category(folder):
    names = parts_of(folder).load()[0].part_names
    assert names == ("Cup/part 0", "Cup/part 1", "Table/part 0", "Table/part 2", "Table/part 1")
    given = ["Cup/body", "Cup/handle", "Table/leg", "Table/top", "Table/tray"]
    (folder / "part_names.json").write_text(json.dumps(given))
    assert parts_of(folder).load()[0].part_names == tuple(given)


def test_validation_clouds_are_trained_on_unless_they_are_left_out_or_absent(folder):
    assert len(parts_of(folder).load()[0]) == 4
    assert len(parts_of(folder, include_val=False).load()[0]) == 3
    (folder / "val.h5").unlink()
    assert len(parts_of(folder).load()[0]) == 3


def test_other_points_of_a_cloud_take_the_place_of_those_without_a_position_and_are_counted(folder, capsys):
    data = np.random.default_rng(0).normal(size=(2, 8, 3))
    data[0, [0, 5]], data[1, 7, 1] = np.nan, np.inf
    colors = np.where(np.isfinite(data), 0.5 + data / 10, np.nan)  # a camera that sees no point sees no color
    write_hdf5(folder / "test.h5", [1, 0], data=data, rgb=colors, pid=[[9, 2, 3, 4, 2, 9, 3, 4], [0, 1] * 3 + [1, 9]])
    for name, label in (("train.h5", [0, 1]), ("val.h5", [0])):
        write_hdf5(folder / name, label, rgb=np.full((len(label), 8, 3), 0.5))
    first, second = parts_of(folder, features="rgb").full_clouds()
    said = capsys.readouterr().err
    assert f"3 of the 16 points of {folder / 'test.h5'} are NaN, infinite or beyond 1e+18" in said
    assert "of the 8 points" not in said
    for (xyz, feats, parts), places in ((first, [1, 1, 2, 3, 4, 2, 6, 7]), (second, [0, 1, 2, 3, 4, 5, 6, 0])):
        for values in (xyz, feats, parts):
            assert torch.equal(values, values[places])
        assert feats.isfinite().all() and parts.max() < 5 and xyz.norm(dim=1).max() == pytest.approx(1)
    data[1] = np.nan
    write_hdf5(folder / "test.h5", [1, 0], data=data)
    with pytest.raises(InputError, match="cloud 1 of .*test.h5 has no point with a position"):
        parts_of(folder).load()


def test_normals_and_parts_keep_to_their_points(folder):
    source = parts_of(folder, features="normal")
    mixed = source.load()[1]
    for number, (xyz, feats, parts) in enumerate(source.full_clouds()):
        place = (mixed.xyz[number].unsqueeze(1) == xyz).all(dim=2).int().argmax(dim=1)
        assert sorted(place.tolist()) == list(range(8))
        assert torch.equal(mixed.feats[number], feats[place])
        assert torch.equal(mixed.parts[number], parts[place])


def test_the_first_points_are_spread_over_a_file_that_holds_them_part_after_part(folder):
    pid = np.repeat([[0, 1]], 500, axis=1).reshape(1, 1000)
    write_hdf5(folder / "test.h5", [0], 1000, pid=pid)
    first = parts_of(folder).load()[1].parts[0, :100]
    assert 0.3 < first.float().mean() < 0.7


def test_full_clouds_are_the_normalized_test_clouds_in_the_order_of_the_file(folder):
    full = list(parts_of(folder).full_clouds())
    with h5py.File(folder / "test.h5") as file:
        data, pid = torch.from_numpy(file["data"][()]), torch.from_numpy(file["pid"][()])
    centred = data - data.mean(dim=1, keepdim=True)
    expected = centred / centred.norm(dim=2).amax(dim=1)[:, None, None]
    torch.testing.assert_close(torch.stack([xyz for xyz, _, _ in full]), expected)
    assert torch.stack([parts for _, _, parts in full]).tolist() == pid.tolist()
    assert full[0][1].shape == (8, 0)


def test_the_layout_of_pointnet_has_lists_and_the_parts_of_shapenetpart(folder):
    for path in folder.glob("*.json"):
        path.unlink()
    lines = [f"{name}\t{number:08d}\n" for number, name in enumerate(CLASS_PARTS)]
    (folder / "all_object_categories.txt").write_text("".join(lines))
    for split, files in (("train", ["a.h5", "b.h5"]), ("val", ["c.h5"]), ("test", ["d.h5"])):
        (folder / f"{split}_hdf5_file_list.txt").write_text("".join(f"./{file}\n" for file in files))
    for name, label, part in (("a.h5", 2, 7), ("b.h5", 15, 48), ("c.h5", 0, 3), ("d.h5", 10, 35)):
        pid = np.full((1, 8), part, dtype=np.uint8)
        write_hdf5(folder / name, [0], label=np.array([[label]], dtype=np.uint8), pid=pid, normal=None)
    train, test = parts_of(folder).load()
    assert [train.class_names[label] for label in train.label] == ["Cap", "Table", "Airplane"]
    assert train.parts[:, 0].tolist() == [7, 48, 3] and test.parts[:, 0].tolist() == [35]
    assert (test.part_names, test.class_parts) == (PART_NAMES, CLASS_PARTS)
    (folder / "all_object_categories.txt").write_text("Face\t0\n")
    with pytest.raises(InputError, match=r"all_object_categories.txt does not list the 16 .*: write seg_classes.json"):
        parts_of(folder).load()


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"pid": None}, "{path} has no dataset 'pid' (it has data, label, normal)"),
        ({"pid": np.zeros((3, 7), int)}, "{path} must contain pid of shape (3, 8) as integers, not int64 (3, 7)"),
        ({"pid": np.zeros((3, 8))}, "{path} must contain pid of shape (3, 8) as integers, not float64 (3, 8)"),
        (
            {"pid": np.zeros((3, 8), int)},
            "cloud 1 of {path} has a point whose pid is no part of its category "
            "(parts are numbered over all categories)",
        ),
        ({"pid": np.array([[5]] * 3).repeat(8, 1)}, "cloud 0 of {path} has a point whose pid is no part of"),
        ({"pid": np.array([[-2]] * 3).repeat(8, 1)}, "cloud 0 of {path} has a point whose pid is no part of"),
        ({"pid": np.full((3, 8), 2**64 - 1, np.uint64)}, "cloud 0 of {path} has a point whose pid is no part of"),
        ({"label": np.array([0, 2, 1])}, "cloud 1 of {path} has a label outside the 2 classes of the set"),
        ({"data": np.zeros((3, 8, 3), np.float32)}, "cloud 0 of {path} has all its points in one place"),
        ({"normal": None}, "{path} has no dataset 'normal' (it has data, label, pid); leave it out"),
    ],
)
def test_each_fault_of_a_file_is_one_sentence_with_its_name(folder, changed, sentence):
    write_hdf5(folder / "train.h5", [0, 1, 1], **changed)
    with pytest.raises(InputError) as caught:
        parts_of(folder, features="normal").load()
    assert str(caught.value).startswith(sentence.format(path=folder / "train.h5"))


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("seg_classes.json", None, "{path} is missing: it says which parts each category has"),
        ("seg_classes.json", "{", "{path} cannot be read as JSON"),
        ("seg_classes.json", "[]", "{path} must give every category the list of its parts"),
        ("seg_classes.json", "{}", "{path} must give every category the list of its parts"),
        ("seg_classes.json", '{"Cup": [], "Table": [0]}', "{path} must give every category the list of its parts"),
        ("seg_classes.json", '{"Cup": [0, 1], "Table": [1, 2]}', "{path} must give every category the list"),
        ("seg_classes.json", '{"Cup": [1, 2]}', "{path} must give every category the list of its parts"),
        ("seg_classes.json", '{"Cup": [0, 1.0]}', "{path} must give every category the list of its parts"),
        ("part_names.json", '["a", "b"]', "{path} must be a list of 5 names, one for each part of seg_classes.json"),
    ],
)
def test_each_fault_of_the_legend_is_one_sentence_with_its_name(folder, name, content, sentence):
    (folder / name).unlink(missing_ok=True)
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(InputError) as caught:
        parts_of(folder).load()
    assert str(caught.value).startswith(sentence.format(path=folder / name))


def test_files_of_too_few_or_different_points_are_refused(folder):
    with pytest.raises(InputError, match=r"asked for 9 points, but the clouds of .*train.h5 have 8"):
        parts_of(folder, num_points=9).load()
    write_hdf5(folder / "val.h5", [0], 9)
    with pytest.raises(InputError, match=r"val.h5 have 9 points, but those of .*train.h5 have 8"):
        parts_of(folder).load()


def test_without_data_one_sentence_says_how_to_get_them_or_do_without(tmp_path):
    with pytest.raises(InputError) as caught:
        PartHDF5(str(tmp_path / "data/hdf5_data")).load()
    words = (
        "train.h5 or train_hdf5_file_list.txt is missing",
        "download shapenetpart_hdf5",
        "--cfg shapes_partseg",
    )
    assert all(word in str(caught.value) for word in words)


def test_the_real_princeton_benchmark_is_whole():
    if not REAL.is_dir():
        pytest.skip(f"real data are absent: {REAL}")
    train, test = PartHDF5(str(REAL), features="normal", include_val=False).load()
    assert (len(train), len(test), len(train.class_names), len(train.part_names)) == (266, 76, 19, 94)
    assert len(PartHDF5(str(REAL)).load()[0]) == 266 + 38
    assert train.xyz.shape == train.feats.shape == (266, 4096, 3)
    assert train.parts.unique().tolist() == list(range(94))
    assert train.part_names[83] == "Table/support" and train.class_parts["Table"] == (82, 83)
    assert test.label.bincount().tolist() == [4] * 19
    torch.testing.assert_close(test.xyz.norm(dim=2).amax(dim=1), torch.ones(76))
