"""Facts about the encoders: order, sides, gradients, cost, parameters of the paper's tables."""

from collections.abc import Callable
from functools import partial
from inspect import unwrap

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bixt3d.models import BixtClassifier, BixtEncoder, Encoder, IterativeEncoder, SequentialEncoder
from bixt3d.nn.attention import BiAttention
from bixt3d.nn.blocks import DropPath
from bixt3d.nn.refinement import GroupRefinement
from bixt3d.tokenizers import PointTokenizer
from bixt3d.types import InputError, Pyramid, Tokens

SMALL = {"dim": 24, "depth": 3, "num_heads": 3, "num_latents": 5}
simple_grouping = partial(GroupRefinement, num_neighbors=4, reduce=1)
hierarchy = partial(GroupRefinement, num_neighbors=4, reduce=2)


def clouds(num_clouds: int = 2, num_points: int = 32) -> tuple[Tensor, Tensor]:
    return torch.rand(num_clouds, num_points, 3) * 2 - 1, torch.zeros(num_clouds, num_points, 0)


def flat_tokens(dim: int = 24, num_tokens: int = 32) -> Pyramid:
    return (Tokens(torch.randn(2, num_tokens, dim), torch.rand(2, num_tokens, 3)),)


def classifier(encoder: Encoder, head_std: float = 0.1) -> BixtClassifier:
    """Return a classifier of 4 classes with a random head; before training it is zero."""
    model = BixtClassifier(4, PointTokenizer(encoder.token_dims[0]), encoder)
    nn.init.normal_(model.head.weight, std=head_std)
    return model


def num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("refine", [None, simple_grouping])
@pytest.mark.parametrize("make", [BixtEncoder, SequentialEncoder])
def test_shuffled_points_give_shuffled_tokens_and_the_same_logits(make: type[BixtEncoder], refine: Callable | None):
    model = classifier(make(**SMALL, reads="both", refine=refine)).eval()
    (xyz, feats), order = clouds(), torch.randperm(32)
    tokens, shuffled = (
        model.encoder(model.tokenizer(*cloud))[1][-1] for cloud in [(xyz, feats), (xyz[:, order], feats)]
    )
    torch.testing.assert_close(shuffled.feats, tokens.feats[:, order], rtol=1e-4, atol=1e-4)
    assert torch.equal(shuffled.pos, tokens.pos[:, order])
    torch.testing.assert_close(model(xyz[:, order], feats), model(xyz, feats), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "reads, latents_change, tokens_change", [("latents", True, False), ("tokens", False, True), ("both", True, True)]
)
@pytest.mark.parametrize("make", [BixtEncoder, SequentialEncoder])
def test_the_last_layer_changes_only_what_is_read(
    make: type[BixtEncoder], reads: str, latents_change: bool, tokens_change: bool
):
    layer = make(**SMALL, reads=reads).layers[-1]
    latents, (tokens,) = torch.randn(2, 5, 24), flat_tokens()
    new_latents, new_tokens, _ = layer(latents, tokens)
    assert torch.equal(new_latents, latents) != latents_change
    assert torch.equal(new_tokens.feats, tokens.feats) != tokens_change


@pytest.mark.parametrize("make", [BixtEncoder, SequentialEncoder])
def test_all_layers_but_the_last_change_both_sides(make: type[BixtEncoder]):
    for layer in make(**SMALL).layers[:-1]:
        latents, (tokens,) = torch.randn(2, 5, 24), flat_tokens()
        new_latents, new_tokens, _ = layer(latents, tokens)
        assert not torch.allclose(new_latents, latents) and not torch.allclose(new_tokens.feats, tokens.feats)


def test_the_iterative_encoder_leaves_the_tokens_as_they_are():
    pyramid = flat_tokens()
    assert IterativeEncoder(24, depth=2, num_self=1)(pyramid)[1] is pyramid


ENCODERS = {
    f"{make.__name__}-{reads}-{name}": (partial(make, **SMALL, reads=reads, refine=refine), reads)
    for make in (BixtEncoder, SequentialEncoder)
    for reads in ("latents", "tokens", "both")
    for name, refine in {"flat": None, "simple": simple_grouping, "hierarchy": hierarchy}.items()
} | {
    f"IterativeEncoder-{share}": (partial(IterativeEncoder, 24, depth=3, num_self=2, share=share), "latents")
    for share in ("none", "all", "all_but_first")
}


@pytest.mark.parametrize("name", ENCODERS)
def test_no_parameter_stays_without_a_gradient(name: str):
    make, reads = ENCODERS[name]
    encoder = make()
    latents, pyramid = encoder(flat_tokens())
    streams = {"latents": latents, "tokens": pyramid[-1].feats}
    loss = sum((stream * torch.randn_like(stream)).sum() for key, stream in streams.items() if reads in (key, "both"))
    loss.backward()
    assert [name for name, parameter in encoder.named_parameters() if parameter.grad is None] == []
    silent = [name for name, parameter in encoder.named_parameters() if not parameter.grad.any()]
    assert all(name.endswith("group.shift") for name in silent)  # the batch norm behind it takes a shift away


@pytest.mark.parametrize("encoder", [BixtEncoder, SequentialEncoder, partial(IterativeEncoder, 24, 3, 2, 3, 5)])
def test_no_parameter_of_a_classifier_stays_without_a_gradient(encoder: Callable[..., Encoder]):
    model = classifier(encoder() if isinstance(encoder, partial) else encoder(**SMALL))
    nn.functional.cross_entropy(model(*clouds()), torch.tensor([0, 3])).backward()
    assert [name for name, parameter in model.named_parameters() if not parameter.grad.any()] == []


# What the paper's image models have besides the encoder: patches, position projection, last norm, head of 1000 classes.
def around(dim: int) -> int:
    return (3 * 16 * 16 * dim + dim) + (64 * dim + dim) + 2 * dim + (1000 * dim + 1000)


@pytest.mark.parametrize(
    "settings, millions",
    [
        ({}, 15.1212),
        ({"num_heads": 3}, 15.1212),
        ({"depth": 13}, 16.3817),
        ({"num_latents": 32}, 15.1150),
        ({"num_latents": 128}, 15.1335),
        ({"dim": 128, "num_heads": 4}, 6.8207),
        ({"dim": 160, "num_heads": 5}, 10.5634),
        ({"dim": 224, "num_heads": 7}, 20.4941),
        ({"dim": 256, "num_heads": 8}, 26.6821),
    ],
)
def test_the_encoder_has_as_many_parameters_as_the_paper_counts(settings: dict, millions: float):
    with torch.device("meta"):
        encoder = BixtEncoder(**settings)
    assert round((num_parameters(encoder) + around(encoder.dim)) / 1e6, 4) == millions


@pytest.mark.parametrize("depth, millions", [(11, 14.6018), (12, 15.9364)])
def test_the_sequential_encoder_has_as_many_parameters_as_the_paper_counts(depth: int, millions: float):
    with torch.device("meta"):
        encoder = SequentialEncoder(depth=depth)
    assert round((num_parameters(encoder) + around(192)) / 1e6, 4) == millions


@pytest.mark.parametrize(
    "num_self, depth, share, millions",
    [
        (5, 8, "all", 18.6056),
        (6, 7, "all", 19.4953),
        (6, 8, "all", 22.1645),
        (4, 12, "all", 22.1645),
        (5, 8, "all_but_first", 19.0509),
        (6, 7, "all_but_first", 19.9406),
        (6, 8, "all_but_first", 22.6098),
        (4, 12, "all_but_first", 22.6098),
        (1, 22, "all_but_first", 11.0433),
        (1, 24, "all_but_first", 11.9330),
    ],
)
def test_the_iterative_encoder_has_as_many_parameters_as_the_paper_counts(
    num_self: int, depth: int, share: str, millions: float
):
    with torch.device("meta"):
        encoder = IterativeEncoder(depth=depth, num_self=num_self, share=share)
    assert round((num_parameters(encoder) + around(192)) / 1e6, 4) == millions


@pytest.mark.parametrize("share, num_cross", [("none", 3), ("all", 1), ("all_but_first", 2)])
def test_cross_attentions_that_share_a_block_run_it_again(share: str, num_cross: int):
    encoder, calls = IterativeEncoder(24, depth=3, num_self=1, share=share), []
    for i, block in enumerate(encoder.cross):
        block.register_forward_hook(lambda *_, i=i: calls.append(i))
    encoder(flat_tokens())
    assert len(encoder.cross) == num_cross
    assert calls == {"none": [0, 1, 2], "all": [0, 0, 0], "all_but_first": [0, 1, 1]}[share]


@pytest.mark.parametrize("backend", ["torch", "sdpa"])
def test_cost_is_linear_in_points(backend: str):
    """Counted, not timed: multiplications are an affine function of the number of points."""
    model = classifier(BixtEncoder(**SMALL)).eval()
    for layer in (part for part in model.modules() if isinstance(part, BiAttention)):
        layer.backend = backend

    def cost(num_points: int) -> int:
        # as matrix products: not every version of torch counts the fused kernel of a CPU
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            model(*clouds(1, num_points))
        return counter.get_total_flops()

    step = cost(128) - cost(64)
    assert cost(256) - cost(128) == 2 * step
    # per point: 96 -> 24; two layers with refs and values, similarity twice or once, values twice, out, FFN of ratio 4;
    # the last layer with keys and values, similarity once and values once
    times = {"torch": 3, "sdpa": 4}[backend]
    two_sided = 24 * 48 + times * 5 * 24 + 24 * 24 + 2 * 24 * 96
    assert step == 2 * 64 * (96 * 24 + 2 * two_sided + 24 * 48 + 2 * 5 * 24)


def test_hierarchy_halves_the_tokens_at_every_layer_but_the_last():
    encoder = BixtEncoder(24, 4, 3, 5, token_dim=[8, 16, 16, 32], reads="both", refine=hierarchy)
    fine = flat_tokens(dim=8)
    latents, pyramid = encoder(fine)
    assert latents.shape == (2, 5, 24)
    assert [tuple(level.feats.shape[1:]) for level in pyramid] == [(32, 8), (16, 16), (8, 16), (4, 32)]
    assert pyramid[0].pos is fine[0].pos and not torch.equal(pyramid[0].feats, fine[0].feats)  # as layer 1 left them
    assert encoder.level_dims == [8, 16, 16, 32]
    for finer, coarser in zip(pyramid, pyramid[1:], strict=False):
        assert torch.equal(coarser.pos[:, 0], finer.pos[:, 0])  # farthest point sampling starts at the first
        same = (coarser.pos[:, :, None] == finer.pos[:, None]).all(-1)
        assert same.any(2).all()  # each centroid is a token of the level below


def test_levels_of_a_tokenizer_stay_below_those_of_the_encoder():
    points, groups = flat_tokens(8, 64)[0], flat_tokens()[0]
    _, flat = BixtEncoder(**SMALL)((points, groups))
    assert len(flat) == 2 and flat[0] is points
    _, pyramid = BixtEncoder(**SMALL, refine=hierarchy)((points, groups))
    assert [level.feats.shape[1] for level in pyramid] == [64, 32, 16, 8] and pyramid[0] is points


def test_simple_grouping_searches_neighbors_once(monkeypatch: pytest.MonkeyPatch):
    from bixt3d.nn import grouping

    searches, knn = [], grouping.knn
    monkeypatch.setattr(grouping, "knn", lambda *args: searches.append(1) or knn(*args))
    _, (tokens,) = BixtEncoder(**SMALL, refine=simple_grouping)(flat_tokens())
    assert len(searches) == 1 and tokens.neighbor_index.shape == (2, 32, 4)


def test_simple_grouping_can_widen_the_tokens():
    encoder = BixtEncoder(**SMALL, token_dim=[8, 8, 16], refine=simple_grouping)
    assert encoder(flat_tokens(dim=8))[1][-1].feats.shape == (2, 32, 16)


@pytest.mark.parametrize("make", [BixtEncoder, SequentialEncoder, partial(IterativeEncoder, num_self=1)])
def test_tokens_may_have_a_width_of_their_own(make: Callable[..., Encoder]):
    latents, pyramid = make(**SMALL, token_dim=8)(flat_tokens(dim=8))
    assert latents.shape == (2, 5, 24) and pyramid[-1].feats.shape == (2, 32, 8)


@pytest.mark.parametrize("std", [0.02, 1.0])
def test_latents_have_the_given_deviation_before_training(std):
    latents = BixtEncoder(dim=192, depth=1, latent_std=std).latents
    assert latents.std().item() == pytest.approx(std, rel=0.15)


def test_equal_latents_are_refused():
    with pytest.raises(InputError, match="latent_std must be positive, not 0.0: equal latents stay equal"):
        BixtEncoder(**SMALL, latent_std=0.0)


def test_a_wrong_number_of_token_widths_is_refused():
    with pytest.raises(InputError, match="2 token widths given for an encoder of 3 layers"):
        BixtEncoder(**SMALL, token_dim=[8, 8])


def test_widths_that_change_without_a_refinement_are_refused():
    with pytest.raises(InputError, match="need a refinement that changes it"):
        BixtEncoder(**SMALL, token_dim=[8, 8, 16])


def test_an_unknown_sharing_is_refused():
    with pytest.raises(InputError, match="unknown share 'some': choose none, all or all_but_first"):
        unwrap(IterativeEncoder.__init__)(IterativeEncoder.__new__(IterativeEncoder), share="some")


def test_a_tokenizer_of_another_width_is_refused():
    with pytest.raises(InputError, match="makes tokens of width 8, but the encoder reads 24"):
        BixtClassifier(4, PointTokenizer(8), BixtEncoder(**SMALL))


@pytest.mark.parametrize("make", [BixtEncoder, partial(IterativeEncoder, 24, 5, 2, 3)])
def test_stochastic_depth_rises_linearly(make: Callable[..., Encoder]):
    settings = {"drop_path_cross": 0.4, "drop_path_self": 0.2}
    encoder = make(**settings) if isinstance(make, partial) else make(24, 5, 3, **settings)
    rates: dict[str, list[float]] = {"cross": [], "self": []}
    for name, module in encoder.named_modules():
        if isinstance(module, DropPath):
            side = "cross" if "cross" in name else "self"
            rates[side] += [module.rate] if not rates[side] or rates[side][-1] != module.rate else []
    if isinstance(make, partial):
        assert rates["cross"] == [0]  # shared: the rate of the first use
        assert rates["self"] == pytest.approx([0.2 * i / 9 for i in range(10)])
    else:
        assert rates["cross"] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
        assert rates["self"] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])


def test_latents_start_small_and_truncated():
    latents = BixtEncoder(num_latents=64, depth=1).latents
    assert latents.shape == (1, 64, 192)
    assert latents.std().item() == pytest.approx(0.02, rel=0.05)
