import json
from pathlib import Path

import numpy as np
import pytest
import torch

from bixt3d.datasets.clouds.shapenetpart import CATEGORIES, CLASS_PARTS, PART_NAMES, ShapeNetPart
from bixt3d.types import InputError

REAL = Path(__file__).parents[3] / "shared/data/shapenetcore_partanno_segmentation_benchmark_v0_normal"
SPLITS = {"train": ["03797390/mug", "02954340/cap"], "val": ["02954340/hat"], "test": ["04379243/desk", "02954340/fez"]}


def write_text(path: Path, part: int, num_points: int) -> None:
    """Write random points, whose normals rotate from line to line; one half is of one part, the other of another."""
    xyz = np.random.default_rng(num_points).normal(size=(num_points, 3))
    line = np.arange(num_points)
    columns = [*xyz.T, 2 * np.cos(line / 100), 2 * np.sin(line / 100), 0 * line, part + (line >= num_points // 2)]
    np.savetxt(path, np.stack(columns, axis=1), "%.6f")


def line_of(normals: torch.Tensor) -> torch.Tensor:
    return (100 * torch.atan2(normals[..., 1], normals[..., 0])).round().long()


@pytest.fixture
def root(tmp_path) -> Path:
    root = tmp_path / "set"
    (root / "train_test_split").mkdir(parents=True)
    (root / "synsetoffset2category.txt").write_text("Cap\t02954340\nMug\t03797390\nTable\t04379243\n")
    sizes = iter((20, 30, 40, 50, 60))
    for split, shapes in SPLITS.items():
        entries = [f"shape_data/{shape}" for shape in shapes]
        (root / f"train_test_split/shuffled_{split}_file_list.json").write_text(json.dumps(entries))
        for shape in shapes:
            (root / shape).parent.mkdir(exist_ok=True)
            part = {"03797390": 36, "02954340": 6, "04379243": 47}[shape.split("/")[0]]
            write_text(root / f"{shape}.txt", part, next(sizes))
    return root


def shapes_of(root: Path, **arguments: object) -> ShapeNetPart:
    return ShapeNetPart(str(root), **({"num_points": 16, "stored_points": 24, "features": "normal"} | arguments))


def test_the_official_categories_have_their_official_synsets_and_parts():
    first_parts = [CLASS_PARTS[category][0] for category in CATEGORIES]
    assert first_parts == [0, 4, 6, 8, 12, 16, 19, 22, 24, 28, 30, 36, 38, 41, 44, 47]
    assert [part for parts in CLASS_PARTS.values() for part in parts] == list(range(50))
    assert list(CATEGORIES) == sorted(CATEGORIES)
    assert (CATEGORIES["Bag"][0], CATEGORIES["Table"][0]) == ("02773838", "04379243")
    assert len(PART_NAMES) == 50 and PART_NAMES[7] == "Cap/visor"


def test_shapes_come_in_the_order_of_the_lists_with_validation_last(root):
    train, test = shapes_of(root).load()
    assert [train.class_names[label] for label in train.label] == ["Mug", "Cap", "Cap"]
    assert [test.class_names[label] for label in test.label] == ["Table", "Cap"]
    assert len(train.class_names) == 16 and (train.part_names, train.class_parts) == (PART_NAMES, CLASS_PARTS)
    assert train.xyz.shape == train.feats.shape == (3, 24, 3)
    assert [sorted(set(parts.tolist())) for parts in train.parts] == [[36, 37], [6, 7], [6, 7]]
    assert len(shapes_of(root, include_val=False).load()[0]) == 2


def test_every_point_is_kept_once_while_there_are_enough_and_all_are_when_there_are_not(root):
    of_20, of_30, _ = line_of(shapes_of(root).load()[0].feats).tolist()
    assert len(set(of_30)) == 24 and of_30 != sorted(of_30)
    assert set(of_20) == set(range(20)) and len(set(of_20[:20])) == 20


def test_parts_and_normals_keep_to_their_points(root):
    source = shapes_of(root)
    test = source.load()[1]
    for kept, (xyz, feats, parts) in enumerate(source.full_clouds()):
        line = line_of(test.feats[kept])
        assert torch.equal(test.xyz[kept], xyz[line])
        assert torch.equal(test.feats[kept], feats[line])
        assert torch.equal(test.parts[kept], parts[line])


def test_full_clouds_have_all_points_of_the_test_shapes_in_order_centred_in_the_unit_sphere(root):
    full = list(shapes_of(root).full_clouds())
    assert [len(xyz) for xyz, _, _ in full] == [50, 60]
    for xyz, feats, parts in full:
        assert line_of(feats).tolist() == list(range(len(xyz)))
        torch.testing.assert_close(feats.norm(dim=1), torch.ones(len(xyz)))  # twice that in the files
        assert xyz.mean(dim=0).abs().max() < 1e-6
        assert xyz.norm(dim=1).max() == pytest.approx(1)
        assert parts.diff().tolist() == [int(line == len(xyz) // 2 - 1) for line in range(len(xyz) - 1)]
    assert [feats.shape[1] for _, feats, _ in shapes_of(root, features="").full_clouds()] == [0, 0]


def test_the_kept_points_depend_on_the_seed_and_the_shape_alone(root):
    first, same, other = (shapes_of(root, sample_seed=seed).load()[0] for seed in (0, 0, 1))
    assert torch.equal(first.xyz, same.xyz) and not torch.equal(first.xyz, other.xyz)
    (root / "train_test_split/shuffled_train_file_list.json").write_text('["shape_data/02954340/cap"]')
    assert torch.equal(shapes_of(root).load()[0].xyz[0], first.xyz[1])


def test_the_texts_are_read_once_for_all_settings(root):
    first = shapes_of(root).load()
    for path in root.glob("0*/*.txt"):
        path.unlink()
    second = shapes_of(root, features="").load()
    assert all(torch.equal(one.xyz, two.xyz) for one, two in zip(first, second, strict=True))
    assert second[0].feats.shape == (3, 24, 0)
    assert shapes_of(root, stored_points=40).load()[0].xyz.shape == (3, 40, 3)
    names = {path.name.removeprefix("bixt3d_shapenetpart_")[:-25] for path in root.glob("bixt3d_*")}
    assert names == {"test_40_points", "test_24_points", "train_val_40_points", "train_val_24_points"}.union(SPLITS)
    assert list(root.glob(".*")) == []


def test_a_broken_cache_is_read_anew(root):
    before = shapes_of(root).load()[0].xyz.clone()  # the files that it is mapped from are overwritten
    for path in root.glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:100])
    assert torch.equal(shapes_of(root).load()[0].xyz, before)


def test_a_folder_marked_read_only_gets_its_cache_elsewhere_even_from_the_superuser(root, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    root.chmod(0o555)
    shapes_of(root).load()
    root.chmod(0o755)
    assert len(list((tmp_path / "home/bixt3d").glob("set_*/*.safetensors"))) == 5
    assert list(root.glob("*.safetensors")) == []


def test_an_empty_training_list_is_enough_where_validation_shapes_are_trained_on(root):
    (root / "train_test_split/shuffled_train_file_list.json").write_text("[]")
    assert len(shapes_of(root).load()[0]) == 1
    with pytest.raises(InputError) as caught:
        shapes_of(root, include_val=False).load()
    words = (
        f"there are no shapes in shuffled_train_file_list.json of {root}: fetch the whole set, or set --data.include"
    )
    assert str(caught.value).startswith(words)
    (root / "train_test_split/shuffled_val_file_list.json").write_text("[]")
    with pytest.raises(InputError, match="in shuffled_train_file_list.json and shuffled_val_file_list.json of"):
        shapes_of(root).load()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "{path} is missing"),
        ("nothing", "{path} cannot be read as JSON"),
        ('{"a": 1}', "{path} must be a list of shapes like shape_data/"),
        ('["shape_data/00000000/sofa"]', "{path} lists 00000000/sofa, which is in none of the 16 categories"),
    ],
)
def test_each_fault_of_a_list_is_one_sentence_with_its_name(root, content, sentence):
    path = root / "train_test_split/shuffled_train_file_list.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(InputError) as caught:
        shapes_of(root).load()
    assert str(caught.value).startswith(sentence.format(path=path))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "{path} is missing"),
        ("\n", "{path} is empty: fetch it again"),
        ("1 2 3 0 0 1\n", "{path} must contain lines of seven finite numbers x y z nx ny nz part"),
        ("1 2 3 0 0 1 6\n1 2 3 0 0 1\n", "{path} must contain lines of x y z nx ny nz part: "),
        ("1 2 nan 0 0 1 6\n", "{path} must contain lines of seven finite numbers x y z nx ny nz part"),
        ("\x89PNG\r\n", "{path} must contain lines of x y z nx ny nz part: "),
        ("1 2 3 0 0 1 6\n2 2 3 0 0 1 8\n", "{path} has a point of part 8, but the parts of Cap are 6 to 7"),
        ("1 2 3 0 0 1 6\n2 2 3 0 0 1 6.5\n", "{path} has a point of part 6.5, but the parts of Cap are 6 to 7"),
        ("1 2 3 0 0 1 6\n", "cloud 0 of {path} has all its points in one place"),
    ],
)
def test_each_fault_of_a_text_is_one_sentence_with_its_name(root, content, sentence):
    path = root / "02954340/cap.txt"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(InputError) as caught:
        shapes_of(root).load()
    assert str(caught.value).startswith(sentence.format(path=path))
    assert list(root.glob("*.safetensors")) == []


def test_wrong_settings_and_absent_data_stop_with_a_sentence(tmp_path):
    with pytest.raises(InputError, match="set --data.stored_points to at least 17"):
        ShapeNetPart(num_points=17, stored_points=16).load()
    with pytest.raises(InputError, match="sample_seed must not be negative"):
        ShapeNetPart(sample_seed=-1)
    with pytest.raises(InputError) as caught:
        ShapeNetPart(str(tmp_path / "absent")).load()
    words = ("synsetoffset2category.txt is missing", "download shapenetpart --root", "--cfg shapes_partseg")
    assert all(word in str(caught.value) for word in words)


def test_the_real_caps_are_read(tmp_path, monkeypatch):
    if not REAL.is_dir():
        pytest.skip(f"real data are absent: {REAL}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source = ShapeNetPart(str(REAL), features="normal")
    train, test = source.load()
    assert (len(train), len(test), len(train.class_names)) == (5, 11, 16)
    assert train.label.tolist() == [2] * 5 and test.parts.unique().tolist() == [6, 7]
    assert train.xyz.shape == train.feats.shape == (5, 2048, 3)
    unit_mask = (train.feats.norm(dim=2) - 1).abs() < 1e-2
    assert unit_mask.float().mean() > 0.99  # the files have shorter ones for a few points
    assert sum(len(xyz) for xyz, _, _ in source.full_clouds()) == 27812
    crown, visor = (test.xyz[test.parts == part] for part in (6, 7))
    assert crown[:, 1].max() > visor[:, 1].max() and visor[:, 2].abs().max() > crown[:, 2].abs().max() - 0.1
    with pytest.raises(InputError, match="set --data.include_val true"):
        ShapeNetPart(str(REAL), include_val=False).load()
