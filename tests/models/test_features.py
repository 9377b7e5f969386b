"""Every model returns its features, takes another head, and with 0 classes returns the input of a head."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from bixt3d.models import (
    BixtClassifier,
    BixtEncoder,
    BixtImageClassifier,
    CloudClassifier,
    DecoderSegmenter,
    FeatureModel,
    LinearSegmenter,
    ModelFeatures,
    PointMLP,
    PointMLPDecoder,
    PointMLPElite,
    PointMLPSegmenter,
    SemanticFPNSegmenter,
    TokenSegmenter,
)
from bixt3d.models.image_presets import BixtPreset
from bixt3d.tokenizers import GroupTokenizer, PatchTokenizer, PointTokenizer
from bixt3d.types import InputError

ENCODER = partial(BixtEncoder, 16, 2, 2, 3)
SIZES = {"num_pre": (1, 1, 1, 1), "num_post": (1, 1, 1, 1), "num_neighbors": 4, "growth": (2, 1, 1, 1), "dim": 8}


def part_decoder(num_parts: int) -> DecoderSegmenter:
    tokenizer = GroupTokenizer(16, PointTokenizer(8), 4, num_groups=12, num_pre=1)
    decoder = partial(PointMLPDecoder, dims=(8,), num_blocks=(1,), context_dim=4, category_dim=4)
    return DecoderSegmenter(num_parts, 2, tokenizer, ENCODER(reads="tokens"), decoder)


CLOUDS: dict[str, tuple[Callable[[int], FeatureModel], int, int]] = {  # model, width of pooled, and of what is read
    "BiXT": (lambda n: BixtClassifier(n, PointTokenizer(16), ENCODER()), 16, 16),
    "PointMLP": (lambda n: PointMLP(n, **SIZES), 16, 16),
    "PointMLP-elite": (lambda n: PointMLPElite(n, num_neighbors=4), 256, 256),
    "part tokens": (lambda n: TokenSegmenter(n, 2, PointTokenizer(16), ENCODER(reads="tokens")), 16, 16),
    "part decoder": (part_decoder, 16, 128),
    "part PointMLP": (
        lambda n: PointMLPSegmenter(n, 2, **SIZES, reduce=2, decoder_dims=(8,) * 4, decoder_blocks=(1,) * 4),
        16,
        128,
    ),
}
IMAGES: dict[str, tuple[Callable[[int], FeatureModel], int, int]] = {
    "BiXT": (lambda n: BixtImageClassifier(n, PatchTokenizer(16, 4), ENCODER()), 16, 16),
    "linear": (lambda n: LinearSegmenter(n, PatchTokenizer(16, 4), ENCODER(reads="tokens")), 16, 16),
    "FPN": (
        lambda n: SemanticFPNSegmenter(
            n, PatchTokenizer(16, 4), BixtEncoder(16, 4, 2, 3, reads="tokens", keep_layers=[1, 2, 3]), 8, 8
        ),
        16,
        8,
    ),
}
MODELS = {f"cloud {name}": (*case, True) for name, case in CLOUDS.items()}
MODELS |= {f"image {name}": (*case, False) for name, case in IMAGES.items()}
EVERY = pytest.mark.parametrize(("make", "pooled", "read", "of_clouds"), MODELS.values(), ids=list(MODELS))


def inputs(model: nn.Module, of_clouds: bool) -> tuple:
    if not of_clouds:
        return (torch.randn(2, 3, 16, 24),)
    given = (torch.randn(2, 40, 3), None)
    return (*given, torch.tensor([0, 1])) if hasattr(model, "reads_category") else given


def filled(model: FeatureModel) -> FeatureModel:
    """Return the model with a head that is not zero, as it predicts."""
    for parameter in model.get_classifier().parameters():
        nn.init.normal_(parameter, std=0.1)
    return model.eval()


@EVERY
def test_features_before_the_head_have_the_documented_shapes(make, pooled: int, read: int, of_clouds: bool):
    model = make(5).eval()
    found = model.forward_features(*inputs(model, of_clouds))
    assert isinstance(found, ModelFeatures)
    assert found.pooled.shape == (2, pooled)
    assert found.tokens.feats.shape[:2] == found.tokens.pos.shape[:2] and found.tokens.feats.shape[2] == pooled
    has_latents = any(isinstance(part, BixtEncoder) for part in model.modules())
    assert found.latents.shape == (2, 3, 16) if has_latents else found.latents is None


@EVERY
def test_without_classes_a_model_returns_the_input_of_a_head(make, pooled: int, read: int, of_clouds: bool):
    model, given = filled(make(5)), inputs(make(5), of_clouds)
    seen = []
    model.get_classifier().register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    logits = model(*given)
    model.reset_classifier(0)
    feats = model(*given)
    assert isinstance(model.get_classifier(), nn.Identity) and model.num_classes == 0
    assert feats.shape[0] == 2 and read == (feats.shape[-1] if of_clouds or feats.ndim == 2 else feats.shape[1])
    assert (feats.ndim, feats.shape[1:-1] if of_clouds else feats.shape[2:]) == (
        logits.ndim,
        logits.shape[1:-1] if of_clouds else logits.shape[2:],
    )
    if feats.shape == seen[0].shape:
        assert feats.equal(seen[0])
    if feats.ndim == 2:
        assert feats.equal(model.forward_features(*given).pooled)


@EVERY
def test_a_model_can_be_built_without_classes_and_get_some_later(make, pooled: int, read: int, of_clouds: bool):
    model = make(0).eval()
    assert not list(model.get_classifier().parameters())
    model.double().reset_classifier(4)
    assert model.num_classes == 4
    head = list(model.get_classifier().parameters())
    assert len(head[-1]) == 4 and head[-1].dtype == torch.float64
    assert not any(part.training for part in model.get_classifier().modules())
    names = [(name, tensor.shape) for name, tensor in model.state_dict().items()]
    assert names == [(name, tensor.shape) for name, tensor in make(4).state_dict().items()]


@EVERY
def test_a_negative_number_of_classes_is_refused(make, pooled: int, read: int, of_clouds: bool):
    with pytest.raises(InputError, match="at least 0 classes, not -1"):
        make(3).reset_classifier(-1)


def test_a_preset_without_classes_gives_pooled_features():
    model = BixtPreset(0, "bixt_ti_l32_p16").eval()
    assert model(torch.randn(1, 3, 32, 32)).shape == (1, 192)


def test_tokens_of_images_have_their_grid():
    model = IMAGES["BiXT"][0](3).eval()
    assert model.forward_features(torch.randn(1, 3, 16, 24)).tokens.grid == (4, 6)


def test_a_part_segmenter_that_embeds_the_category_asks_for_it():
    with pytest.raises(InputError, match="needs the category"):
        CLOUDS["part tokens"][0](3).forward_features(torch.randn(1, 40, 3))
    CLOUDS["part decoder"][0](3).eval().forward_features(torch.randn(1, 40, 3))  # its decoder alone reads it


def test_a_model_class_that_defines_forward_alone_says_what_it_lacks():
    class Plain(CloudClassifier):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(3, 2)

        def forward(self, xyz: Tensor, feats: Tensor | None = None) -> Tensor:
            return self.head(xyz.mean(1))

    model = Plain()
    with pytest.raises(InputError, match="Plain gives no features: its class must define forward_features"):
        model.forward_features(torch.randn(1, 4, 3))
    with pytest.raises(InputError, match="Plain has a fixed head: its class must define make_head"):
        model.reset_classifier(3)


def test_a_model_without_a_head_is_exported_like_one_with_a_head():
    model, xyz = filled(CLOUDS["BiXT"][0](3)), torch.randn(2, 40, 3)
    for headless in (False, True):
        if headless:
            model.reset_classifier(0)
        program = torch.export.export(model, (xyz,)).module()
        torch.testing.assert_close(program(xyz), model(xyz))
