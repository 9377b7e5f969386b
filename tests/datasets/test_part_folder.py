"""Folders of clouds with a label for each point: columns, words and numbers, categories, ignored labels."""

from pathlib import Path

import numpy as np
import pytest
import torch

from bixt3d.datasets import PartFolder
from bixt3d.datasets.clouds.point_labels import NO_LABEL, count_gaps, find_label, label_words
from bixt3d.datasets.files.cloud import Cloud
from bixt3d.datasets.files.reader import read_file
from bixt3d.types import VOID, InputError

RNG = np.random.default_rng(0)


def write(path: Path, labels: list[int], name: str = "label", num_points: int = 40) -> Path:
    """Write a cloud with labels along x; the more to the right, the later in the list."""
    path.parent.mkdir(parents=True, exist_ok=True)
    xyz = RNG.random((num_points, 3))
    label = np.array(labels)[(xyz[:, 0] * len(labels)).astype(int)]
    np.savetxt(path, np.c_[xyz, label], header=f"x,y,z,{name}", comments="", delimiter=",", fmt="%.7g")
    return path


def load(root: Path, **options):
    return PartFolder(str(root), **{"num_points": 32, "stored_points": 64} | options).load()


def test_sub_folders_are_categories_and_each_has_the_parts_that_occur_in_it(tmp_path: Path):
    for split in ("train", "test"):
        write(tmp_path / split / "mug/1.csv", [3, 10])
        write(tmp_path / split / "table/1.csv", [10, 4, 0])
    train, test = load(tmp_path)
    assert train.class_names == ("mug", "table")
    assert train.class_parts == {"mug": (0, 1), "table": (2, 3, 4)}
    assert train.part_names == ("mug/3", "mug/10", "table/0", "table/4", "table/10")
    assert train.parts[0].unique().tolist() == [0, 1] and train.parts[1].unique().tolist() == [2, 3, 4]
    order = train.xyz[1, :, 0].argsort()
    assert train.parts[1, order[0]] == 4 and train.parts[1, order[-1]] == 2  # labels follow their points
    assert any("labels in the column 'label'" in note for note in train.notes)
    assert len(test) == 2


def test_without_sub_folders_there_is_one_category(tmp_path: Path):
    for number in range(5):
        write(tmp_path / f"{number}.csv", [0, 1], "scalar_Classification")
    train, test = load(tmp_path)
    assert (train.class_names, train.part_names) == (("object",), ("0", "1"))
    assert (len(train), len(test)) == (4, 1)


def test_ignored_labels_are_void_and_clouds_without_others_are_left_out(tmp_path: Path):
    for split in ("train", "test"):
        write(tmp_path / split / "1.csv", [0, 1, 2])
    write(tmp_path / "train/2.csv", [0])
    train, _ = load(tmp_path, ignore="0,9")
    assert train.part_names == ("1", "2") and set(train.parts.unique().tolist()) == {VOID, 0, 1}
    assert len(train) == 1
    assert any(note == "1 cloud left out: no point has a label that is not ignored" for note in train.notes)
    assert any("no point has the label 9" in note for note in train.notes)
    with pytest.raises(InputError, match="no point of object has a label that is not ignored"):
        load(tmp_path, ignore="0,1,2")


def test_the_column_is_named_by_a_setting(tmp_path: Path):
    for split in ("train", "test"):
        write(tmp_path / split / "1.csv", [0, 1], "material")
    with pytest.raises(
        InputError,
        match=r"has no column of labels \(it has material\): name it by --label NAME, in training by --data.label NAME",
    ):
        load(tmp_path)
    assert load(tmp_path, label="Material")[0].part_names == ("0", "1")
    with pytest.raises(InputError, match="has no column colour"):
        load(tmp_path, label="colour")


def test_full_clouds_have_every_point_in_the_order_of_the_file(tmp_path: Path):
    write(tmp_path / "train/1.csv", [0, 1])
    path = write(tmp_path / "test/1.csv", [0, 1], num_points=100)
    source = PartFolder(str(tmp_path), 16, stored_points=16)
    _, test = source.load()
    ((xyz, feats, parts),) = source.full_clouds()
    assert parts.tolist() == np.loadtxt(path, delimiter=",", skiprows=1)[:, 3].astype(int).tolist()
    assert feats.shape == (100, 0) and torch.cdist(test.xyz[0].double(), xyz.double()).min(1).values.max() < 1e-6


def test_labels_are_words_or_whole_numbers():
    xyz = RNG.random((3, 3))
    words = label_words(Cloud(xyz, {"Label": np.array([["leg"], ["top"], ["leg"]])}))
    assert words[:2] == ("Label", ["leg", "top"]) and words[2].tolist() == [0, 1, 0]
    assert label_words(Cloud(xyz, {"column7": np.array([[2.0], [0], [2]])}))[1] == ["0", "2"]
    for values in ([[0.5], [1], [2]], [[np.inf], [1], [2]], [[np.nan], [1], [0.5]]):
        with pytest.raises(InputError, match="no whole numbers: are these labels"):
            label_words(Cloud(xyz, {"label": np.array(values)}))
    with pytest.raises(InputError, match="of width 2: a label takes one column"):
        label_words(Cloud(xyz, {"label": np.zeros((3, 2))}))


def test_labels_that_begin_alike_are_different_however_long_they_are():
    words = ("x" * 90 + "1", "x" * 90 + "2")
    cloud = Cloud(RNG.random((2, 3)), {"label": np.array([[0.0], [1]])}, words={"label": words})
    assert label_words(cloud)[1] == list(words)


@pytest.mark.parametrize("words", [("leg", "top"), None])
def test_points_of_a_gap_have_no_label(words: tuple[str, ...] | None):
    values, known = np.array([[1.0], [np.nan], [0], [np.nan]]), {"part": words} if words else {}
    _, found, codes = label_words(Cloud(RNG.random((4, 3)), {"part": values}, words=known))
    names = words or ("0", "1")
    assert [found[code] for code in codes] == [names[1], NO_LABEL, names[0], NO_LABEL] and count_gaps(found, codes) == 2
    _, found, codes = label_words(Cloud(RNG.random((4, 3)), {"column5": values}, words={"column5": (" ", "a")}))
    assert [found[code] for code in codes] == ["a", NO_LABEL, NO_LABEL, NO_LABEL]  # a word of blanks is none
    with pytest.raises(InputError, match="no column of labels"):
        label_words(Cloud(RNG.random((4, 3)), {"column5": np.full((4, 1), np.nan)}))


def test_large_labels_are_told_apart_or_refused(tmp_path: Path):
    def read(*cells: str) -> list[str]:
        (tmp_path / "a.csv").write_text("x,y,z,label\n" + "".join(f"{n},1,{n % 2},{c}\n" for n, c in enumerate(cells)))
        return label_words(read_file(tmp_path / "a.csv")[0])[1]

    large = ["1000000000", "1000000000000000", "1000000000000001", str(2**53 - 1)]
    assert read(*large, "") == [*large, NO_LABEL]
    assert set(read(*large, *"abcd")) == {*large, *"abcd"}  # among words, too
    for one in (2**53, -(2**53), 10**18 + 1):
        with pytest.raises(InputError, match="label with floats beyond 2.53, which round integers: are these labels"):
            read("3", str(one))


def test_labels_are_never_wrapped_to_negative_numbers():
    most = 2**63 - 1
    cloud = Cloud(RNG.random((2, 3)), {"label": np.array([[0], [most]], np.uint64)})
    assert label_words(cloud)[1] == ["0", str(most)]
    cloud = Cloud(RNG.random((2, 3)), {"label": np.array([[0], [most + 1]], np.uint64)})
    with pytest.raises(InputError, match=f"^the input has label with values above {most}: are these labels\\?$"):
        label_words(cloud)


@pytest.mark.parametrize("names", [("0", "1"), ("leg", "top")])
def test_points_without_a_label_are_void_and_counted(tmp_path: Path, names: tuple[str, str]):
    for split, number in (("train", 2), ("test", 1)):
        for place in range(number):
            path = write(tmp_path / split / f"{place}.csv", [0, 1, 2])
            head, *rows = path.read_text().splitlines()
            cells = [row.rpartition(",") for row in rows]
            rows = [f"{start},{[*names, ''][int(label)]}" for start, _, label in cells]
            path.write_text("\n".join([head, *rows]))
    files = [path.read_text().splitlines()[1:] for path in sorted(tmp_path.rglob("*.csv"))]
    gaps = sum(line.endswith(",") for lines in files for line in lines)
    source = PartFolder(str(tmp_path), 32, stored_points=64, ignore=names[0])
    train, _ = source.load()
    assert train.part_names == names[1:] and train.parts.unique().tolist() == [VOID, 0]
    assert f"{gaps} of 120 points have no label: not counted in loss and scores" in train.notes
    ((_, _, parts),) = source.full_clouds()  # the test file is the first by name
    assert parts.tolist() == [0 if line.endswith(names[1]) else VOID for line in files[0]]
    ignored = (train.parts == VOID).float().mean()
    (share,) = [note for note in train.notes if "of the points have a label that is ignored" in note]
    assert float(share.split("%")[0]) < 100 * ignored  # those without a label are not among these


def test_numbers_and_words_in_one_set_are_said(tmp_path: Path):
    for split in ("train", "test"):
        write(tmp_path / split / "1.csv", [0, 10, 2])
        np.savez(tmp_path / split / "2.npz", xyz=RNG.random((40, 3)), label=np.repeat(["top", "leg"], 20))
    note = "some labels are numbers (0, 2, 10) and others words (leg, top): each is a class of its own"
    assert note in load(tmp_path)[0].notes
    assert not [note for note in load(tmp_path, ignore="leg,top")[0].notes if note.startswith("some labels")]


def test_the_likeliest_name_wins():
    assert find_label(["intensity", "Classification", "Part"]) == "Part"
    assert find_label(["scalar_Label"]) == "scalar_Label"
    assert find_label(["intensity"]) is None
