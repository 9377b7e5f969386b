"""Bi-directional attention on a CPU, a chunk of tokens at a time: one exponential serves both directions.

Where similarities are within 40 of zero no maximum needs to be subtracted: with ``w = exp(similarity)`` both softmaxes
are ``w`` divided by its sums, over all tokens (added up chunk by chunk) and over the latents (complete in a chunk).
The backward pass computes ``w`` again, so memory beyond inputs and outputs is that of one chunk and of the sums.
"""

from math import exp

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK = 200_000
"""Similarities that a thread works on at a time, of all heads: they stay in its processor's cache."""

LARGEST = exp(40)
"""Sums from 1 / LARGEST to LARGEST are safe: with a million of them, and gradients of 1e-10, float32 is not left."""


def chunked_attention(*parts: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return what the latents and what the tokens gather, or None where similarities are too large for it."""
    latents, tokens, safe = _ChunkedAttention.apply(*parts)
    return (latents, tokens) if safe else None


class _ChunkedAttention(torch.autograd.Function):
    """Refs and values of latents (B or 1, L, H, E) and of tokens (B, T, H, E) to (B, L, H*E) and (B, T, H*E)."""

    @staticmethod
    def forward(ctx, latent_refs: Tensor, latent_values: Tensor, token_refs: Tensor, token_values: Tensor):
        num_clouds, _, num_heads, head_dim = token_refs.shape
        lat_refs, lat_values = (part.expand(num_clouds, -1, -1, -1) for part in (latent_refs, latent_values))
        work = torch.promote_types(token_refs.dtype, torch.float32)
        latents, tokens = (part.new_empty(part.shape) for part in (lat_refs, token_refs))
        latent_sums, token_sums = (part.new_empty(*part.shape[:3], 1, dtype=work) for part in (lat_refs, token_refs))
        some_tokens, space = _chunks(lat_refs, token_refs, work)
        with torch.autocast("cpu", enabled=False):
            for cloud in range(num_clouds):
                refs, values = (_heads(part[cloud], work).contiguous() for part in (lat_refs, lat_values))
                refs = (refs * head_dim**-0.5).mT.contiguous()
                gathered, total = torch.zeros_like(values), values.new_zeros(*values.shape[:2], 1)
                for chunk in some_tokens:
                    at = (cloud, chunk)
                    keys, tok_values = _heads(token_refs[at], work), _heads(token_values[at], work)
                    weights = torch.bmm(keys, refs, out=_part(space, keys, refs)).exp_()
                    gathered.baddbmm_(weights.mT, tok_values)
                    total += weights.sum(1).unsqueeze(2)
                    sums = weights.sum(2, keepdim=True)
                    token_sums[at] = sums.transpose(0, 1)
                    tokens[at] = torch.bmm(weights, values).div_(sums).transpose(0, 1)
                latents[cloud] = (gathered / total).transpose(0, 1)
                latent_sums[cloud] = total.transpose(0, 1)
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
        num_clouds, _, num_heads, head_dim = tokens.shape
        lat_refs, lat_values, token_refs, token_values = (part.expand(num_clouds, -1, -1, -1) for part in inputs)
        latents_grad, tokens_grad = (grad.unflatten(2, (num_heads, head_dim)) for grad in (latents_grad, tokens_grad))
        work, scale = latent_sums.dtype, head_dim**-0.5
        grads = [part.new_empty(part.shape) for part in (lat_refs, lat_values, token_refs, token_values)]
        some_tokens, *spaces = _chunks(lat_refs, token_refs, work, 2)
        for cloud in range(num_clouds):
            refs, values = (_heads(part[cloud], work).contiguous() for part in (lat_refs, lat_values))
            refs = refs * scale
            grad, mean = _by_sum(latents_grad[cloud], latents[cloud], latent_sums[cloud], work)
            left = torch.cat([grad, -mean, values, torch.ones_like(mean)], 2).mT.contiguous()
            across = refs.mT.contiguous()
            refs_grad, values_grad = torch.zeros_like(refs), torch.zeros_like(values)
            for chunk in some_tokens:
                at = (cloud, chunk)
                keys, tok_values = _heads(token_refs[at], work), _heads(token_values[at], work)
                tok_grad, mean = _by_sum(tokens_grad[at], tokens[at], token_sums[at], work)
                right = torch.cat([tok_values, torch.ones_like(mean), tok_grad, -mean], 2)
                weights = torch.bmm(keys, across, out=_part(spaces[0], keys, across)).exp_()
                values_grad.baddbmm_(weights.mT, tok_grad)
                grads[3][at] = torch.bmm(weights, grad).transpose(0, 1)
                change = torch.bmm(right, left, out=_part(spaces[1], right, left)).mul_(weights)
                refs_grad.baddbmm_(change.mT, keys)
                grads[2][at] = torch.bmm(change, refs).transpose(0, 1)
            grads[0][cloud], grads[1][cloud] = refs_grad.mul_(scale).transpose(0, 1), values_grad.transpose(0, 1)
        return tuple(grad.sum_to_size(part.shape) for grad, part in zip(grads, inputs, strict=True))


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
    """Return a view with heads brought forward (H, N, ...), or a copy where the dtype is not that of the work."""
    return part.transpose(0, 1).to(work)


def _by_sum(grad: Tensor, out: Tensor, sums: Tensor, work: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return the gradient of an output, and its product with the output, divided by the sum of exponentials."""
    grad = _heads(grad, work) / _heads(sums, work)
    return grad, (_heads(out, work) * grad).sum(2, keepdim=True)
