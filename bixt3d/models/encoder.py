"""The BiXT encoder: latents ("what") and tokens ("where") refine each other, layer by layer (paper, section 2.3)."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bixt3d.nn.blocks import BiBlock, CrossBlock, LatentsReadBlock, SelfBlock, TokensReadBlock
from bixt3d.nn.refinement import Refinement
from bixt3d.tokenizers import ImageTokenizer, Tokenizer
from bixt3d.types import InputError, Pyramid, Tokens


class Encoder(nn.Module, ABC):
    """Base class of encoders with learned latents.

    ``dim``: width of the latents; ``token_dims``: width of the tokens in each layer; ``level_dims``: widths of the
    levels that `forward` returns in place of the coarsest level that it reads; ``reads``: what the head can read after
    the last layer.
    """

    reads: Literal["latents", "tokens", "both"]
    dim: int
    token_dims: list[int]
    level_dims: list[int]

    @abstractmethod
    def forward(self, pyramid: Pyramid) -> tuple[Float[Tensor, "#B L D"], Pyramid]:
        """Return the latents, and the levels with the refined tokens last."""


def check_fit(tokenizer: Tokenizer | ImageTokenizer, encoder: Encoder) -> None:
    """Raise InputError if tokenizer and encoder differ in the width of tokens."""
    if tokenizer.dim != encoder.token_dims[0]:
        raise InputError(
            f"the tokenizer makes tokens of width {tokenizer.dim}, but the encoder reads {encoder.token_dims[0]}"
        )


def make_latents(num_latents: int, dim: int) -> nn.Parameter:
    """Return new latents, shared by all clouds, initialized as by the authors: truncated normal, deviation 0.02."""
    if min(num_latents, dim) < 1:
        raise InputError(f"an encoder needs at least 1 latent of width 1, not {num_latents} of width {dim}")
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(1, num_latents, dim), std=0.02))


def stochastic_depth_rates(last: float, depth: int) -> list[float]:
    """Return the stochastic depth schedule: one rate for each layer, linear from 0 at the first to ``last``."""
    return [last * i / max(1, depth - 1) for i in range(depth)]


class EncoderLayer(nn.Module):
    """One layer: cross-attention between latents and tokens, latent self-attention, optional refinement of tokens.

    Set ``checkpointing`` to True for activation checkpointing in training: only the input is stored, the rest is
    computed again in the backward pass (for clouds whose activations do not fit in memory).
    """

    def __init__(self, cross: CrossBlock, latents: nn.Module, refine: nn.Module):
        super().__init__()
        self.cross, self.latents, self.refine = cross, latents, refine
        self.checkpointing = False

    def forward(
        self, latents: Float[Tensor, "#B L D"], tokens: Tokens
    ) -> tuple[Float[Tensor, "#B L D"], Tokens, Tokens]:
        """Return latents, tokens, and refined tokens."""
        if not (self.checkpointing and self.training and torch.is_grad_enabled()):
            return self._step(latents, tokens)

        def contexts() -> tuple[AbstractContextManager, AbstractContextManager]:
            return nullcontext(), frozen_running_statistics(self)

        return checkpoint(self._step, latents, tokens, use_reentrant=False, context_fn=contexts)

    def _step(self, latents: Tensor, tokens: Tokens) -> tuple[Tensor, Tokens, Tokens]:
        latents, feats = self.cross(latents, tokens.feats)
        tokens = replace(tokens, feats=feats)
        return self.latents(latents), tokens, self.refine(tokens)


@contextmanager
def frozen_running_statistics(module: nn.Module) -> Iterator[None]:
    """Freeze the running statistics of batch norm: the first forward pass has already updated them."""
    norms = [one for one in module.modules() if isinstance(one, (nn.BatchNorm1d, nn.BatchNorm2d))]
    before = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)


class BixtEncoder(Encoder):
    """BiXT encoder: bi-directional cross-attention, then latent self-attention, in every layer (section 2.3).

    Args:
        dim: width of the latents, and of the tokens unless ``token_dim`` is given.
        depth: number of layers.
        num_heads: number of attention heads.
        num_latents: number of latents (learned vectors).
        token_dim: width of the tokens, or one width for each layer.
        reads: what the head reads. ``latents``: the last layer updates latents only (classification); ``tokens``: it
            updates tokens only (segmentation); ``both``: all layers are bi-directional.
        keep_layers: layers, counted from 1, whose tokens are returned as additional levels, for a decoder that reads
            several.
        refine: module that refines tokens between layers, built as ``refine(dim, out_dim)`` for every layer but
            the last; None: no refinement.
        drop_path_cross: stochastic depth rate of the last layer's cross-attention; linear from 0 at the first layer.
        drop_path_self: the same for latent self-attention.
        layer_scale: initial value of LayerScale on every residual branch; None: no LayerScale.

    Example:
        >>> tokens = PointTokenizer(dim=32)(torch.rand(2, 128, 3), torch.empty(2, 128, 0))
        >>> latents, pyramid = BixtEncoder(dim=32, depth=2, num_heads=2, num_latents=8)(tokens)
        >>> latents.shape
        torch.Size([2, 8, 32])
    """

    two_sided_block = BiBlock

    def __init__(  # noqa: PLR0913 (a constructor is the schema of its settings)
        self,
        dim: int = 192,
        depth: int = 12,
        num_heads: int = 6,
        num_latents: int = 64,
        *,
        token_dim: int | list[int] | None = None,
        reads: Literal["latents", "tokens", "both"] = "latents",
        keep_layers: list[int] | None = None,
        refine: Callable[[int, int], Refinement] | None = None,
        drop_path_cross: float = 0.0,
        drop_path_self: float = 0.0,
        layer_scale: float | None = None,
    ):
        super().__init__()
        self.reads, self.dim, self.token_dims = reads, dim, self._widths(token_dim or dim, depth)
        last_block = {"latents": LatentsReadBlock, "tokens": TokensReadBlock, "both": self.two_sided_block}[reads]
        cross_rates, self_rates = (
            stochastic_depth_rates(drop_path_cross, depth),
            stochastic_depth_rates(drop_path_self, depth),
        )
        self.latents = make_latents(num_latents, dim)
        self.kept = self._kept(keep_layers or [], depth)
        self.level_dims = []
        self.layers = nn.ModuleList()
        for i, width in enumerate(self.token_dims):
            last = i == depth - 1
            block = last_block if last else self.two_sided_block
            cross = block(dim, width, num_heads, cross_rates[i], layer_scale)
            unread = last and reads == "tokens"
            latents = nn.Identity() if unread else SelfBlock(dim, num_heads, self_rates[i], layer_scale)
            refined = nn.Identity() if last or refine is None else refine(width, self.token_dims[i + 1])
            self.layers.append(EncoderLayer(cross, latents, refined))
            if last or i in self.kept or getattr(refined, "reduce", 1) > 1:
                self.level_dims.append(width)
        if refine is None and len(set(self.token_dims)) > 1:
            raise InputError("tokens of a width that changes from layer to layer need a refinement that changes it")

    @staticmethod
    def _widths(token_dim: int | Sequence[int], depth: int) -> list[int]:
        if not 1 <= depth <= 1000:
            raise InputError(f"an encoder has at least 1 layer and at most 1000, not {depth}")
        widths = [token_dim] * depth if isinstance(token_dim, int) else list(token_dim)
        if len(widths) != depth:
            raise InputError(f"{len(widths)} token widths given for an encoder of {depth} layers")
        return widths

    @staticmethod
    def _kept(keep_layers: Sequence[int], depth: int) -> set[int]:
        if wrong := [layer for layer in keep_layers if not 1 <= layer < depth]:
            raise InputError(
                f"keep_layers names layer {wrong[0]}, but only the layers 1 to {depth - 1} of {depth} can be kept: "
                "the last one is always returned"
            )
        return {layer - 1 for layer in keep_layers}

    def forward(self, pyramid: Pyramid) -> tuple[Float[Tensor, "#B L D"], Pyramid]:
        *levels, tokens = pyramid
        latents = self.latents
        for i, layer in enumerate(self.layers):
            latents, tokens, refined = layer(latents, tokens)
            if i in self.kept or getattr(layer.refine, "reduce", 1) > 1:  # as in level_dims, also of a single token
                levels.append(tokens)
            tokens = refined
        return latents, (*levels, tokens)
