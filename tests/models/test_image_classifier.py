"""Facts about the classifier of images."""

import pytest
import torch
from torch import nn

from bixt3d.models import BixtEncoder, BixtImageClassifier
from bixt3d.nn.local_patch import LocalPatchRefinement
from bixt3d.tokenizers import ConvTokenizer, PatchTokenizer
from bixt3d.types import InputError

SMALL = {"dim": 16, "depth": 2, "num_heads": 2, "num_latents": 4}
TOKENIZERS = {"patches": lambda: PatchTokenizer(16, 4), "conv": lambda: ConvTokenizer(16, 4)}
REFINEMENTS = {"flat": None, "lpi": LocalPatchRefinement}


def build(tokenizer: str = "patches", refine: str = "flat", **settings) -> BixtImageClassifier:
    """Return a tiny classifier with a random head; before training it is zero."""
    encoder = BixtEncoder(**SMALL, refine=REFINEMENTS[refine], drop_path_cross=0.5, drop_path_self=0.5)
    model = BixtImageClassifier(5, TOKENIZERS[tokenizer](), encoder, **settings)
    nn.init.normal_(model.head.weight, std=0.1)
    return model


def images(num: int = 3, rows: int = 8, columns: int = 12) -> torch.Tensor:
    return torch.randn(num, 3, rows, columns)


def test_names_around_the_encoder_are_frozen():
    names = [name for name, _ in build().named_parameters() if not name.startswith("encoder.layers.")]
    around = [f"tokenizer.{layer}.{part}" for layer in ("position", "project") for part in ("weight", "bias")]
    assert names == [*around, "encoder.latents", "norm.weight", "norm.bias", "head.weight", "head.bias"]


def test_a_new_classifier_gives_all_classes_the_same_logit():
    model = BixtImageClassifier(5, PatchTokenizer(16, 4), BixtEncoder(**SMALL))
    assert model(images()).eq(0).all()


def test_the_head_reads_the_normed_mean_of_the_latents():
    model, image = build().eval(), images()
    latents, _ = model.encoder(model.tokenizer(image))
    expected = model.head(nn.functional.layer_norm(latents.mean(1), (16,), eps=1e-6))
    torch.testing.assert_close(model(image), expected)


@pytest.mark.parametrize("refine", REFINEMENTS)
@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_logits_of_an_image_do_not_depend_on_the_others(tokenizer: str, refine: str):
    model, image = build(tokenizer, refine).eval(), images()
    together = model(image)
    torch.testing.assert_close(model(image[1:2]), together[1:2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("refine", REFINEMENTS)
@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_one_model_reads_images_of_any_size(tokenizer: str, refine: str):
    model = build(tokenizer, refine).eval()
    assert {model(images(1, *size)).shape for size in [(8, 8), (16, 8), (24, 32)]} == {(1, 5)}


@pytest.mark.parametrize("refine", REFINEMENTS)
@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_every_parameter_gets_a_gradient(tokenizer: str, refine: str):
    model = build(tokenizer, refine).eval()
    nn.functional.cross_entropy(model(images()), torch.tensor([0, 1, 4])).backward()
    assert [name for name, parameter in model.named_parameters() if not parameter.grad.any()] == []


def test_the_position_of_a_patch_matters():
    model, image = build().eval(), images(1)
    turned = image.flip(3).unflatten(3, (3, 4)).flip(4).flatten(3)  # the same patches in reverse columns
    assert not torch.allclose(model(image), model(turned), atol=1e-4)


def test_evaluation_is_deterministic_and_training_is_not():
    model, image = build(dropout=0.5), images()
    assert not torch.equal(model(image), model(image))
    model.eval()
    assert torch.equal(model(image), model(image))


@pytest.mark.parametrize("refine", REFINEMENTS)
def test_bfloat16_autocast_is_close_to_float32_and_trains(refine: str):
    model, image = build(refine=refine).eval(), images()
    expected = model(image)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(image)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0.1, atol=0.05)
    found.float().logsumexp(1).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_a_tokenizer_of_another_width_is_refused():
    with pytest.raises(InputError, match="makes tokens of width 8, but the encoder reads 16"):
        BixtImageClassifier(5, PatchTokenizer(8, 4), BixtEncoder(**SMALL))
