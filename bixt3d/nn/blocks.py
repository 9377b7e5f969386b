"""Pre-norm transformer blocks of the encoders: attention and feed-forward networks on latents, tokens or both."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from bixt3d.nn.attention import BiAttention, CrossAttention, SelfAttention
from bixt3d.nn.mlp import FeedForward
from bixt3d.types import InputError


class DropPath(nn.Module):
    """Stochastic depth: in training, drop the residual branch of a sample with probability ``rate``, scale others."""

    def __init__(self, rate: float = 0.0):
        super().__init__()
        if not 0 <= rate < 1:
            raise InputError(f"the stochastic depth rate must be at least 0 and below 1, not {rate}")
        self.rate = rate

    def forward(self, branch: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        if not self.training or self.rate == 0:
            return branch
        keep = torch.rand(len(branch), 1, 1, device=branch.device) >= self.rate
        return branch * keep / (1 - self.rate)


class LayerScale(nn.Module):
    """A learned factor for every channel of a residual branch, ``start`` at first (Touvron et al. 2021)."""

    def __init__(self, dim: int, start: float):
        super().__init__()
        self.factor = nn.Parameter(torch.full((dim,), start))

    def forward(self, branch: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        return branch * self.factor


class Residual(nn.Module):
    """Residual connection: add a branch after an optional LayerScale and stochastic depth."""

    def __init__(self, dim: int, drop_path: float = 0.0, layer_scale: float | None = None):
        super().__init__()
        self.scale = nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)
        self.drop = DropPath(drop_path)

    def forward(self, feats: Float[Tensor, "#B N D"], branch: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        return feats + self.drop(self.scale(branch))


CHUNK_SIZES = {"cpu": 2**11}
"""Tokens per chunk of a feed-forward network, by device type (2**16 on other devices)."""


class FeedForwardUnit(nn.Module):
    """The second half of every block: layer normalization, feed-forward network, residual connection.

    The hidden features are four times as wide. In evaluation on a CPU without gradients, tokens are processed in chunks
    whose hidden features fit in the cache. Set the attribute ``checkpointing`` for activation checkpointing: in
    training, on any device, chunks store only their inputs and are computed again in the backward pass.
    """

    def __init__(self, dim: int, drop_path: float = 0.0, layer_scale: float | None = None):
        super().__init__()
        self.checkpointing = False
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.ffn = FeedForward(dim)
        self.residual = Residual(dim, drop_path, layer_scale)

    def forward(self, feats: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        if torch.compiler.is_compiling():
            return self._refine(feats)
        if self.training and self.checkpointing:
            parameters = (*self.norm.parameters(), *self.ffn.parameters())
            return self.residual(feats, _CheckpointedChunks.apply(self._branch, feats, *parameters))
        if self.training or torch.is_grad_enabled() or feats.device.type != "cpu":
            return self._refine(feats)
        return _in_chunks(self._refine, feats)

    def _branch(self, feats: Tensor) -> Tensor:
        return self.ffn(self.norm(feats))

    def _refine(self, feats: Tensor) -> Tensor:
        return self.residual(feats, self._branch(feats))


def _chunks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield chunks (1, R, D) of the same tokens of each tensor (B, N, D)."""
    size = CHUNK_SIZES.get(tensors[0].device.type, 2**16)
    yield from zip(*(tensor.flatten(0, 1)[None].split(size, 1) for tensor in tensors), strict=True)


def _in_chunks(function: Callable[[Tensor], Tensor], feats: Tensor) -> Tensor:
    """Apply a function that treats each token independently, chunk by chunk."""
    out = feats.new_empty(feats.shape)
    for chunk, out_chunk in _chunks(feats, out):
        out_chunk.copy_(function(chunk))
    return out


class _CheckpointedChunks(torch.autograd.Function):
    """Activation checkpointing of a function that treats each token independently, without randomness.

    Only the inputs are stored; the backward pass computes each chunk again.
    """

    @staticmethod
    def forward(ctx: Any, function: Callable[[Tensor], Tensor], feats: Tensor, *parameters: Tensor) -> Tensor:
        ctx.save_for_backward(feats, *parameters)
        ctx.function, device = function, feats.device.type
        ctx.precision = {"dtype": torch.get_autocast_dtype(device), "enabled": torch.is_autocast_enabled(device)}
        return _in_chunks(function, feats)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        feats, *parameters = ctx.saved_tensors
        feats_grad, totals = feats.new_empty(feats.shape), [torch.zeros_like(parameter) for parameter in parameters]
        for chunk, chunk_grad, out_chunk in _chunks(feats, grad, feats_grad):
            with torch.enable_grad(), torch.autocast(feats.device.type, **ctx.precision):
                chunk = chunk.detach().requires_grad_()
                out = ctx.function(chunk)
            grads = torch.autograd.grad(out, [chunk, *parameters], chunk_grad)
            out_chunk.copy_(grads[0])
            for total, parameter_grad in zip(totals, grads[1:], strict=True):
                total += parameter_grad
        return None, feats_grad, *totals


class CrossBlock(nn.Module):
    """Base class of blocks on latents and tokens: layer normalization of both before attention (pre-norm)."""

    def __init__(self, latent_dim: int, token_dim: int):
        super().__init__()
        self.latent_norm = nn.LayerNorm(latent_dim, eps=1e-6)
        self.token_norm = nn.LayerNorm(token_dim, eps=1e-6)


class BiBlock(CrossBlock):
    """Bi-directional cross-attention, then a feed-forward network for latents and one for tokens (paper, figure 2)."""

    def __init__(
        self, latent_dim: int, token_dim: int, num_heads: int, drop_path: float = 0.0, layer_scale: float | None = None
    ):
        super().__init__(latent_dim, token_dim)
        self.attention = BiAttention(latent_dim, token_dim, num_heads)
        self.latent_residual = Residual(latent_dim, drop_path, layer_scale)
        self.token_residual = Residual(token_dim, drop_path, layer_scale)
        self.latent_ffn = FeedForwardUnit(latent_dim, drop_path, layer_scale)
        self.token_ffn = FeedForwardUnit(token_dim, drop_path, layer_scale)

    def forward(
        self, latents: Float[Tensor, "#B L D"], tokens: Float[Tensor, "B T C"]
    ) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "B T C"]]:
        to_latents, to_tokens = self.attention(self.latent_norm(latents), self.token_norm(tokens))
        latents = self.latent_ffn(self.latent_residual(latents, to_latents))
        return latents, self.token_ffn(self.token_residual(tokens, to_tokens))


class SequentialBlock(CrossBlock):
    """Two separate cross-attentions: latents read the tokens, then tokens read the latents (paper, section 3.2).

    It has the same four norms as `BiBlock`: ``latent_norm`` is used again where the tokens read the latents.
    """

    def __init__(
        self, latent_dim: int, token_dim: int, num_heads: int, drop_path: float = 0.0, layer_scale: float | None = None
    ):
        super().__init__(latent_dim, token_dim)
        self.latents_read = CrossAttention(latent_dim, token_dim, num_heads)
        self.tokens_read = CrossAttention(token_dim, latent_dim, num_heads, inner_dim=latent_dim)
        self.latent_residual = Residual(latent_dim, drop_path, layer_scale)
        self.token_residual = Residual(token_dim, drop_path, layer_scale)
        self.latent_ffn = FeedForwardUnit(latent_dim, drop_path, layer_scale)
        self.token_ffn = FeedForwardUnit(token_dim, drop_path, layer_scale)

    def forward(
        self, latents: Float[Tensor, "#B L D"], tokens: Float[Tensor, "B T C"]
    ) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "B T C"]]:
        normed_tokens = self.token_norm(tokens)
        latents = self.latent_residual(latents, self.latents_read(self.latent_norm(latents), normed_tokens))
        tokens = self.token_residual(tokens, self.tokens_read(normed_tokens, self.latent_norm(latents)))
        return self.latent_ffn(latents), self.token_ffn(tokens)


class LatentsReadBlock(CrossBlock):
    """One-sided cross-attention: latents read the tokens. Last layer of a classifier; the only kind in Perceiver."""

    def __init__(
        self, latent_dim: int, token_dim: int, num_heads: int, drop_path: float = 0.0, layer_scale: float | None = None
    ):
        super().__init__(latent_dim, token_dim)
        self.attention = CrossAttention(latent_dim, token_dim, num_heads)
        self.latent_residual = Residual(latent_dim, drop_path, layer_scale)
        self.latent_ffn = FeedForwardUnit(latent_dim, drop_path, layer_scale)

    def forward(
        self, latents: Float[Tensor, "#B L D"], tokens: Float[Tensor, "B T C"]
    ) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "B T C"]]:
        gathered = self.attention(self.latent_norm(latents), self.token_norm(tokens))
        return self.latent_ffn(self.latent_residual(latents, gathered)), tokens


class TokensReadBlock(CrossBlock):
    """One-sided cross-attention: tokens read the latents. Last layer of a model whose head reads tokens."""

    def __init__(
        self, latent_dim: int, token_dim: int, num_heads: int, drop_path: float = 0.0, layer_scale: float | None = None
    ):
        super().__init__(latent_dim, token_dim)
        self.attention = CrossAttention(token_dim, latent_dim, num_heads, inner_dim=latent_dim)
        self.token_residual = Residual(token_dim, drop_path, layer_scale)
        self.token_ffn = FeedForwardUnit(token_dim, drop_path, layer_scale)

    def forward(
        self, latents: Float[Tensor, "#B L D"], tokens: Float[Tensor, "B T C"]
    ) -> tuple[Float[Tensor, "#B L D"], Float[Tensor, "B T C"]]:
        gathered = self.attention(self.token_norm(tokens), self.latent_norm(latents))
        return latents, self.token_ffn(self.token_residual(tokens, gathered))


class SelfBlock(nn.Module):
    """Self-attention of the latents and a feed-forward network."""

    def __init__(self, dim: int, num_heads: int, drop_path: float = 0.0, layer_scale: float | None = None):
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.attention = SelfAttention(dim, num_heads)
        self.residual = Residual(dim, drop_path, layer_scale)
        self.ffn = FeedForwardUnit(dim, drop_path, layer_scale)

    def forward(self, latents: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        return self.ffn(self.residual(latents, self.attention(self.norm(latents))))
