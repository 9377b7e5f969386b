"""Models of the paper by name: their numbers, and how Python, yaml and config files find them."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bixt3d.io.named_configs import config_file
from bixt3d.models import BixtImageClassifier, ImageClassifier, LinearSegmenter, SemanticFPNSegmenter
from bixt3d.models.create import create_model
from bixt3d.models.image_preset_table import PRESETS, ImagePreset
from bixt3d.models.image_presets import BixtPreset
from bixt3d.types import InputError

CLASSIFIERS = [name for name, preset in PRESETS.items() if preset.head == "classes"]
SEGMENTERS = [name for name, preset in PRESETS.items() if preset.head != "classes"]
RELEASED = [
    "bixt_ti_l64_p16",
    "bixt_ti_l64_p16s8",
    "bixt_ti_l64_p16s4",
    "bixt_ti_l64_p16_ft384",
    "bixt_ti_l64_p16s8_ft384",
    "bixt_ti_l64_p16s4_ft384",
    "bixt_conv_ti_l64_p16",
    "bixt_ed256_l64_p16",
    "bixt_ed256LS_l64_p16s8",
    "bixt_ed256LS_l64_p16s8_ft384",
    "bixt_ti_l64_d13_p16",
    "bixt_ti_l64_d13_p16s8",
    "bixt_ti_l64_d13_p16s4",
    "bixt_ti_l64_d13_p16_ft384",
    "bixt_ti_l64_d13_p16s8_ft384",
    "bixt_conv_ti_l64_d13_p16",
    "bixt_conv_ti_l64_d13_p8",
]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a tiny preset."""
    numbers = {"dim": 16, "depth": 2, "num_heads": 2, "num_latents": 4, "kernel": 4, "stride": 4}
    monkeypatch.setitem(PRESETS, "bixt_tiny", ImagePreset(**numbers))
    return "bixt_tiny"


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def image() -> Tensor:
    return torch.randn(2, 3, 8, 8)


def test_all_released_models_are_there_each_with_a_file_of_its_own():
    files = {name: preset.figshare for name, preset in PRESETS.items() if preset.figshare}
    assert list(files) == RELEASED and len(set(files.values())) == 17


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_classifier_is_built_by_name_and_its_name_says_its_numbers(name: str):
    with torch.device("meta"):
        model = create_model(name, 1000)
    assert isinstance(model, BixtImageClassifier)
    preset, parts = PRESETS[name], name.split("_")
    assert f"l{preset.num_latents}" in parts
    assert (preset.size == 384) == ("ft384" in parts) and (preset.tokenizer == "conv") == ("conv" in parts)
    patches = next(part for part in reversed(parts) if part.startswith("p") and part != "plain")
    kernel, _, stride = patches[1:].partition("s")
    assert preset.stride == int(stride or kernel) and (preset.kernel == int(kernel) or "conv" in parts)
    assert model.tokenizer.stride == preset.stride and model.encoder.dim == preset.dim
    assert preset.depth == next((int(part[1:]) for part in parts if part[0] == "d" and part[1:].isdigit()), 12)
    assert f"ed{preset.dim}" in name or preset.dim == 192


@pytest.mark.parametrize("name", SEGMENTERS)
def test_every_segmenter_is_built_by_name(name: str):
    with torch.device("meta"):
        model = create_model(name, 150)
    assert isinstance(model, LinearSegmenter if "linear" in name else SemanticFPNSegmenter)


@pytest.mark.parametrize(
    "config, name",
    [
        ("ade20k_linear_ti16", "bixt_linear_ti_l64_p16"),
        ("ade20k_linear_ti8", "bixt_linear_ti_l64_p16s8"),
        ("ade20k_semfpn_ti16", "bixt_fpn_ti_l64_p16"),
        ("ade20k_semfpn_lpi_ti16", "bixt_fpn_lpi_conv_ti_l64_p16"),
    ],
)
def test_configs_of_segmenters_say_what_the_presets_say(config: str, name: str):
    with torch.device("meta"):
        assert shapes(create_model(config, 150)) == shapes(create_model(name, 150))


@pytest.mark.parametrize("config", ["imagenet_ti16", "imagenet_ti8", "imagenet_ti4", "imagenet_ti16_ft384", "cifar10"])
def test_configs_of_classifiers_build(config: str):
    with torch.device("meta"):
        assert isinstance(create_model(config, 10), ImageClassifier)


def test_fine_tuned_models_are_the_same_networks():
    for name, preset in PRESETS.items():
        if preset.size == 384:
            with torch.device("meta"):
                small, large = (BixtPreset(1000, one) for one in (name.removesuffix("_ft384"), name))
            assert shapes(small) == shapes(large)


def test_a_preset_is_found_from_python_from_yaml_and_from_a_file(tiny: str, tmp_path: Path):
    text = f"model: {{class_path: BixtPreset, init_args: {{name: {tiny}}}}}\n"
    (path := tmp_path / "run.yaml").write_text(text)
    models = []
    for config in (tiny, text, path, str(path)):
        torch.manual_seed(0)
        models.append(create_model(config, 5))
    assert all(torch.equal(model.tokenizer.project.weight, models[0].tokenizer.project.weight) for model in models)
    assert {model(image()).shape for model in models} == {(2, 5)}


def test_stochastic_depth_of_a_preset_is_set_in_yaml(tiny: str):
    init = f"{{name: {tiny}, drop_path_cross: 0.2, drop_path_self: 0.1}}"
    model = create_model(f"model: {{class_path: BixtPreset, init_args: {init}}}\n", 5)
    last = model.encoder.layers[-1]
    assert last.cross.latent_residual.drop.rate == 0.2 and last.latents.residual.drop.rate == 0.1


def test_a_segmenter_is_found_from_yaml():
    text = """
model:
  class_path: LinearSegmenter
  init_args:
    tokenizer: {class_path: ConvTokenizer, init_args: {dim: 16, stride: 4}}
    encoder:
      class_path: BixtEncoder
      init_args:
        {dim: 16, depth: 2, num_heads: 2, num_latents: 4, reads: tokens, refine: {class_path: LocalPatchRefinement}}
"""
    assert create_model(text, 5)(image()).shape == (2, 5, 8, 8)


@pytest.mark.parametrize(
    "config, sentence",
    [
        ("bixt_ti_l64_p17", "there is no model 'bixt_ti_l64_p17'; did you mean 'bixt_ti_l64_p16'?"),
        ("imagenet_ti17", "there is no model 'imagenet_ti17'; did you mean 'imagenet_ti16"),
        ("nowhere/run.yaml", "there is no config file nowhere/run.yaml"),
        (
            "model: {class_path: BixtPreset, init_args: {name: bixt_linear_ti_l64_p16}}\n",
            "'bixt_linear_ti_l64_p16' is a segmenter: build it with create_model",
        ),
        (
            "model: {class_path: BixtPreset, init_args: {name: bixt_ti_l46_p16}}\n",
            "there is no image model 'bixt_ti_l46_p16'; did you mean 'bixt_ti_l64_p16'?",
        ),
    ],
)
def test_what_cannot_be_built_is_refused_with_one_sentence(config: str, sentence: str):
    with pytest.raises(InputError) as refusal:
        create_model(config, 5)
    assert sentence in str(refusal.value) and "\n" not in str(refusal.value)


def test_configs_name_presets_that_exist():
    """A yaml is read without its preset; the name in it shall be right."""
    assert "bixt_ti_l64_p16" in config_file("imagenet_ti16").read_text()
    with torch.device("meta"):
        assert isinstance(create_model(config_file("imagenet_ti16"), 1000), BixtPreset)
