"""Bi-directional cross-attention on a CPU, in chunks of tokens: both directions use the same exponentials.

If all similarities are between -40 and 40, no maximum needs to be subtracted: with ``w = exp(similarity)`` both
softmaxes are ``w`` divided by a sum: over all tokens (accumulated over chunks), or over all latents (complete in each
chunk). The backward pass computes ``w`` again: beside inputs and outputs, memory is needed for one chunk and the sums.
"""

from math import e, exp, log2

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK = 200_000
"""Similarities per chunk and thread, over all heads: they fit in the cache of a core."""

LARGEST = exp(40)
"""Sums of exponentials between 1 / LARGEST and LARGEST neither overflow nor underflow float32, gradients included."""


LOG2_E = log2(e)
"""``exp(x) = exp2(LOG2_E * x)``: torch's exp2 takes a third of the time of exp."""


def chunked_attention(*inputs: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return the outputs for latents and tokens, or None if similarities are too large for plain exponentials.

    Inputs as those of `bixt3d.bi_attention`.
    """
    latents, tokens, safe = _ChunkedAttention.apply(*inputs)
    return (latents, tokens) if safe else None


class _ChunkedAttention(torch.autograd.Function):
    """Map refs and values of latents (B or 1, L, H, E) and tokens (B, T, H, E) to (B, L, H*E) and (B, T, H*E)."""

    @staticmethod
    def forward(ctx, latent_refs: Tensor, latent_values: Tensor, token_refs: Tensor, token_values: Tensor):
        num_clouds, num_tokens, num_heads, head_dim = token_refs.shape
        work = torch.promote_types(token_refs.dtype, torch.float32)
        chunks, buffer = _make_chunks(latent_refs, token_refs, work)
        with torch.autocast("cpu", enabled=False):
            across = (_heads(latent_refs, work) * (head_dim**-0.5 * LOG2_E)).mT
            across, values = (_expand(tensor, num_clouds) for tensor in (across, _heads(latent_values, work)))
            gathered, latent_sums = values.new_zeros(values.shape), values.new_zeros(*values.shape[:3], 1)
            token_sums = values.new_empty(num_clouds, num_heads, num_tokens, 1)
            tokens = token_refs.new_empty(token_refs.shape)
            for cloud in range(num_clouds):
                for chunk in chunks:
                    keys, tok_values = (_heads(tensor[cloud, chunk], work) for tensor in (token_refs, token_values))
                    weights = torch.bmm(keys, across[cloud], out=_view_for(buffer, keys, across[cloud])).exp2_()
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
        """Compute the gradients of both softmaxes, ``weight * (grad - mean) / sum`` each, in one matrix product."""
        *inputs, latents, tokens, latent_sums, token_sums = ctx.saved_tensors
        latent_refs, latent_values, token_refs, token_values = inputs
        num_clouds, _, num_heads, head_dim = tokens.shape
        latents_grad, tokens_grad = (grad.unflatten(2, (num_heads, head_dim)) for grad in (latents_grad, tokens_grad))
        work, scale = latent_sums.dtype, head_dim**-0.5
        chunks, *buffers = _make_chunks(latent_refs, token_refs, work, 2)
        refs, values = (_expand(_heads(tensor, work), num_clouds) for tensor in (latent_refs, latent_values))
        refs = refs * scale
        across = (refs * LOG2_E).mT.contiguous()
        grad, mean = _by_sum(latents_grad, latents, latent_sums)
        left = torch.cat([grad, -mean, values, torch.ones_like(mean)], 3).mT.contiguous()
        refs_grad, values_grad = (values.new_zeros(values.shape) for _ in range(2))
        token_grads = [tensor.new_empty(tensor.shape) for tensor in (token_refs, token_values)]
        for cloud in range(num_clouds):
            for chunk in chunks:
                at = (cloud, chunk)
                keys, tok_values = (_heads(tensor[at], work) for tensor in (token_refs, token_values))
                tok_grad, mean = _by_sum(tokens_grad[at], tokens[at], token_sums[cloud, :, chunk])
                right = torch.cat([tok_values, torch.ones_like(mean), tok_grad, -mean], 2)
                weights = torch.bmm(keys, across[cloud], out=_view_for(buffers[0], keys, across[cloud])).exp2_()
                values_grad[cloud].baddbmm_(weights.mT, tok_grad)
                token_grads[1][at] = torch.bmm(weights, grad[cloud]).transpose(0, 1)
                change = torch.bmm(right, left[cloud], out=_view_for(buffers[1], right, left[cloud])).mul_(weights)
                refs_grad[cloud].baddbmm_(change.mT, keys)
                token_grads[0][at] = torch.bmm(change, refs[cloud]).transpose(0, 1)
        grads = (refs_grad.mul_(scale).transpose(1, 2), values_grad.transpose(1, 2), *token_grads)
        return tuple(grad.sum_to_size(one.shape).to(one.dtype) for grad, one in zip(grads, inputs, strict=True))


def _make_chunks(latents: Tensor, tokens: Tensor, work: torch.dtype, num_buffers: int = 1) -> tuple:
    """Return a list of slices of the tokens, and buffers for the similarities of one chunk."""
    (_, num_tokens, num_heads, _), num_latents = tokens.shape, latents.shape[1]
    size = min(num_tokens, max(1, CHUNK * torch.get_num_threads() // (num_heads * num_latents)))
    buffers = (tokens.new_empty(size * num_heads * num_latents, dtype=work) for _ in range(num_buffers))
    return [slice(first, first + size) for first in range(0, num_tokens, size)], *buffers


def _view_for(buffer: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Return a view of a buffer in the shape of the batched matrix product of two tensors."""
    shape = (*left.shape[:2], right.shape[2])
    return buffer[: left.shape[0] * left.shape[1] * right.shape[2]].view(shape)


def _heads(tensor: Tensor, work: torch.dtype) -> Tensor:
    """Move heads before rows, (..., H, N, E), and cast to the dtype of the computation."""
    return tensor.transpose(-3, -2).to(work)


def _expand(tensor: Tensor, num_clouds: int) -> Tensor:
    """Return a contiguous tensor, expanded over the batch where latents are shared."""
    return tensor.contiguous().expand(num_clouds, -1, -1, -1)


def _by_sum(grad: Tensor, out: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradient of an output divided by the sum of exponentials, and its dot product with the output."""
    grad = _heads(grad, sums.dtype) / sums
    return grad, (_heads(out, sums.dtype) * grad).sum(-1, keepdim=True)
