"""Residual units of the encoders: attention, then a feed-forward network, on latents, tokens or both."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bixt3d.nn.attention import BiAttention, ReadAttention, SelfAttention
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


PIECE = 2048
"""Tokens of all clouds that go through a feed-forward network at a time where it goes in pieces."""


class FeedForwardUnit(nn.Module):
    """The second half of every block: norm, feed-forward network, residual.

    In evaluation on a CPU, without gradients, many tokens pass in pieces: what is between its layers, four times as
    wide as tokens, stays in the cache and never is in memory as a whole.
    """

    def __init__(self, dim: int, drop_path: float = 0.0, layer_scale: float | None = None):
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.ffn = FeedForward(dim)
        self.residual = Residual(dim, drop_path, layer_scale)

    def forward(self, feats: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        if self.training or torch.is_grad_enabled() or feats.device.type != "cpu" or torch.compiler.is_compiling():
            return self._refine(feats)
        out = feats.new_empty(feats.shape)
        for piece, place in zip(feats.flatten(0, 1).split(PIECE), out.flatten(0, 1).split(PIECE), strict=True):
            place.copy_(self._refine(piece[None])[0])
        return out

    def _refine(self, feats: Tensor) -> Tensor:
        return self.residual(feats, self.ffn(self.norm(feats)))


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
        self.latents_read = ReadAttention(latent_dim, token_dim, num_heads)
        self.tokens_read = ReadAttention(token_dim, latent_dim, num_heads, inner_dim=latent_dim)
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


class ReadBlock(CrossBlock):
    """Latents read the tokens, which stay as they are: the last layer of a classifier, and Perceiver's only kind."""

    def __init__(
        self, latent_dim: int, token_dim: int, num_heads: int, drop_path: float = 0.0, layer_scale: float | None = None
    ):
        super().__init__(latent_dim, token_dim)
        self.attention = ReadAttention(latent_dim, token_dim, num_heads)
        self.latent_residual = Residual(latent_dim, drop_path, layer_scale)
        self.latent_ffn = FeedForwardUnit(latent_dim, drop_path, layer_scale)

    def forward(
        self, latents: Float[Tensor, "#B L D"], tokens: Float[Tensor, "B T C"]
    ) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "B T C"]]:
        gathered = self.attention(self.latent_norm(latents), self.token_norm(tokens))
        return self.latent_ffn(self.latent_residual(latents, gathered)), tokens


class WriteBlock(CrossBlock):
    """Tokens read the latents, which are not needed any more: the last layer of a model that reads tokens."""

    def __init__(
        self, latent_dim: int, token_dim: int, num_heads: int, drop_path: float = 0.0, layer_scale: float | None = None
    ):
        super().__init__(latent_dim, token_dim)
        self.attention = ReadAttention(token_dim, latent_dim, num_heads, inner_dim=latent_dim)
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
