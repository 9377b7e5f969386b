"""Predicting people's images: tables, JSON, overlays, images of every kind, and files that are none."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from written_runs import write_run

from bixt3d.cli import predict
from bixt3d.inference.runs import load_run
from bixt3d.io.weights import load_weights, save_weights
from bixt3d.models.create import create_model
from bixt3d.types import InputError
from bixt3d.viz.images import class_colors

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT.parent / "shared" / "data" / "imagenet_sample"
NAMES = ["bed", "car", "mug", "sky", "tree", "road"]
MODEL = """
model:
  class_path: CLASS
  init_args:
    tokenizer: {class_path: PatchTokenizer, init_args: {dim: 16, kernel: 4}}
    encoder: {class_path: BixtEncoder, init_args: {dim: 16, depth: 1, num_heads: 2, num_latents: 4, reads: ROLE}}
"""
CLASSIFIER = MODEL.replace("CLASS", "BixtImageClassifier").replace("ROLE", "latents")
CLASSIFIER += "data: {class_path: ImageFolder, init_args: {root: x, size: 16, crop_fraction: 0.875}}\n"
SEGMENTER = MODEL.replace("CLASS", "LinearSegmenter").replace("ROLE", "tokens")
SEGMENTER += "data: {class_path: SceneParse, init_args: {root: x, size: 16}}\n"
CLOUDS = MODEL.replace("CLASS", "BixtClassifier").replace("PatchTokenizer", "PointTokenizer").replace(", kernel: 4", "")
CLOUDS = CLOUDS.replace("ROLE", "latents") + "data: {class_path: Shapes, init_args: {num_points: 32}}\n"

MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path) -> MakeRun:
    """Return a function that writes a run of a task with random weights."""

    def make(task: str, place: str | None = None) -> Path:
        config = {"image classification": CLASSIFIER, "image segmentation": SEGMENTER, "classification": CLOUDS}[task]
        model = create_model(config, len(NAMES))
        torch.nn.init.normal_(model.head.weight)  # a new head says nothing
        folder = tmp_path / (place or f"{task} run")
        write_run(folder / "model.safetensors", model, task, config, class_names=NAMES)
        return folder

    return make


@pytest.fixture
def images(tmp_path) -> Path:
    """Return a folder of images of every kind, two of them of one name in two folders."""
    folder, draw = tmp_path / "images", np.random.default_rng(0)
    for name, mode in (
        ("a/photo.JPG", "RGB"),
        ("b/photo.jpeg", "L"),
        ("b/palette.png", "P"),
        ("b/glass.png", "RGBA"),
        ("b/grey.bmp", "L"),
        ("b/new.webp", "RGB"),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(256, size=(21, 30, 3), dtype=np.uint8)).convert(mode).save(folder / name)
    return folder


def test_a_table_shows_the_likeliest_classes(make_run, images, capsys):
    run = make_run("image classification")
    assert predict.main([str(images / "a/photo.JPG"), f"--checkpoint={run}"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    expected = list(load_run(run).predict(images / "a/photo.JPG").probabilities.items())[:5]
    assert head == f"{images}/a/photo.JPG: 30 x 21 pixels"
    assert [row.split() for row in rows] == [[f"{share:.1%}", name] for name, share in expected]
    predict.main([str(images / "a/photo.JPG"), f"--checkpoint={run}", "--top=2"])
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_folders_are_searched_and_json_is_a_line_for_each_image_of_every_kind(make_run, images, capsys):
    (images / "b/notes.txt").write_text("1 2 3\n4 5 6\n")
    assert predict.main([str(images), f"--checkpoint={make_run('image classification')}", "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    names = ["photo.JPG", "glass.png", "grey.bmp", "new.webp", "palette.png", "photo.jpeg"]
    assert [facts["name"] for facts in found] == names
    for facts in found:
        assert (facts["width"], facts["height"]) == (30, 21) and sorted(facts["probabilities"]) == sorted(NAMES)
        assert facts["confidence"] == facts["probabilities"][facts["class"]]


def test_a_segmenter_tells_the_share_of_each_class(make_run, images, capsys):
    run = make_run("image segmentation")
    predict.main([str(images / "b/grey.bmp"), f"--checkpoint={run}"])
    head, *rows = capsys.readouterr().out.splitlines()
    expected = load_run(run).predict(images / "b/grey.bmp").shares
    assert head.endswith("grey.bmp: 30 x 21 pixels")
    assert [row.split() for row in rows] == [[f"{share:.1%}", name] for name, share in expected.items()]
    predict.main([str(images / "b/grey.bmp"), f"--checkpoint={run}", "--json"])
    assert json.loads(capsys.readouterr().out)["shares"] == expected


def test_a_classifier_leaves_a_picture_of_every_image_and_replaces_none(make_run, images, tmp_path, capsys):
    before = (images / "b/glass.png").read_bytes()
    predict.main([str(images), f"--checkpoint={make_run('image classification')}", f"--out={images / 'b'}", "--json"])
    told = [Path(path) for line in capsys.readouterr().out.splitlines() for path in json.loads(line)["out"]]
    names = ["photo", "glass", "grey", "new", "palette", "photo-2"]
    assert [path.name for path in told] == [f"{name}_prediction.png" for name in names]
    assert all(path.parent == images / "b" and path.is_file() for path in told)
    assert (images / "b/glass.png").read_bytes() == before


def test_without_pictures_a_segmenter_leaves_label_maps_and_a_classifier_is_refused(make_run, images, tmp_path):
    given = [str(images / "b/grey.bmp"), f"--out={tmp_path / 'out'}", "--no_pictures"]
    assert predict.main([*given, f"--checkpoint={make_run('image segmentation')}"]) == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["grey_prediction_labels.png"]
    with pytest.raises(InputError, match="--no_pictures leaves nothing to write"):
        predict.main([*given, f"--checkpoint={make_run('image classification')}"])


def test_the_overlay_of_a_segmenter_has_a_legend_with_its_colors(make_run, tmp_path, capsys):
    Image.new("RGB", (60, 40), "white").save(tmp_path / "white.png")
    run, out = make_run("image segmentation"), tmp_path / "out"
    predict.main([str(tmp_path / "white.png"), f"--checkpoint={run}", f"--out={out}"])
    sheet = np.asarray(Image.open(out / "white_prediction.png").convert("RGB")).astype(int)
    shares = load_run(run).predict(tmp_path / "white.png").shares
    for name, share in shares.items():
        color = class_colors(len(NAMES))[NAMES.index(name)]
        assert (np.abs(sheet - color).max(2) < 12).sum() > 20  # its dot
        coat = 255 * 0.45 + 0.55 * color
        assert share < 0.05 or (np.abs(sheet - coat).max(2) < 12).sum() > 100


@pytest.mark.parametrize("count", [6, 300])
def test_the_label_map_of_a_segmenter_holds_the_class_number_of_every_pixel(tmp_path, images, capsys, count):
    names = [*NAMES, *(f"class {number}" for number in range(len(NAMES), count))]
    model = create_model(SEGMENTER, count)
    torch.nn.init.normal_(model.head.weight)
    write_run(tmp_path / "run/model.safetensors", model, "image segmentation", SEGMENTER, class_names=names)
    predict.main(
        [str(images / "b/grey.bmp"), f"--checkpoint={tmp_path / 'run'}", f"--out={tmp_path / 'out'}", "--json"]
    )
    told = json.loads(capsys.readouterr().out)["out"]
    assert [Path(path).name for path in told] == ["grey_prediction.png", "grey_prediction_labels.png"]
    with Image.open(told[1]) as picture:
        assert picture.mode == ("P" if count == 6 else "I;16")
        assert picture.text["classes"].splitlines()[2] == "2 mug" and len(picture.text["classes"].splitlines()) == count
        labels = load_run(tmp_path / "run").predict(images / "b/grey.bmp").labels.numpy()
        assert np.array_equal(np.asarray(picture), labels)
        colors = np.asarray(picture.convert("RGB"))
    assert count > 256 or np.array_equal(colors, class_colors(count)[labels])


def test_an_answer_that_is_not_finite_is_refused_for_images_too(make_run, images, capsys):
    for task in ("image classification", "image segmentation"):
        run = make_run(task)
        weights, metadata = load_weights(run / "model.safetensors")
        weights["head.weight"] = torch.full_like(weights["head.weight"], 3e38)
        save_weights(run / "model.safetensors", weights, metadata)
        assert predict.main([str(images / "b/grey.bmp"), f"--checkpoint={run}", "--json"]) == 2
        out, err = capsys.readouterr()
        assert out == "" and "grey.bmp: the model's output for this image is not finite: its weights are" in err


def test_a_broken_image_is_reported_and_stops_no_other(make_run, images, capsys):
    (images / "a/broken.png").write_bytes(bytes(range(256)))
    whole = (images / "a/photo.JPG").read_bytes()
    (images / "a/short.jpg").write_bytes(whole[: len(whole) // 2])
    (images / "empty").mkdir()
    places = [images / "missing.jpg", images / "a", images / "empty"]
    run = make_run("image classification")
    assert predict.main([*map(str, places), f"--checkpoint={run}", "--json"]) == 1
    out, err = capsys.readouterr()
    assert len([json.loads(line) for line in out.splitlines()]) == 1
    faults = ["there is no file", "the folder .*empty holds no image", "broken.png is not an image", "short.jpg is not"]
    said = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(said) == len(faults)
    assert all(re.search(fault, line) for line, fault in zip(said, faults, strict=True))


def test_a_run_on_images_refuses_clouds_and_the_reverse_in_one_sentence(make_run, images, tmp_path, capsys):
    (tmp_path / "cloud.xyz").write_text("0 0 0\n1 1 1\n")
    on_images, on_clouds = make_run("image classification"), make_run("classification")
    assert predict.main([str(tmp_path / "cloud.xyz"), f"--checkpoint={on_images}"]) == 2
    assert "cloud.xyz is no image, but the run reads images" in capsys.readouterr().err
    assert predict.main([str(images / "a/photo.JPG"), f"--checkpoint={on_clouds}"]) == 2
    assert "photo.JPG is an image, but the run reads clouds and meshes" in capsys.readouterr().err
    with pytest.raises(InputError, match="images contains no file of a supported format: .ply"):
        predict.main([str(images), f"--checkpoint={on_clouds}"])
    with pytest.raises(InputError, match="--out a.png ends as a file, and what is written is a folder; to write into"):
        predict.main([str(images), f"--checkpoint={on_images}", "--out=a.png"])
    with pytest.raises(InputError, match="--up, --category, --format and --no_viewpoint are for clouds"):
        predict.main([str(images), f"--checkpoint={on_images}", "--up=z"])
    with pytest.raises(InputError, match="--no_viewpoint are for clouds"):
        predict.main([str(images), f"--checkpoint={on_images}", "--no_viewpoint"])
    with pytest.raises(InputError, match="there is no run folder or weights file bixt_ti_l64_p16"):
        predict.main([str(images), "--checkpoint=bixt_ti_l64_p16"])


def test_the_newest_run_that_reads_such_files_is_taken(make_run, images, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cloud.xyz").write_text("0 0 0\n1 1 1\n0 1 2\n")
    make_run("classification", "runs/clouds")
    with pytest.raises(InputError, match="no run on images under runs/ yet: make one with `bixt3d train imgcls"):
        predict.main([str(images)])
    old, new = make_run("image classification", "runs/old"), make_run("image segmentation", "runs/new")
    for run, time in ((old, 2e9), (new, 2e9 + 1)):
        os.utime(run / "model.safetensors", (time, time))
    for place, key in ((images, "shares"), (images / "a/photo.JPG", "shares"), (Path("cloud.xyz"), "class")):
        predict.main([str(place), "--json"])
        assert key in json.loads(capsys.readouterr().out.splitlines()[0])


@pytest.mark.skipif(not SAMPLE.is_dir(), reason=f"{SAMPLE} is not there")
def test_real_images_are_predicted_for_both_tasks(make_run, capsys):
    some = sorted(map(str, SAMPLE.glob("*/*.JPEG")))[:5]
    for task, places, count in (("image classification", [str(SAMPLE)], 50), ("image segmentation", some, 5)):
        assert predict.main([*places, f"--checkpoint={make_run(task)}", "--json"]) == 0
        assert len(capsys.readouterr().out.splitlines()) == count


def test_names_that_a_terminal_would_obey_are_shown_as_codes(make_run, tmp_path, capsys):
    folder = tmp_path / "\x1b[2Jfolder"
    folder.mkdir()
    Image.new("RGB", (20, 20)).save(folder / "a.png")
    (folder / "b.png").write_bytes(b"no image")
    assert predict.main([str(folder), f"--checkpoint={make_run('image classification')}"]) == 1
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    assert "\\x1b[2Jfolder/a.png: 20 x 20 pixels" in said.out and "\\x1b[2Jfolder/b.png" in said.err
