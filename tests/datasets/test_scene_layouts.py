"""Public sets of scenes on fake trees in their exact form: S3DIS, ScanNet, SemanticKITTI, DALES, FRACTAL."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bixt3d.datasets import S3DIS, CloudAugment, ScanNet, SceneFolder, SceneSet, SemanticKITTI
from bixt3d.datasets.files.las_new import write_las
from bixt3d.datasets.scenes import crops, stored
from bixt3d.datasets.scenes.s3dis import mended, read_object
from bixt3d.datasets.scenes.scannet import IDS
from bixt3d.datasets.scenes.semantickitti import CLASS_OF
from bixt3d.nn.feature_scale import fit_feature_scales
from bixt3d.tasks.inputs import fill_of
from bixt3d.tasks.scene_segmentation import SceneSegmentation
from bixt3d.tasks.settings import make_run
from bixt3d.types import InputError

ALIGNED = "Stanford3dDataset_v1.2_Aligned_Version"
FINE = {"grid": 1e-4, "num_points": 8, "crops": 2}
"""A voxel for each point."""


def points(number: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 4, (number, 3)).round(3)


def values(made: SceneSet, place: int = 0) -> tuple[np.ndarray, list[int]]:
    """Return the features and the class of every original point of a scene."""
    scene = made.scenes[place]
    return scene.feats[scene.inverse.long()].numpy(), scene.point_label.tolist()


def write_object(path: Path, number: int, rgb: tuple[int, int, int] = (1, 2, 3)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = " ".join(map(str, rgb))
    path.write_text("".join(f"{x:.3f} {y:.3f} {z:.3f} {text}\n" for x, y, z in points(number, sum(path.name.encode()))))


def write_s3dis(root: Path) -> Path:
    """Write rooms as they are unpacked, with all that is beside them."""
    for area, room in ((1, "office_1"), (1, "office_2"), (5, "hallway_6")):
        folder = root / ALIGNED / f"Area_{area}" / room
        for word, number in (("ceiling_1", 4), ("floor_1", 6), ("chair_12", 3), ("stairs_1", 2)):
            write_object(folder / "Annotations" / f"{word}.txt", number, (10 * number, 0, 255))
        (folder / f"{room}.txt").write_text("it is not read\n")
        (folder / "Annotations/.DS_Store").write_bytes(b"\0\0\0\1Bud1")
        (folder / "Annotations/._chair_12.txt").write_bytes(b"\0\5\26\7")
    for area in (1, 5):
        (root / ALIGNED / f"Area_{area}/.DS_Store").write_bytes(b"\0")
        (root / ALIGNED / f"Area_{area}/Area_{area}_alignmentAngle.txt").write_text("## Global alignment\noffice_1 0\n")
    return root


def write_arrays(folder: Path, label: str, classes: np.ndarray) -> None:
    """Write a scene as Pointcept does."""
    folder.mkdir(parents=True)
    np.save(folder / "coord.npy", points(len(classes)).astype(np.float32))
    np.save(folder / "color.npy", np.full((len(classes), 3), 51, np.uint8))
    np.save(folder / "normal.npy", np.tile(np.float32([0, 0, 1]), (len(classes), 1)))
    np.save(folder / f"{label}.npy", classes)


def write_ply(path: Path, xyz: np.ndarray, labels: np.ndarray | None) -> None:
    """Write a mesh as ScanNet does: binary, colors with alpha, and in one of the two files a label."""
    kinds = [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), *((name, "u1") for name in ("red", "green", "blue", "alpha"))]
    kinds += [("label", "<u2")] if labels is not None else []
    words = {"<f4": "float", "u1": "uchar", "<u2": "ushort"}
    rows = np.zeros(len(xyz), kinds)
    for name, column in zip("xyz", xyz.T, strict=True):
        rows[name] = column
    rows["red"], rows["alpha"] = 51, 255
    if labels is not None:
        rows["label"], rows["red"] = labels, 99
    faces = np.zeros(2, [("size", "u1"), ("corners", "<i4", 3)])
    faces["size"], faces["corners"] = 3, [[0, 1, 2], [1, 2, 3]]
    head = ["ply", "format binary_little_endian 1.0", "comment MLIB generated", f"element vertex {len(xyz)}"]
    head += [f"property {words[kind]} {name}" for name, kind in kinds]
    head += ["element face 2", "property list uchar int vertex_indices", "end_header\n"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("\n".join(head).encode() + rows.tobytes() + faces.tobytes())


def write_scannet(root: Path, lists: str = ".") -> Path:
    (root / lists).mkdir(parents=True, exist_ok=True)
    for place, (split, scans) in enumerate(
        {"train": ["scene0000_00", "scene0000_01"], "val": ["scene0011_00"]}.items()
    ):
        (root / lists / f"scannetv2_{split}.txt").write_text("".join(f"{scan}\n" for scan in scans))
        for scan in scans:
            xyz = points(43, place)
            write_ply(root / f"scans/{scan}/{scan}_vh_clean_2.ply", xyz, None)
            write_ply(root / f"scans/{scan}/{scan}_vh_clean_2.labels.ply", xyz, np.array([*range(41), 50, 149]))
    return root


def write_scan(root: Path, sequence: int, scan: int, labels: list[int]) -> tuple[Path, Path]:
    """Write a scan as SemanticKITTI does."""
    folder = root / f"dataset/sequences/{sequence:02}"
    for name in ("velodyne", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    paths = folder / f"velodyne/{scan:06}.bin", folder / f"labels/{scan:06}.label"
    table = np.column_stack([points(len(labels), scan) - 2, np.linspace(0, 1, len(labels))])
    table.astype("<f4").tofile(paths[0])
    (np.array(labels, "<u4") + (np.arange(len(labels), dtype="<u4") << 16)).tofile(paths[1])
    return paths


def write_kitti(root: Path) -> Path:
    for sequence in (0, 10, 8):
        for scan in range(2):
            write_scan(root, sequence, scan, [0, 10, 252, 40, 60, 81, 259, 99])
    write_scan(root, 11, 0, [0, 0])[1].unlink()  # the sequences of the benchmark have no labels
    return root


def write_aerial(root: Path, codes: list[int], splits: tuple[str, ...]) -> Path:
    """Write LAZ with colors and near-infrared in the given folders."""
    for place, split in enumerate(splits):
        (root / split).mkdir(parents=True)
        number = len(codes)
        ones = np.ones((number, 1), np.uint8)
        columns = {"classification": np.array(codes, np.uint8)[:, None], "return_number": ones}
        columns |= {"number_of_returns": ones, "intensity": np.full((number, 1), 700, np.uint16)}
        columns |= {"rgb": np.full((number, 3), 20_000, np.uint16), "nir": np.full((number, 1), 300, np.uint16)}
        write_las(root / split / "5080_54435.laz", points(number, place) * 20 + (6e5, 6e6, 50), columns)
    return root


TREES = {
    "s3dis_area5": write_s3dis,
    "scannet": write_scannet,
    "semantickitti": write_kitti,
    "dales": lambda root: write_aerial(root, list(range(9)) * 3, ("train", "test")),
    "fractal": lambda root: write_aerial(root, [1, 2, 3, 4, 5, 6, 9, 17, 64, 65, 66] * 3, ("train", "val", "test")),
}


def test_rooms_of_s3dis_are_their_objects_in_the_order_of_the_classes(tmp_path):
    train, test = S3DIS(str(write_s3dis(tmp_path)), **FINE, features="rgb").load()
    names = "ceiling floor wall beam column window door table chair sofa bookcase board clutter"
    assert train.class_names == test.class_names == tuple(names.split())
    assert [scene.name for scene in train.scenes] == ["Area_1/office_1", "Area_1/office_2"]
    assert [scene.name for scene in test.scenes] == ["Area_5/hallway_6"]
    feats, label = values(test)
    assert label == 4 * [0] + 3 * [8] + 6 * [1] + 2 * [12]  # ceiling, chair, floor, stairs: by name of the file
    expected = [[10 * number / 255, 0, 1] for number in (4, 3, 6, 2) for _ in range(number)]
    np.testing.assert_allclose(feats, expected, atol=1e-6)
    assert train.notes == test.notes
    assert train.notes[:-1] == (
        "Area_2, Area_3, Area_4, Area_6 not there: published figures use all six areas",
        "train: colors taken for 0 to 255: in 2 of 2 scenes",
        "test: colors taken for 0 to 255",
    )


def test_any_area_of_s3dis_may_be_the_test_set(tmp_path):
    train, test = S3DIS(str(write_s3dis(tmp_path) / ALIGNED), test_area=1).load()
    assert (len(train.scenes), len(test.scenes)) == (1, 2)
    with pytest.raises(InputError, match="data.test_area must be from 1 to 6, not 0"):
        S3DIS(test_area=0)


@pytest.mark.parametrize(
    ("line", "right"),
    [
        (b"22.350 6.692 3.048 185\x00187 182", b"22.350 6.692 3.048 185 187 182"),  # Area_5/hallway_6, a blank
        (b"22.350 6.692 3.048 185\x10187 182\r", b"22.350 6.692 3.048 185 187 182"),
        (b"22.350 6.692 3.048 185\xa0187 182", b"22.350 6.692 3.048 185 187 182"),
        (b"19.302 -9.1\x160 1.785 146 137 106", b"19.302 -9.160 1.785 146 137 106"),  # Area_3/hallway_2, a digit
        (
            b"0.577500 -12.407500 2.604000 167.\x1000000 175.0 177.0",
            b"0.577500 -12.407500 2.604000 167.000000 175.0 177.0",
        ),
        (b"22.350 6.692 3.048 1\xff\xff5187 182", b""),
        (b"22.350 6.692 3.048 185\x00987 182", b""),  # no color
    ],
)
def test_a_broken_line_of_s3dis_is_mended_or_dropped(line, right):
    assert mended(line) == right


def test_broken_lines_are_noted_with_their_number(tmp_path):
    path = write_s3dis(tmp_path) / ALIGNED / "Area_5/hallway_6/Annotations/ceiling_1.txt"
    path.write_bytes(b"1 1 1 9 9 9\n22.350 6.692 3.048 185\x00187 182\n2 2 2 9 9 9\n3 3 3 \xff\xff\n")
    train, test = S3DIS(str(tmp_path), **FINE, features="rgb").load()
    feats, label = values(test)
    assert label[:4] == [0, 0, 0, 8]  # the fourth line is gone
    np.testing.assert_allclose(feats[1], np.array([185, 187, 182]) / 255, atol=1e-6)
    where = "test: Area_5/hallway_6/Annotations/ceiling_1.txt has the broken line"
    assert [note for note in train.notes if "broken" in note] == [  # training prints these
        rf"{where} 2, '22.350 6.692 3.048 185\x00187 182': read as '22.350 6.692 3.048 185 187 182'",
        rf"{where} 4, '3 3 3 ÿÿ': dropped",
    ]


def test_files_that_are_no_objects_are_left_out_and_unknown_objects_are_clutter_and_both_are_said(tmp_path):
    folder = write_s3dis(tmp_path) / ALIGNED / "Area_5/hallway_6/Annotations"
    write_object(folder / "wall_3 (1).txt", 5)  # Area_5/office_36 has this copy of wall_3.txt
    write_object(folder / "lamp_1.txt", 5)
    _, test = S3DIS(str(tmp_path), **FINE).load()
    assert values(test)[1].count(12) == 2 + 5 and 2 not in values(test)[1]
    assert any("hallway_6/Annotations/wall_3 (1).txt left out: an object is" in note for note in test.notes)
    assert any("'lamp' is no class of S3DIS: taken for clutter" in note for note in test.notes)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("", "has no points"),
        ("1 2 3 4 5\n", "has 5 columns, not x y z r g b"),
        ("1 2 3 4 5 6\n1 2 3 4 5\n", "is damaged: the number of columns changed from 6 to 5 at row 2"),
        ("1 2 3 4 x 6\n", "is damaged: could not convert string 'x' to float64 at row 0, column 5."),
    ],
)
def test_a_damaged_object_gets_one_sentence(tmp_path, content, fault):
    (tmp_path / "wall_1.txt").write_text(content)
    with pytest.raises(InputError) as caught:
        read_object(tmp_path / "wall_1.txt")
    assert str(caught.value) == f"{tmp_path / 'wall_1.txt'} {fault}"


@pytest.mark.parametrize("shape", [(8,), (8, 1)])
def test_arrays_of_pointcept_are_read_and_their_label_minus_1_is_ignored(tmp_path, shape):
    for room in ("Area_1/office_1", "Area_5/office_1"):
        write_arrays(tmp_path / room, "segment", np.array([0, 12, -1, 5, 5, 3, 8, -1], np.int16).reshape(shape))
    train, test = S3DIS(str(tmp_path), **FINE, features="rgb,normal").load()
    feats, label = values(test)
    assert label == [0, 12, -1, 5, 5, 3, 8, -1]
    np.testing.assert_allclose(feats, np.tile([0.2, 0.2, 0.2, 0, 0, 1], (8, 1)), atol=1e-6)
    assert train.notes[1] == "train: 25.0% of 8 points have no class, and are ignored"


@pytest.mark.parametrize(
    ("file", "array", "fault"),
    [
        ("segment", np.full(8, 13), r"has labels that are none of this data set: 13"),
        ("segment", np.zeros(7, int), r"segment.npy has the shape \(7,\), which does not fit 8 points"),
        ("color", np.zeros((8, 4), np.uint8), r"color.npy has the shape \(8, 4\), which does not fit 8 points"),
        ("segment", None, "segment.npy is missing"),
        ("coord", np.array([{}]), "coord.npy contains Python objects"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_name(tmp_path, file, array, fault):
    for room in ("Area_1/office_1", "Area_5/office_1"):
        write_arrays(tmp_path / room, "segment", np.zeros(8, np.int64))
    path = tmp_path / f"Area_1/office_1/{file}.npy"
    path.unlink() if array is None else np.save(path, array)
    with pytest.raises(InputError, match=fault) as caught:
        S3DIS(str(tmp_path)).load()
    assert "Area_1/office_1" in str(caught.value)


@pytest.mark.parametrize("lists", [".", "Tasks/Benchmark"])
def test_scans_of_scannet_have_20_classes_and_colors_of_the_mesh(tmp_path, lists):
    train, test = ScanNet(str(write_scannet(tmp_path, lists)), **FINE, features="rgb").load()
    assert [scene.name for scene in train.scenes] == ["scene0000_00", "scene0000_01"]
    assert [scene.name for scene in test.scenes] == ["scene0011_00"]
    feats, label = values(test)
    of_id = dict(enumerate(label[:41]))
    used = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 24, 28, 33, 34, 36, 39]
    assert [of_id[one] for one in used] == list(range(20)) and list(IDS) == used
    assert [one for one in of_id if of_id[one] < 0] == [one for one in range(41) if one not in used]
    assert label[41:] == [-1, -1]
    np.testing.assert_allclose(feats, np.tile([0.2, 0, 0], (43, 1)), atol=1e-6)
    assert test.class_names[0] == "wall" and test.class_names[19] == "other furniture"


def test_arrays_of_scannet_are_read_by_their_20_classes(tmp_path):
    for split in ("train", "val"):
        write_arrays(tmp_path / split / "scene0000_00", "segment20", np.array([0, 19, -1, 5]))
        np.save(tmp_path / split / "scene0000_00/segment200.npy", np.array([199, 0, 0, 0]))
    train, _ = ScanNet(str(tmp_path), **FINE, features="normal").load()
    assert values(train)[1] == [0, 19, -1, 5]


def test_what_scannet_lacks_is_said(tmp_path):
    with pytest.raises(
        InputError, match=r"has neither scans/ with ScanNet's meshes nor train/ with Pointcept's arrays"
    ):
        ScanNet(str(tmp_path)).load()
    write_scannet(tmp_path)
    labels = tmp_path / "scans/scene0000_01/scene0000_01_vh_clean_2.labels.ply"
    write_ply(labels, points(5), np.zeros(5))
    with pytest.raises(
        InputError, match="labels.ply has 5 vertices that are not the 43 of scene0000_01_vh_clean_2.ply"
    ):
        ScanNet(str(tmp_path)).load()
    write_ply(labels, points(43, 0), None)
    with pytest.raises(InputError, match=r"labels.ply has no property label \(it has alpha, rgb\)"):
        ScanNet(str(tmp_path)).load()
    labels.write_bytes(labels.read_bytes()[:300])
    with pytest.raises(InputError, match="scene0000_01_vh_clean_2.labels.ply "):
        ScanNet(str(tmp_path)).load()
    labels.unlink()
    with pytest.raises(InputError, match=r"1 of 2 scenes of .*_train.txt lack their .* in scans/: scene0000_01"):
        ScanNet(str(tmp_path)).load()
    (tmp_path / "scannetv2_train.txt").unlink()
    with pytest.raises(InputError, match=r"scannetv2_train.txt is missing in .*: it is in the folder Tasks/Benchmark"):
        ScanNet(str(tmp_path)).load()


def test_scans_of_semantickitti_have_19_classes_by_the_lower_16_bits_of_their_labels(tmp_path):
    train, test = SemanticKITTI(str(write_kitti(tmp_path)), **FINE, features="intensity").load()
    assert [scene.name for scene in train.scenes] == ["00/000000", "00/000001", "10/000000", "10/000001"]
    assert [scene.name for scene in test.scenes] == ["08/000000", "08/000001"]
    feats, label = values(train, 1)
    assert label == [-1, 0, 0, 8, 8, 18, 4, -1]
    np.testing.assert_allclose(feats[:, 0], np.linspace(0, 1, 8), atol=1e-6)
    names = "car bicycle motorcycle truck other-vehicle person bicyclist motorcyclist road parking sidewalk "
    names += "other-ground building fence vegetation trunk terrain pole traffic-sign"
    assert train.class_names == tuple(names.split())
    assert train.notes[:-1] == (
        "sequences 01, 02, 03, 04, 05, 06, 07, 09 not there: published figures use 00 to 10",
        "train: 25.0% of 32 points have no class, and are ignored",
        "test: 25.0% of 16 points have no class, and are ignored",
    )


def test_every_label_of_semantickitti_has_its_official_class():
    own = {10: 1, 11: 2, 13: 5, 15: 3, 16: 5, 18: 4, 20: 5, 30: 6, 31: 7, 32: 8, 40: 9, 44: 10, 48: 11, 49: 12, 50: 13}
    own |= {51: 14, 60: 9, 70: 15, 71: 16, 72: 17, 80: 18, 81: 19, 252: 1, 253: 7, 254: 6, 255: 8, 256: 5, 257: 5}
    own |= {0: 0, 1: 0, 52: 0, 99: 0, 258: 4, 259: 5}
    assert {label: number - 1 for label, number in own.items()} == CLASS_OF


def test_damaged_scans_are_refused_by_name(tmp_path):
    with pytest.raises(InputError, match="has no folder dataset/sequences"):
        SemanticKITTI(str(tmp_path)).load()
    write_kitti(tmp_path)
    scan, label = write_scan(tmp_path, 0, 1, [10, 10, 300])
    with pytest.raises(InputError, match=r"000001.label has labels that are none of this data set: 300"):
        SemanticKITTI(str(tmp_path)).load()
    write_scan(tmp_path, 0, 1, [10, 10, 40])
    scan.write_bytes(scan.read_bytes()[:32])
    with pytest.raises(InputError, match=r"00/labels/000001.label has 3 labels for 2 points"):
        SemanticKITTI(str(tmp_path)).load()
    scan.write_bytes(scan.read_bytes()[:30])
    with pytest.raises(InputError, match=r"000001.bin has 30 bytes, not 16 for each point: it is damaged"):
        SemanticKITTI(str(tmp_path)).load()
    label.unlink()
    with pytest.raises(InputError, match=r"000001.label is missing: all sequences from 00 to 10 have labels"):
        SemanticKITTI(str(tmp_path)).load()


def test_points_without_a_position_are_dropped_with_their_labels(tmp_path):
    write_kitti(tmp_path)
    scan, _ = write_scan(tmp_path, 8, 0, [10, 40, 81])
    table = np.fromfile(scan, "<f4").reshape(-1, 4)
    table[1, 0] = np.nan
    table.tofile(scan)
    _, test = SemanticKITTI(str(tmp_path), **FINE).load()
    assert values(test)[1] == [0, 18]
    assert "test: 1 of its 3 points dropped: NaN, infinite or beyond 1e+18" in test.notes


@pytest.mark.parametrize("config", TREES)
def test_a_config_reads_its_set_and_takes_a_step(config, tmp_path):
    task, root = SceneSegmentation(), TREES[config](tmp_path)
    small = ["--data.num_points=64", "--data.crops=2", "--model.encoder.depth=1", f"--data.root={root}"]
    parser = task.make_parser("a test")
    run = make_run(parser, parser.parse_args([f"--cfg={config}", *small]))
    train, test = task.load(run)
    assert len(train.class_names) == {"s3dis_area5": 13, "scannet": 20, "semantickitti": 19}.get(
        config, len(test.codes or ())
    )
    model = task.build(run, train)
    fit_feature_scales(model, train.feats)
    (batch,) = train.batches([torch.tensor([0, 1])], 0)
    loss, _ = task.make_step(run, train)(model, task.make_augment(run, train, 0)(batch, 0))
    loss.backward()
    assert loss.isfinite() and all(one.grad is None or one.grad.isfinite().all() for one in model.parameters())


def test_aerial_sets_have_the_classes_of_their_configs(tmp_path):
    parser, found = SceneSegmentation().make_parser("a test"), {}
    for config in ("dales", "fractal"):
        given = [f"--cfg={config}", f"--data.root={TREES[config](tmp_path / config)}", "--data.grid=0.001"]
        found[config] = make_run(parser, parser.parse_args(given), model=False).data
    train, _ = found["dales"].load()
    names = ("ground", "vegetation", "cars", "trucks", "power lines", "fences", "poles", "buildings")
    assert train.class_names == names and values(train)[1] == [-1, 0, 1, 2, 3, 4, 5, 6, 7] * 3
    train, test = found["fractal"].load()
    assert train.class_names == ("other", "ground", "vegetation", "building", "water", "bridge", "permanent structure")
    assert values(test)[1] == [0, 1, 2, 2, 2, 3, 4, 5, 6, -1, -1] * 3
    assert train.codes == (1, 2, 5, 6, 9, 17, 64)


def test_classes_of_a_folder_may_be_words_and_are_saved_with_a_run(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        rows = [f"{x},{y},{z},{word}" for (x, y, z), word in zip(points(3), ("roof", "wall", "sky"), strict=True)]
        (tmp_path / split / "a.csv").write_text("\n".join(["x,y,z,class", *rows]))
    parser = SceneSegmentation().make_parser("a test")
    given = ["--cfg=folder_scenes", f"--data.root={tmp_path}", "--data.classes={house: [roof, wall], other: 4}"]
    settings = parser.parse_args(given)
    settings.pop("cfg")
    (tmp_path / "config.yaml").write_text(parser.dump(settings))
    run = make_run(parser, parser.parse_args([f"--cfg={tmp_path / 'config.yaml'}"]), model=False)
    train, _ = run.data.load()
    assert train.class_names == ("house", "other") and values(train)[1] == [0, 0, -1]


def test_scenes_are_closed_again_and_read_once(tmp_path, monkeypatch):
    source = SemanticKITTI(str(write_kitti(tmp_path)), **FINE, features="intensity")
    train, _ = source.load()
    expected = [values(train, place)[0].tolist() for place in range(4)]
    monkeypatch.setattr(stored, "OPEN", 1)
    train, _ = source.load()
    assert [values(train, place)[0].tolist() for place in range(4)] == expected
    assert list(train.scenes.opened) == [3]
    assert train.sizes.tolist() == [len(scene) for scene in train.scenes]
    plain = SceneSet(tuple(train.scenes), train.class_names)
    assert train.counts.tolist() == plain.counts.tolist() and train.counts.sum() == 4 * 6
    monkeypatch.setattr(stored, "make_scene", None)  # nothing is read again
    assert source.load()[0].sizes.tolist() == plain.sizes.tolist()


def test_a_scan_that_changed_is_read_again(tmp_path):
    source = SemanticKITTI(str(write_kitti(tmp_path)), **FINE)
    source.load()
    write_scan(tmp_path, 8, 1, [81, 81])
    assert values(source.load()[1], 1)[1] == [18, 18]


def test_statistics_of_a_large_set_are_those_of_voxels_spread_over_each_scene(tmp_path, monkeypatch):
    train, _ = SemanticKITTI(str(write_kitti(tmp_path)), **FINE, features="intensity").load()
    assert len(train.feats) == 32
    monkeypatch.setattr(crops, "MOST_FEATS", 16)
    assert train.feats.tolist() == [row for scene in train.scenes for row in scene.feats[::2].tolist()]
    monkeypatch.setattr(crops, "MANY_SCENES", 2)
    assert train.feats.tolist() == [*train.scenes[0].feats.tolist(), *train.scenes[2].feats.tolist()]
    monkeypatch.setattr(crops, "MOST_FEATS", 8)
    assert train.feats.tolist() == [row for place in (0, 2) for row in train.scenes[place].feats[::2].tolist()]
    monkeypatch.setattr(crops, "MOST_FEATS", 32)
    assert len(train.feats) == 32  # it is not larger


def test_the_features_of_a_set_are_read_once_for_feature_dropout(tmp_path, monkeypatch):
    train, _ = SemanticKITTI(str(write_kitti(tmp_path)), **FINE, features="intensity").load()
    train, run = train.to("meta"), SimpleNamespace(augment=CloudAugment(feature_dropout=0.2))
    fill = fill_of(run, train)
    assert fill.device.type == "meta"  # where the batches are
    monkeypatch.setattr(SceneSet, "feats", None)
    assert fill_of(run, train) is fill
    assert fill_of(SimpleNamespace(augment=CloudAugment()), train) is None


def test_a_folder_says_what_was_changed_in_its_files(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        rows = "\n".join(f"{x},{y},{z},{k},200,{k},0" for k, (x, y, z) in enumerate(points(4)))
        (tmp_path / split / "a.csv").write_text(f"x,y,z,label,red,green,blue\n{rows}\nnan,1,1,1,0,0,0\n")
    train, _ = SceneFolder(str(tmp_path), features="rgb").load()
    assert "train: 1 of its 5 points dropped: NaN, infinite or beyond 1e+18" in train.notes
    assert json.dumps(train.notes).count("colors taken for 0 to 255") == 2  # train and test


def test_a_folder_says_which_column_it_took_for_the_labels_if_several_may_be(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        np.savez(tmp_path / split / "a.npz", xyz=points(4), label=[0, 1, 0, 1], classification=[2, 6, 6, 2])
    note = "train: label taken for the labels, not classification: --data.label names another column"
    assert SceneFolder(str(tmp_path)).load()[0].notes[0] == note
    train, _ = SceneFolder(str(tmp_path), label="classification").load()
    assert train.notes == () and train.class_names == ("2", "6")


@pytest.mark.parametrize("names", [("0", "1"), ("ground", "tree")])
def test_points_of_a_scene_may_be_without_a_label(tmp_path, names):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        rows = [f"{x},{y},{z},{[*names, ''][k % 3]}\n" for k, (x, y, z) in enumerate(points(6))]
        (tmp_path / split / "a.csv").write_text("x,y,z,label\n" + "".join(rows))
    train, _ = SceneFolder(str(tmp_path), **FINE).load()
    assert train.class_names == names and values(train)[1] == [0, 1, -1, 0, 1, -1]
    assert "train: 2 of 6 points have no label: not counted in loss and scores" in train.notes
    train, _ = SceneFolder(str(tmp_path), **FINE, classes={"grass": names[1], "soil": names[0]}).load()
    assert values(train)[1] == [1, 0, -1, 1, 0, -1]


def test_numbers_and_words_for_labels_of_scenes_are_said_unless_classes_join_them(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        np.savez(tmp_path / split / "a.npz", xyz=points(4), label=[2, 6, 6, 2])
        np.savez(tmp_path / split / "b.npz", xyz=points(4), label=["ground", "ground", "roof", "roof"])
    note = "some labels are numbers (2, 6) and others words (ground, roof): each is a class of its own"
    train, _ = SceneFolder(str(tmp_path)).load()
    assert note in train.notes and len(train.class_names) == 4
    (tmp_path / "classes.yaml").write_text("labels: {2: ground, ground: ground, 6: roof, roof: roof}")
    train, _ = SceneFolder(str(tmp_path)).load()
    assert note not in train.notes and train.class_names == ("ground", "roof")


def test_files_of_a_folder_of_scenes_that_are_not_read_are_said(tmp_path):
    write_aerial(tmp_path, [2, 6], ("train", "val", "test"))
    (tmp_path / "train/scan.ptx").touch()
    (tmp_path / "classes.yaml").write_text("labels: {2: ground, 6: building}")
    notes = SceneFolder(str(tmp_path)).load()[0].notes
    assert notes[:2] == (
        "1 file of other kinds not read: train/scan.ptx",
        "1 file in folders that are not read: val/5080_54435.laz",
    )


def test_a_class_without_a_voxel_to_train_on_is_said(tmp_path):
    write_aerial(tmp_path, [2, 6], ("train",))
    write_aerial(tmp_path, [2, 9], ("test",))
    train, _ = SceneFolder(str(tmp_path), classes={"ground": 2, "building": 6, "water": 9}).load()
    assert train.notes[-1] == "train: no voxels to learn the classes from: water"


def test_a_set_without_any_label_that_is_a_class_is_refused(tmp_path):
    write_aerial(tmp_path, [2, 3], ("train", "test"))
    with pytest.raises(InputError, match="no point of the train scenes of .* has one of the classes"):
        SceneFolder(str(tmp_path), classes={"ground": 22}).load()


def test_a_label_of_two_classes_is_refused(tmp_path):
    write_aerial(tmp_path, [2, 3], ("train", "test"))
    with pytest.raises(InputError, match="data.classes has the label 2 twice, the second time as plants"):
        SceneFolder(str(tmp_path), classes={"ground": 2, "plants": [3, "2"]}).load()
