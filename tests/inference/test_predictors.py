"""What every predictor offers besides predictions: embeddings, attention maps, a device, and a `repr`."""

import pytest
import torch
from torch import nn

import bixt3d
from bixt3d.inference.images import ImagePredictor, ImageSegmentationPredictor
from bixt3d.models import (
    BixtClassifier,
    BixtEncoder,
    BixtImageClassifier,
    LinearSegmenter,
    PointMLP,
    TokenSegmenter,
)
from bixt3d.tokenizers import PatchTokenizer, PointTokenizer
from bixt3d.types import InputError

PARTS = {"chair": [0, 1], "lamp": [2]}


@pytest.fixture
def classifier() -> bixt3d.Predictor:
    model = BixtClassifier(2, PointTokenizer(16, "normal"), BixtEncoder(16, 2, 2, 3))
    nn.init.normal_(model.head.weight)
    return bixt3d.Predictor(model, ["chair", "lamp"], 32)


@pytest.fixture
def parts() -> bixt3d.PartPredictor:
    model = TokenSegmenter(3, 2, PointTokenizer(16), BixtEncoder(16, 2, 2, 3, reads="tokens"))
    nn.init.normal_(model.head.weight)
    return bixt3d.PartPredictor(model, ["back", "leg", "foot"], PARTS, 32)


@pytest.fixture
def images() -> ImagePredictor:
    return ImagePredictor(
        BixtImageClassifier(2, PatchTokenizer(16, 4), BixtEncoder(16, 2, 2, 3)), ["cat", "dog"], 8, 1.0
    )


def cloud(num_points: int = 40) -> dict:
    return {"clouds": torch.randn(num_points, 3), "features": {"normal": torch.randn(num_points, 3)}}


def test_pooled_features_are_those_that_the_head_reads(classifier):
    given = cloud()
    vector = classifier.embed(**given)
    assert vector.shape == (16,)
    logits = classifier.model.head(vector)
    answer = classifier.predict(**given)
    assert float(logits.detach().softmax(0).max()) == pytest.approx(answer.confidence, rel=1e-4)


def test_features_of_several_clouds_are_those_of_each(classifier):
    some = [bixt3d.Cloud(torch.randn(n, 3).numpy(), {"normal": torch.randn(n, 3).numpy()}) for n in (20, 50)]
    both = classifier.embed(some)
    assert both.shape == (2, 16)
    torch.testing.assert_close(both, torch.stack([classifier.embed(one) for one in some]))


def test_a_probe_can_be_trained_on_features(classifier):
    probe = nn.Linear(16, 2)
    probe(classifier.embed(**cloud())).sum().backward()
    assert probe.weight.grad.any()


def test_every_point_has_features_whether_the_model_reads_it_or_not(parts):
    xyz = torch.randn(50, 3)
    found = parts.embed(xyz, category="lamp")
    assert found.shape == (50, 16)
    embeddings = {name: parts.embed(xyz, category=name) for name in PARTS}
    assert embeddings["chair"].equal(embeddings["lamp"])  # an embedding of the category starts at zero
    assert [one.shape for one in parts.embed([xyz, xyz[:20]], category="lamp")] == [(50, 16), (20, 16)]
    with pytest.raises(InputError, match="needs the category"):
        parts.embed(xyz)


def test_points_that_the_model_reads_have_the_features_before_its_last_layer(parts):
    xyz = torch.randn(32, 3)  # as many as it sees
    labels = parts.predict(xyz, category="chair", probabilities=True)
    logits = parts.model.head(parts.embed(xyz, category="chair"))
    probability = logits.softmax(1)[:, [0, 1]]
    probability = probability / probability.sum(1, keepdim=True)
    torch.testing.assert_close(labels.probabilities, probability, rtol=1e-3, atol=1e-4)


def test_attention_of_a_cloud_is_shown_layer_by_layer(classifier, parts):
    layers = classifier.attention_maps(cloud()["clouds"], cloud()["features"])
    assert [layer.reads.shape for layer in layers] == [(3, 32), (3, 32)] and layers[-1].writes is None
    layers = parts.attention_maps(torch.randn(40, 3), category="chair")
    assert layers[-1].writes.shape == (32, 3) and layers[0].pos.shape == (32, 3)
    with pytest.raises(InputError, match="of one cloud at a time, not of 2"):
        parts.attention_maps(torch.randn(2, 40, 3), category="chair")


def test_a_model_without_latents_has_no_attention_to_show():
    predictor = bixt3d.Predictor(PointMLP(2, dim=8, num_neighbors=4), ["a", "b"], 32)
    assert predictor.embed(torch.randn(32, 3)).shape == (128,)
    with pytest.raises(InputError, match="has no latents whose attention could be shown"):
        predictor.attention_maps(torch.randn(32, 3))


def test_images_have_features_and_attention(images):
    some = [torch.randint(256, (size, 20, 3), dtype=torch.uint8).numpy() for size in (8, 24)]
    assert images.embed(some).shape == (2, 16) and images.embed(some[0]).shape == (16,)
    assert [layer.grid for layer in images.attention_maps(some[1])] == [(2, 2), (2, 2)]
    segmenter = ImageSegmentationPredictor(
        LinearSegmenter(2, PatchTokenizer(16, 4), BixtEncoder(16, 2, 2, 3, reads="tokens")), ["sky", "sea"]
    )
    assert segmenter.embed([image[:7] for image in some]).shape == (2, 16)  # extended to what the stride divides
    assert segmenter.attention_maps(some[1][:7])[0].grid == (2, 5)


def test_a_predictor_is_called_like_a_function_and_moves(classifier):
    given = cloud()
    assert classifier(**given) == classifier.predict(**given)
    assert classifier.to("meta") is classifier and classifier.device == torch.device("meta")


def test_the_repr_of_a_predictor_describes_it(classifier, parts, images):
    parameters = f"{sum(one.numel() for one in classifier.model.parameters()):,}"
    assert repr(classifier) == (
        "Predictor(task: classification, classes: 2 (chair, lamp), points: 32, features: normal, up: y, "
        f"model: BixtClassifier, parameters: {parameters}, device: cpu)"
    )
    assert repr(parts).startswith(
        "PartPredictor(task: part segmentation, classes: 2 (chair, lamp), parts: 3, points: 32"
    )
    assert repr(images).startswith("ImagePredictor(task: image classification, classes: 2 (cat, dog), size: 8, ")


def test_a_plain_module_predicts_but_gives_no_features():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 2)

        def forward(self, xyz, feats=None):
            return self.linear(xyz.mean(1))

    predictor = bixt3d.Predictor(Plain(), ["a", "b"], 16)
    assert predictor.predict(torch.randn(16, 3)).name in "ab" and "features: none" in repr(predictor)
    with pytest.raises(InputError, match="a Plain gives no features: derive its class"):
        predictor.embed(torch.randn(16, 3))
