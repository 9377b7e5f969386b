"""Weights to start from: an earlier run's, of another size of image, another head, another last layer."""

import pytest
import torch
from torch import nn

from bixt3d.engine.checkpoint import save_weights
from bixt3d.models import BixtEncoder, BixtImageClassifier, LinearSegmenter, SemanticFPNSegmenter
from bixt3d.nn.local_patch import LocalPatchRefinement
from bixt3d.tasks.start_weights import start_from
from bixt3d.tokenizers import PatchTokenizer
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
        assert words == f"started from {run / 'model.safetensors'}: {total} of {total} tensors, the others are new"
        assert new.eval()(image).equal(old.eval()(image))


def test_a_head_for_other_classes_starts_new(saved):
    old, new = classifier(3), classifier(5)
    before = new.head.weight.clone()
    start_from(new, saved(old))
    assert new.encoder.latents.equal(old.encoder.latents) and new.norm.weight.equal(old.norm.weight)
    assert new.head.weight.equal(before)


def test_a_segmenter_takes_a_classifier_without_its_one_sided_last_layer(saved):
    """Its last layer only writes tokens: what the two-sided one of the classifier says to tokens."""
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


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda: classifier(depth=4), "lacks "),
        (lambda: LinearSegmenter(3, PatchTokenizer(16, 4), encoder(3, reads="tokens")), "lacks "),
        (lambda: BixtImageClassifier(3, PatchTokenizer(16, 8), encoder(3)), "(such as tokenizer.project.weight)"),
    ],
)
def test_another_model_is_refused_and_stays_as_it_is(saved, model, words):
    run, new = saved(classifier(depth=3)), model()
    before = {name: tensor.clone() for name, tensor in new.state_dict().items()}
    with pytest.raises(InputError, match="does not fit this model") as caught:
        start_from(new, run)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert all(tensor.equal(before[name]) for name, tensor in new.state_dict().items())


def test_a_run_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="there are no weights"):
        start_from(classifier(), tmp_path / "nowhere.safetensors")
