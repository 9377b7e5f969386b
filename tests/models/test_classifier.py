"""Facts about the classifier of clouds."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from bixt3d.models import BixtClassifier, BixtEncoder
from bixt3d.nn.refinement import GroupRefinement
from bixt3d.tokenizers import GroupTokenizer, PointTokenizer

REFINEMENTS = {"flat": None, "simple": partial(GroupRefinement, num_neighbors=4)}


def build(refine: str = "flat", grouped: bool = False, num_classes: int = 4, **settings) -> BixtClassifier:
    """Return a tiny classifier with a random head; before training it is zero."""
    points = PointTokenizer(24)
    tokenizer = GroupTokenizer(24, points, num_neighbors=4, num_groups=8) if grouped else points
    encoder = BixtEncoder(24, 2, 3, 5, refine=REFINEMENTS[refine], drop_path_cross=0.5, drop_path_self=0.5)
    model = BixtClassifier(num_classes, tokenizer, encoder, **settings)
    nn.init.normal_(model.head.weight, std=0.1)
    return model


def clouds(num_clouds: int = 3) -> tuple[Tensor, Tensor]:
    return torch.rand(num_clouds, 16, 3) * 2 - 1, torch.zeros(num_clouds, 16, 0)


def test_parameter_names_are_frozen():
    read = ["query", "key_value", "out"]
    feed_forward = ["norm", "ffn.0", "ffn.2"]
    latents = ["norm", "attention.query_key_value", "attention.out", *[f"ffn.{name}" for name in feed_forward]]
    first = ["latent_norm", "token_norm"]
    first += [f"attention.{name}" for name in ("latent_ref_value", "token_ref_value", "latent_out", "token_out")]
    first += [f"{side}_ffn.{name}" for side in ("latent", "token") for name in feed_forward]
    last = ["latent_norm", "token_norm"]
    last += [f"attention.{name}" for name in read] + [f"latent_ffn.{name}" for name in feed_forward]
    layers = ["tokenizer.project"]
    for i, cross in enumerate([first, last]):
        layers += [f"encoder.layers.{i}.cross.{name}" for name in cross]
        layers += [f"encoder.layers.{i}.latents.{name}" for name in latents]
    layers += ["norm", "head"]
    expected = [f"{layer}.{part}" for layer in layers for part in ("weight", "bias")]
    expected.insert(2, "encoder.latents")
    assert [name for name, _ in build().named_parameters()] == expected


def test_parameter_names_of_a_refinement_are_frozen():
    names = [name for name, _ in build("simple").named_parameters() if ".refine." in name]
    block = ["group.scale", "group.shift", "group.linear.weight", "norm.weight", "norm.bias"]
    block += [f"post.0.inner.{name}" for name in ("0.weight", "1.weight", "1.bias", "3.weight", "4.weight", "4.bias")]
    inner = ["norm.weight", "norm.bias", *[f"block.{name}" for name in block], "project.weight", "project.bias"]
    assert names == [f"encoder.layers.0.refine.{name}" for name in inner]


def test_a_new_classifier_gives_all_classes_the_same_logit():
    model = BixtClassifier(4, PointTokenizer(24), BixtEncoder(24, 2, 3, 5))
    assert model(*clouds()).eq(0).all()


def test_the_head_reads_the_normed_mean_of_the_latents():
    model, (xyz, feats) = build().eval(), clouds()
    latents, _ = model.encoder(model.tokenizer(xyz, feats))
    expected = model.head(nn.functional.layer_norm(latents.mean(1), (24,), eps=1e-6))
    torch.testing.assert_close(model(xyz, feats), expected)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("refine", REFINEMENTS)
def test_logits_of_a_cloud_do_not_depend_on_the_others(refine: str, grouped: bool):
    model, (xyz, feats) = build(refine, grouped).eval(), clouds()
    together = model(xyz, feats)
    torch.testing.assert_close(model(xyz[1:2], feats[1:2]), together[1:2], rtol=1e-4, atol=1e-5)
    xyz[0] += 1
    torch.testing.assert_close(model(xyz, feats)[1:], together[1:], rtol=1e-4, atol=1e-5)


def test_evaluation_is_deterministic_and_training_is_not():
    model, batch = build(dropout=0.5), clouds()
    assert not torch.equal(model(*batch), model(*batch))
    model.eval()
    assert torch.equal(model(*batch), model(*batch))


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("refine", REFINEMENTS)
def test_bfloat16_autocast_is_close_to_float32(refine: str, grouped: bool):
    model, batch = build(refine, grouped).eval(), clouds()
    expected = model(*batch)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(*batch)
    assert expected.dtype == torch.float32 and found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0.1, atol=0.05)


@pytest.mark.parametrize("refine", REFINEMENTS)
def test_bfloat16_autocast_trains(refine: str):
    model = build(refine)
    with torch.autocast("cpu", torch.bfloat16):
        loss = nn.functional.cross_entropy(model(*clouds()), torch.tensor([0, 1, 3]))
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_a_model_loaded_from_its_state_dict_gives_the_same_logits():
    model, other, batch = build("simple", grouped=True), build("simple", grouped=True).eval(), clouds()
    model(*batch)  # batch statistics are part of the state
    model.eval()
    assert not torch.allclose(other(*batch), model(*batch))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(*batch), model(*batch))
