"""Looking at a run: which clouds are drawn, what is written, what is said, and what is refused."""

import os
import shutil
from pathlib import Path

import pytest
import torch
import trimesh
from PIL import Image

from bixt3d.cli import test as test_command
from bixt3d.cli import visualize, visualize_clouds
from bixt3d.io.weights import load_weights, save_weights
from bixt3d.types import InputError
from bixt3d.viz import scene
from bixt3d.viz.parts import PartCloud


@pytest.fixture(autouse=True)
def drawn_by_matplotlib(tmp_path_factory, monkeypatch):
    """Draw with matplotlib, which starts faster: a module that cannot be imported hides Open3D."""
    folder = tmp_path_factory.mktemp("stub")
    (folder / "open3d.py").write_text("raise OSError('libGL.so.1: cannot open shared object file')")
    monkeypatch.syspath_prepend(folder)
    scene.renderer.cache_clear()
    yield
    scene.renderer.cache_clear()


@pytest.fixture
def drawn(monkeypatch) -> list[PartCloud]:
    """Draw no sheet, but return a list that fills with the clouds that it would show."""
    seen = []

    def draw(path: Path, clouds: list[PartCloud], *rest) -> str:
        seen.extend(clouds)
        path.touch()
        return "nobody"

    monkeypatch.setattr(visualize_clouds, "draw_parts", draw)
    return seen


def height(path: Path) -> int:
    with Image.open(path) as picture:
        return picture.size[1]


def titles(clouds: list[PartCloud]) -> list[str]:
    return [cloud.title for cloud in clouds]


def test_parts_are_drawn_and_the_program_says_where_and_by_whom(tiny_part_run, tmp_path, capsys):
    (path,) = visualize.main([str(tiny_part_run), "--count=2", f"--out={tmp_path}"])
    said = capsys.readouterr().out
    assert path == tmp_path / "parts.png" and height(path) > 600
    assert said.startswith(f"{path}, drawn by matplotlib, because Open3D cannot be loaded here (libGL.so.1")


def test_clouds_are_spread_over_the_test_set_unless_places_are_named(tiny_part_run, drawn, tmp_path):
    visualize.main([str(tiny_part_run), "--count=3", f"--out={tmp_path}"])
    visualize.main([str(tiny_part_run), "--index", "31", "2", f"--out={tmp_path}"])
    places = [title.split(",")[0] for title in titles(drawn)]
    assert places == [f"{name} (index {i})" for name, i in (("airplane", 0), ("lamp", 16), ("vase", 31))] + [
        "vase (index 31)",
        "bed (index 2)",
    ]


def test_what_is_drawn_is_what_the_model_says(tiny_part_run, drawn, tmp_path, monkeypatch):
    """The program that evaluates the run says the same of these clouds."""
    from bixt3d.tasks import part_segmentation

    seen = []
    monkeypatch.setattr(
        part_segmentation.PartSegmentation,
        "write_results",
        lambda *given: seen.append(given[2]),
    )
    test_command.main(["partseg", f"--checkpoint={tiny_part_run}"])
    visualize.main([str(tiny_part_run), "--index", "9", f"--out={tmp_path}"])
    (evaluation,), (cloud,) = seen, drawn
    assert cloud.predicted.tolist() == evaluation.predicted[9].tolist()
    assert cloud.truth.tolist() == evaluation.truth[9].tolist()
    assert f"IoU {evaluation.scores.shape_iou[9]:.1%}" in cloud.title


def test_the_worst_come_first(tiny_part_run, drawn, tmp_path):
    visualize.main([str(tiny_part_run), "--worst", "--count=32", f"--out={tmp_path}"])
    ious = [float(title.split("IoU ")[1].rstrip("%")) for title in titles(drawn)]
    assert len(ious) == 32 and ious == sorted(ious) and ious[0] < ious[-1]
    drawn.clear()
    visualize.main([str(tiny_part_run), "--worst", "--category=chair", "--count=1", f"--out={tmp_path}"])
    assert len(drawn) == 1 and drawn[0].title.startswith("chair (index ")


def test_a_category_alone(tiny_part_run, drawn, tmp_path):
    visualize.main([str(tiny_part_run), "--category=mug", f"--out={tmp_path}"])
    assert [title.split(" ")[0] for title in titles(drawn)] == ["mug", "mug"]  # there are two


def test_pages_and_ply_files(tiny_part_run, drawn, tmp_path, capsys):
    files = visualize.main([str(tiny_part_run), "--count=7", "--html", f"--out={tmp_path}"])
    names = [path.name for path in files]
    assert names[:3] == ["parts.png", "clouds_1.html", "clouds_2.html"]  # a page takes six clouds
    assert len(names) == 3 + 7 + 1 and names[-1].startswith("plotly-")  # the library, which both pages share
    assert {path.name for path in tmp_path.iterdir()} == set(names)
    said = capsys.readouterr().out
    assert all(str(path) in said for path in files)
    cloud = trimesh.load(files[3])
    assert cloud.vertices == pytest.approx(drawn[0].xyz)
    assert cloud.colors[:, :3] == pytest.approx(255 * drawn[0].rgb(drawn[0].predicted), abs=0.51)


def test_attention_of_a_segmenter_and_of_a_classifier(tiny_part_run, tiny_run, drawn, tmp_path, capsys):
    for run in (tiny_part_run, tiny_run):
        files = visualize.main([str(run), "--attention", "--latents", "3", "--index", "5", f"--out={tmp_path}"])
        said = capsys.readouterr().out
        assert files[-1] == tmp_path / "attention_5.png" and height(files[-1]) > 600
        assert "attention_5.png, drawn by matplotlib" in said and "symmetry of its layers: " in said
        files[-1].unlink()


def test_classes_are_drawn_with_truth_and_prediction(tiny_run, tmp_path, capsys, monkeypatch):
    seen = {}
    monkeypatch.setattr(visualize_clouds, "draw_clouds", lambda xyz, path, **rest: seen.update(rest, shape=xyz.shape))
    (path,) = visualize.main([str(tiny_run), "--worst", "--count=4", f"--out={tmp_path}"])
    assert path.name == "classes.png" and seen["shape"] == (4, 64, 3) and seen["up"] == "y"
    assert all(", is " in title and "(index " in title for title in seen["titles"])


def test_pictures_of_classes_are_files(tiny_run, tmp_path):
    files = visualize.main([str(tiny_run), "--index", "0", "--html", f"--out={tmp_path}"])
    assert [path.name for path in files[:-1]] == ["classes.png", "clouds_1.html", "cloud_0.ply"]
    assert [files[-1]] == list(tmp_path.glob("plotly-*.min.js"))
    assert all(path.stat().st_size > 500 for path in files)


def test_the_newest_run_of_parts_is_taken_else_the_newest_of_classes(
    tiny_part_run, tiny_run, tmp_path, drawn, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(visualize_clouds, "draw_clouds", lambda *anything, **more: None)
    shutil.copytree(tiny_run, "runs/classes")
    assert visualize.main([]) == [Path("runs/classes/pictures/classes.png")]
    shutil.copytree(tiny_part_run, "runs/parts")
    os.utime("runs/parts/model.safetensors", (0, 0))
    assert visualize.main([]) == [Path("runs/parts/pictures/parts.png")]


def test_settings_of_the_run_can_be_changed(tiny_part_run, drawn, tmp_path):
    visualize.main([str(tiny_part_run), "--data.test_per_class=1", "--worst", "--count=99", f"--out={tmp_path}"])
    assert len(drawn) == 16


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--category=char"], "there is no category 'char'; did you mean 'chair'?"),
        (["--category=x"], "there is no category 'x'; there are: airplane, bed, "),
        (["--index", "3", "32"], "--index 32: the test set has 32 clouds, 0 to 31"),
        (["--index", "-1"], "--index -1: the test set has 32 clouds"),
        (["--index", "one"], "argument --index: invalid int value: 'one'"),
        (["--index", "3", "--worst"], "--index chooses the clouds: leave out --category and --worst"),
        (["--count=0"], "--count must be at least 1, not 0"),
        (["--latents", "3"], "--latents needs --attention"),
        (["--attention", "--latents", "4"], "--latents 4: this model has 4 latents, 0 to 3"),
        (["--indx=3"], "unknown option '--indx=3'; did you mean '--index'?"),
        (["--data.test_per_clas=3"], "did you mean 'test_per_class'?"),
    ],
    ids=lambda value: "".join(value) if isinstance(value, list) else "",
)
def test_nonsense_is_refused_with_one_sentence(tiny_part_run, tmp_path, drawn, arguments, sentence):
    with pytest.raises(InputError) as caught:
        visualize.main([str(tiny_part_run), f"--out={tmp_path}", *arguments])
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_that_is_no_run_is_refused(tiny_part_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="there is no classification run under runs/ yet: make one with"):
        visualize.main([])
    with pytest.raises(InputError, match=r"there are no weights \S*model.safetensors"):
        visualize.main([str(tmp_path)])
    weights, metadata = load_weights(tiny_part_run / "model.safetensors")
    metadata = {name: value for name, value in metadata.items() if name != "task_class"} | {"task": "cooking"}
    save_weights(tmp_path / "model.safetensors", weights, metadata)
    with pytest.raises(InputError, match="does not come from a run of bixt3d"):
        visualize.main([str(tmp_path)])


def test_a_place_that_takes_no_files_is_named(tiny_part_run, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="could not write pictures in .*file: .*; choose another --out"):
        visualize.main([str(tiny_part_run), f"--out={tmp_path / 'file'}"])


def test_too_little_memory_names_what_can_be_lowered(monkeypatch):
    monkeypatch.setattr(visualize_clouds, "draw", lambda *anything: torch.empty(2**50))
    with pytest.raises(InputError, match="out of memory: lower --count, or --train.eval_batch_size=16$"):
        visualize.main([])
    with pytest.raises(InputError, match="out of memory: give fewer or smaller images, or leave out --attention$"):
        visualize.main(["--image=a.png", "--attention"])


def test_without_a_display_the_files_are_written_and_the_window_is_refused(tiny_part_run, drawn, tmp_path, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(scene.sys, "platform", "linux")
    with pytest.raises(InputError, match="there is no display to open a window on"):
        visualize.main([str(tiny_part_run), "--window", f"--out={tmp_path}"])
    assert (tmp_path / "parts.png").exists()


def test_clouds_of_files_are_drawn_with_their_attention(tiny_part_run, tiny_run, tmp_path, capsys):
    trimesh.creation.box().export(tmp_path / "ящик.ply")
    for run, told in ((tiny_part_run, ["--category=table"]), (tiny_run, [])):
        out = tmp_path / run.name
        files = visualize.main(
            [str(tmp_path / "ящик.ply"), f"--checkpoint={run}", *told, "--attention", "--html", f"--out={out}"]
        )
        names = ["ящик_prediction.png", "ящик_attention.png", "ящик_prediction.html"]
        assert [path.name for path in files[:-1]] == names and files[-1].suffix == ".js"
        with Image.open(files[0]) as prediction, Image.open(files[1]) as attention:
            assert prediction.size[0] >= 1200 and attention.size[0] >= 900
        said = capsys.readouterr().out
        assert f"weights: {run}/model.safetensors (last" in said and "spread over the surface" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("a.ply", "runs/one"), "one is no file of clouds"),
        (("photo.JPEG",), "photo.JPEG is an image: give it by --image"),
        (("a.ply", "--worst"), "--worst is not for files of clouds"),
        (("a.ply", "--data.root=x"), "--data.root=x is not for files of clouds"),
        (("a.ply", "--weights=bset"), "--weights is last or best for files of clouds, not bset"),
        (("runs/one", "runs/two"), "give one run, or files of clouds"),
        (("runs/one", "--up=z"), "--up is for files of clouds"),
    ],
)
def test_a_run_and_files_are_not_mixed(words, said):
    with pytest.raises(InputError, match=said):
        visualize.main(words)


def test_a_file_that_is_not_there_leaves_no_folder(tiny_part_run, tmp_path):
    with pytest.raises(InputError, match="there is no file scna.ply"):
        visualize.main(["scna.ply", f"--checkpoint={tiny_part_run}", "--category=mug", f"--out={tmp_path / 'out'}"])
    assert not (tmp_path / "out").exists()


def test_a_file_is_no_folder_for_pictures():
    with pytest.raises(
        InputError, match="argument --out: 'a.png' ends as a file: name a folder; for one of that name, m"
    ):
        visualize.parse(["run", "--out", "a.png"])
    for name in ("v1.2", "1.2-with-color", "lone-star.copc"):
        assert visualize.parse(["run", "--out", name])[0].out == Path(name)
