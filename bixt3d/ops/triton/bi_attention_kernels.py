"""Triton kernels of bi-directional cross-attention: one pass over the tokens, without storing the similarity matrix.

A program loads a tile of latents of one head of one cloud and loops over a split of its tokens. The softmax over
latents is complete within a tile of tokens; the softmax over tokens keeps a running maximum and sum (online softmax).
Exponentials and logarithms are base 2. merge_kernel merges the partial results of several splits or latent tiles.
"""

from typing import no_type_check

import triton
import triton.language as tl
from triton.language.standard import _elementwise_max as _max
from triton.language.standard import _sum_combine as _sum  # tl.sum cannot be interpreted if only our kernels are

INTERPRETED: bool = triton.knobs.runtime.interpret
"""Whether Triton's interpreter runs these kernels on a CPU: set by TRITON_INTERPRET when this file is imported."""

SPLIT_MULTIPLE = 128
"""The tokens of a split are a multiple of this, and so of every tile size of the autotuner."""

_TINY: tl.constexpr = tl.constexpr(2.0**-60)


def configs_for(configs: list[triton.Config], bytes_of_value: int) -> list[triton.Config]:
    """Return the tile sizes that fit in registers: smaller for float32, which has no tensor core instructions."""
    if bytes_of_value == 4:
        return [config for config in configs if config.kwargs["block_t"] <= 32]
    return [config for config in configs if config.kwargs["block_t"] >= 32]


def _fit(configs: list[triton.Config], arguments: dict, **_) -> list[triton.Config]:
    return configs_for(configs, arguments["token_refs"].element_size())


def _tuned(*tiles: tuple[int, int, int]):
    """Autotune over tiles (tokens, warps, stages), once per shape; the result is cached on disk."""
    configs = [triton.Config({"block_t": t}, num_warps=warps, num_stages=stages) for t, warps, stages in tiles]
    return triton.autotune(
        configs[:1] if INTERPRETED else configs,
        key=["size_class", "num_latents", "head_dim"],
        prune_configs_by={"early_config_prune": _fit},
        cache_results=True,
    )


@_tuned((64, 4, 3), (64, 8, 2), (128, 4, 2), (128, 8, 2), (32, 4, 2), (32, 8, 2), (16, 4, 2), (16, 8, 2))
@triton.jit(do_not_specialize=["size_class"])
@no_type_check
def forward_kernel(  # noqa: PLR0913
    latent_refs, latent_values, token_refs, token_values, latent_out, token_out, latent_sums, token_sums,
    latent_batch, latent_row, latent_head, token_batch, token_row, token_head,
    num_tokens, split_tokens, num_heads, scale, size_class,
    num_latents: tl.constexpr, head_dim: tl.constexpr, block_l: tl.constexpr, block_e: tl.constexpr,
    dot_type: tl.constexpr, careful: tl.constexpr, block_t: tl.constexpr,
):  # fmt: skip
    num_clouds = tl.num_programs(0) // num_heads
    cloud = (tl.program_id(0) // num_heads).to(tl.int64)
    head = tl.program_id(0) % num_heads
    split = tl.program_id(1).to(tl.int64)
    tile = tl.program_id(2).to(tl.int64)
    width = num_heads * head_dim
    value_type = token_values.dtype.element_ty

    latents = tl.program_id(2) * block_l + tl.arange(0, block_l)
    columns = tl.arange(0, block_e)
    is_latent, is_column = latents < num_latents, columns < head_dim
    inside = is_latent[:, None] & is_column[None, :]
    at = cloud * latent_batch + head * latent_head + latents[:, None] * latent_row + columns[None, :]
    lat_refs = tl.load(latent_refs + at, mask=inside, other=0.0).to(dot_type)
    lat_values = tl.load(latent_values + at, mask=inside, other=0.0).to(dot_type)
    token_refs += cloud * token_batch + head * token_head
    token_values += cloud * token_batch + head * token_head
    token_out += (tile * num_clouds + cloud) * num_tokens * width + head * head_dim
    token_sums += (tile * tl.num_programs(0) + tl.program_id(0)) * num_tokens
    begin = tl.program_id(1) * split_tokens
    end = tl.minimum(begin + split_tokens, num_tokens)

    # Both directions use the same exponentials: weights of a token, rescaled by its distance to the largest token.
    top = float("-inf")
    ones = tl.full((block_t, 16), 1.0, dot_type)
    totals = tl.full((block_l, 16), 0.0, tl.float32)  # 16 equal columns, summed by tensor cores
    gathered = tl.full((block_l, block_e), 0.0, tl.float32)
    for first in range(begin, end, block_t):
        tokens = (first + tl.arange(0, block_t)).to(tl.int64)
        is_token = tokens < end
        inside_t = is_token[:, None] & is_column[None, :]
        at_t = tokens[:, None] * token_row + columns[None, :]
        tok_refs = tl.load(token_refs + at_t, mask=inside_t, other=0.0).to(dot_type)
        tok_values = tl.load(token_values + at_t, mask=inside_t, other=0.0).to(dot_type)
        similarity = tl.dot(tok_refs, tl.trans(lat_refs), input_precision="ieee")
        if num_latents % block_l != 0:
            similarity = tl.where(is_latent[None, :], similarity, float("-inf"))
        most = tl.reduce(similarity, 1, _max) * scale
        weights = tl.exp2(similarity * scale - most[:, None])
        sums = tl.reduce(weights, 1, _sum)
        tok_out = tl.dot(weights.to(value_type).to(dot_type), lat_values, input_precision="ieee") / sums[:, None]
        tl.store(token_out + tokens[:, None] * width + columns[None, :], tok_out, mask=inside_t)
        tl.store(token_sums + tokens, most + tl.log2(sums), mask=is_token)
        if not careful:
            new_top = tl.maximum(top, tl.reduce(tl.where(is_token, most, float("-inf")), 0, _max))
            below = tl.exp2(tl.where(is_token, most - new_top, float("-inf")))
            for_latents = tl.trans((weights * below[:, None]).to(value_type).to(dot_type))
            fade = tl.exp2(top - new_top)
            totals = tl.dot(for_latents, ones, totals * fade, input_precision="ieee")
            gathered = tl.dot(for_latents, tok_values, gathered * fade, input_precision="ieee")
            top = new_top
    total = tl.reduce(totals, 1, _max)
    log_scale = tl.where(is_latent, top, 0.0)

    # A latent far below all others at every token has lost precision: repeat, with a separate maximum for each latent.
    lost = -tl.reduce(tl.where(is_latent, -total, float("-inf")), 0, _max) <= _TINY
    if (lost | careful) & (begin < end):
        log_scale = tl.where(is_latent, float("-inf"), 0.0)
        total = tl.full((block_l,), 0.0, tl.float32)
        gathered = tl.full((block_l, block_e), 0.0, tl.float32)
        for first in range(begin, end, block_t):
            tokens = (first + tl.arange(0, block_t)).to(tl.int64)
            is_token = tokens < end
            inside_t = is_token[:, None] & is_column[None, :]
            at_t = tokens[:, None] * token_row + columns[None, :]
            tok_refs = tl.load(token_refs + at_t, mask=inside_t, other=0.0).to(dot_type)
            tok_values = tl.load(token_values + at_t, mask=inside_t, other=0.0).to(dot_type)
            similarity = tl.dot(tok_refs, tl.trans(lat_refs), input_precision="ieee") * scale
            similarity = tl.where(is_token[:, None] & is_latent[None, :], similarity, float("-inf"))
            most = tl.maximum(log_scale, tl.reduce(similarity, 0, _max))
            weights = tl.exp2(similarity - most[None, :])
            fade = tl.exp2(log_scale - most)
            total = total * fade + tl.reduce(weights, 0, _sum)
            for_latents = tl.trans(weights.to(value_type).to(dot_type))
            gathered = tl.dot(for_latents, tok_values, gathered * fade[:, None], input_precision="ieee")
            log_scale = most

    total = tl.where(total > 0.0, total, 1.0)  # an empty split has the maximum -inf, so its weight is 0
    at_out = ((split * num_clouds + cloud) * num_latents + latents[:, None]) * width + head * head_dim
    tl.store(latent_out + at_out + columns[None, :], gathered / total[:, None], mask=inside)
    at_sums = (split * tl.num_programs(0) + tl.program_id(0)) * num_latents + latents
    tl.store(latent_sums + at_sums, log_scale + tl.log2(total), mask=is_latent)


@triton.jit
@no_type_check
def merge_kernel(  # noqa: PLR0913
    partials, partial_sums, out, sums, num_partials, num_rows, num_heads,
    head_dim: tl.constexpr, block_n: tl.constexpr, block_e: tl.constexpr,
):  # fmt: skip
    """Merge softmax attention over disjoint sets, weighted by their sums of exponentials, in a fixed order."""
    cloud, head = (tl.program_id(0) // num_heads).to(tl.int64), tl.program_id(0) % num_heads
    rows = (tl.program_id(1) * block_n + tl.arange(0, block_n)).to(tl.int64)
    columns = tl.arange(0, block_e)
    is_row = rows < num_rows
    inside = is_row[:, None] & (columns < head_dim)[None, :]
    at = ((cloud * num_rows + rows) * num_heads + head)[:, None] * head_dim + columns[None, :]
    at_sums = tl.program_id(0).to(tl.int64) * num_rows + rows
    stride = tl.num_programs(0).to(tl.int64) * num_rows
    most = tl.full((block_n,), float("-inf"), tl.float32)
    for i in range(num_partials):
        most = tl.maximum(most, tl.load(partial_sums + i * stride + at_sums, mask=is_row, other=0.0))
    total = tl.full((block_n,), 0.0, tl.float32)
    merged = tl.full((block_n, block_e), 0.0, tl.float32)
    for i in range(num_partials):
        weight = tl.exp2(tl.load(partial_sums + i * stride + at_sums, mask=is_row, other=0.0) - most)
        total += weight
        merged += weight[:, None] * tl.load(partials + i * stride * head_dim + at, mask=inside, other=0.0)
    tl.store(out + at, merged / total[:, None], mask=inside)
    tl.store(sums + at_sums, most + tl.log2(total), mask=is_row)


@_tuned((64, 4, 2), (64, 8, 2), (128, 8, 2), (32, 4, 2), (32, 8, 2), (16, 4, 2), (16, 8, 2))
@triton.jit(do_not_specialize=["size_class"])
@no_type_check
def backward_kernel(  # noqa: PLR0913
    latent_refs, latent_values, token_refs, token_values, latent_out, token_out, latent_sums, token_sums,
    latent_out_grad, token_out_grad, latent_grads, token_grads,
    latent_batch, latent_row, latent_head, token_batch, token_row, token_head,
    num_tokens, split_tokens, num_heads, scale, natural_scale, size_class,
    num_latents: tl.constexpr, head_dim: tl.constexpr, block_l: tl.constexpr, block_e: tl.constexpr,
    dot_type: tl.constexpr, block_t: tl.constexpr,
):  # fmt: skip
    num_clouds = tl.num_programs(0) // num_heads
    cloud = (tl.program_id(0) // num_heads).to(tl.int64)
    head = tl.program_id(0) % num_heads
    split = tl.program_id(1).to(tl.int64)
    tile = tl.program_id(2).to(tl.int64)
    width = num_heads * head_dim
    value_type = token_values.dtype.element_ty

    latents = tl.program_id(2) * block_l + tl.arange(0, block_l)
    columns = tl.arange(0, block_e)
    is_latent, is_column = latents < num_latents, columns < head_dim
    inside = is_latent[:, None] & is_column[None, :]
    at = cloud * latent_batch + head * latent_head + latents[:, None] * latent_row + columns[None, :]
    lat_refs = tl.load(latent_refs + at, mask=inside, other=0.0).to(dot_type)
    lat_values = tl.load(latent_values + at, mask=inside, other=0.0).to(dot_type)
    at_out = (cloud * num_latents + latents[:, None]) * width + head * head_dim + columns[None, :]
    lat_out_grad = tl.load(latent_out_grad + at_out, mask=inside, other=0.0).to(dot_type)
    lat_out = tl.load(latent_out + at_out, mask=inside, other=0.0).to(tl.float32)
    lat_mean = tl.reduce(lat_out_grad.to(tl.float32) * lat_out, 1, _sum)
    lat_sums = tl.load(latent_sums + tl.program_id(0) * num_latents + latents, mask=is_latent, other=0.0)
    token_refs += cloud * token_batch + head * token_head
    token_values += cloud * token_batch + head * token_head
    token_out += cloud * num_tokens * width + head * head_dim
    token_out_grad += cloud * num_tokens * width + head * head_dim
    token_grads += (tile * num_clouds + cloud) * num_tokens * 2 * width + head * head_dim
    token_sums += tl.program_id(0).to(tl.int64) * num_tokens

    refs_grad = tl.full((block_l, block_e), 0.0, tl.float32)
    values_grad = tl.full((block_l, block_e), 0.0, tl.float32)
    begin = tl.program_id(1) * split_tokens
    end = tl.minimum(begin + split_tokens, num_tokens)
    for first in range(begin, end, block_t):
        tokens = (first + tl.arange(0, block_t)).to(tl.int64)
        is_token = tokens < end
        inside_t = is_token[:, None] & is_column[None, :]
        at_t = tokens[:, None] * token_row + columns[None, :]
        at_out_t = tokens[:, None] * width + columns[None, :]
        tok_refs = tl.load(token_refs + at_t, mask=inside_t, other=0.0).to(dot_type)
        tok_values = tl.load(token_values + at_t, mask=inside_t, other=0.0).to(dot_type)
        tok_out_grad = tl.load(token_out_grad + at_out_t, mask=inside_t, other=0.0).to(dot_type)
        tok_sums = tl.load(token_sums + tokens, mask=is_token, other=0.0)
        similarity = tl.dot(tok_refs, tl.trans(lat_refs), input_precision="ieee") * scale
        if num_latents % block_l != 0:
            similarity = tl.where(is_latent[None, :], similarity, float("-inf"))
        # weights are at most 1; rounding of huge similarities and padding may exceed it
        for_latents = tl.exp2(tl.minimum(similarity - lat_sums[None, :], 0.0))
        for_tokens = tl.exp2(tl.minimum(similarity - tok_sums[:, None], 0.0))
        for_latents_grad = tl.dot(tok_values, tl.trans(lat_out_grad), input_precision="ieee")
        for_tokens_grad = tl.dot(tok_out_grad, tl.trans(lat_values), input_precision="ieee")
        if num_latents > block_l:  # the mean of a token is over the latents of all tiles
            tok_out = tl.load(token_out + at_out_t, mask=inside_t, other=0.0).to(tl.float32)
            tok_mean = tl.reduce(tok_out_grad.to(tl.float32) * tok_out, 1, _sum)
        else:
            tok_mean = tl.reduce(for_tokens * for_tokens_grad, 1, _sum)
        change = for_latents * (for_latents_grad - lat_mean[None, :])
        change = (change + for_tokens * (for_tokens_grad - tok_mean[:, None])).to(value_type).to(dot_type)
        for_latents = for_latents.to(value_type).to(dot_type)
        for_tokens = for_tokens.to(value_type).to(dot_type)
        tok_refs_grad = tl.dot(change, lat_refs, input_precision="ieee") * natural_scale
        tok_values_grad = tl.dot(for_latents, lat_out_grad, input_precision="ieee")
        at_grad = token_grads + tokens[:, None] * (2 * width) + columns[None, :]
        tl.store(at_grad, tok_refs_grad, mask=inside_t)
        tl.store(at_grad + width, tok_values_grad, mask=inside_t)
        refs_grad = tl.dot(tl.trans(change), tok_refs, refs_grad, input_precision="ieee")
        values_grad = tl.dot(tl.trans(for_tokens), tok_out_grad, values_grad, input_precision="ieee")
    at_grad = ((split * num_clouds + cloud) * num_latents + latents[:, None]) * (2 * width) + head * head_dim
    at_grad += columns[None, :]
    tl.store(latent_grads + at_grad, refs_grad * natural_scale, mask=inside)
    tl.store(latent_grads + at_grad + width, values_grad, mask=inside)
