"""Bi-directional attention on a CPU, a chunk of tokens at a time: one exponential serves both directions.

Where similarities are within 40 of zero no maximum needs to be subtracted: with ``w = exp(similarity)`` both softmaxes
are ``w`` divided by its sums, over all tokens (added up chunk by chunk) and over the latents (complete in a chunk).
The backward pass computes ``w`` again, so memory beyond inputs and outputs is that of one chunk and of the sums.
"""

from math import e, exp, log2

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK = 200_000
"""Similarities that a thread works on at a time, of all heads: they stay in its processor's cache."""

LARGEST = exp(40)
"""Sums from 1 / LARGEST to LARGEST are safe: with a million of them, and gradients of 1e-10, float32 is not left."""


LOG2_E = log2(e)
"""``exp(x)`` is ``exp2(LOG2_E * x)``; torch's exp2 takes a third of the time."""


def chunked_attention(*parts: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return what the latents and what the tokens gather, or None where similarities are too large for it."""
    latents, tokens, safe = _ChunkedAttention.apply(*parts)
    return (latents, tokens) if safe else None


class _ChunkedAttention(torch.autograd.Function):
    """Refs and values of latents (B or 1, L, H, E) and of tokens (B, T, H, E) to (B, L, H*E) and (B, T, H*E)."""

    @staticmethod
    def forward(ctx, latent_refs: Tensor, latent_values: Tensor, token_refs: Tensor, token_values: Tensor):
        num_clouds, num_tokens, num_heads, head_dim = token_refs.shape
        work = torch.promote_types(token_refs.dtype, torch.float32)
        some_tokens, space = _chunks(latent_refs, token_refs, work)
        with torch.autocast("cpu", enabled=False):
            across = (_heads(latent_refs, work) * (head_dim**-0.5 * LOG2_E)).mT
            across, values = (_by_cloud(part, num_clouds) for part in (across, _heads(latent_values, work)))
            gathered, latent_sums = values.new_zeros(values.shape), values.new_zeros(*values.shape[:3], 1)
            token_sums = values.new_empty(num_clouds, num_heads, num_tokens, 1)
            tokens = token_refs.new_empty(token_refs.shape)
            for cloud in range(num_clouds):
                for chunk in some_tokens:
                    keys, tok_values = (_heads(part[cloud, chunk], work) for part in (token_refs, token_values))
                    weights = torch.bmm(keys, across[cloud], out=_part(space, keys, across[cloud])).exp2_()
                    gathered[cloud].baddbmm_(weights.mT, tok_values)
                    latent_sums[cloud] += weights.sum(1).unsqueeze(2)
                    sums = torch.sum(weights, 2, keepdim=True, out=token_sums[cloud, :, chunk])
                    tokens[cloud, chunk] = torch.bmm(weights, values[cloud]).div_(sums).transpose(0, 1)
            latents = (gathered / latent_sums).transpose(1, 2).contiguous().to(latent_refs.dtype)
        ctx.save_for_backward(
            latent_refs, latent_values, token_refs, token_values, latents, tokens, latent_sums, token_sums
        )
        safe = all(sums.amin() > 1 / LARGEST and sums.amax() < LARGEST for sums in (token_sums, latent_sums))
        return latents.flatten(2), tokens.flatten(2), safe

    @staticmethod
    @once_differentiable
    def backward(ctx, latents_grad: Tensor, tokens_grad: Tensor, _):
        """Each softmax changes its similarity by ``weight * (its grad - its mean) / sum``: both are one product."""
        *inputs, latents, tokens, latent_sums, token_sums = ctx.saved_tensors
        latent_refs, latent_values, token_refs, token_values = inputs
        num_clouds, _, num_heads, head_dim = tokens.shape
        latents_grad, tokens_grad = (grad.unflatten(2, (num_heads, head_dim)) for grad in (latents_grad, tokens_grad))
        work, scale = latent_sums.dtype, head_dim**-0.5
        some_tokens, *spaces = _chunks(latent_refs, token_refs, work, 2)
        refs, values = (_by_cloud(_heads(part, work), num_clouds) for part in (latent_refs, latent_values))
        refs = refs * scale
        across = (refs * LOG2_E).mT.contiguous()
        grad, mean = _by_sum(latents_grad, latents, latent_sums)
        left = torch.cat([grad, -mean, values, torch.ones_like(mean)], 3).mT.contiguous()
        refs_grad, values_grad = (values.new_zeros(values.shape) for _ in range(2))
        token_grads = [part.new_empty(part.shape) for part in (token_refs, token_values)]
        for cloud in range(num_clouds):
            for chunk in some_tokens:
                at = (cloud, chunk)
                keys, tok_values = (_heads(part[at], work) for part in (token_refs, token_values))
                tok_grad, mean = _by_sum(tokens_grad[at], tokens[at], token_sums[cloud, :, chunk])
                right = torch.cat([tok_values, torch.ones_like(mean), tok_grad, -mean], 2)
                weights = torch.bmm(keys, across[cloud], out=_part(spaces[0], keys, across[cloud])).exp2_()
                values_grad[cloud].baddbmm_(weights.mT, tok_grad)
                token_grads[1][at] = torch.bmm(weights, grad[cloud]).transpose(0, 1)
                change = torch.bmm(right, left[cloud], out=_part(spaces[1], right, left[cloud])).mul_(weights)
                refs_grad[cloud].baddbmm_(change.mT, keys)
                token_grads[0][at] = torch.bmm(change, refs[cloud]).transpose(0, 1)
        grads = (refs_grad.mul_(scale).transpose(1, 2), values_grad.transpose(1, 2), *token_grads)
        return tuple(grad.sum_to_size(part.shape).to(part.dtype) for grad, part in zip(grads, inputs, strict=True))


def _chunks(latents: Tensor, tokens: Tensor, work: torch.dtype, num_spaces: int = 1) -> tuple:
    """Return slices of the tokens of a cloud, and memory for the similarities of such a chunk."""
    (_, num_tokens, num_heads, _), num_latents = tokens.shape, latents.shape[1]
    size = min(num_tokens, max(1, CHUNK * torch.get_num_threads() // (num_heads * num_latents)))
    spaces = (tokens.new_empty(size * num_heads * num_latents, dtype=work) for _ in range(num_spaces))
    return [slice(first, first + size) for first in range(0, num_tokens, size)], *spaces


def _part(space: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Return memory for the product of two batches of matrices."""
    shape = (*left.shape[:2], right.shape[2])
    return space[: left.shape[0] * left.shape[1] * right.shape[2]].view(shape)


def _heads(part: Tensor, work: torch.dtype) -> Tensor:
    """Return a view with heads brought forward (..., H, N, E), or a copy where the dtype is not that of the work."""
    return part.transpose(-3, -2).to(work)


def _by_cloud(part: Tensor, num_clouds: int) -> Tensor:
    """Return one contiguous part for each cloud, the same for all where latents are shared."""
    return part.contiguous().expand(num_clouds, -1, -1, -1)


def _by_sum(grad: Tensor, out: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradient of an output, and its product with the output, divided by the sum of exponentials."""
    grad = _heads(grad, sums.dtype) / sums
    return grad, (_heads(out, sums.dtype) * grad).sum(-1, keepdim=True)
