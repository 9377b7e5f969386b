"""Attention modules against torch's multi-head attention."""

import pytest
import torch
from torch import nn
from torch.nn.functional import multi_head_attention_forward

from bixt3d.nn.attention import BiAttention, CrossAttention, SelfAttention, check_heads
from bixt3d.types import InputError

WEIGHTS = {
    "bi": ["latent_ref_value", "token_ref_value", "latent_out", "token_out"],
    "cross": ["query", "key_value", "out"],
    "self": ["query_key_value", "out"],
}


def build(kind: str) -> nn.Module:
    return {"bi": BiAttention(12, 8, 3), "cross": CrossAttention(12, 8, 3), "self": SelfAttention(12, 3)}[kind].double()


def randomize_biases(module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)


def torch_attention(query, key, value, in_weights: list, in_biases: list, out: nn.Linear, num_heads: int):
    """Return torch's multi-head attention with these parameters: the reference."""
    sequence_first = (tensor.transpose(0, 1) for tensor in (query, key, value))
    found, _ = multi_head_attention_forward(
        *sequence_first,
        embed_dim_to_check=query.shape[-1],
        num_heads=num_heads,
        in_proj_weight=None,
        in_proj_bias=torch.cat(in_biases),
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=out.weight,
        out_proj_bias=out.bias,
        use_separate_proj_weight=True,
        q_proj_weight=in_weights[0],
        k_proj_weight=in_weights[1],
        v_proj_weight=in_weights[2],
        need_weights=False,
    )
    return found.transpose(0, 1)


@pytest.mark.parametrize("kind", WEIGHTS)
def test_parameter_names_are_frozen(kind: str):
    expected = [f"{layer}.{part}" for layer in WEIGHTS[kind] for part in ("weight", "bias")]
    assert [name for name, _ in build(kind).named_parameters()] == expected


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_start_xavier_uniform_and_biases_at_zero(kind: str):
    for name, parameter in build(kind).named_parameters():
        if name.endswith("bias"):
            assert parameter.eq(0).all()
        else:
            bound = (6 / sum(parameter.shape)) ** 0.5
            assert 0.9 * bound < parameter.abs().max() <= bound


def test_self_attention_is_that_of_torch():
    attention = build("self")
    randomize_biases(attention)
    feats = torch.randn(2, 5, 12).double()
    weights, biases = attention.query_key_value.weight.chunk(3), attention.query_key_value.bias.chunk(3)
    expected = torch_attention(feats, feats, feats, weights, biases, attention.out, 3)
    torch.testing.assert_close(attention(feats), expected)


def test_cross_attention_is_that_of_torch_with_keys_of_another_width():
    attention = build("cross")
    randomize_biases(attention)
    reader, source = torch.randn(2, 5, 12).double(), torch.randn(2, 7, 8).double()
    weights = [attention.query.weight, *attention.key_value.weight.chunk(2)]
    biases = [attention.query.bias, *attention.key_value.bias.chunk(2)]
    expected = torch_attention(reader, source, source, weights, biases, attention.out, 3)
    torch.testing.assert_close(attention(reader, source), expected)


def test_bi_attention_is_two_attentions_of_torch_in_which_refs_are_queries_and_keys():
    attention = BiAttention(12, 12, 3).double()
    randomize_biases(attention)
    latents, tokens = torch.randn(2, 5, 12).double(), torch.randn(2, 7, 12).double()
    latent, token = attention.latent_ref_value, attention.token_ref_value
    (lat_ref, lat_value), (lat_ref_bias, lat_value_bias) = latent.weight.chunk(2), latent.bias.chunk(2)
    (tok_ref, tok_value), (tok_ref_bias, tok_value_bias) = token.weight.chunk(2), token.bias.chunk(2)
    weights, biases = [lat_ref, tok_ref, tok_value], [lat_ref_bias, tok_ref_bias, tok_value_bias]
    expected_latents = torch_attention(latents, tokens, tokens, weights, biases, attention.latent_out, 3)
    weights, biases = [tok_ref, lat_ref, lat_value], [tok_ref_bias, lat_ref_bias, lat_value_bias]
    expected_tokens = torch_attention(tokens, latents, latents, weights, biases, attention.token_out, 3)
    found = attention(latents, tokens)
    torch.testing.assert_close(found[0], expected_latents)
    torch.testing.assert_close(found[1], expected_tokens)


@pytest.mark.parametrize("kind", ["bi", "cross"])
def test_latents_shared_by_the_batch_are_the_same_as_a_copy_for_each_cloud(kind: str):
    attention, latents, tokens = build(kind), torch.randn(1, 5, 12).double(), torch.randn(3, 7, 8).double()
    shared, copied = attention(latents, tokens), attention(latents.repeat(3, 1, 1), tokens)
    torch.testing.assert_close(shared, copied)


def test_tokens_can_read_latents_shared_by_the_batch():
    attention = CrossAttention(8, 12, 3, inner_dim=6)
    tokens, latents = torch.randn(3, 7, 8), torch.randn(1, 5, 12)
    assert attention(tokens, latents).shape == (3, 7, 8)
    torch.testing.assert_close(attention(tokens, latents), attention(tokens, latents.repeat(3, 1, 1)))


def test_a_width_that_does_not_divide_into_the_heads_is_an_error():
    for make in (lambda: BiAttention(10, 12, 3), lambda: CrossAttention(10, 12, 3), lambda: SelfAttention(10, 3)):
        with pytest.raises(InputError, match="a width of 10 does not divide into 3 heads"):
            make()
    with pytest.raises(InputError, match="does not divide into 0 heads"):
        check_heads(12, 0)
    assert check_heads(12, 3) == 4
