"""Models as folders and on the Hugging Face hub: what is saved loads again, everywhere a run is read."""

import json
import sys
from functools import partial

import pytest
import torch
import yaml
from written_runs import SMALL, write_run_folder

import bixt3d
from bixt3d.cli.main import call
from bixt3d.io.hub import fetch_from_hub
from bixt3d.io.offline import VARIABLE
from bixt3d.types import InputError


@pytest.fixture
def model(tmp_path) -> bixt3d.BixtClassifier:
    return bixt3d.BixtClassifier.from_pretrained(write_run_folder(tmp_path / "run", [0.1, 0.2, 0.3]))


def test_a_saved_folder_is_read_as_a_model_as_a_run_and_by_the_commands(model, tmp_path, capsys):
    with torch.no_grad():
        model.head.weight.normal_()
    folder = model.save_pretrained(tmp_path / "saved")
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.yaml", "model.safetensors"]
    xyz = torch.rand(2, 64, 3)
    assert bixt3d.FeatureModel.from_pretrained(folder)(xyz).equal(model(xyz))
    assert bixt3d.load_run(folder).model(xyz).equal(model(xyz))
    call(["info", str(folder)])
    said = " ".join(capsys.readouterr().out.split())
    assert "saved: the weights of a run" in said and "classes 3: bed, car, mug" in said and "--resume" not in said
    head = yaml.safe_load((folder / "README.md").read_text(encoding="utf-8").split("---")[1])
    assert head == {"library_name": "bixt3d", "tags": ["bixt", "point-cloud"]}


def test_a_card_that_was_edited_stays(model, tmp_path):
    card = model.save_pretrained(tmp_path / "saved") / "README.md"
    card.write_text("mine")
    model.save_pretrained(tmp_path / "saved")
    assert card.read_text() == "mine"


def test_another_model_is_not_saved_under_the_card_of_the_first(model, tmp_path):
    saved = model.save_pretrained(tmp_path / "saved")
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    other = bixt3d.BixtClassifier.from_pretrained("shapes-cls")
    with pytest.raises(InputError, match=r"saved has another model, whose card would stay: choose another folder"):
        other.save_pretrained(saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


def test_a_plain_file_is_no_folder_to_save_a_model_in(model, tmp_path):
    (tmp_path / "a_file").write_text("mine")
    with pytest.raises(InputError, match=r"a_file is a file; choose another folder"):
        model.save_pretrained(tmp_path / "a_file")
    assert (tmp_path / "a_file").read_text() == "mine"


def test_a_new_head_needs_new_names(model, tmp_path):
    model.reset_classifier(2)
    with pytest.raises(InputError, match=r"has 2 outputs and 3 names for them \(bed, car, mug\): give class_names"):
        model.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
    folder = model.save_pretrained(tmp_path / "saved", class_names=["cup", "jar"])
    assert bixt3d.load_run(folder).class_names == ("cup", "jar")
    with pytest.raises(InputError, match="contains 'cup' twice"):
        model.save_pretrained(tmp_path / "saved", class_names=["cup", "cup"])


def test_what_cannot_be_saved_or_loaded_is_a_sentence(model, tmp_path):
    with pytest.raises(InputError, match="has a run of training, whose weights would be replaced"):
        model.save_pretrained(tmp_path / "run")
    by_hand = bixt3d.create_model(SMALL.replace("SEED", "0").replace("FEATURES", ""), 3)
    with pytest.raises(InputError, match="built by hand does not know its settings, classes and input"):
        by_hand.save_pretrained(tmp_path / "saved")
    with pytest.raises(
        InputError, match="no folder and there are no pretrained weights shapes-clss; did you mean 'shapes-cls'"
    ):
        bixt3d.BixtClassifier.from_pretrained("shapes-clss")
    with pytest.raises(InputError, match="there are no pretrained weights nowhere; there are: aerial-scenes,"):
        bixt3d.FeatureModel.from_pretrained("nowhere")
    with pytest.raises(InputError, match="holds a BixtClassifier, which is no PointNet: use BixtClassifier.from_pr"):
        bixt3d.PointNet.from_pretrained(tmp_path / "run")
    with pytest.raises(InputError, match="there are no weights"):
        bixt3d.FeatureModel.from_pretrained(tmp_path)


def test_a_part_segmenter_keeps_its_parts(tmp_path):
    model = bixt3d.DecoderSegmenter.from_pretrained("shapes-parts")
    folder = model.save_pretrained(tmp_path / "parts")
    assert repr(bixt3d.load_run(folder)) == repr(bixt3d.load_pretrained("shapes-parts"))
    with pytest.raises(InputError, match="class_names is for classifiers and models of scenes"):
        model.save_pretrained(tmp_path / "parts", class_names=["a"])
    model.reset_classifier(5)
    with pytest.raises(InputError, match=r"5 outputs and 58 names for them \(.*\): train it by `bixt3d train partseg`"):
        model.save_pretrained(tmp_path / "other")


@pytest.mark.parametrize("names", [["ship", "quay"], ["ground", "low", "medium", "high", "house", "sea", "bridge"]])
def test_codes_of_las_are_not_those_of_new_classes(tmp_path, names):
    model = bixt3d.DecoderSegmenter.from_pretrained("aerial-scenes")
    assert bixt3d.load_run(model.save_pretrained(tmp_path / "same")).las_codes == (2, 3, 4, 5, 6, 9, 17)
    model.reset_classifier(len(names))
    predictor = bixt3d.load_run(model.save_pretrained(tmp_path / "new", class_names=names))
    assert (predictor.class_names, predictor.las_codes) == (tuple(names), None)


def test_a_model_of_a_predictor_can_be_saved(tmp_path):
    predictor = bixt3d.load_pretrained("rooms-scenes")
    assert repr(bixt3d.load_run(predictor.model.save_pretrained(tmp_path))) == repr(predictor)


def test_a_class_that_is_not_bixt3ds_needs_trust_from_the_hub_too(model, tmp_path):
    described = json.loads(model.metadata["model"]) | {"class_path": "foreign.Model"}
    model.metadata = {**model.metadata, "model": json.dumps(described)}
    with pytest.raises(InputError, match="names the class 'foreign.Model', which is not bixt3d's"):
        bixt3d.FeatureModel.from_pretrained(model.save_pretrained(tmp_path / "saved"))


def test_without_a_network_the_hub_is_one_sentence(model, monkeypatch, tmp_path):
    pytest.importorskip("huggingface_hub")
    monkeypatch.setenv(VARIABLE, "1")
    for load in (bixt3d.FeatureModel.from_pretrained, lambda name: bixt3d.load_run(f"hf-hub:{name}")):
        with pytest.raises(
            InputError, match="user/no-such-model of the Hugging Face hub would be fetched, but the net"
        ):
            load("user/no-such-model")
    with pytest.raises(InputError, match=r"cannot be sent to the Hugging Face hub: the network is forbidden"):
        model.push_to_hub("user/model")


def test_what_the_hub_answers_is_one_sentence(model, monkeypatch):
    """The library's own offline mode ends a real call before it leaves the machine."""
    constants = pytest.importorskip("huggingface_hub.constants")
    from huggingface_hub.errors import LocalEntryNotFoundError

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="could not send the model to user/model of the Hugging Face hub: ") as caught:
        model.push_to_hub("user/model")
    assert "\n" not in str(caught.value) and "HF_HUB_OFFLINE is set, which forbids the network" in str(caught.value)
    sentence = r"could not fetch model.safetensors of user/model from the Hugging Face hub: "
    with pytest.raises(InputError, match=f"^{sentence}HF_HUB_OFFLINE is set, which forbids the network"):
        bixt3d.load_pretrained("hf-hub:user/model")
    with pytest.raises(InputError, match=f"^{sentence}HF_HUB_OFFLINE is set"):  # no folder was meant
        bixt3d.FeatureModel.from_pretrained("hf-hub:user/model")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(sys.modules["huggingface_hub"], "hf_hub_download", partial(_raise, LocalEntryNotFoundError))
    with pytest.raises(
        InputError,
        match=f"^there is no folder user/model, and {sentence}there is no network, or huggingface.co does not answer",
    ):
        bixt3d.FeatureModel.from_pretrained("user/model")


def _raise(error: type[Exception], *_: str, **__: bool) -> None:
    raise error("a long story")


def test_weights_in_the_cache_of_the_hub_load_without_a_network(model, monkeypatch, tmp_path):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv(VARIABLE, "1")
    place = tmp_path / "hub/models--user--model"
    model.save_pretrained(place / "snapshots/0123456789012345678901234567890123456789")
    (place / "refs").mkdir()
    (place / "refs/main").write_text("0123456789012345678901234567890123456789")
    assert bixt3d.load_pretrained("hf-hub:user/model").class_names == ("bed", "car", "mug")
    assert bixt3d.FeatureModel.from_pretrained("user/model").num_classes == 3


def test_a_folder_is_never_taken_for_a_name_of_the_hub(model, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    model.save_pretrained("user/model")
    assert bixt3d.FeatureModel.from_pretrained("user/model").num_classes == 3
    with pytest.raises(InputError, match="there is no run folder or weights file user/other"):  # commands need hf-hub:
        bixt3d.load_run("user/other")
    with pytest.raises(InputError, match="'a/b/c' names no model of the Hugging Face hub: write hf-hub:USER/MODEL"):
        fetch_from_hub("a/b/c")


def test_only_the_hub_needs_its_library(model, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert bixt3d.load_pretrained("shapes-cls").class_names
    with pytest.raises(InputError, match=r"huggingface_hub, which is not installed: pip install 'bixt3d\[hub\]'"):
        model.push_to_hub("user/model")
    with pytest.raises(InputError, match=r"huggingface_hub, which is not installed: pip install 'bixt3d\[hub\]'"):
        bixt3d.load_pretrained("hf-hub:user/model")


def test_an_empty_name_of_a_folder_is_refused():
    with pytest.raises(InputError, match="save_pretrained needs the name of a folder"):
        bixt3d.load_pretrained("shapes-cls").model.save_pretrained("")
