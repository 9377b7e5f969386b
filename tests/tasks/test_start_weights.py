"""Initial weights from an earlier run: of another image size, another head, another last layer."""

import json

import pytest
import torch
from torch import nn

from bixt3d.io.weights import save_weights
from bixt3d.models import (
    BixtClassifier,
    BixtEncoder,
    BixtImageClassifier,
    LinearSegmenter,
    PointMLP,
    PointMLPSegmenter,
    SemanticFPNSegmenter,
    TokenSegmenter,
)
from bixt3d.nn.local_patch import LocalPatchRefinement
from bixt3d.tasks.start_weights import start_from
from bixt3d.tokenizers import PatchTokenizer, PointTokenizer
from bixt3d.types import InputError


def encoder(depth: int, **settings) -> BixtEncoder:
    return BixtEncoder(16, depth, 2, 4, **settings)


def classifier(num_classes: int = 3, depth: int = 3, **settings) -> BixtImageClassifier:
    return BixtImageClassifier(num_classes, PatchTokenizer(16, 4), encoder(depth, **settings))


@pytest.fixture
def saved(tmp_path):
    """Return a function that saves a model as a run does."""

    def save(model: nn.Module):
        for parameter in model.parameters():  # biases too must be of a run's own
            nn.init.normal_(parameter, std=0.2)
        save_weights(tmp_path / "run" / "model.safetensors", model.state_dict(), {"task": "a test"})
        return tmp_path / "run"

    return save


def test_a_run_or_its_file_gives_all_weights_and_another_size_of_image_does_not_matter(saved):
    old, image = classifier(), torch.randn(2, 3, 24, 24)
    run = saved(old)
    for path in (run, run / "model.safetensors"):
        new = classifier()
        words = start_from(new, path)
        total = len(old.state_dict())
        assert words == f"started from {run / 'model.safetensors'}: {total} of {total} tensors"
        assert new.eval()(image).equal(old.eval()(image))


def test_a_head_for_other_classes_starts_new(saved):
    old, new = classifier(3), classifier(5)
    before = new.head.weight.clone()
    start_from(new, saved(old))
    assert new.encoder.latents.equal(old.encoder.latents) and new.norm.weight.equal(old.norm.weight)
    assert new.head.weight.equal(before)


def test_a_segmenter_takes_a_classifier_without_its_one_sided_last_layer(saved):
    """Its one-sided last layer (tokens read) takes that half of the classifier's two-sided layer."""
    old, image = classifier(depth=3), torch.randn(2, 3, 8, 12)
    run = saved(old)
    both, only = (LinearSegmenter(5, PatchTokenizer(16, 4), encoder(2, reads=reads)) for reads in ("both", "tokens"))
    for model in (both, only):
        assert "started from" in start_from(model, run)
    tokens = [model.encoder(model.tokenizer(image))[1][-1].feats for model in (both, only)]
    torch.testing.assert_close(tokens[1], tokens[0])
    latents, feats = old.encoder.latents, old.tokenizer(image)[0]
    for layer in old.encoder.layers[:2]:
        latents, feats, _ = layer(latents, feats)
    torch.testing.assert_close(tokens[0], feats.feats)


def test_refinements_that_the_run_did_not_have_start_new(saved):
    old = classifier(depth=5)
    new = SemanticFPNSegmenter(
        4,
        PatchTokenizer(16, 4),
        encoder(4, reads="tokens", keep_layers=[1, 2, 3], refine=LocalPatchRefinement),
        dim=8,
        head_dim=8,
    )
    start_from(new, saved(old))
    assert new.encoder.latents.equal(old.encoder.latents)


def test_what_does_not_fit_is_listed_and_the_rest_is_taken(saved):
    run, new = saved(classifier(depth=3)), BixtImageClassifier(5, PatchTokenizer(16, 8), encoder(4))
    words = start_from(new, run).splitlines()
    sizes = "16 x 3 x 4 x 4 there, 16 x 3 x 8 x 8 here"
    assert words[0].startswith(f"started from {run / 'model.safetensors'}: ")
    assert words[1] == (
        "  of another shape: head.bias: 3 there, 5 here, head.weight: 3 x 16 there, 5 x 16 here, "
        f"tokenizer.project.weight: {sizes}"
    )
    assert words[2].startswith("  new: encoder.layers.2.cross.attention.latent_out.bias, ") and "more" in words[2]
    assert words[3].startswith("  not taken: encoder.layers.2.cross.attention.key_value.bias, ")


def test_one_sided_attention_of_the_other_direction_is_not_taken(saved):
    """In the last layer, a classifier's latents read tokens, a segmenter's tokens read latents: equal names, shapes."""
    old, new = classifier(), LinearSegmenter(3, PatchTokenizer(16, 4), encoder(3, reads="tokens"))
    name = "encoder.layers.2.cross.attention.query.weight"
    before = new.state_dict()[name].clone()
    assert old.state_dict()[name].shape == before.shape
    words = start_from(new, saved(old))
    assert new.state_dict()[name].equal(before) and f"new: {name.replace('query.weight', 'key_value.bias')}" in words
    assert new.encoder.layers[1].cross.attention.token_out.weight.equal(
        old.encoder.layers[1].cross.attention.token_out.weight
    )


def test_a_part_segmenter_shares_the_encoder_of_a_classifier(saved):
    old = BixtClassifier(3, PointTokenizer(16), encoder(3))
    new = TokenSegmenter(7, 2, PointTokenizer(16), encoder(3, reads="tokens"))
    start_from(new, saved(old))
    assert new.tokenizer.project.weight.equal(old.tokenizer.project.weight)
    for i in range(2):
        for name, value in new.encoder.layers[i].state_dict().items():
            assert value.equal(old.encoder.layers[i].state_dict()[name]), name


def test_a_pointmlp_segmenter_takes_the_stages_of_a_classifier(saved):
    sizes = {"dim": 8, "growth": (2, 1), "num_pre": (1, 1), "num_post": (1, 1), "num_neighbors": 4}
    old = PointMLP(3, **sizes)
    new = PointMLPSegmenter(7, 2, **sizes, decoder_dims=(8, 8), decoder_blocks=(1, 1))
    words = start_from(new, saved(old))
    assert new.stages[1].state_dict().keys() and "new: decoder." in words
    assert new.embedding[0].weight.equal(old.embedding[0].weight)


def test_statistics_of_features_stay_those_of_the_new_training_set(saved):
    old, new = (BixtClassifier(3, PointTokenizer(16, "intensity"), encoder(2)) for _ in range(2))
    old.tokenizer.feature_scale.fit(torch.rand(4, 9, 1) * 255)
    new.tokenizer.feature_scale.fit(torch.rand(4, 9, 1))
    own = new.tokenizer.feature_scale.mean.clone()
    words = start_from(new, saved(old))
    assert new.tokenizer.feature_scale.mean.equal(own)
    assert words.splitlines()[1:] == [
        "  of this training set: tokenizer.feature_scale.deviation, tokenizer.feature_scale.mean"
    ]


def test_other_features_of_the_same_width_are_reported(tmp_path):
    old, new = PointMLP(3, dim=8, features="normal"), PointMLP(3, dim=8, features="rgb")
    for given, words in (({"features": "normal"}, "the run read normal, this model rgb"), ({"features": "rgb"}, None)):
        metadata = {"input": json.dumps(given)}
        save_weights(tmp_path / "model.safetensors", old.state_dict(), metadata)
        found = start_from(new, tmp_path)
        assert (words in found) if words else "the run read" not in found


@pytest.mark.parametrize(
    "model",
    [
        lambda: BixtImageClassifier(3, PatchTokenizer(24, 8), BixtEncoder(24, 3, 2, 5)),
        lambda: PointMLP(3, dim=8, growth=(1,), num_pre=(1,), num_post=(1,)),
    ],
)
def test_another_model_is_refused_and_stays_as_it_is(saved, model):
    run, new = saved(classifier(depth=3)), model()
    before = {name: tensor.clone() for name, tensor in new.state_dict().items()}
    with pytest.raises(InputError, match="does not fit this model") as caught:
        start_from(new, run)
    assert "\n" not in str(caught.value)
    assert all(tensor.equal(before[name]) for name, tensor in new.state_dict().items())


def test_names_from_an_untrusted_file_are_printed_safely(tmp_path):
    model = classifier()
    weights = model.state_dict() | {"\x1b[31mred\nline": torch.zeros(1)}
    save_weights(tmp_path / "model.safetensors", weights, {"input": '{"features": "\\u001b[2J"}'})
    words = start_from(model, tmp_path)
    assert "\x1b" not in words and len(words.splitlines()) == 3


def test_only_image_models_take_weights_of_the_authors(tmp_path):
    (tmp_path / "their.pth").write_bytes(b"")
    with pytest.raises(InputError, match="should be the folder of a run, or its model.safetensors, not"):
        start_from(PointMLP(3, dim=8), tmp_path / "their.pth")


def test_a_run_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="there (are no weights|is no run folder or weights file)"):
        start_from(classifier(), tmp_path / "nowhere.safetensors")
