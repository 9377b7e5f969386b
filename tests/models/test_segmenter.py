"""Facts about part segmenters: BiXT's two, and PointMLP's."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from bixt3d.models import (
    BixtEncoder,
    CloudSegmenter,
    DecoderSegmenter,
    IterativeEncoder,
    PointMLPDecoder,
    PointMLPSegmenter,
    TokenSegmenter,
)
from bixt3d.nn.refinement import GroupRefinement
from bixt3d.tokenizers import GroupTokenizer, PointTokenizer, VoxelTokenizer
from bixt3d.types import InputError

PARTS, CATEGORIES = 7, 3


def make_tokens(reads: str = "tokens", reduce: int = 0, use_category: bool = True, **settings) -> TokenSegmenter:
    refine = partial(GroupRefinement, num_neighbors=4, reduce=reduce) if reduce else None
    encoder = BixtEncoder(12, 2, 3, 4, reads=reads, refine=refine)
    return TokenSegmenter(PARTS, CATEGORIES, PointTokenizer(12), encoder, use_category, **settings)


def make_decoder(
    reduce: int = 2, dims: tuple[int, ...] = (10, 9), use_category: bool = True, grouped: bool = True
) -> DecoderSegmenter:
    """Return a model of levels of 16, 8 and 4 points: the tokenizer's groups, and groups after the first layer."""
    points = PointTokenizer(8)
    tokenizer = GroupTokenizer(12, points, num_neighbors=4, num_groups=8, num_post=0) if grouped else PointTokenizer(12)
    refine = partial(GroupRefinement, num_neighbors=4, reduce=reduce, num_post=0)
    encoder = BixtEncoder(12, 2, 3, 4, token_dim=[12, 15], reads="tokens", refine=refine)
    sizes = {"dims": dims, "num_blocks": [1] * len(dims), "context_dim": 3, "category_dim": 5 * use_category}
    return DecoderSegmenter(PARTS, CATEGORIES, tokenizer, encoder, partial(PointMLPDecoder, **sizes))


def make_pointmlp(use_category: bool = True, **settings) -> PointMLPSegmenter:
    sizes = {"dim": 4, "growth": (2, 1), "num_pre": (1, 0), "num_post": (0, 1), "num_neighbors": 4}
    sizes |= {"reduce": 2, "decoder_dims": (8, 6), "decoder_blocks": (1, 0)}
    return PointMLPSegmenter(PARTS, CATEGORIES, **sizes | settings, use_category=use_category)


MAKERS = [make_tokens, make_decoder, make_pointmlp]
MakeModel = Callable[..., CloudSegmenter]


def with_random_weights(model: CloudSegmenter) -> CloudSegmenter:
    """Return the model with no weight zero, so that all its inputs change the logits."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 and not parameter.any():
            nn.init.normal_(parameter)
        if "level_context" in name or "context.0" in name:
            nn.init.uniform_(parameter, 0.1, 1)
    return model


def clouds(num_clouds: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    xyz = torch.rand(num_clouds, 16, 3) * 2 - 1
    return xyz, xyz[..., :0], torch.arange(num_clouds) % CATEGORIES


@pytest.mark.parametrize("make", MAKERS)
def test_every_point_gets_a_logit_for_every_part(make: MakeModel):
    assert make()(*clouds()).shape == (2, 16, PARTS)


@pytest.mark.parametrize("make", MAKERS)
def test_labels_follow_their_points(make: MakeModel):
    model, (xyz, feats, category) = with_random_weights(make()).double().eval(), clouds()
    xyz, feats = xyz.double(), feats.double()
    first = 0 if make is make_tokens else 1  # farthest point sampling starts with the first point
    order = torch.cat([torch.arange(first), first + torch.randperm(16 - first)])
    logits = model(xyz, feats, category)
    assert not logits[0, 0].allclose(logits[0, 1])
    torch.testing.assert_close(model(xyz[:, order], feats, category), logits[:, order])


@pytest.mark.parametrize("make", MAKERS)
def test_logits_of_a_cloud_do_not_depend_on_the_others(make: MakeModel):
    model, (xyz, feats, category) = with_random_weights(make()).eval(), clouds(3)
    together = model(xyz, feats, category)
    alone = model(xyz[1:2], feats[1:2], category[1:2])
    torch.testing.assert_close(alone, together[1:2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("use_category", [False, True])
@pytest.mark.parametrize("make", MAKERS)
def test_the_category_changes_the_logits_only_where_it_is_read(make: MakeModel, use_category: bool):
    model, (xyz, feats, _) = with_random_weights(make(use_category=use_category)).eval(), clouds()
    one, other = (model(xyz, feats, torch.tensor(category)) for category in ([0, 2], [1, 2]))
    assert model.reads_category == use_category
    assert one[0].allclose(other[0]) == (not use_category)
    torch.testing.assert_close(one[1], other[1])


@pytest.mark.parametrize("make", MAKERS)
def test_every_parameter_gets_a_gradient(make: MakeModel):
    model = with_random_weights(make()).eval()  # in training, batch normalization undoes a bias before it
    model(*clouds(3)).square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    assert [name for name, parameter in model.named_parameters() if not parameter.grad.any()] == []


@pytest.mark.parametrize("make", MAKERS)
def test_it_trains_in_bfloat16_too(make: MakeModel):
    model = make()
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(*clouds())
    nn.functional.cross_entropy(logits.float().flatten(0, 1), torch.randint(PARTS, (32,))).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_parameter_names_of_the_token_segmenter_are_frozen():
    names = [name for name, _ in make_tokens().named_parameters() if not name.startswith("encoder.layers.0")]
    layer = [f"cross.{name}_norm" for name in ("latent", "token")]
    layer += [f"cross.attention.{name}" for name in ("query", "key_value", "out")]
    layer += [f"cross.token_ffn.{name}" for name in ("norm", "ffn.0", "ffn.2")]
    both = ["tokenizer.project", *[f"encoder.layers.1.{name}" for name in layer], "norm", "head"]
    expected = [f"{name}.{kind}" for name in both for kind in ("weight", "bias")]
    assert names == [*expected[:2], "encoder.latents", *expected[2:-4], "category.weight", *expected[-4:]]


def test_parameter_names_of_the_decoder_segmenter_are_frozen():
    model = make_decoder()
    counts = {name: sum(1 for _ in child.parameters()) for name, child in model.named_children()}
    assert counts == {"tokenizer": 17, "encoder": 64, "decoder": 42}
    assert not list(model.parameters(recurse=False))
    assert [block.fuse[0].in_features for block in model.decoder.blocks] == [15 + 12, 10 + 8]
    assert [layer[0].in_features for layer in model.decoder.level_context] == [8, 12, 15]


def test_parameter_names_of_pointmlp_are_frozen():
    norm = ["0.weight", "1.weight", "1.bias"]
    inner = [f"0.inner.{name}" for name in (*norm, "3.weight", "4.weight", "4.bias")]
    stage = ["group.scale", "group.shift", "group.linear.weight", "norm.weight", "norm.bias"]
    expected = [f"embedding.{name}" for name in norm]
    expected += [f"stages.0.{name}" for name in (*stage, *[f"pre.{name}" for name in inner])]
    expected += [f"stages.1.{name}" for name in (*stage, *[f"post.{name}" for name in inner])]
    names = [name for name, _ in make_pointmlp().named_parameters()]
    assert [name for name in names if not name.startswith("decoder.")] == expected


def test_pointmlp_has_the_published_number_of_parameters_with_the_biases_that_do_nothing():
    """The released code gives the layers before a batch normalization a bias, which normalization removes."""
    model = PointMLPSegmenter(50, 16, features="normal")
    ours = sum(parameter.numel() for parameter in model.parameters())
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear) and layer.bias is None]
    assert ours == 16_728_522
    assert ours + sum(layer.out_features for layer in layers) == 16_755_594  # the paper's 16.7556 M


def test_a_new_token_segmenter_gives_all_parts_the_same_logit():
    assert make_tokens()(*clouds()).eq(0).all()


def test_the_head_reads_the_normed_tokens_of_the_last_layer():
    model, (xyz, feats, category) = with_random_weights(make_tokens(use_category=False)).eval(), clouds()
    _, (tokens,) = model.encoder(model.tokenizer(xyz, feats))
    expected = model.head(nn.functional.layer_norm(tokens.feats, (12,), eps=1e-6))
    torch.testing.assert_close(model(xyz, feats, category), expected)


def test_dropout_acts_in_training_alone():
    model, batch = with_random_weights(make_tokens(dropout=0.5)), clouds()
    assert not torch.equal(model(*batch), model(*batch))
    model.eval()
    assert torch.equal(model(*batch), model(*batch))


@pytest.mark.parametrize(
    ("sizes", "level_dims"),
    [
        ({}, [8, 12, 15]),
        ({"reduce": 1, "dims": (9,)}, [8, 15]),
        ({"grouped": False, "dims": (9,)}, [12, 15]),
        ({"grouped": False, "reduce": 1, "dims": ()}, [15]),
    ],
)
def test_the_decoder_takes_as_many_levels_as_tokenizer_and_encoder_make(sizes: dict, level_dims: list[int]):
    model = make_decoder(**sizes)
    assert [layer[0].in_features for layer in model.decoder.level_context] == level_dims
    assert model(*clouds()).shape == (2, 16, PARTS)


def test_pointmlp_reads_normals_if_its_features_name_them():
    model, (xyz, _, category) = make_pointmlp(features="normal").eval(), clouds()
    normals = nn.functional.normalize(torch.randn(2, 16, 3), dim=2)
    assert not model(xyz, normals, category).allclose(model(xyz, -normals, category))
    with pytest.raises(InputError, match=r"reads normal \(3 columns\), but was given feats of 0 columns"):
        model(xyz, xyz[..., :0], category)


def test_fewer_tokens_than_points_are_refused_by_the_model_that_has_no_decoder():
    sentence = r"^8 tokens cannot label 16 points: this model takes a .* that keep every point, a DecoderSegmenter .*$"
    with pytest.raises(InputError, match=sentence):
        make_tokens(reduce=2)(*clouds())
    grouped = GroupTokenizer(12, PointTokenizer(8), num_neighbors=4, num_groups=8)
    with pytest.raises(InputError, match=sentence):
        TokenSegmenter(PARTS, CATEGORIES, grouped, BixtEncoder(12, 2, 3, 4, reads="tokens"))(*clouds())
    assert make_tokens(reduce=1)(*clouds()).shape == (2, 16, PARTS)


@pytest.mark.parametrize("reduce", [1, 2])
@pytest.mark.parametrize("size", [1, 2, 16])
def test_a_model_of_voxel_tokens_labels_a_cloud_of_any_size(size: int, reduce: int):
    refine = partial(GroupRefinement, num_neighbors=4, reduce=reduce)
    encoder = BixtEncoder(12, 2, 3, 4, reads="tokens", refine=refine)
    decoder = partial(PointMLPDecoder, dims=[8] * reduce, num_blocks=[1] * reduce, category_dim=0)
    model = DecoderSegmenter(PARTS, CATEGORIES, VoxelTokenizer(12, PointTokenizer(8), 0.3), encoder, decoder).eval()
    logits = model(clouds()[0][:, :size])
    assert logits.shape == (2, size, PARTS) and logits.isfinite().all()


@pytest.mark.parametrize("model", [TokenSegmenter, partial(DecoderSegmenter, decoder=PointMLPDecoder)])
def test_a_tokenizer_that_does_not_fit_the_encoder_is_refused(model: MakeModel):
    with pytest.raises(InputError, match=r"^the tokenizer makes tokens of width 16, but the encoder reads 12$"):
        model(PARTS, CATEGORIES, PointTokenizer(16), BixtEncoder(12, 2, 3, 4, reads="tokens"))


@pytest.mark.parametrize("encoder", [BixtEncoder(12, 2, 3, 4), IterativeEncoder(12, 2, 1, 3, 4)])
@pytest.mark.parametrize("model", [TokenSegmenter, partial(DecoderSegmenter, decoder=PointMLPDecoder)])
def test_an_encoder_that_updates_latents_only_is_refused(model: MakeModel, encoder: nn.Module):
    with pytest.raises(InputError, match=r"^a part segmenter reads tokens, but .* take a BixtEncoder with reads: tok"):
        model(PARTS, CATEGORIES, PointTokenizer(12), encoder)
    assert make_tokens(reads="both")(*clouds()).shape == (2, 16, PARTS)


def test_levels_that_do_not_fit_the_decoder_are_refused():
    with pytest.raises(InputError, match="a decoder of 3 levels takes 2 steps, but dims has 1 numbers"):
        make_decoder(dims=(10,))
    with pytest.raises(InputError, match="a decoder of 3 levels takes 2 steps, but dims has 3 numbers"):
        make_pointmlp(decoder_dims=(8, 6, 6))
    with pytest.raises(InputError, match="need one number per stage, but have 4, 2 and 2"):
        make_pointmlp(growth=(2, 2, 2, 2), num_post=(1, 1), num_pre=(1, 1))
