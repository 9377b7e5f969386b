"""Residual units of the encoders: attention, then a feed-forward network, on latents, tokens or both."""

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
    """Stochastic depth: in training, drop a residual branch of whole clouds with this probability, scale the others."""

    def __init__(self, rate: float = 0.0):
        super().__init__()
        if not 0 <= rate < 1:
            raise InputError(f"a rate of stochastic depth must be at least 0 and below 1, not {rate}")
        self.rate = rate

    def forward(self, branch: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        if not self.training or self.rate == 0:
            return branch
        keep = torch.rand(len(branch), 1, 1, device=branch.device) >= self.rate
        return branch * keep / (1 - self.rate)


class LayerScale(nn.Module):
    """A learned factor for every channel of a residual branch, small at first."""

    def __init__(self, dim: int, start: float):
        super().__init__()
        self.factor = nn.Parameter(torch.full((dim,), start))

    def forward(self, branch: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        return branch * self.factor


class Residual(nn.Module):
    """What happens to a branch before it is added: an optional LayerScale, then stochastic depth."""

    def __init__(self, dim: int, drop_path: float = 0.0, layer_scale: float | None = None):
        super().__init__()
        self.scale = nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)
        self.drop = DropPath(drop_path)

    def forward(self, feats: Float[Tensor, "#B N D"], branch: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        return feats + self.drop(self.scale(branch))


PIECES = {"cpu": 2**11}
"""By device: tokens of all clouds that go through a feed-forward network at a time where it goes in pieces."""


class FeedForwardUnit(nn.Module):
    """The second half of every block: norm, feed-forward network, residual.

    Between its layers features are four times as wide. In evaluation on a CPU, without gradients, many tokens pass in
    pieces: what is between the layers stays in the cache and never is in memory as a whole. ``checkpointing`` of a
    module may be changed: in training, on any device, each piece then is computed again when the gradients need it.
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
            return self.residual(feats, _InPieces.apply(self._branch, feats, *parameters))
        if self.training or torch.is_grad_enabled() or feats.device.type != "cpu":
            return self._refine(feats)
        return _in_pieces(self._refine, feats)

    def _branch(self, feats: Tensor) -> Tensor:
        return self.ffn(self.norm(feats))

    def _refine(self, feats: Tensor) -> Tensor:
        return self.residual(feats, self._branch(feats))


def _pieces(*parts: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield as many tokens (1, R, D) of each of some tensors (B, N, D) at a time as go together."""
    size = PIECES.get(parts[0].device.type, 2**16)
    yield from zip(*(part.flatten(0, 1)[None].split(size, 1) for part in parts), strict=True)


def _in_pieces(function: Callable[[Tensor], Tensor], feats: Tensor) -> Tensor:
    """Return what a function gives that treats every token alike."""
    out = feats.new_empty(feats.shape)
    for piece, place in _pieces(feats, out):
        place.copy_(function(piece))
    return out


class _InPieces(torch.autograd.Function):
    """A function of tokens, without randomness, of which nothing is kept for the gradients but what goes in."""

    @staticmethod
    def forward(ctx: Any, function: Callable[[Tensor], Tensor], feats: Tensor, *parameters: Tensor) -> Tensor:
        ctx.save_for_backward(feats, *parameters)
        ctx.function, device = function, feats.device.type
        ctx.precision = {"dtype": torch.get_autocast_dtype(device), "enabled": torch.is_autocast_enabled(device)}
        return _in_pieces(function, feats)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        feats, *parameters = ctx.saved_tensors
        feats_grad, totals = feats.new_empty(feats.shape), [torch.zeros_like(parameter) for parameter in parameters]
        for piece, piece_grad, place in _pieces(feats, grad, feats_grad):
            with torch.enable_grad(), torch.autocast(feats.device.type, **ctx.precision):
                piece = piece.detach().requires_grad_()
                out = ctx.function(piece)
            found = torch.autograd.grad(out, [piece, *parameters], piece_grad)
            place.copy_(found[0])
            for total, part in zip(totals, found[1:], strict=True):
                total += part
        return None, feats_grad, *totals


class CrossBlock(nn.Module):
    """What all blocks between latents and tokens share: a norm for each side before attention."""

    def __init__(self, latent_dim: int, token_dim: int):
        super().__init__()
        self.latent_norm = nn.LayerNorm(latent_dim, eps=1e-6)
        self.token_norm = nn.LayerNorm(token_dim, eps=1e-6)


class BiBlock(CrossBlock):
    """Bi-directional cross-attention and a feed-forward network on each side (paper, figure 2)."""

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
    """Two independent cross-attentions: latents read the tokens, then tokens read the latents (paper, section 3.2).

    It has the four norms of the bi-directional block and no more: the tokens read the latents through ``latent_norm``.
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
    """Latents read the tokens, which stay as they are: the last layer of a classifier, and Perceiver's only kind."""

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
    """Tokens read the latents, which are not needed any more: the last layer of a model that reads tokens."""

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
