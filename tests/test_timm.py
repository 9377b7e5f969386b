"""timm knows our models after one import: by name, with its settings, its transforms and its optimizers."""

from pathlib import Path

import pytest
import timm
import torch
from timm.data import resolve_model_data_config
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
def test_timm_knows_how_to_prepare_its_images(name: str, size: int):
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


@pytest.mark.parametrize("settings", [{"in_chans": 1}, {"global_pool": "max"}])
def test_settings_that_do_not_fit_are_refused(tiny: str, settings: dict):
    with pytest.raises(InputError, match="reads 3 channels and pools by avg"):
        timm.create_model(tiny, **settings)


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
def test_pretrained_weights_may_lie_in_a_file(tiny: str, num_classes: int, tmp_path: Path):
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
