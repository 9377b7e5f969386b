"""Attention maps equal the attention of the layers, and recording them changes nothing."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from bixt3d.models import (
    BixtClassifier,
    BixtEncoder,
    BixtImageClassifier,
    IterativeEncoder,
    LinearSegmenter,
    PointMLPElite,
    SequentialEncoder,
    TokenSegmenter,
)
from bixt3d.models.attention_maps import LayerAttention, attention_maps, image_attention_maps
from bixt3d.nn.attention import BiAttention, CrossAttention
from bixt3d.nn.refinement import GroupRefinement
from bixt3d.tokenizers import PatchTokenizer, PointTokenizer
from bixt3d.types import InputError

SMALL = {"dim": 24, "depth": 3, "num_heads": 3, "num_latents": 5}


def cloud(num_points: int = 32) -> tuple[Tensor, Tensor]:
    return torch.rand(num_points, 3) * 2 - 1, torch.zeros(num_points, 0)


def classifier(make: type = BixtEncoder, **settings) -> BixtClassifier:
    return BixtClassifier(4, PointTokenizer(24), make(**SMALL | settings)).eval()


def calls(model: nn.Module, kind: type) -> list[tuple[nn.Module, tuple, Tensor]]:
    """Return a list that fills with every attention of a kind, its inputs and its output, when the model runs."""
    seen = []
    for part in model.modules():
        if isinstance(part, kind):
            part.register_forward_hook(lambda module, args, output: seen.append((module, args, output)))
    return seen


def gathered(share: Tensor, values: Tensor) -> Tensor:
    """Return what readers gather: shares (H, R, S) of values (1, S, H, E), heads side by side."""
    return (share @ values[0].transpose(0, 1)).transpose(0, 1).flatten(1)


def test_the_maps_give_what_a_bidirectional_layer_gave():
    model = classifier()
    seen = calls(model, BiAttention)
    layers = attention_maps(model, *cloud())
    assert len(seen) == 2 and len(layers) == 3
    for layer, (attention, (latents, tokens), (to_latents, to_tokens)) in zip(layers, seen, strict=False):
        shape = (2, -1, attention.head_dim)
        latent_values = attention.latent_ref_value(latents).unflatten(-1, shape)[:, :, 1]
        token_values = attention.token_ref_value(tokens).unflatten(-1, shape)[:, :, 1]
        read = attention.latent_out(gathered(layer.read_similarity.softmax(-1), token_values))
        written = attention.token_out(gathered(layer.write_similarity.softmax(-2).mT, latent_values))
        torch.testing.assert_close(read, to_latents[0])
        torch.testing.assert_close(written, to_tokens[0])


def test_the_maps_give_what_a_one_sided_layer_gave():
    model = classifier()
    seen = calls(model, CrossAttention)
    layer = attention_maps(model, *cloud())[-1]
    ((attention, (_, tokens), output),) = seen
    values = attention.key_value(tokens).unflatten(-1, (2, -1, attention.head_dim))[:, :, 1]
    torch.testing.assert_close(attention.out(gathered(layer.read_similarity.softmax(-1), values)), output[0])


def test_one_similarity_gives_both_directions():
    *two_sided, last = attention_maps(classifier(), *cloud())
    for layer in two_sided:
        assert layer.read_similarity is layer.write_similarity
        assert layer.reads.shape == (5, 32) and layer.writes.shape == (32, 5)
        torch.testing.assert_close(layer.reads.sum(1), torch.ones(5))
        torch.testing.assert_close(layer.writes.sum(1), torch.ones(32))
    assert last.reads.shape == (5, 32) and last.writes is None and last.symmetry is None


def test_the_last_layer_of_a_model_that_reads_tokens_is_read_by_tokens_alone():
    layers = attention_maps(classifier(reads="tokens"), *cloud())
    assert layers[-1].reads is None and layers[-1].writes.shape == (32, 5)


def test_two_attentions_one_after_the_other_have_a_similarity_each():
    first, *_ = attention_maps(classifier(SequentialEncoder), *cloud())
    assert first.read_similarity.shape == first.write_similarity.shape == (3, 5, 32)
    assert not torch.allclose(first.read_similarity, first.write_similarity)
    assert -1 <= first.symmetry <= 1


@pytest.mark.parametrize("share", ["none", "all", "all_but_first"])
def test_a_shared_block_has_a_map_for_each_use(share):
    encoder = IterativeEncoder(24, depth=4, num_self=1, num_heads=3, num_latents=5, share=share)
    layers = attention_maps(BixtClassifier(4, PointTokenizer(24), encoder), *cloud())
    assert [layer.reads.shape for layer in layers] == [(5, 32)] * 4
    assert all(layer.writes is None for layer in layers)


def test_positions_are_those_of_each_layers_tokens():
    model = classifier(refine=partial(GroupRefinement, num_neighbors=4, reduce=2))
    xyz, feats = cloud()
    layers = attention_maps(model, xyz, feats)
    assert torch.equal(layers[0].pos, xyz)
    assert [len(layer.pos) for layer in layers] == [layer.reads.shape[1] for layer in layers] == [32, 16, 8]
    assert set(map(tuple, layers[2].pos.tolist())) <= set(map(tuple, xyz.tolist()))


def test_the_category_changes_the_attention_of_a_segmenter():
    model = TokenSegmenter(7, 3, PointTokenizer(24), BixtEncoder(**SMALL, reads="tokens"))
    nn.init.normal_(model.category.weight)
    inputs = cloud()
    first, again, other = (attention_maps(model, *inputs, category)[0].reads for category in (0, 0, 2))
    assert torch.equal(first, again) and not torch.allclose(first, other)


def test_computing_attention_maps_changes_nothing():
    model = classifier(drop_path_cross=0.5).train()
    xyz, feats = cloud()
    before = model.eval()(xyz[None], feats[None])
    model.train()
    attention_maps(model, xyz, feats)
    assert model.training and model.encoder.layers[0].training
    assert torch.equal(model.eval()(xyz[None], feats[None]), before)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


def test_a_model_that_fails_is_left_without_hooks():
    model = classifier()
    with pytest.raises(TypeError):
        attention_maps(model, *cloud(), category=1)  # which a classifier does not take
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


def test_symmetry_is_the_correlation_of_both_maps():
    peaks = torch.eye(3)[None] * 50  # each latent reads its own token, and is read by it
    assert LayerAttention(torch.zeros(3, 3), peaks, peaks).symmetry == pytest.approx(1)
    crossed = peaks[:, [1, 2, 0]]  # each latent is read by a token that it does not read
    assert LayerAttention(torch.zeros(3, 3), peaks, crossed).symmetry == pytest.approx(-0.5)


def test_a_model_without_latents_is_refused():
    with pytest.raises(InputError, match="a PointMLPElite has no latents"):
        attention_maps(PointMLPElite(4), *cloud())


def test_the_maps_of_an_image_have_the_grid_of_its_patches():
    model = BixtImageClassifier(4, PatchTokenizer(24, 8), BixtEncoder(**SMALL)).eval()
    seen = calls(model, BiAttention)
    layers = image_attention_maps(model, torch.randn(3, 16, 24))
    assert [layer.grid for layer in layers] == [(2, 3)] * 3
    assert layers[0].reads.shape == (5, 6) and layers[0].writes.shape == (6, 5)
    assert layers[-1].writes is None and layers[0].pos.shape == (6, 2)
    attention, (_, tokens), (to_latents, _) = seen[0]
    values = attention.token_ref_value(tokens).unflatten(-1, (2, -1, attention.head_dim))[:, :, 1]
    read = attention.latent_out(gathered(layers[0].read_similarity.softmax(-1), values))
    torch.testing.assert_close(read, to_latents[0])


def test_an_image_segmenter_has_attention_maps_too_and_clouds_have_no_grid():
    model = LinearSegmenter(4, PatchTokenizer(24, 8), BixtEncoder(**SMALL, reads="tokens"))
    *_, last = image_attention_maps(model, torch.randn(3, 8, 16))
    assert last.reads is None and last.writes.shape == (2, 5) and last.grid == (1, 2)
    assert attention_maps(classifier(), *cloud())[0].grid is None


def test_an_image_that_the_stride_does_not_divide_is_refused_and_no_hook_stays():
    model = BixtImageClassifier(4, PatchTokenizer(24, 8), BixtEncoder(**SMALL))
    with pytest.raises(InputError, match="an image of 8 x 12 pixels does not divide into patches"):
        image_attention_maps(model, torch.randn(3, 8, 12))
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
