"""Looking at a run on images, or at a model by its name: what is drawn, what is said, and what is refused."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from written_runs import write_run

from bixt3d.cli import visualize, visualize_images
from bixt3d.models.create import create_model
from bixt3d.models.image_preset_table import PRESETS, ImagePreset
from bixt3d.types import InputError

GENUINE = Path(__file__).parents[3] / "shared/data/official_parity/p16.weights.safetensors"
NAMES = ["bed", "car", "mug"]
MODEL = """
model:
  class_path: CLASS
  init_args:
    tokenizer: {class_path: PatchTokenizer, init_args: {dim: 16, kernel: 4}}
    encoder: {class_path: BixtEncoder, init_args: {dim: 16, depth: 3, num_heads: 2, num_latents: 5, reads: ROLE}}
runtime: {accelerator: cpu, threads: 1}
"""
CLASSIFIER = MODEL.replace("CLASS", "BixtImageClassifier").replace("ROLE", "latents")
CLASSIFIER += (
    "data: {class_path: ImageFolder, init_args: {root: ROOT, size: 16, crop_fraction: 1.0, workers: 0, cache: true}}\n"
)
SEGMENTER = MODEL.replace("CLASS", "LinearSegmenter").replace("ROLE", "tokens")
SEGMENTER += "data: {class_path: SceneParse, init_args: {root: ROOT, size: 16, workers: 0}}\n"


def keep(folder: Path, task: str, config: str, model: nn.Module) -> Path:
    nn.init.normal_(model.head.weight)  # a new head says nothing
    write_run(folder / "model.safetensors", model, task, config, class_names=NAMES)
    return folder


@pytest.fixture
def class_run(tmp_path) -> Path:
    """Return the run of a classifier with random weights, and data: 4 test images of each class."""
    root, draw = tmp_path / "photos", np.random.default_rng(0)
    for split, count in (("train", 1), ("test", 4)):
        for name in NAMES:
            (root / split / name).mkdir(parents=True)
            for place in range(count):
                image = Image.fromarray(draw.integers(256, size=(20, 24, 3), dtype=np.uint8))
                image.save(root / split / name / f"{place}.png")
    config = CLASSIFIER.replace("ROOT", str(root))
    return keep(tmp_path / "class_run", "image classification", config, create_model(config, len(NAMES)))


@pytest.fixture
def scene_run(tmp_path) -> Path:
    """Return the run of a segmenter with random weights, and data: 5 test scenes."""
    root, draw = tmp_path / "scenes", np.random.default_rng(0)
    for split, count in (("training", 1), ("validation", 5)):
        for kind in ("images", "annotations"):
            (root / kind / split).mkdir(parents=True)
        for place in range(count):
            image = Image.fromarray(draw.integers(256, size=(18, 26, 3), dtype=np.uint8))
            image.save(root / "images" / split / f"{place}.jpg")
            labels = Image.fromarray(draw.integers(4, size=(18, 26), dtype=np.uint8))
            labels.save(root / "annotations" / split / f"{place}.png")
    rows = [f"{number}\t{name}\n" for number, name in enumerate(NAMES, 1)]
    (root / "objectInfo.txt").write_text("Idx\tName\n" + "".join(rows))
    config = SEGMENTER.replace("ROOT", str(root))
    return keep(tmp_path / "scene_run", "image segmentation", config, create_model(config, len(NAMES)))


@pytest.fixture
def preset(monkeypatch) -> str:
    """Return the name of a tiny model that a test may draw in a moment."""
    tiny = ImagePreset(size=32, dim=16, depth=3, num_heads=2, num_latents=5, kernel=8, stride=8)
    monkeypatch.setitem(PRESETS, "bixt_tiny", tiny)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: "/nowhere")
    return "bixt_tiny"


@pytest.fixture
def photo(tmp_path) -> Path:
    path = tmp_path / "photo.jpg"
    Image.fromarray(np.random.default_rng(0).integers(256, size=(50, 70, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def drawn(monkeypatch) -> dict:
    """Draw no sheet of predictions, but return a dict that holds what the last one would show."""
    seen = {}

    def draw_images(path, images, titles, columns, colors):
        seen.update(images=images, titles=titles, colors=colors)

    def draw_segmentations(path, shown, class_names):
        seen.update(shown=shown, titles=[one.title for one in shown])

    monkeypatch.setattr(visualize_images, "draw_images", draw_images)
    monkeypatch.setattr(visualize_images, "draw_segmentations", draw_segmentations)
    return seen


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def indices(titles: list[str]) -> list[int]:
    return [int(title.split("index ")[1].split(",")[0]) for title in titles]


def test_classes_are_drawn_and_the_program_says_where(class_run, tmp_path, capsys):
    (path,) = visualize.main([str(class_run), f"--out={tmp_path / 'out'}"])
    assert path == tmp_path / "out/classes.png" and min(size(path)) > 300
    assert capsys.readouterr().out.splitlines()[-1] == str(path)


def test_mistakes_are_told_by_words_and_color(class_run, drawn, tmp_path):
    visualize.main([str(class_run), "--count=12"])
    assert indices(drawn["titles"]) == list(range(12)) and drawn["images"][0].shape == (20, 24, 3)
    truths = [name for name in NAMES for _ in range(4)]
    for title, color, truth in zip(drawn["titles"], drawn["colors"], truths, strict=True):
        right = title.startswith(f"{truth} ")
        assert (f"is {truth}" in title) != right and (color == visualize_images.INK) == right
    assert len(set(drawn["colors"])) == 2


def test_the_worst_come_first_and_a_category_may_be_chosen(class_run, drawn):
    visualize.main([str(class_run), "--worst", "--count=3"])
    assert len(drawn["titles"]) == 3 and all("\nis " in title for title in drawn["titles"])
    worst = indices(drawn["titles"])
    visualize.main([str(class_run), "--worst", "--count=12"])
    assert indices(drawn["titles"])[:3] == worst
    visualize.main([str(class_run), "--category=mug"])
    assert indices(drawn["titles"]) == [8, 9, 10, 11]
    visualize.main([str(class_run), "--index", "5", "0"])
    assert indices(drawn["titles"]) == [5, 0]


def test_scenes_are_drawn_with_their_truth(scene_run, drawn, tmp_path):
    visualize.main([str(scene_run), "--count=5"])
    assert indices(drawn["titles"]) == [0, 1, 2, 3, 4]
    for one in drawn["shown"]:
        assert one.image.shape == (18, 26, 3) and one.predicted.shape == one.truth.shape == (18, 26)
        assert set(np.unique(one.truth)) == {-1, 0, 1, 2}


def test_the_worst_scene_comes_first(scene_run, drawn):
    visualize.main([str(scene_run), "--worst", "--count=5"])
    ious = []
    for one in drawn["shown"]:
        known = one.truth >= 0
        both = [((one.predicted == c) & (one.truth == c) & known).sum() for c in range(3)]
        either = [(((one.predicted == c) | (one.truth == c)) & known).sum() for c in range(3)]
        ious.append(np.mean([a / b for a, b in zip(both, either, strict=True) if b]))
        assert one.title.endswith(f", mean IoU {ious[-1]:.1%}")
    assert ious == sorted(ious) and ious[0] < ious[-1]


def test_a_picture_of_scenes_is_a_file(scene_run, tmp_path):
    (path,) = visualize.main([str(scene_run), "--index", "3", f"--out={tmp_path / 'out'}"])
    assert path.name == "segments.png" and size(path)[0] > 1200


def test_an_image_of_ones_own_is_drawn_by_a_run_of_each_task(class_run, scene_run, photo, drawn):
    visualize.main([str(class_run), "--image", str(photo)])
    assert drawn["titles"][0].endswith("photo.jpg") and drawn["colors"] == [visualize_images.INK]
    visualize.main([str(scene_run), "--image", str(photo), str(photo)])
    assert drawn["titles"] == ["photo.jpg"] * 2 and drawn["shown"][0].truth is None


def test_attention_of_a_run_on_its_test_images_and_on_ones_own(class_run, scene_run, photo, drawn, capsys):
    files = visualize.main([str(class_run), "--attention", "--index", "7"])
    # the last layer of a classifier is one-sided
    assert [path.name for path in files[1:]] == ["attention_7.png", "latents_7_layer2.png"]
    assert all(min(size(path)) > 300 for path in files[1:])
    assert "symmetry of its layers: " in capsys.readouterr().out
    files = visualize.main([str(scene_run), "--attention", "--image", str(photo), "--layer=3", "--latents", "4", "0"])
    assert [path.name for path in files[1:]] == ["attention_photo.png", "latents_photo_layer3.png"]


def test_a_model_by_its_name_is_drawn_and_said_to_have_random_weights(preset, photo, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(preset).mkdir()  # a folder of that name that is no run does not hide it
    files = visualize.main([preset, "--attention", "--image", str(photo)])
    out = Path("runs/bixt_tiny/pictures")
    assert files == [out / "attention_photo.png", out / "latents_photo_layer2.png"]
    said = capsys.readouterr().out
    assert said.startswith("bixt_tiny with RANDOM weights, which have learned nothing: --weights FILE")
    assert str(files[0]) in said and str(files[1]) in said


def test_a_models_image_is_the_square_that_it_was_made_for(preset, photo, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        visualize_images, "draw_image_attention", lambda path, image, maps, grid, *rest: seen.append((image, grid))
    )
    visualize.main([preset, "--attention", "--image", str(photo), f"--out={tmp_path}"])
    ((image, grid),) = seen
    assert image.shape == (32, 32, 3) and image.dtype == np.uint8 and grid == (4, 4)


def test_a_checkpoint_of_the_authors_is_read_into_a_model(preset, photo, tmp_path, capsys):
    torch.manual_seed(1)
    arguments = [preset, "--attention", "--image", str(photo), f"--out={tmp_path}"]
    save_file({"nothing": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="other.safetensors does not fit this BixtPreset"):
        visualize.main([*arguments, f"--weights={tmp_path / 'other.safetensors'}"])
    with pytest.raises(InputError, match="there are no weights "):
        visualize.main([*arguments, f"--weights={tmp_path / 'missing.pth'}"])


@pytest.mark.skipif(not GENUINE.is_file(), reason=f"{GENUINE} is not there")
def test_trained_weights_are_taken_where_they_are_named_or_have_been_fetched(photo, tmp_path, monkeypatch, capsys):
    small = ImagePreset(size=64, dim=64, depth=3, num_heads=2, num_latents=8)
    monkeypatch.setitem(PRESETS, "bixt_tiny", small)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    arguments = ["bixt_tiny", "--attention", "--image", str(photo), f"--out={tmp_path / 'out'}"]
    seen = []
    monkeypatch.setattr(visualize_images, "draw_image_attention", lambda path, image, maps, *rest: seen.append(maps[0]))
    monkeypatch.setattr(visualize_images, "draw_all_latents", lambda *anything: None)
    for given in ([], [f"--weights={GENUINE}"], []):
        visualize.main([*arguments, *given])
        if given:  # as `pretrained: true` keeps what it has fetched
            (tmp_path / "hub/bixt3d").mkdir(parents=True)
            with zipfile.ZipFile(tmp_path / "hub/bixt3d/bixt_tiny.zip", "w") as archive:
                archive.write(GENUINE, "weights.safetensors")
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("bixt_tiny ")]
    assert "RANDOM" in said[0] and said[1] == f"bixt_tiny with the weights of {GENUINE}"
    assert said[2] == f"bixt_tiny with the weights of {tmp_path / 'hub/bixt3d/bixt_tiny.zip'}"
    random, named, fetched = (one.reads for one in seen)
    assert np.array_equal(named, fetched) and not np.allclose(random, named)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["RUN", "--layer=4", "--attention", "--image", "PHOTO"], "--layer 4: this model has 3 layers, 1 to 3"),
        (["RUN", "--layer=0", "--attention", "--image", "PHOTO"], "--layer 0: this model has 3 layers, 1 to 3"),
        (["RUN", "--layer=1", "--image", "PHOTO"], "--layer needs --attention"),
        (["RUN", "--attention", "--image", "PHOTO", "--latents", "5"], "--latents 5: this model has 5 latents, 0 to 4"),
        (["RUN", "--index", "12"], "--index 12: the test set has 12 images, 0 to 11"),
        (["RUN", "--category=mugg"], "there is no category 'mugg'; did you mean 'mug'?"),
        (["RUN", "--html"], "--html and --window are for clouds"),
        (["RUN", "--image", "PHOTO", "--worst"], "--index, --category and --worst choose images of the test set"),
        (["RUN", "--image", "nowhere.jpg"], "nowhere.jpg is missing"),
        (["RUN", "--image", "RUN/model.safetensors"], "model.safetensors is not an image that can be read"),
        (["RUN", "--weights=a.pth"], "--weights is for the name of a model"),
        (["SCENES", "--category=mug"], "--category is for images that have one class"),
        (["bixt_tiny", "--image", "PHOTO"], "bixt_tiny is the name of a model, not of a run: give it --attention"),
        (["bixt_tiny", "--attention"], "bixt_tiny is the name of a model, not of a run: give it --attention"),
        (["bixt_tny", "--attention", "--image", "PHOTO"], "no image model of that name; did you mean 'bixt_tiny'?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_nonsense_is_refused_with_one_sentence(class_run, scene_run, preset, photo, drawn, arguments, sentence):
    names = {"RUN": str(class_run), "SCENES": str(scene_run), "PHOTO": str(photo)}
    given = [names.get(word, word.replace("RUN", str(class_run))) for word in arguments]
    with pytest.raises(InputError) as caught:
        visualize.main(given)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_a_run_on_clouds_takes_no_image_and_no_layer(tiny_run, photo):
    with pytest.raises(InputError, match="comes from a run on clouds, and --image is for runs on images"):
        visualize.main([str(tiny_run), "--image", str(photo)])
    with pytest.raises(InputError, match="--layer is for images: clouds are drawn in all layers"):
        visualize.main([str(tiny_run), "--attention", "--layer=1"])


def test_the_newest_run_on_images_is_taken_where_only_they_are(
    class_run, scene_run, photo, drawn, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    scene_run.rename("runs/scenes")
    assert visualize.main([]) == [Path("runs/scenes/pictures/segments.png")]
    class_run.rename("runs/photos")
    assert visualize.main(["--image", str(photo)]) == [Path("runs/photos/pictures/classes.png")]
