"""timm builds our models by name after one import, with its settings, transforms and optimizers."""

from pathlib import Path

import pytest
import timm
import torch
from timm.data import resolve_model_data_config
from timm.models import group_parameters
from timm.optim import create_optimizer_v2
from torch import Tensor

import bixt3d.timm
from bixt3d.models import BixtImageClassifier
from bixt3d.models.image_preset_table import PRESETS, ImagePreset
from bixt3d.models.image_presets import BixtPreset
from bixt3d.types import InputError

NAME = "bixt_ti_l64_p16"


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> str:
    """Make a registered model small enough to run."""
    small = ImagePreset(dim=16, depth=2, num_heads=2, num_latents=4, kernel=4, stride=4)
    monkeypatch.setitem(PRESETS, NAME, small)
    return NAME


@pytest.fixture
def deep(monkeypatch: pytest.MonkeyPatch) -> str:
    """Make a registered model of four layers small enough to run."""
    monkeypatch.setitem(PRESETS, NAME, ImagePreset(dim=16, depth=4, num_heads=2, num_latents=4, kernel=4, stride=4))
    return NAME


def images() -> Tensor:
    return torch.randn(2, 3, 8, 8)


def test_all_classifiers_are_registered_and_no_segmenter():
    names = {name for name, preset in PRESETS.items() if preset.head == "classes"}
    assert names == set(bixt3d.timm.NAMES) == set(bixt3d.timm.__all__)
    assert names <= set(timm.list_models())
    assert not set(PRESETS) - names & set(timm.list_models())


@pytest.mark.parametrize("name", bixt3d.timm.NAMES)
def test_timm_makes_our_model(name: str):
    with torch.device("meta"):
        model, ours = timm.create_model(name), BixtPreset(1000, name)
    assert isinstance(model, BixtImageClassifier)
    assert [(key, value.shape) for key, value in model.state_dict().items()] == [
        (key, value.shape) for key, value in ours.state_dict().items()
    ]


@pytest.mark.parametrize("name, size", [(NAME, 224), (f"{NAME}_ft384", 384)])
def test_timm_preprocesses_images_as_the_presets_say(name: str, size: int):
    with torch.device("meta"):
        config = resolve_model_data_config(timm.create_model(name))
    assert config == {
        "input_size": (3, size, size),
        "interpolation": "bicubic",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "crop_pct": 0.875,
        "crop_mode": "center",
    }


def test_settings_of_timm_become_ours(tiny: str):
    model = timm.create_model(tiny, num_classes=10, drop_rate=0.3, drop_path_rate=0.2)
    last = model.encoder.layers[-1]
    assert last.cross.latent_residual.drop.rate == last.latents.residual.drop.rate == 0.2
    assert model.dropout.p == 0.3
    assert model.num_classes == 10 and model.num_features == 16
    assert model.eval()(images()).shape == (2, 10)
    assert model.default_cfg is model.pretrained_cfg and model.default_cfg["num_classes"] == 1000
    assert model.default_cfg["architecture"] == tiny


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"in_chans": 0}, "at least 1 channel, not 0"),
        ({"global_pool": "max"}, "pools by avg, not max"),
        ({"img_size": 6}, "must be multiples of 4, not"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tiny: str, settings: dict, words: str):
    with pytest.raises(InputError, match=words):
        timm.create_model(tiny, **settings)


def test_another_image_size_is_read_and_passed_to_the_transforms(tiny: str):
    model = timm.create_model(tiny, img_size=(12, 16)).eval()
    assert resolve_model_data_config(model)["input_size"] == (3, 12, 16)
    assert model.forward_features(torch.randn(1, 3, 12, 16)).shape == (1, 4, 16)


def test_one_channel_sums_the_weights_of_three_and_six_repeat_them(tiny: str, tmp_path: Path):
    theirs = BixtPreset(1000, tiny)
    torch.save(theirs.state_dict(), path := tmp_path / "theirs.pth")
    settings = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(path)}}
    grey, six = (timm.create_model(tiny, in_chans=number, **settings).eval() for number in (1, 6))
    image = images()[:, :1]
    weight = theirs.tokenizer.project.weight
    torch.testing.assert_close(grey.first_conv.weight, weight.sum(1, keepdim=True))
    torch.testing.assert_close(six.first_conv.weight, weight.repeat(1, 2, 1, 1) / 2)
    three = theirs.eval().tokenizer(image.expand(-1, 3, -1, -1))[0].feats
    torch.testing.assert_close(grey.tokenizer(image)[0].feats, three)
    assert resolve_model_data_config(grey)["input_size"] == (1, 224, 224)
    assert grey(image).shape == (2, 1000) and six(torch.randn(1, 6, 8, 8)).shape == (1, 1000)


def test_features_only_returns_feature_maps_of_the_layers_named(deep: str):
    image = torch.randn(2, 3, 8, 12)
    torch.manual_seed(1)
    net = timm.create_model(deep, features_only=True, out_indices=(0, -1)).eval()
    torch.manual_seed(1)
    whole = timm.create_model(deep).eval()
    maps = net(image)
    assert [one.shape for one in maps] == [(2, 16, 2, 3)] * 2
    assert net.feature_info.channels() == [16, 16] and net.feature_info.reduction() == [4, 4]
    assert net.feature_info.module_name() == ["encoder.layers.0", "encoder.layers.2"]
    tokens = whole.encoder(whole.tokenizer(image))[1][-1].feats
    torch.testing.assert_close(maps[1].flatten(2).transpose(1, 2), tokens)
    assert len(net.model.encoder.layers) == 3  # the last layer only reads the tokens
    assert len(timm.create_model(deep, features_only=True)(image)) == 3


def test_intermediate_tokens_come_with_the_latents_of_forward_features(deep: str):
    model, image = timm.create_model(deep, num_classes=5).eval(), images()
    latents, maps = model.forward_intermediates(image, output_fmt="NLC")
    torch.testing.assert_close(latents, model.forward_features(image))
    torch.testing.assert_close(model.forward_head(latents), model(image))
    assert [one.shape for one in maps] == [(2, 4, 16)] * 3
    only = model.forward_intermediates(image, indices=[1], stop_early=True, intermediates_only=True, output_fmt="NLC")
    torch.testing.assert_close(only[0], maps[1])
    with pytest.raises(InputError, match="gives tokens without norm"):
        model.forward_intermediates(image, norm=True)


def test_activation_checkpointing_changes_no_gradient(deep: str):
    model, image, found = timm.create_model(deep, num_classes=5), images(), []
    torch.nn.init.normal_(model.head.weight)
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        model(image).square().sum().backward()
        found.append(torch.cat([one.grad.flatten() for one in model.parameters()]))
    assert any(getattr(part, "checkpointing", False) for part in model.modules())
    torch.testing.assert_close(*found)


def test_every_parameter_has_a_layer_for_learning_rates(deep: str):
    model = timm.create_model(deep, num_classes=5)
    layers = group_parameters(model, model.group_matcher(), reverse=True)
    assert set(layers) == {name for name, _ in model.named_parameters()}
    assert layers["tokenizer.project.weight"] < layers["encoder.layers.0.cross.latent_norm.weight"]
    assert layers["encoder.layers.3.cross.latent_norm.weight"] < layers["head.weight"]


def test_without_classes_a_model_gives_features(tiny: str):
    model, image = timm.create_model(tiny, num_classes=0).eval(), images()
    feats = model(image)
    assert feats.shape == (2, 16)
    torch.testing.assert_close(model.forward_head(model.forward_features(image), pre_logits=True), feats)


def test_the_head_can_be_replaced(tiny: str):
    model = timm.create_model(tiny, num_classes=10).eval()
    model.reset_classifier(3)
    assert model(images()).shape == (2, 3) and model.get_classifier().out_features == model.num_classes == 3
    torch.testing.assert_close(model(images()), torch.zeros(2, 3))
    model.reset_classifier(0)
    assert model(images()).shape == (2, 16)


def test_optimizers_of_timm_do_not_decay_the_latents(tiny: str):
    model = timm.create_model(tiny, num_classes=10)
    groups = create_optimizer_v2(model, opt="lamb", lr=1e-3, weight_decay=0.05).param_groups
    free = [one for group in groups if not group["weight_decay"] for one in group["params"]]
    assert any(one is model.encoder.latents for one in free)
    assert not any(one is model.head.weight for one in free)


def test_weights_of_a_run_are_loaded_by_path(tiny: str, tmp_path: Path):
    ours = BixtPreset(10, tiny)
    torch.nn.init.normal_(ours.head.weight)
    torch.save(ours.state_dict(), path := tmp_path / "ours.pth")
    model = timm.create_model(tiny, num_classes=10, checkpoint_path=str(path)).eval()
    image = images()
    torch.testing.assert_close(model(image), ours.eval()(image))


@pytest.mark.parametrize("num_classes", [1000, 10])
def test_pretrained_weights_may_come_from_a_file(tiny: str, num_classes: int, tmp_path: Path):
    """Names that are ours already stay as they are."""
    theirs = BixtPreset(1000, tiny)
    torch.nn.init.normal_(theirs.head.weight)
    torch.save(theirs.state_dict(), path := tmp_path / "theirs.pth")
    overlay = {"file": str(path)}
    model = timm.create_model(tiny, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=num_classes)
    assert model.encoder.latents.equal(theirs.encoder.latents)
    assert model.head.weight.eq(0).all() if num_classes == 10 else model.head.weight.equal(theirs.head.weight)


def test_a_model_that_was_not_released_has_no_pretrained_weights(tiny: str):
    with pytest.raises(InputError, match=f"no weights of '{NAME}' were released"):
        timm.create_model(tiny, pretrained=True)
