"""Facts about the segmenters of images."""

from functools import partial

import pytest
import torch
from torch import nn

from bixt3d.models import BixtEncoder, ImageSegmenter, LinearSegmenter, SemanticFPNSegmenter
from bixt3d.models.image_segmenter import grid_feats
from bixt3d.nn.local_patch import LocalPatchRefinement
from bixt3d.tokenizers import ConvTokenizer, PatchTokenizer
from bixt3d.types import InputError

SMALL = {"dim": 16, "num_heads": 2, "num_latents": 4, "reads": "tokens"}
FPN = {"dim": 8, "head_dim": 4}


def linear(reads: str = "tokens", refine=None) -> LinearSegmenter:
    encoder = BixtEncoder(**SMALL | {"reads": reads}, depth=2, refine=refine)
    return LinearSegmenter(5, PatchTokenizer(16, 4), encoder)


def fpn(refine=None) -> SemanticFPNSegmenter:
    encoder = BixtEncoder(**SMALL, depth=4, keep_layers=[1, 2, 3], refine=refine)
    return SemanticFPNSegmenter(5, ConvTokenizer(16, 4), encoder, **FPN)


MODELS = {
    "linear": linear,
    "linear, both": partial(linear, "both"),
    "linear, lpi": partial(linear, refine=LocalPatchRefinement),
    "fpn": fpn,
    "fpn, lpi": partial(fpn, refine=LocalPatchRefinement),
}


def images(num: int = 2, rows: int = 16, columns: int = 24) -> torch.Tensor:
    return torch.randn(num, 3, rows, columns)


@pytest.mark.parametrize("name", MODELS)
def test_every_pixel_of_images_of_any_size_gets_logits(name: str):
    model: ImageSegmenter = MODELS[name]().eval()
    assert model.stride == 4
    for size in [(8, 8), (16, 24), (20, 28)]:
        assert model(images(1, *size)).shape == (1, 5, *size)


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_that_is_read_gets_a_gradient(name: str):
    model = MODELS[name]().eval()
    nn.functional.cross_entropy(model(images()), torch.randint(5, (2, 16, 24))).backward()
    silent = [
        name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]
    unread = ("cross.attention.latent_out", "cross.latent_ffn", "latents.")  # of a bi-directional last layer
    expected = (lambda one: one.startswith("encoder.layers.1.")) if name == "linear, both" else (lambda one: False)
    assert all(expected(one) and one.removeprefix("encoder.layers.1.").startswith(unread) for one in silent)


@pytest.mark.parametrize("name", MODELS)
def test_logits_of_an_image_do_not_depend_on_the_others(name: str):
    model, image = MODELS[name]().eval(), images()
    torch.testing.assert_close(model(image[:1]), model(image)[:1], rtol=1e-4, atol=1e-5)


def test_the_linear_predictor_upsamples_the_logits_of_patches():
    model, image = linear(), images()
    _, (tokens,) = model.encoder(model.tokenizer(image))
    logits = model.head(tokens.feats).transpose(1, 2).unflatten(2, (4, 6))
    expected = nn.functional.interpolate(logits, (16, 24), mode="bilinear")
    torch.testing.assert_close(model(image), expected)


def test_patches_keep_their_place():
    """After bilinear upsampling, the pixels in the middle of a patch keep its logits, up to those of its neighbors."""
    model, image = linear(), images(1, 8, 8)
    _, (tokens,) = model.encoder(model.tokenizer(image))
    assert grid_feats(tokens)[0, :, 1, 0].equal(tokens.feats[0, 2])
    corner = model(image)[0, :, -1, 0]
    torch.testing.assert_close(corner, model.head(tokens.feats)[0, 2])


def test_the_pyramid_reads_four_layers_at_four_sizes():
    model, image = fpn().eval(), images(1)
    _, levels = model.encoder(model.tokenizer(image))
    sizes = [resize(grid_feats(level)).shape[-2:] for resize, level in zip(model.resize, levels, strict=True)]
    assert [tuple(size) for size in sizes] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    assert len({level.feats.sum().item() for level in levels}) == 4


@pytest.mark.parametrize("layer", range(4))
def test_every_layer_of_the_pyramid_matters(layer: int):
    model, image = fpn().eval(), images(1)
    before = model(image)
    nn.init.zeros_(model.lateral[layer].weight)
    assert not torch.allclose(model(image), before)


def test_parameter_names_around_the_encoder_are_frozen():
    names = [name for name, _ in linear().named_parameters() if not name.startswith(("encoder.", "tokenizer."))]
    assert names == ["head.weight", "head.bias"]
    names = [name for name, _ in fpn().named_parameters() if not name.startswith(("encoder.", "tokenizer."))]
    expected = [f"resize.0.{i}.{part}" for i in (0, 1, 3) for part in ("weight", "bias")]
    expected += ["resize.1.weight", "resize.1.bias"]
    expected += [
        f"{name}.{i}.{part}" for name in ("lateral", "smooth") for i in range(4) for part in ("weight", "bias")
    ]
    counts = {0: 1, 1: 1, 2: 2, 3: 3}
    expected += [
        f"scales.{level}.{i}.{part}"
        for level, count in counts.items()
        for i in range(count)
        for part in ("0.weight", "1.weight", "1.bias")
    ]
    assert names == [*expected, "head.weight", "head.bias"]


def test_an_encoder_that_updates_latents_only_is_refused():
    with pytest.raises(InputError, match="reads tokens, but the last layer of this encoder updates latents only"):
        linear("latents")


def test_a_pyramid_of_other_than_four_layers_is_refused():
    encoder = BixtEncoder(**SMALL, depth=4, keep_layers=[1, 2])
    with pytest.raises(InputError, match=r"reads the tokens of four layers, but this encoder returns 3: name three"):
        SemanticFPNSegmenter(5, PatchTokenizer(16, 4), encoder)


@pytest.mark.parametrize("layers", [[0], [4], [1, 5]])
def test_layers_that_cannot_be_kept_are_refused(layers: list[int]):
    with pytest.raises(InputError, match="only the layers 1 to 3 of 4 can be kept"):
        BixtEncoder(**SMALL, depth=4, keep_layers=layers)
