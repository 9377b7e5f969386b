"""Predicting people's files: tables, JSON, pictures, broken files among good ones, and what stops everything."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import trimesh
from matplotlib.colors import to_rgb
from PIL import Image
from written_runs import write_run

from bixt3d.cli import predict, predict_files
from bixt3d.datasets.files.reader import find_files, read_file
from bixt3d.datasets.files.writers import write_ply
from bixt3d.inference.runs import load_run
from bixt3d.io.weights import load_weights, save_weights
from bixt3d.models.create import create_model
from bixt3d.types import InputError
from bixt3d.viz.clouds import PALETTE

ROOT = Path(__file__).parents[2]
SCANS = ROOT.parent / "shared" / "data" / "scans"
CLASSES = ["bed", "car", "mug"]
PARTS = {"part_names": ["table/top", "table/leg", "mug/body", "mug/lid"], "class_names": ["table", "mug"]}
PARTS["class_parts"] = {"table": [0, 1], "mug": [2, 3]}
TOKENS = "tokenizer: {class_path: PointTokenizer, init_args: {dim: 16, features: FEATURES}}"
ENCODER = (
    "encoder: {class_path: BixtEncoder, init_args: {dim: 16, depth: 1, num_heads: 2, num_latents: 4, reads: ROLE}}"
)
CHOSEN = "a random 64 of them seen, y taken for up"
NOTES = [f"  note: {note}" for note in CHOSEN.split(", ")]
DATA = "data: {class_path: Shapes, init_args: {num_points: 64, features: FEATURES}}"

MakeRun = Callable[..., Path]


def config(model: str, features: str, role: str, more: str = "") -> str:
    text = f"{DATA}\nmodel:\n  class_path: {model}\n  init_args:\n    {TOKENS}\n    {ENCODER}\n{more}"
    return text.replace("FEATURES", features).replace("ROLE", role)


def keep(folder: Path, model: torch.nn.Module, metadata: dict) -> Path:
    torch.nn.init.normal_(model.head.weight)  # a new head says nothing
    write_run(folder / "model.safetensors", model, **metadata)
    return folder


@pytest.fixture
def class_run(tmp_path) -> MakeRun:
    """Return a function that writes a classifier with random weights."""

    def make(folder: Path = tmp_path / "class_run", features: str = "''") -> Path:
        text = config("BixtClassifier", features, "latents")
        metadata = {"task": "classification", "config": text, "class_names": CLASSES}
        return keep(folder, create_model(text, len(CLASSES)), metadata)

    return make


@pytest.fixture
def part_run(tmp_path) -> MakeRun:
    """Return a function that writes a part segmenter with random weights."""

    def make(folder: Path = tmp_path / "part_run", use_category: bool = False) -> Path:
        text = config("TokenSegmenter", "''", "tokens", f"    use_category: {str(use_category).lower()}\n")
        return keep(
            folder, create_model(text, 4, num_categories=2), {"task": "part segmentation", "config": text, **PARTS}
        )

    return make


@pytest.fixture
def clouds(tmp_path) -> Path:
    """Return a folder of three files: two clouds of one name in two folders, and a mesh."""
    folder = tmp_path / "clouds"
    for name, seed in (("a/chair.xyz", 0), ("b/chair.xyz", 1)):
        (folder / name).parent.mkdir(parents=True)
        np.savetxt(folder / name, np.random.default_rng(seed).normal(size=(100, 3)))
    trimesh.creation.box((1, 2, 3)).export(folder / "box.stl")
    return folder


def labels_of(path: Path) -> tuple[list[int], list[float]]:
    """Return what a PLY file says of its points, as trimesh reads it."""
    vertex = trimesh.load(path).metadata["_ply_raw"]["vertex"]["data"]
    return np.ravel(vertex["label"]).tolist(), np.ravel(vertex["confidence"]).tolist()


def head_and_rows(capsys) -> tuple[list[str], list[str]]:
    """Return what was printed of one cloud: its file and notes, and the rows of its table."""
    lines = capsys.readouterr().out.splitlines()
    end = 1 + sum(line.startswith("  note: ") for line in lines)
    return lines[:end], lines[end:]


def test_a_table_shows_the_likeliest_classes(class_run, clouds, capsys):
    run = class_run()
    assert predict.main([str(clouds / "a/chair.xyz"), f"--checkpoint={run}", "--top=2"]) == 0
    head, rows = head_and_rows(capsys)
    (cloud,) = read_file(clouds / "a/chair.xyz")
    expected = list(load_run(run).predict(cloud.xyz).probabilities.items())[:2]
    assert head == [f"{clouds}/a/chair.xyz: 100 points", *NOTES]
    assert [row.split() for row in rows] == [[f"{share:.1%}", name] for name, share in expected]


def test_folders_are_walked_and_json_is_a_line_for_each_file(class_run, clouds, capsys):
    assert predict.main([str(clouds), f"--checkpoint={class_run()}", "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [facts["file"] for facts in found] == [str(path) for path in find_files([clouds])]
    for facts in found:
        assert sorted(facts["probabilities"]) == CLASSES
        assert facts["confidence"] == facts["probabilities"][facts["class"]]
    assert [facts["points"] for facts in found] == [100, 100, 10_000]


def test_files_of_other_kinds_in_a_folder_are_named(class_run, clouds, tmp_path, capsys):
    folder = tmp_path / "mixed"
    shutil.copytree(clouds / "a", folder)
    for name in ("notes.docx", "b/photo.jpg", ".hidden/old.docx", "bixt3d_scenes/cached", "a.labels", "classes.yaml"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    assert predict.main([str(folder), f"--checkpoint={class_run()}"]) == 0
    assert f"{folder}: 2 files of other kinds not read: b/photo.jpg, notes.docx\n" in capsys.readouterr().err


def test_linked_folders_and_links_to_missing_files_are_named(class_run, clouds, tmp_path, capsys):
    folder = tmp_path / "mixed"
    shutil.copytree(clouds / "a", folder)
    (folder / "more").symlink_to(clouds / "a")
    (folder / "gone.xyz").symlink_to(tmp_path / "gone.xyz")
    assert predict.main([str(folder), f"--checkpoint={class_run()}"]) == 0
    said = capsys.readouterr().err
    assert f"{folder}: 1 linked folder not read: more\n" in said
    assert f"{folder}: 1 link to missing files not read: gone.xyz\n" in said


def test_names_that_are_not_utf8_stop_nothing(class_run, tmp_path, capsys):
    folder, names = tmp_path / "clouds", [b"a.XYZ", b"b\xe9\xff.xyz", b"c\xe9.xyz", b"d.xyz"]
    folder.mkdir()
    for seed, name in enumerate(names):
        np.savetxt(folder / os.fsdecode(name), np.random.default_rng(seed).normal(size=(70, 3)), "%.4f")
    (folder / os.fsdecode(names[2])).write_text("no points\n")
    assert predict.main([str(folder), f"--checkpoint={class_run()}", f"--out={tmp_path / 'out'}"]) == 1
    out, error = capsys.readouterr()
    assert f"{folder}/b\\udce9\\udcff.xyz: 70 points" in out and f"{folder}/d.xyz: 70 points" in out
    assert error.splitlines()[-1].startswith(f"error: {folder}/c\\udce9.xyz contains no points")
    assert len(list((tmp_path / "out").glob("*_prediction.ply"))) == 3


def test_a_table_shows_the_share_of_each_part(part_run, clouds, capsys):
    assert predict.main([str(clouds / "box.stl"), f"--checkpoint={part_run()}", "--category=mug"]) == 0
    head, rows = head_and_rows(capsys)
    assert head == [f"{clouds}/box.stl: 10000 points, mug", "  note: spread over the surface", *NOTES]
    assert {row.split()[1] for row in rows} == {"body", "lid"}
    assert sum(float(row.split()[0].rstrip("%")) for row in rows) == pytest.approx(100, abs=0.2)


def test_json_of_parts_has_their_whole_names(part_run, clouds, capsys):
    predict.main([str(clouds / "a"), f"--checkpoint={part_run()}", "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert facts["category"] in PARTS["class_names"]
    assert all(name.startswith(facts["category"] + "/") for name in facts["shares"])
    assert facts["counts"] == {name: round(100 * share) for name, share in facts["shares"].items()}
    assert sum(facts["counts"].values()) == 100


def test_a_broken_file_is_reported_and_stops_no_other(class_run, clouds, capsys):
    (clouds / "b/broken.ply").write_bytes(bytes(range(256)))
    (clouds / "b/flat.xyz").write_text("1 2 3\n1 2 3\n")
    (clouds / "empty").mkdir()
    places = [clouds / "missing.obj", clouds, clouds / "empty"]
    assert predict.main([*map(str, places), f"--checkpoint={class_run()}", "--json"]) == 1
    out, err = capsys.readouterr()
    assert len([json.loads(line) for line in out.splitlines()]) == 3
    faults = [
        "there is no file",
        "the folder .*empty contains no file",
        "broken.ply is not a PLY file",
        "flat.xyz has all",
    ]
    said = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(said) == len(faults)
    assert all(re.search(fault, line) for line, fault in zip(said, faults, strict=True))


def test_the_program_ends_with_code_1_after_a_broken_file(class_run, clouds):
    (clouds / "a/broken.ply").write_bytes(b"junk")
    command = [sys.executable, str(ROOT / "tools/predict.py"), str(clouds / "a"), f"--checkpoint={class_run()}"]
    ended = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert ended.returncode == 1
    assert "chair.xyz: 100 points" in ended.stdout
    assert ended.stderr.startswith("error: ") and "broken.ply is not a PLY file" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "required: FILE_OR_FOLDER"),
        (["nowhere.ply"], "there is no file nowhere.ply"),
        (["empty"], "the folder empty contains no file of a supported format: .ply"),
        (["a.xyz", "--checkpoint=nowhere"], "there is no run folder or weights file nowhere"),
        (["a.xyz", "--up=x"], "argument --up: invalid choice"),
        (["a.xyz", "--up", "-y"], "argument --up: expected one argument; write --up=-y"),
        (["a.xyz", "--top=0"], "--top must be at least 1"),
        (["a.xyz", "--chekpoint=x"], "unknown option '--chekpoint=x'; did you mean '--checkpoint'?"),
        (["a.xyz", "--format=csv"], "--format needs --out FOLDER"),
        (["a.xyz", "--out=out", "--format=ply,las2"], "'ply,las2' is not made of ply, las, laz"),
        (["a.xyz", "--category=mug"], "--category is for models of parts"),
        (
            ["a.xyz", "--out=a.xyz"],
            "--out a.xyz ends in none of .ply, .las, .laz, .csv, .txt, .npz, .npy; to write into a",
        ),
        (
            ["a.xyz", "--out=out.LAZ"],
            "--out out.LAZ ends in none of .ply, .las, .laz, .csv, .txt, .npz, .npy; to write",
        ),
        (["a.xyz", "--checkpoint=parts", "--category=mugg"], "knows no category 'mugg'; did you mean 'mug'"),
        (["a.xyz", "--checkpoint=parts"], "category of the shape \\(--category, or category=\\): one of table, mug"),
    ],
    ids=str,
)
def test_what_lets_nothing_be_done_gets_one_sentence(class_run, part_run, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("a.xyz").write_text("0 0 0\n1 1 1\n")
    part_run(tmp_path / "parts", use_category=True)
    named = any("checkpoint" in argument or "chekpoint" in argument for argument in arguments)
    with pytest.raises(InputError, match=sentence) as caught:
        predict.main([*arguments, *([] if named else [f"--checkpoint={class_run()}"])])
    assert "\n" not in str(caught.value)


def test_the_newest_run_of_any_task_is_taken(class_run, part_run, clouds, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = [str(clouds / "a"), "--json"]
    predict.main(arguments)
    assert "weights: shapes-cls, which come with bixt3d" in capsys.readouterr().err
    runs = [class_run(tmp_path / "runs/one"), part_run(tmp_path / "runs/two")]
    for newest, key in ((0, "class"), (1, "category")):  # weights alone: their time counts
        for place, run in enumerate(runs):
            os.utime(run / "model.safetensors", (1e9, 1e9 + (place == newest)))
        predict.main(arguments)
        assert key in json.loads(capsys.readouterr().out)


def test_a_file_that_memory_is_too_small_for_is_named(class_run, clouds, monkeypatch, capsys):
    monkeypatch.setattr(predict_files, "predict_file", lambda *anything: torch.empty(2**50))
    arguments = [str(clouds / "box.stl"), f"--checkpoint={class_run()}"]
    for more, end in ([], "box.stl\n"), ([f"--out={clouds / 'out'}"], "box.stl, or leave out --out\n"):
        assert predict.main(arguments + more) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: out of memory: give a smaller file than ") and error.endswith(end)


def test_normals_are_estimated_where_the_model_wants_them_and_the_file_has_none(class_run, clouds, capsys):
    predict.main([str(clouds), f"--checkpoint={class_run(features='normal')}"])
    files = re.split(r"\n(?=\S.*: \d+ points)", capsys.readouterr().out)
    assert ["normals estimated" in text for text in files] == [True, True, False]


def test_up_says_how_the_files_lie(class_run, tmp_path, capsys):
    cloud = np.random.default_rng(0).normal(size=(80, 3)) * (1, 2, 4)
    np.save(tmp_path / "y.npy", cloud)
    np.save(tmp_path / "z.npy", cloud[:, [0, 2, 1]] * (1, -1, 1))
    run, said = class_run(), []
    for name, up in (("y", []), ("y", ["--up=y"]), ("z", ["--up=z"]), ("z", [])):
        predict.main([str(tmp_path / f"{name}.npy"), f"--checkpoint={run}", "--json", *up])
        said.append(json.loads(capsys.readouterr().out)["probabilities"])
    assert said[0] == said[1] == pytest.approx(said[2], abs=1e-5)
    assert said[0] != pytest.approx(said[3], abs=1e-5)


def test_a_pcd_is_taken_for_what_a_depth_camera_saw_unless_it_is_said(class_run, tmp_path, capsys):
    cloud = np.random.default_rng(0).normal(size=(80, 3)) * (1, 2, 4)
    np.savetxt(tmp_path / "a.xyz", cloud)
    rows = "\n".join(" ".join(map(str, row)) for row in cloud.tolist())
    head = "FIELDS x y z\nSIZE 8 8 8\nTYPE F F F\nWIDTH 80\nHEIGHT 1\nDATA ascii\n"
    (tmp_path / "a.pcd").write_text(head + rows)
    run, said = class_run(), []
    for name, up in (("a.pcd", []), ("a.xyz", ["--up=-y"]), ("a.pcd", ["--up=y"]), ("a.xyz", [])):
        predict.main([str(tmp_path / name), f"--checkpoint={run}", "--json", *up])
        said.append(json.loads(capsys.readouterr().out)["probabilities"])
    assert said[0] == pytest.approx(said[1], abs=1e-5)
    assert said[2] == pytest.approx(said[3], abs=1e-5)
    assert said[0] != pytest.approx(said[2], abs=1e-5)


def test_a_classifier_leaves_points_picture_and_page_of_every_cloud(class_run, clouds, tmp_path, capsys):
    with h5py.File(clouds / "two.h5", "w") as file:
        file["data"] = np.random.default_rng(0).normal(size=(2, 50, 3))
    out = tmp_path / "new/out"
    predict.main([str(clouds), f"--checkpoint={class_run()}", f"--out={out}", "--json"])
    names = ["chair", "chair-2", "box", "two_0", "two_1"]
    expected = {f"{name}_prediction.{ending}" for name in names for ending in ("ply", "png", "html")}
    (library,) = out.glob("plotly-*.min.js")  # one for all pages
    assert {path.name for path in out.iterdir()} == {*expected, library.name}
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {Path(path).name for facts in told for path in facts["out"]} == {*expected, library.name}
    assert [facts["point_files"] for facts in told] == [
        [path for path in facts["out"] if "ply" in path] for facts in told
    ]
    second = np.loadtxt(clouds / "b/chair.xyz")
    assert np.array_equal(trimesh.load(out / "chair-2_prediction.ply").vertices, second)
    label, _ = labels_of(out / "chair-2_prediction.ply")
    assert [CLASSES[number] for number in set(label)] == [
        facts["class"] for facts in told if facts["file"].endswith("b/chair.xyz")
    ]
    with Image.open(out / "box_prediction.png") as picture:
        assert min(picture.size) > 200
    assert "plotly" in (out / "box_prediction.html").read_text(encoding="utf-8").lower()


def test_without_pictures_the_labelled_points_are_all_that_is_written(class_run, part_run, clouds, tmp_path):
    for run, more in ((class_run(), []), (part_run(), ["--category=mug"])):
        out = tmp_path / "out" / run.name
        predict.main([str(clouds / "box.stl"), f"--checkpoint={run}", f"--out={out}", "--no_pictures", *more])
        assert [path.name for path in out.iterdir()] == ["box_prediction.ply"]


def test_the_colors_of_points_say_their_part_and_no_input_is_replaced(part_run, clouds, capsys):
    folder, run = clouds / "a", part_run()
    trimesh.PointCloud(np.random.default_rng(0).normal(size=(300, 3))).export(folder / "shape.ply")
    before = (folder / "shape.ply").read_bytes()
    predict.main([str(folder / "shape.ply"), f"--checkpoint={run}", f"--out={folder}"])
    assert (folder / "shape.ply").read_bytes() == before
    (cloud,) = read_file(folder / "shape.ply")
    found = load_run(run).predict(cloud.xyz)
    first = PARTS["class_parts"][found.category][0]
    expected = np.array([to_rgb(PALETTE[part - first]) for part in found.parts.tolist()]) * 255
    colored = trimesh.load(folder / "shape_prediction.ply")
    assert np.array_equal(colored.vertices, cloud.xyz)
    label, confidence = labels_of(folder / "shape_prediction.ply")
    assert label == found.parts.tolist() and confidence == found.confidence.tolist()
    np.testing.assert_allclose(np.asarray(colored.colors)[:, :3], expected, atol=0.51)
    assert (folder / "shape_prediction.png").is_file() and (folder / "shape_prediction.html").is_file()


def test_what_a_file_held_lies_in_the_ply_where_it_lay(part_run, tmp_path, capsys):
    """As a survey writes it: far from the origin, with colors, intensity and labels of its own."""
    xyz = np.random.default_rng(0).normal(size=(300, 3)) + [500_000, 5_400_000, 100]
    rgb = np.random.default_rng(1).integers(0, 256, (300, 3)).astype(np.uint8)
    columns = {"rgb": rgb, "intensity": np.arange(300.0)[:, None], "label": np.ones((300, 1), np.uint8)}
    write_ply(tmp_path / "scan.ply", xyz, columns)
    predict.main([str(tmp_path / "scan.ply"), f"--checkpoint={part_run()}", f"--out={tmp_path / 'out'}", "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert facts["notes"] == [*CHOSEN.split(", "), "intensity, label, rgb not read"]
    assert [Path(path).name for path in facts["point_files"]] == ["scan_prediction.ply", "scan_prediction_colors.ply"]
    (back,) = read_file(tmp_path / "out/scan_prediction.ply")
    assert np.array_equal(back.xyz, xyz) and np.array_equal(back.columns["rgb"], rgb)
    assert np.array_equal(back.columns["intensity"], columns["intensity"])
    assert np.array_equal(back.columns["original_label"], columns["label"])
    assert np.bincount(back.columns["label"][:, 0], minlength=4).tolist() == [
        facts["counts"].get(name, 0) for name in PARTS["part_names"]
    ]
    head = (tmp_path / "out/scan_prediction.ply").read_bytes().partition(b"end_header")[0].decode()
    for number in PARTS["class_parts"][facts["category"]]:
        assert f"comment label {number} {PARTS['part_names'][number]}\n" in head
    assert all(f"comment {note}\n" in head for note in CHOSEN.split(", "))


@pytest.mark.parametrize("features", ["''", "normal"])
def test_normals_of_any_length_lie_in_the_ply_to_the_bit(class_run, tmp_path, capsys, features):
    xyz = np.random.default_rng(0).normal(size=(80, 3))
    for name, normals in (("long", 3.7 * xyz), ("missing", 0 * xyz)):
        np.savez(tmp_path / f"{name}.npz", xyz=xyz, normals=normals, fpfh=xyz)
        predict.main(
            [str(tmp_path / f"{name}.npz"), f"--checkpoint={class_run(features=features)}", f"--out={tmp_path}"]
        )
        (back,) = read_file(tmp_path / f"{name}_prediction.ply")
        assert np.array_equal(back.columns["normal"], normals)
        assert np.array_equal(np.hstack([back.columns[f"fpfh_{place}"] for place in range(3)]), xyz)


def test_labels_are_written_in_every_format_that_is_asked_for(part_run, clouds, tmp_path, capsys):
    run, out = part_run(), tmp_path / "out"
    predict.main([str(clouds / "a"), f"--checkpoint={run}", f"--out={out}", "--format=csv,npy, npz", "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert [Path(path).suffix for path in facts["out"]] == [".csv", ".npy", ".npz", ".png", ".html", ".js"]
    assert facts["out"][:3] == facts["point_files"]
    found = load_run(run).predict(clouds / "a/chair.xyz", probabilities=True)
    labels = np.load(out / "chair_prediction.npy")
    with np.load(out / "chair_prediction.npz") as file, (out / "chair_prediction.csv").open() as text:
        rows = list(csv.DictReader(text))
        assert labels.tolist() == file["label"].tolist() == [int(row["label"]) for row in rows] == found.parts.tolist()
        assert file["name"].tolist() == [row["name"] for row in rows] == [found.part_names[part] for part in labels]
        assert np.array_equal(file["xyz"], np.loadtxt(clouds / "a/chair.xyz"))
        assert np.array_equal(file["confidence"], found.confidence.numpy())
    assert torch.equal(found.probabilities.max(1).values, found.confidence)
    assert found.probabilities.shape == (100, len(found.own_parts)) and found.probabilities.dtype == torch.float32


@pytest.mark.parametrize("task", ["class", "part"])
def test_what_is_written_has_a_row_for_each_point_of_the_file_also_for_those_without_a_position(
    class_run, part_run, tmp_path, capsys, task
):
    xyz, rgb = np.random.default_rng(0).normal(size=(80, 3)), np.arange(240, dtype=np.uint8).reshape(80, 3)
    missing = np.arange(80) % 4 == 1
    xyz[missing] = np.nan
    write_ply(tmp_path / "scan.ply", xyz, {"rgb": rgb})
    run, out = class_run() if task == "class" else part_run(), tmp_path / "out"
    predict.main(
        [str(tmp_path / "scan.ply"), f"--checkpoint={run}", f"--out={out}", "--format=ply,csv,npz,npy", "--json"]
    )
    facts = json.loads(capsys.readouterr().out)
    assert facts["points"] == 80 and "20 of its 80 points dropped: NaN, infinite or beyond 1e+18" in facts["notes"]
    labels = np.load(out / "scan_prediction.npy")
    assert np.array_equal(labels == -1, missing) and (labels[~missing] >= 0).all()
    vertex = trimesh.load(out / "scan_prediction.ply").metadata["_ply_raw"]["vertex"]["data"]
    for name, values in [*zip("xyz", xyz.T, strict=True), *zip(("red", "green", "blue"), rgb.T, strict=True)]:
        assert np.array_equal(np.ravel(vertex[name]), values, equal_nan=True)
    with np.load(out / "scan_prediction.npz") as file, (out / "scan_prediction.csv").open() as text:
        rows = list(csv.DictReader(text))
        assert np.array_equal(file["xyz"], xyz, equal_nan=True)
        for found in (np.ravel(vertex["label"]), file["label"], [int(row["label"]) for row in rows]):
            assert np.array_equal(found, labels)
        for found in (np.ravel(vertex["confidence"]), file["confidence"], [float(row["confidence"]) for row in rows]):
            assert np.array_equal(np.isnan(found), missing)
        assert file["name"].tolist() == [row["name"] for row in rows]
        assert np.array_equal(file["name"] == "", missing)
    head = (out / "scan_prediction.ply").read_bytes().partition(b"end_header")[0]
    assert b"comment label -1 none: the point has no position\n" in head


def test_what_is_guessed_repeated_or_not_read_is_said(class_run, tmp_path, capsys):
    xyz, run = np.random.default_rng(0).normal(size=(40, 3)), class_run(features="rgb")
    np.savetxt(tmp_path / "a.xyz", np.hstack([xyz, np.arange(120).reshape(40, 3) % 250, xyz[:, :1]]))
    write_ply(tmp_path / "b.ply", xyz, {f"f{place}": xyz[:, :1] for place in range(12)} | {"rgb": np.eye(3)[[0] * 40]})
    np.savez(tmp_path / "c.npz", xyz=xyz, rgb=np.full((40, 3), 0.5), normals=3 * xyz)
    guessed = ["repeated to make 64", "y taken for up"]
    expected = [
        [*guessed, "columns 4 to 6 taken for rgb", "colors taken for 0 to 255", "column7 not read"],
        [*guessed, "f0, f1, f2, f3, f4, f5, f6, f7, f8, f9 and 2 more not read"],
        [*guessed, "normal not read"],
    ]
    names = ("a.xyz", "b.ply", "c.npz")
    predict.main([*(str(tmp_path / name) for name in names), f"--checkpoint={run}", "--json"])
    assert [json.loads(line)["notes"] for line in capsys.readouterr().out.splitlines()] == expected
    predict.main([str(tmp_path / "a.xyz"), f"--checkpoint={run}"])
    assert head_and_rows(capsys)[0] == [f"{tmp_path}/a.xyz: 40 points", *(f"  note: {one}" for one in expected[0])]
    assert load_run(run).predict(tmp_path / "a.xyz").notes == tuple(expected[0])


def test_up_by_the_format_is_said_and_up_that_was_asked_for_is_not(class_run, tmp_path, capsys):
    head = "FIELDS x y z\nSIZE 8 8 8\nTYPE F F F\nWIDTH 64\nHEIGHT 1\nDATA ascii\n"
    rows = np.random.default_rng(0).normal(size=(64, 3)).tolist()
    (tmp_path / "a.pcd").write_text(head + "\n".join(" ".join(map(str, row)) for row in rows))
    run, said = class_run(), []
    for up in ([], ["--up=-y"]):
        predict.main([str(tmp_path / "a.pcd"), f"--checkpoint={run}", "--json", *up])
        said.append(json.loads(capsys.readouterr().out))
    assert [facts["notes"] for facts in said] == [["-y taken for up, as its format has it"], []]
    assert said[0]["probabilities"] == said[1]["probabilities"]


def test_a_model_without_the_colors_that_it_reads_says_what_the_file_has(class_run, tmp_path, capsys):
    np.savez(tmp_path / "a.npz", xyz=np.random.default_rng(0).normal(size=(40, 3)), normals=np.zeros((40, 3)))
    assert predict.main([str(tmp_path / "a.npz"), f"--checkpoint={class_run(features='rgb')}"]) == 2
    said = "a.npz has no rgb (it has normal); for such clouds train a model without, or with --augment.feature_dropout"
    assert said in capsys.readouterr().err


def test_an_answer_that_is_not_finite_is_refused_and_prints_no_json(class_run, part_run, clouds, capsys):
    for run in (class_run(), part_run()):
        weights, metadata = load_weights(run / "model.safetensors")
        weights["head.weight"] = torch.full_like(weights["head.weight"], 3e38)  # finite, but no sum of it is
        save_weights(run / "model.safetensors", weights, metadata)
        assert predict.main([str(clouds / "a"), f"--checkpoint={run}", "--json"]) == 2
        out, err = capsys.readouterr()
        assert out == "" and re.match(r"error: .*chair.xyz: the model's output for chair.xyz is not finite: its w", err)


@pytest.mark.skipif(not SCANS.is_dir(), reason=f"{SCANS} is not there")
def test_real_scans_are_predicted_for_both_tasks(class_run, part_run, capsys):
    for run in (class_run(), part_run()):
        assert predict.main([str(SCANS), f"--checkpoint={run}", "--json"]) == 0
        found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        points = {facts["name"]: facts["points"] for facts in found}
        assert points["igea.ply"] == 10_000 and points["fragment.pcd"] == 113_662
        assert len(points) == 5


def test_names_that_a_terminal_would_obey_are_shown_as_codes(class_run, tmp_path, capsys):
    folder = tmp_path / "\x1b[2Jfolder"
    folder.mkdir()
    numbers = "".join(f"{x} {x * x % 7} {x % 3} {x}\n" for x in range(40))
    head = "ply\nformat ascii 1.0\nelement vertex 40\n" + "".join(f"property float {name}\n" for name in "xyzw")
    head += "element \x1b[2Jscan 1\nproperty float a\nend_header\n"
    (folder / "a.ply").write_text(head + numbers + "1\n")
    (folder / "b.xyz").write_text("x\n")
    assert predict.main([str(folder), f"--checkpoint={class_run()}"]) == 1
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    assert "\\x1b[2Jfolder/a.ply: 40 points" in said.out and "elements '\\x1b[2Jscan' not read" in said.out
    assert "\\x1b[2Jfolder/b.xyz" in said.err
