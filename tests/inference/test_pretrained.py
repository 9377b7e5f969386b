"""Weights that come with bixt3d: found by name, described by cards, whose commands reproduce the figures."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from release import OF_A_MACHINE, words_of

import bixt3d
from bixt3d.cli.main import call
from bixt3d.io import named_configs
from bixt3d.io.pretrained import find_run, known_pretrained, name_of, results_folder
from bixt3d.io.weights import load_metadata
from bixt3d.tasks import find_task
from bixt3d.tasks.start_weights import start_from
from bixt3d.types import InputError

NAMES = list(known_pretrained())
TEXTS = ("README.md", "config.yaml", "metrics.csv", "result.json", "run.json")


def test_there_are_weights_of_objects_parts_and_scenes():
    assert {"shapes-cls", "shapes-parts", "modelnet10-small", "rooms-scenes", "aerial-scenes"} <= {*NAMES}
    assert bixt3d.list_models(pretrained=True) == NAMES
    assert bixt3d.list_models("small", kind="cls", pretrained=True) == ["modelnet10-small"]
    assert {"aerial-scenes", "rooms-scenes"} <= {*bixt3d.list_models(kind="scenes", pretrained=True)}
    assert not {*NAMES} & {*bixt3d.list_models()}


def test_all_of_them_together_are_small_enough_for_the_wheel():
    files = [path for folder in known_pretrained().values() for path in folder.iterdir()]
    assert {path.name for path in files} == {*TEXTS, "model.safetensors"}
    assert 10_000_000 < sum(path.stat().st_size for path in files) <= 25_000_000


@pytest.mark.parametrize("name", NAMES)
def test_no_file_names_a_place_of_the_machine_it_was_made_on(name: str):
    folder = known_pretrained()[name]
    texts = [(folder / one).read_text(encoding="utf-8") for one in TEXTS]
    assert not [
        found[0]
        for text in (*texts, str(load_metadata(folder / "model.safetensors")))
        for found in OF_A_MACHINE.finditer(text)
    ]


@pytest.mark.parametrize("name", NAMES)
def test_a_card_has_the_figures_of_its_run_and_the_command_that_reproduces_them(name: str):
    folder = known_pretrained()[name]
    card, result = (folder / "README.md").read_text(encoding="utf-8"), json.loads((folder / "result.json").read_text())
    task = find_task(result["task"])
    for score in task.headline:
        assert f"| {words_of(score)} | {100 * result[score]:.2f} |" in card
    assert f"\nbixt3d test {task.program} {name}\n" in card
    assert f"commit {result['commit']}," in card and f"Seed {result['seed']}, {result['device']}," in card
    for title in (
        "## Trained on",
        "Licence of the data:",
        "## Figures",
        "Convention:",
        "For:",
        "Limits:",
        "Licence of",
    ):
        assert title in card
    head = yaml.safe_load(card.split("---")[1])
    assert head["library_name"] == "bixt3d" and head["license"] in ("apache-2.0", "other")
    if trained := re.search(r"trained for (.*?):", card):
        assert trained[1].startswith(f"{result['steps']} updates, {round(result['seconds'] / 60)} minutes")
    values = [one["value"] for one in head["model-index"][0]["results"][0]["metrics"]]
    assert values == [round(result[score], 6) for score in task.headline]


@pytest.mark.parametrize("name", NAMES)
def test_the_page_has_the_score_of_the_card(name: str):
    page = (Path(bixt3d.__file__).parents[1] / "docs/pretrained.md").read_text(encoding="utf-8")
    result = json.loads((known_pretrained()[name] / "result.json").read_text())
    score = next(iter(find_task(result["task"]).headline))
    (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
    assert row.endswith(f"| {words_of(score)} {100 * result[score]:.2f} |")


def test_the_page_has_the_las_codes_of_the_labels():
    page = (Path(bixt3d.__file__).parents[1] / "docs/pretrained.md").read_text(encoding="utf-8")
    predictor = bixt3d.load_pretrained("aerial-scenes")
    rows = {"label": range(7), "class": predictor.class_names, "LAS code": predictor.las_codes}
    assert all(f"\n| {' | '.join(map(str, (title, *row)))} |\n" in page for title, row in rows.items())


@pytest.mark.parametrize("name", NAMES)
def test_the_hub_reads_a_card(name: str):
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard.load(known_pretrained()[name] / "README.md")
    assert card.data.model_name == name and card.data.library_name == "bixt3d" and card.data.eval_results
    assert card.data.license != "other" or card.data.license_link


@pytest.mark.parametrize("name", ["shapes-cls", "shapes-parts"])
def test_the_command_on_a_card_reproduces_its_figures(name: str, tmp_path, monkeypatch, capsys):
    """The report is not drawn, and of the training set, which decides nothing, one object of each class is made."""
    monkeypatch.chdir(tmp_path)
    card = (known_pretrained()[name] / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^bixt3d (test .*)$", card, re.MULTILINE)
    given = json.loads((known_pretrained()[name] / "result.json").read_text())
    monkeypatch.setattr(type(find_task(given["task"])), "write_report", lambda *_: None)
    result = call([*command.split(), "--data.train_per_class=1"])
    assert (tmp_path / "runs" / name / "test" / "result.json").is_file()
    assert [*tmp_path.rglob("*")] and not [*known_pretrained()[name].glob("test*")]
    for score in find_task(given["task"]).headline:
        assert f"{result[score]:.4f}" == f"{given[score]:.4f}"
    assert f"checkpoint: {name} (pretrained)" in capsys.readouterr().out


@pytest.mark.parametrize("name", NAMES)
def test_weights_load_by_name_as_predictor_and_as_model(name: str):
    predictor = bixt3d.load_pretrained(name)
    assert repr(predictor) == repr(bixt3d.load_run(known_pretrained()[name]))
    model = type(predictor.model).from_pretrained(name)
    assert not model.training
    own = predictor.model.state_dict()
    assert all(torch.equal(value, own[key]) for key, value in model.state_dict().items())


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="no pretrained weights 'modelnet10_small'; did you mean 'modelnet10-small'"):
        bixt3d.load_pretrained("modelnet10_small")
    with pytest.raises(InputError, match="no pretrained weights '.'; load_run opens the run at that path"):
        bixt3d.load_pretrained(".")
    with pytest.raises(InputError, match="no run folder or weights file shapes-clss; did you mean 'shapes-cls'"):
        bixt3d.load_run("shapes-clss")
    with pytest.raises(InputError, match=r"trained weights: load them with load_pretrained\('shapes-cls'\)"):
        bixt3d.create_model("shapes-cls", 3)
    with pytest.raises(InputError, match="holds a BixtClassifier, which is no DecoderSegmenter"):
        bixt3d.DecoderSegmenter.from_pretrained("shapes-cls")


def test_a_run_of_that_name_comes_before_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_run("shapes-cls") == known_pretrained()["shapes-cls"]
    for own in ("run.json", "model.safetensors", "seed0/model.safetensors"):
        file = tmp_path / own.split("/")[0].split(".")[0] / "shapes-cls" / own
        file.parent.mkdir(parents=True)
        file.touch()
        monkeypatch.chdir(file.parents[own.count("/") + 1])
        assert find_run("shapes-cls") == Path("shapes-cls")


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_file_or_folder_of_that_name_that_is_no_run_does_not_hide_weights(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("shapes-cls").mkdir() if kind == "folder" else Path("shapes-cls").touch()
    assert find_run("shapes-cls") == known_pretrained()["shapes-cls"]
    said = f"weights: shapes-cls, which come with bixt3d; the {kind} shapes-cls here is no run\n"
    assert capsys.readouterr().err == said


def test_messages_name_weights_by_name_and_not_their_place_in_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savetxt("cloud.xyz", np.zeros((5, 3)))
    for command, sentence in {
        "test cls rooms-scenes": "rooms-scenes comes from a scene segmentation run",
        "visualize rooms-scenes": "bixt3d visualize draws no scenes",
        "visualize cloud.xyz --checkpoint rooms-scenes": "rooms-scenes labels scenes, whose pictures and pages are "
        "made by `bixt3d predict cloud.xyz --checkpoint rooms-scenes --out FOLDER`",
        "visualize cloud.xyz --checkpoint cifar10-small": "cifar10-small reads images, and cloud.xyz is none: choose",
        "visualize shapes-cls --image a.png": "shapes-cls comes from a run on clouds",
        "predict cloud.xyz --checkpoint shapes-cls --weights best": "shapes-cls has no weights chosen on validation",
    }.items():
        with pytest.raises(InputError, match=f"^{sentence}"):
            call(command.split())
    with pytest.raises(InputError, match="^shapes-cls holds a BixtClassifier"):
        bixt3d.DecoderSegmenter.from_pretrained("shapes-cls")


def test_places_and_results_of_weights_by_name():
    weights = known_pretrained()["rooms-scenes"] / "model.safetensors"
    assert (name_of(weights), results_folder(weights)) == ("rooms-scenes", Path("runs/rooms-scenes"))
    own = Path.cwd() / "run/model.safetensors"
    assert (name_of(own), results_folder(own)) == (str(own.parent), own.parent)
    kept = Path("hub/models--user--some--model/snapshots/0a1b/model.safetensors")
    assert (name_of(kept), results_folder(kept)) == ("hf-hub:user/some--model", Path("runs/user--some--model"))


def test_a_checkout_and_a_wheel_find_them_in_the_same_place():
    package = Path(bixt3d.__file__).parent
    assert named_configs.shipped("pretrained") == package / "pretrained"
    assert 'pretrained/*/*"' in (package.parent / "pyproject.toml").read_text(encoding="utf-8")


def test_new_runs_start_from_a_name():
    model, own = bixt3d.create_model("shapes_cls", 16), bixt3d.load_pretrained("shapes-cls").model.state_dict()
    assert start_from(model, Path("shapes-cls")) == f"started from shapes-cls: {len(own)} of {len(own)} tensors"
    assert all(value.equal(own[key]) for key, value in model.state_dict().items())


def test_commands_take_a_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.savetxt("cloud.xyz", np.random.default_rng(0).normal(size=(50, 3)))
    call(["predict", "cloud.xyz", "--checkpoint", "modelnet10-small", "--json"])
    said = capsys.readouterr()
    assert json.loads(said.out)["class"] in bixt3d.load_pretrained("modelnet10-small").class_names
    call(["info", "shapes-parts"])
    said = capsys.readouterr().out
    assert "shapes-parts: a run, finished" in said and "bixt3d test partseg shapes-parts" in said
    call(["list", "models", "--pretrained"])
    assert re.search(r"modelnet10-small +classification +overall accuracy 93.94%", capsys.readouterr().out)
    call(["compare", "show", "shapes-cls", "modelnet10-small"])
    assert "modelnet10-small" in capsys.readouterr().out
    with pytest.raises(InputError, match="--pretrained is for models"):
        call(["list", "runs", "--pretrained"])


def test_a_run_on_scenes_is_not_exported_and_info_does_not_say_so(capsys):
    with pytest.raises(InputError, match="a run of scene segmentation cannot be exported: it reads scenes in windows"):
        call(["export", "rooms-scenes"])
    call(["info", "rooms-scenes"])
    said = capsys.readouterr().out
    assert "bixt3d predict FILE --checkpoint rooms-scenes" in said and "export" not in said
