"""Encoder blocks: cross-attention, self-attention, feed-forward networks, stochastic depth."""

import pytest
import torch
from torch import nn

from bixt3d.nn import blocks
from bixt3d.nn.blocks import (
    BiBlock,
    DropPath,
    FeedForwardUnit,
    LatentsReadBlock,
    LayerScale,
    Residual,
    SelfBlock,
    SequentialBlock,
    TokensReadBlock,
)
from bixt3d.types import InputError

CROSS_BLOCKS = [BiBlock, SequentialBlock, LatentsReadBlock, TokensReadBlock]
FEED_FORWARD = ["norm", "ffn.0", "ffn.2"]
CROSS_ATTENTION = ["query", "key_value", "out"]
LAYERS = {
    BiBlock: ["latent_norm", "token_norm"]
    + [f"attention.{name}" for name in ("latent_ref_value", "token_ref_value", "latent_out", "token_out")]
    + [f"{side}_ffn.{name}" for side in ("latent", "token") for name in FEED_FORWARD],
    SequentialBlock: ["latent_norm", "token_norm"]
    + [f"{side}_read.{name}" for side in ("latents", "tokens") for name in CROSS_ATTENTION]
    + [f"{side}_ffn.{name}" for side in ("latent", "token") for name in FEED_FORWARD],
    LatentsReadBlock: ["latent_norm", "token_norm"]
    + [f"attention.{name}" for name in CROSS_ATTENTION]
    + [f"latent_ffn.{name}" for name in FEED_FORWARD],
    TokensReadBlock: ["latent_norm", "token_norm"]
    + [f"attention.{name}" for name in CROSS_ATTENTION]
    + [f"token_ffn.{name}" for name in FEED_FORWARD],
    SelfBlock: ["norm", "attention.query_key_value", "attention.out"] + [f"ffn.{name}" for name in FEED_FORWARD],
}


def build(block: type[nn.Module], **settings) -> nn.Module:
    """Return a block for latents of width 12, and tokens of width 8 where it has tokens."""
    return SelfBlock(12, 3, **settings) if block is SelfBlock else block(12, 8, 3, **settings)


def streams() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(2, 5, 12), torch.randn(2, 9, 8)


@pytest.mark.parametrize("block", LAYERS)
def test_parameter_names_are_frozen(block: type[nn.Module]):
    expected = [f"{layer}.{part}" for layer in LAYERS[block] for part in ("weight", "bias")]
    assert [name for name, _ in build(block).named_parameters()] == expected


def test_layer_scale_adds_a_factor_to_every_residual_branch():
    for block, branches in [
        (BiBlock, ["latent_residual", "token_residual", "latent_ffn.residual", "token_ffn.residual"]),
        (SequentialBlock, ["latent_residual", "token_residual", "latent_ffn.residual", "token_ffn.residual"]),
        (LatentsReadBlock, ["latent_residual", "latent_ffn.residual"]),
        (TokensReadBlock, ["token_residual", "token_ffn.residual"]),
        (SelfBlock, ["residual", "ffn.residual"]),
    ]:
        factors = {name: p for name, p in build(block, layer_scale=1e-5).named_parameters() if "factor" in name}
        assert list(factors) == [f"{branch}.scale.factor" for branch in branches]
        assert all(factor.eq(1e-5).all() for factor in factors.values())


@pytest.mark.parametrize("block", LAYERS)
def test_biases_of_feed_forward_networks_start_tiny_and_all_others_at_zero(block: type[nn.Module]):
    for name, parameter in build(block).named_parameters():
        if name.endswith(("ffn.0.bias", "ffn.2.bias")):
            assert 0 < parameter.abs().max() < 1e-5
        elif name.endswith("bias"):
            assert parameter.eq(0).all()


@pytest.mark.parametrize("block", CROSS_BLOCKS)
def test_shuffled_tokens_give_shuffled_tokens_and_the_same_latents(block: type[nn.Module]):
    module, (latents, tokens), order = build(block), streams(), torch.randperm(9)
    expected = module(latents, tokens)
    found = module(latents, tokens[:, order])
    torch.testing.assert_close(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1][:, order])


@pytest.mark.parametrize(
    "block, latents_change, tokens_change",
    [
        (BiBlock, True, True),
        (SequentialBlock, True, True),
        (LatentsReadBlock, True, False),
        (TokensReadBlock, False, True),
    ],
)
def test_a_block_changes_only_the_side_that_reads(block: type, latents_change: bool, tokens_change: bool):
    latents, tokens = streams()
    new_latents, new_tokens = build(block)(latents, tokens)
    assert torch.equal(new_latents, latents) != latents_change
    assert torch.equal(new_tokens, tokens) != tokens_change
    assert new_latents.shape == latents.shape and new_tokens.shape == tokens.shape


@pytest.mark.parametrize(
    "block, latents_read, tokens_read",
    [
        (BiBlock, True, True),
        (SequentialBlock, True, True),
        (LatentsReadBlock, True, False),
        (TokensReadBlock, False, True),
    ],
)
def test_only_the_side_that_reads_depends_on_the_other(block: type, latents_read: bool, tokens_read: bool):
    module, (latents, tokens) = build(block), streams()
    new_latents, new_tokens = module(latents, tokens)
    assert torch.equal(module(latents, torch.randn_like(tokens))[0], new_latents) != latents_read
    assert torch.equal(module(torch.randn_like(latents), tokens)[1], new_tokens) != tokens_read


def test_in_the_sequential_block_tokens_read_the_updated_latents():
    """Without the first attention the tokens read other latents; in the bi-directional block they do not."""
    module, (latents, tokens) = build(SequentialBlock), streams()
    _, expected = module(latents, tokens)
    nn.init.zeros_(module.latents_read.out.weight)
    assert not torch.allclose(module(latents, tokens)[1], expected)
    module = build(BiBlock)
    _, expected = module(latents, tokens)
    nn.init.zeros_(module.attention.latent_out.weight)
    assert torch.equal(module(latents, tokens)[1], expected)


@pytest.mark.parametrize("block", [BiBlock, LatentsReadBlock, SequentialBlock, TokensReadBlock])
def test_latents_shared_by_the_batch_are_the_same_as_a_copy_for_each_cloud(block: type[nn.Module]):
    module, (latents, tokens) = build(block), streams()
    shared, copied = module(latents[:1], tokens), module(latents[:1].repeat(2, 1, 1), tokens)
    torch.testing.assert_close(shared[0].expand_as(copied[0]), copied[0])
    torch.testing.assert_close(shared[1], copied[1])


@pytest.mark.parametrize("block", LAYERS)
def test_with_layer_scale_zero_a_block_is_the_identity(block: type[nn.Module]):
    """Pre-norm: the residual stream itself is not normalized."""
    module, (latents, tokens) = build(block, layer_scale=0.0), streams()
    if block is SelfBlock:
        assert torch.equal(module(latents), latents)
    else:
        found = module(latents, tokens)
        assert torch.equal(found[0], latents) and torch.equal(found[1], tokens)


def test_drop_path_is_the_identity_in_evaluation_and_at_rate_zero():
    branch = torch.randn(4, 3, 2)
    assert torch.equal(DropPath(0.9).eval()(branch), branch)
    assert torch.equal(DropPath(0.0).train()(branch), branch)


def test_drop_path_drops_whole_clouds_and_keeps_the_expectation():
    dropped = DropPath(0.25).train()(torch.ones(10_000, 2, 3)).flatten(1)
    assert dropped.eq(dropped[:, :1]).all()
    torch.testing.assert_close(dropped.unique(), torch.tensor([0, 4 / 3]))
    assert dropped.mean().item() == pytest.approx(1, abs=0.03)  # five standard deviations


def test_drop_path_drops_the_branch_not_the_residual_stream():
    residual = Residual(2, drop_path=0.5).train()
    feats = torch.randn(100, 3, 2)
    found = residual(feats, torch.ones(100, 3, 2))
    kept = (found - feats).mean((1, 2)).round()
    assert set(kept.tolist()) == {0.0, 2.0}
    torch.testing.assert_close(found, feats + kept[:, None, None])


@pytest.mark.parametrize("block", LAYERS)
def test_every_branch_of_a_block_has_the_rate_it_was_built_with(block: type[nn.Module]):
    rates = [module.rate for module in build(block, drop_path=0.3).modules() if isinstance(module, DropPath)]
    assert len(rates) in (2, 4) and set(rates) == {0.3}


def test_layer_scale_multiplies_every_channel():
    scale = LayerScale(3, 1.0)
    with torch.no_grad():
        scale.factor.copy_(torch.tensor([1.0, 2, 3]))
    assert scale(torch.ones(1, 2, 3)).tolist() == [[[1, 2, 3], [1, 2, 3]]]


def test_a_feed_forward_unit_treats_each_token_independently():
    unit, feats = FeedForwardUnit(8), torch.randn(2, 9, 8)
    torch.testing.assert_close(unit(feats)[1:, 3:4], unit(feats[1:, 3:4]))
    norm = nn.functional.layer_norm(feats, (8,), unit.norm.weight, unit.norm.bias, eps=1e-6)
    expected = feats + unit.ffn[2](nn.functional.gelu(unit.ffn[0](norm)))
    torch.testing.assert_close(unit(feats), expected)
    assert unit.ffn[0].out_features == 32


@pytest.mark.parametrize("block", CROSS_BLOCKS)
def test_a_width_of_latents_that_does_not_divide_into_the_heads_is_an_error(block: type[nn.Module]):
    with pytest.raises(InputError, match="a width of 10 does not divide into 3 heads"):
        block(10, 12, 3)
    with pytest.raises(InputError, match="a width of 10 does not divide into 3 heads"):
        SelfBlock(10, 3)


@pytest.mark.parametrize("size", [5, 6, 7, 12, 13])
def test_without_gradients_the_feed_forward_network_works_in_chunks(size: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(blocks.CHUNK_SIZES, "cpu", 12)
    unit, feats, sizes = FeedForwardUnit(4, layer_scale=0.5).eval(), torch.randn(2, size, 4), []
    whole = unit(feats)
    unit.ffn[0].register_forward_hook(lambda layer, given, out: sizes.append(out.numel() // 16))
    with torch.no_grad():
        torch.testing.assert_close(unit(feats), whole)
        torch.testing.assert_close(unit(feats.mT.contiguous().mT), whole)
    assert max(sizes) <= 12 and sum(sizes) == 4 * size


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("size", [5, 6, 7, 12, 13])
def test_activation_checkpointing_in_chunks_gives_the_same_gradients(
    size: int, precision: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(blocks.CHUNK_SIZES, "cpu", 12)
    unit, sizes, results = FeedForwardUnit(4, layer_scale=0.5), [], []
    nn.init.normal_(unit.ffn[0].bias)
    unit.ffn[0].register_forward_hook(lambda layer, given, out: sizes.append(out.numel() // 16))
    feats, weights = torch.randn(2, size, 4, requires_grad=True), torch.randn(2, size, 4)
    strided = feats.detach().mT.contiguous().mT.requires_grad_()
    for unit.checkpointing, given in ((False, feats), (True, feats), (True, strided)):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            out = unit(given)
        results.append([out, *torch.autograd.grad(out, [given, *unit.parameters()], weights)])
    tolerance = {"rtol": 2e-2, "atol": 2e-2} if precision == "bfloat16" else {}
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], **tolerance)
    assert sizes[0] == 2 * size and max(sizes[1:]) <= 12 and sum(sizes[1:]) == 2 * 2 * 2 * size


def test_activation_checkpointing_saves_only_the_input():
    unit, saved = FeedForwardUnit(4), []
    unit.checkpointing = True
    feats = torch.randn(2, 50, 4, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda one: (saved.append(one), one)[1], lambda one: one):
        unit(feats)
    assert max(one.numel() for one in saved) == feats.numel()
    assert sum(one.numel() >= feats.numel() for one in saved) == 1


def test_activation_checkpointing_does_not_change_gradients_in_evaluation():
    unit, feats = FeedForwardUnit(4).eval(), torch.randn(2, 5, 4, requires_grad=True)
    expected = torch.autograd.grad(unit(feats).square().sum(), feats)[0]
    unit.checkpointing = True
    assert torch.equal(torch.autograd.grad(unit(feats).square().sum(), feats)[0], expected)
