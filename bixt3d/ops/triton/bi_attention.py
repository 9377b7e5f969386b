"""Bi-directional attention on a GPU as operators of torch: how a call is laid over programs, and its gradients."""

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
"""What latents gather (B, L, H*E), what tokens gather (B, T, H*E), and base-2 logarithms of what the exponentials of
each latent (B, H, L) and of each token (B, H, T) sum to."""


class _Plan(NamedTuple):
    """How a call is laid over programs: (clouds x heads, splits of tokens, tiles of latents), tokens in a split."""

    grid: tuple[int, int, int]
    split_tokens: int
    constants: dict


@cache
def _num_processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def _block_of_latents(num_latents: int, head_dim: int, dtype: torch.dtype) -> int:
    """Return how many latents a program holds: all, or as many as its registers do (ptxas says, for Hopper GPUs)."""
    block = max(16, triton.next_power_of_2(num_latents))
    if dtype == torch.float32:
        return min(block, 64, 2048 // _block_of_columns(head_dim))
    return min(block, 128 if head_dim <= 64 else 64)


def _choose_splits(num_programs: int, num_tokens: int, num_processors: int) -> int:
    """Return over how many programs to split the tokens: four to a processor, unless merging would cost more."""
    least = 256 if num_programs < num_processors else 2048  # tokens that make a split worth while
    return max(1, min(triton.cdiv(4 * num_processors, num_programs), num_tokens // least))


def constants_of(num_latents: int, head_dim: int, dtype: torch.dtype) -> dict:
    """Return what both kernels are compiled for, besides the tiles that the tuner chooses."""
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
    """Return refs and values as they are if they lie alike, as two parts of one projection do, or else copied."""
    if refs.stride() == values.stride() and refs.stride(-1) == 1:
        return refs, values
    return refs.contiguous(), values.contiguous()


def _strides(latent_refs: Tensor, token_refs: Tensor) -> tuple[int, ...]:
    """Return the strides of clouds, rows and heads. All clouds read latents of a batch of one at the same place."""
    shared = latent_refs.shape[0] == 1
    return (0 if shared else latent_refs.stride(0), *latent_refs.stride()[1:3], *token_refs.stride()[:3])


def _merge(parts: Tensor, part_sums: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return outputs (B, N, H*E) and sums (B, H, N) of parts (P, B, N, H, E); one part is already the result."""
    num_parts, num_clouds, num_rows, num_heads, head_dim = parts.shape
    if num_parts == 1:
        return parts[0].flatten(2), part_sums[0]
    out, sums = torch.empty_like(parts[0], dtype=like.dtype), torch.empty_like(part_sums[0])
    grid = (num_clouds * num_heads, triton.cdiv(num_rows, 32))
    block_e = _block_of_columns(head_dim)
    merge_kernel[grid](parts, part_sums, out, sums, num_parts, num_rows, num_heads, head_dim, 32, block_e)
    return out.flatten(2), sums


def _attend(
    latent_refs: Tensor, latent_values: Tensor, token_refs: Tensor, token_values: Tensor, num_splits: int
) -> Outputs:
    latent_refs, latent_values = _with_equal_strides(latent_refs, latent_values)
    token_refs, token_values = _with_equal_strides(token_refs, token_values)
    (num_clouds, num_tokens, num_heads, head_dim), num_latents = token_refs.shape, latent_refs.shape[1]
    grid, split_tokens, constants = _plan(latent_refs, token_refs, num_splits)

    def empty(num_parts: int, num_rows: int) -> tuple[Tensor, Tensor]:
        dtype = token_refs.dtype if num_parts == 1 else torch.float32
        out = token_refs.new_empty(num_parts, num_clouds, num_rows, num_heads, head_dim, dtype=dtype)
        return out, token_refs.new_empty(num_parts, num_clouds, num_heads, num_rows, dtype=torch.float32)

    latents, latent_sums = empty(grid[1], num_latents)
    tokens, token_sums = empty(grid[2], num_tokens)
    with torch.cuda.device_of(token_refs):
        forward_kernel[grid](
            latent_refs, latent_values, token_refs, token_values, latents, tokens, latent_sums, token_sums,
            *_strides(latent_refs, token_refs),
            num_tokens, split_tokens, num_heads, head_dim**-0.5 * log2(e),
            careful=token_refs.dtype == torch.float16, **constants,  # its range is too narrow for one maximum
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
    """Return Outputs of refs and values, each (B, N, H, E). num_splits = 0: tokens are split as often as it pays."""
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

    def empty(num_parts: int, num_rows: int, dtype: torch.dtype) -> Tensor:
        return token_refs.new_empty(num_parts, num_clouds, num_rows, 2, num_heads, head_dim, dtype=dtype)

    added = [0, 1] if latent_refs.shape[0] < num_clouds else [0]  # latents shared by the batch: its gradients add up
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
    """Save inputs and outputs; of the outputs only the sums are not alive anyway, as inputs of what comes next."""
    *parts, ctx.num_splits = inputs
    ctx.save_for_backward(*parts, *output)


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
