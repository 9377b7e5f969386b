"""Models by name: configs, presets, other settings, and the messages for mistakes."""

from pathlib import Path

import pytest
import torch

import bixt3d
from bixt3d.io.named_configs import known_configs
from bixt3d.models.create import KINDS
from bixt3d.models.image_preset_table import PRESETS
from bixt3d.types import InputError


def test_a_config_of_clouds_makes_its_model_with_other_settings():
    model = bixt3d.create_model("shapes_cls", 5, features="normal", dropout=0.3, encoder={"depth": 2})
    assert type(model).__name__ == "BixtClassifier" and str(model.features) == "normal"
    assert model.dropout.p == 0.3 and len(model.encoder.layers) == 2 and model.encoder.dim == 64
    assert model.num_classes == 5 and bixt3d.create_model("shapes_cls", 0).num_classes == 0


def test_a_config_of_parts_takes_parts_and_categories():
    model = bixt3d.create_model("shapes_partseg", 6, num_categories=2).eval()
    assert model(torch.randn(1, 80, 3), torch.randn(1, 80, 3), torch.tensor([1])).shape == (1, 80, 6)
    with pytest.raises(InputError, match="'shapes_partseg' has: num_classes .parts of all categories. and num_categ"):
        bixt3d.create_model("shapes_partseg")
    with pytest.raises(InputError, match="give num_categories too, as in create_model.'shapenetpart_encdec', num_cl"):
        bixt3d.create_model("shapes_partseg", 6)


def test_presets_of_images_make_classifiers_and_segmenters():
    with torch.device("meta"):
        assert bixt3d.create_model("bixt_ti_l64_p16", drop_path_self=0.1).num_classes == 1000
        assert type(bixt3d.create_model("bixt_fpn_ti_l64_p16", 7, head_dim=32)).__name__ == "SemanticFPNSegmenter"
    with pytest.raises(InputError, match="say how many outputs 'bixt_fpn_ti_l64_p16' has: num_classes"):
        bixt3d.create_model("bixt_fpn_ti_l64_p16")


def test_a_config_may_be_the_path_of_a_file(tmp_path: Path):
    path = tmp_path / "my.yaml"
    path.write_text("model: {class_path: PointMLPElite, init_args: {num_neighbors: 8}}\n")
    assert type(bixt3d.create_model(path, 3)).__name__ == "PointMLPElite"


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("modelnet40_groupin", {}, "no model 'modelnet40_groupin'; did you mean 'modelnet40_grouping'"),
        ("bixt_ti_l64_p15", {}, "did you mean 'bixt_ti_l64_p16'"),
        ("shapes_cls", {}, "say how many outputs 'shapes_cls' has: num_classes"),
        ("shapes_cls", {"num_classes": 3, "pretrained": True}, "no weights of 'shapes_cls' were released"),
        (
            "bixt_linear_ti_l64_p16",
            {"num_classes": 3, "pretrained": True},
            "no weights of 'bixt_linear_ti_l64_p16' were",
        ),
        ("shapes_cls", {"num_classes": 3, "drpout": 0.1}, "unknown setting 'model.drpout'"),
        ("bixt_ti_l64_p16", {"drpout": 0.1}, "'bixt_ti_l64_p16' does not take these settings: .*'drpout'"),
        (
            "shapes_cls",
            {"num_classes": 3, "num_categories": 2},
            "'shapes_cls' is no part segmenter, and has no num_cat",
        ),
        ("bixt_ti_l64_p16", {"num_categories": 2}, "is a model of images, which has no num_categories: leave it out"),
        ("bixt_ti_l64_p16", {"features": "rgb"}, "is a model of images, which has no features: leave it out"),
        ("shapes_cls", {"num_classes": -1}, "num_classes is a whole number, at least 0, not -1"),
        ("shapes_cls", {"num_classes": True}, "num_classes is a whole number, at least 0, not True"),
        ("shapes_partseg", {"num_classes": 3, "num_categories": 0}, "num_categories is a whole number, at least 1"),
        ("model: {class_path: PointMLPElite}\n", {}, "say how many outputs the model of this config has: num_classes"),
        ("seed: 1\n", {"num_classes": 3}, "the config has no section 'model'"),
        ("model: {class_path: Linear}\n", {"num_classes": 3}, "'Linear' is no model of bixt3d"),
        ("nowhere/my.yaml", {"num_classes": 3}, "there is no config file nowhere/my.yaml"),
    ],
)
def test_what_cannot_be_built_is_one_sentence(name: str, settings: dict, words: str):
    with pytest.raises(InputError, match=words) as caught:
        bixt3d.create_model(name, **settings)
    assert "\n" not in str(caught.value)


def test_every_config_and_preset_is_listed_once_and_has_one_kind():
    names = bixt3d.list_models()
    assert names == [*known_configs(), *PRESETS]
    kinds = [bixt3d.list_models(kind=kind) for kind in KINDS]
    assert sorted(sum(kinds, [])) == sorted(names) and all(kinds)


def test_names_are_found_by_a_part_or_a_pattern():
    assert bixt3d.list_models("grouping") == ["modelnet10_grouping", "modelnet40_grouping", "scenes_grouping"]
    assert set(bixt3d.list_models("bixt_*_ft384")) < set(bixt3d.list_models("ft384", "imgcls"))
    with pytest.raises(InputError, match="no kind of model 'parts'; .*'?partseg"):
        bixt3d.list_models(kind="parts")
