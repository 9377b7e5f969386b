"""Bi-directional cross-attention on a GPU: torch operators, their gradients, and how they launch the Triton kernels."""

from functools import cache
from math import e, log2
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from bixt3d.ops.triton.bi_attention_kernels import (
    INTERPRETED,
    SPLIT_MULTIPLE,
    backward_kernel,
    forward_kernel,
    merge_kernel,
)

Outputs = tuple[Tensor, Tensor, Tensor, Tensor]
"""Outputs of the latents (B, L, H*E) and of the tokens (B, T, H*E), and the base-2 log-sum-exp of each latent (B, H, L)
and of each token (B, H, T)."""


class _Plan(NamedTuple):
    """Launch grid (clouds x heads, splits of tokens, tiles of latents), tokens of a split, and kernel constants."""

    grid: tuple[int, int, int]
    split_tokens: int
    constants: dict


@cache
def _num_processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def _block_of_latents(num_latents: int, head_dim: int, dtype: torch.dtype) -> int:
    """Return the latents of a tile: all, or as many as fit in registers on a Hopper GPU (measured with ptxas)."""
    block = max(16, triton.next_power_of_2(num_latents))
    if dtype == torch.float32:
        return min(block, 64, 2048 // _block_of_columns(head_dim))
    return min(block, 128 if head_dim <= 64 else 64)


def _choose_splits(num_programs: int, num_tokens: int, num_processors: int) -> int:
    """Return the number of splits of the tokens: four programs per multiprocessor, unless merging costs more."""
    least = 256 if num_programs < num_processors else 2048  # smallest split that pays
    return max(1, min(triton.cdiv(4 * num_processors, num_programs), num_tokens // least))


def constants_of(num_latents: int, head_dim: int, dtype: torch.dtype) -> dict:
    """Return the compile-time constants of both kernels, except the tile sizes that the autotuner chooses."""
    return {
        "num_latents": num_latents,
        "head_dim": head_dim,
        "block_l": _block_of_latents(num_latents, head_dim, dtype),
        "block_e": _block_of_columns(head_dim),
        "dot_type": tl.float32 if INTERPRETED else getattr(tl, str(dtype).removeprefix("torch.")),
    }


def _plan(latent_refs: Tensor, token_refs: Tensor, num_splits: int) -> _Plan:
    num_clouds, num_tokens, num_heads, head_dim = token_refs.shape
    constants = constants_of(latent_refs.shape[1], head_dim, latent_refs.dtype)
    num_tiles = triton.cdiv(latent_refs.shape[1], constants["block_l"])
    num_programs = num_clouds * num_heads * num_tiles
    num_splits = num_splits or _choose_splits(num_programs, num_tokens, _num_processors(token_refs.device))
    split_tokens = triton.cdiv(triton.cdiv(num_tokens, num_splits), SPLIT_MULTIPLE) * SPLIT_MULTIPLE
    constants["size_class"] = min(6, int(log2(split_tokens // SPLIT_MULTIPLE)))
    return _Plan((num_clouds * num_heads, num_splits, num_tiles), split_tokens, constants)


def _block_of_columns(head_dim: int) -> int:
    return max(16, triton.next_power_of_2(head_dim))


def _with_equal_strides(refs: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Return refs and values unchanged if their strides are equal, as in one projection; else contiguous copies."""
    if refs.stride() == values.stride() and refs.stride(-1) == 1:
        return refs, values
    return refs.contiguous(), values.contiguous()


def _strides(latent_refs: Tensor, token_refs: Tensor) -> tuple[int, ...]:
    """Return the strides of clouds, rows and heads. Latents shared by the batch have a cloud stride of 0."""
    shared = latent_refs.shape[0] == 1
    return (0 if shared else latent_refs.stride(0), *latent_refs.stride()[1:3], *token_refs.stride()[:3])


def _merge(partials: Tensor, partial_sums: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Merge partial outputs (P, B, N, H, E) to outputs (B, N, H*E) and log-sums (B, H, N); P = 1 needs no kernel."""
    num_partials, num_clouds, num_rows, num_heads, head_dim = partials.shape
    if num_partials == 1:
        return partials[0].flatten(2), partial_sums[0]
    out, sums = torch.empty_like(partials[0], dtype=like.dtype), torch.empty_like(partial_sums[0])
    grid = (num_clouds * num_heads, triton.cdiv(num_rows, 32))
    block_e = _block_of_columns(head_dim)
    merge_kernel[grid](partials, partial_sums, out, sums, num_partials, num_rows, num_heads, head_dim, 32, block_e)
    return out.flatten(2), sums


def _attend(
    latent_refs: Tensor, latent_values: Tensor, token_refs: Tensor, token_values: Tensor, num_splits: int
) -> Outputs:
    latent_refs, latent_values = _with_equal_strides(latent_refs, latent_values)
    token_refs, token_values = _with_equal_strides(token_refs, token_values)
    (num_clouds, num_tokens, num_heads, head_dim), num_latents = token_refs.shape, latent_refs.shape[1]
    grid, split_tokens, constants = _plan(latent_refs, token_refs, num_splits)

    def empty(num_partials: int, num_rows: int) -> tuple[Tensor, Tensor]:
        dtype = token_refs.dtype if num_partials == 1 else torch.float32
        out = token_refs.new_empty(num_partials, num_clouds, num_rows, num_heads, head_dim, dtype=dtype)
        return out, token_refs.new_empty(num_partials, num_clouds, num_heads, num_rows, dtype=torch.float32)

    latents, latent_sums = empty(grid[1], num_latents)
    tokens, token_sums = empty(grid[2], num_tokens)
    with torch.cuda.device_of(token_refs):
        forward_kernel[grid](
            latent_refs, latent_values, token_refs, token_values, latents, tokens, latent_sums, token_sums,
            *_strides(latent_refs, token_refs),
            num_tokens, split_tokens, num_heads, head_dim**-0.5 * log2(e),
            careful=token_refs.dtype == torch.float16, **constants,  # too small a range for one shared maximum
        )  # fmt: skip
        latents, latent_sums = _merge(latents, latent_sums, token_refs)
        tokens, token_sums = _merge(tokens, token_sums, token_refs)
    return latents, tokens, latent_sums, token_sums


def _empty_outputs(latent_refs: Tensor, token_refs: Tensor) -> Outputs:
    (num_clouds, num_tokens, num_heads, head_dim), num_latents = token_refs.shape, latent_refs.shape[1]
    latents, tokens = (token_refs.new_empty(num_clouds, n, num_heads * head_dim) for n in (num_latents, num_tokens))
    latent_sums, token_sums = (
        token_refs.new_empty(num_clouds, num_heads, n, dtype=torch.float32) for n in (num_latents, num_tokens)
    )
    return latents, tokens, latent_sums, token_sums


@torch.library.custom_op("bixt3d::bi_attention", mutates_args=())
def bi_attention(
    latent_refs: Tensor, latent_values: Tensor, token_refs: Tensor, token_values: Tensor, num_splits: int = 0
) -> Outputs:
    """Return Outputs of refs and values, each (B, N, H, E). ``num_splits`` of the tokens; 0: chosen automatically."""
    return _attend(latent_refs, latent_values, token_refs, token_values, num_splits)


@torch.library.custom_op("bixt3d::bi_attention_projected", mutates_args=())
def bi_attention_projected(latents: Tensor, tokens: Tensor, num_splits: int = 0) -> Outputs:
    """Return Outputs of projections (B, N, 2, H, E): refs, then values."""
    return _attend(*latents.unbind(2), *tokens.unbind(2), num_splits)


@torch.library.custom_op("bixt3d::bi_attention_backward", mutates_args=())
def _backward_op(
    latents_grad: Tensor,
    tokens_grad: Tensor,
    inputs: list[Tensor],
    outputs: list[Tensor],
    num_splits: int,
) -> tuple[Tensor, Tensor]:
    """Return gradients of latents (B, L, 2, H, E) and tokens (B, T, 2, H, E): refs, then values."""
    latent_refs, latent_values = _with_equal_strides(*inputs[:2])
    token_refs, token_values = _with_equal_strides(*inputs[2:])
    num_clouds, num_tokens, num_heads, head_dim = token_refs.shape
    grid, split_tokens, constants = _plan(latent_refs, token_refs, num_splits)
    _, num_splits, num_tiles = grid

    def empty(num_partials: int, num_rows: int, dtype: torch.dtype) -> Tensor:
        return token_refs.new_empty(num_partials, num_clouds, num_rows, 2, num_heads, head_dim, dtype=dtype)

    added = [0, 1] if latent_refs.shape[0] < num_clouds else [0]  # sum the gradients of latents shared by the batch
    one = num_splits == 1 and len(added) == 1
    latent_grads = empty(num_splits, latent_refs.shape[1], token_refs.dtype if one else torch.float32)
    token_grads = empty(num_tiles, num_tokens, token_refs.dtype if num_tiles == 1 else torch.float32)
    with torch.cuda.device_of(token_refs):
        backward_kernel[grid](
            latent_refs, latent_values, token_refs, token_values, *outputs,
            latents_grad.contiguous(), tokens_grad.contiguous(), latent_grads, token_grads,
            *_strides(latent_refs, token_refs),
            num_tokens, split_tokens, num_heads, head_dim**-0.5 * log2(e), head_dim**-0.5, **constants,
        )  # fmt: skip
    latent_grads = latent_grads[0] if one else latent_grads.sum(added).to(token_refs.dtype)
    latent_grads = latent_grads.view(latent_refs.shape[0], latent_refs.shape[1], 2, num_heads, head_dim)
    return latent_grads, token_grads[0] if num_tiles == 1 else token_grads.sum(0).to(token_refs.dtype)


@bi_attention.register_fake
def _(latent_refs, latent_values, token_refs, token_values, num_splits=0):
    return _empty_outputs(latent_refs, token_refs)


@bi_attention_projected.register_fake
def _(latents, tokens, num_splits=0):
    return _empty_outputs(latents[:, :, 0], tokens[:, :, 0])


@_backward_op.register_fake
def _(latents_grad, tokens_grad, inputs, outputs, num_splits):
    def empty(refs: Tensor) -> Tensor:
        return refs.new_empty(*refs.shape[:2], 2, *refs.shape[2:])

    return empty(inputs[0]), empty(inputs[2])


def _save(ctx, inputs: tuple, output: Outputs) -> None:
    """Save inputs and outputs for the backward pass."""
    *tensors, ctx.num_splits = inputs
    ctx.save_for_backward(*tensors, *output)


def _backward(ctx, latents_grad, tokens_grad, *_):
    saved = ctx.saved_tensors
    grads = _backward_op(latents_grad, tokens_grad, list(saved[:4]), list(saved[4:]), ctx.num_splits)
    return *grads[0].unbind(2), *grads[1].unbind(2), None


def _backward_projected(ctx, latents_grad, tokens_grad, *_):
    latents, tokens, *outputs = ctx.saved_tensors
    inputs = [*latents.unbind(2), *tokens.unbind(2)]
    return *_backward_op(latents_grad, tokens_grad, inputs, outputs, ctx.num_splits), None


bi_attention.register_autograd(_backward, setup_context=_save)
bi_attention_projected.register_autograd(_backward_projected, setup_context=_save)
