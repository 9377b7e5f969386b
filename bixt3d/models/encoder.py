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
    """Learned latents that gather what a cloud is. ``dim``: width of latents; ``token_dims``: of tokens, by layer.

    ``level_dims``: widths of the levels that it returns in place of the one that it reads.
    ``reads``: what its last layer prepares for the head.
    """

    reads: Literal["latents", "tokens", "both"]
    dim: int
    token_dims: list[int]
    level_dims: list[int]

    @abstractmethod
    def forward(self, pyramid: Pyramid) -> tuple[Float[Tensor, "#B L D"], Pyramid]:
        """Return both streams as they are: latents, and the levels with the refined tokens last."""


def check_fit(tokenizer: Tokenizer | ImageTokenizer, encoder: Encoder) -> None:
    """Raise InputError if the encoder reads tokens of another width than the tokenizer makes."""
    if tokenizer.dim != encoder.token_dims[0]:
        raise InputError(
            f"the tokenizer makes tokens of width {tokenizer.dim}, but the encoder reads {encoder.token_dims[0]}"
        )


def make_latents(num_latents: int, dim: int) -> nn.Parameter:
    """Return latents as the authors start them: truncated normal, standard deviation 0.02, one set for all clouds."""
    if min(num_latents, dim) < 1:
        raise InputError(f"an encoder needs at least 1 latent of width 1, not {num_latents} of width {dim}")
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(1, num_latents, dim), std=0.02))


def stochastic_depth_rates(last: float, depth: int) -> list[float]:
    """Return stochastic depth rates that rise linearly from 0 at the first layer."""
    return [last * i / max(1, depth - 1) for i in range(depth)]


class EncoderLayer(nn.Module):
    """One step: both sides exchange, latents talk to each other, tokens may be refined by a module of their own.

    ``checkpointing`` of a module may be changed: activation checkpointing in training, which keeps only the input, and
    computes the rest again in the backward pass (for clouds whose activations do not fit in memory).
    """

    def __init__(self, cross: CrossBlock, latents: nn.Module, refine: nn.Module):
        super().__init__()
        self.cross, self.latents, self.refine = cross, latents, refine
        self.checkpointing = False

    def forward(
        self, latents: Float[Tensor, "#B L D"], tokens: Tokens
    ) -> tuple[Float[Tensor, "#B L D"], Tokens, Tokens]:
        """Return latents, tokens, and tokens refined."""
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
    """Let no running statistics move: they did so when the batch was seen first."""
    norms = [part for part in module.modules() if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d))]
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
    """Bi-directional cross-attention, then latent self-attention, in every layer.

    Args:
        dim: width of the latents, and of the tokens unless ``token_dim`` says otherwise.
        depth: number of layers.
        num_heads: heads of every attention.
        num_latents: learned vectors that describe the whole.
        token_dim: width of the tokens, or one width for each layer.
        reads: what the head will read. ``latents``: the last layer leaves the tokens as they are (classification);
            ``tokens``: it leaves the latents as they are; ``both``: all layers are two-sided.
        keep_layers: layers, counted from 1, whose tokens are returned as levels of their own (for a decoder that reads
            several), though their number does not change.
        refine: module between layers that refines tokens, built as ``refine(dim, out_dim)`` for every layer but
            the last one; None: tokens pass as they are.
        drop_path_cross: stochastic depth rate of the last cross-attention; earlier layers less, linearly.
        drop_path_self: the same for the latents' self-attention.
        layer_scale: start value of LayerScale on every residual branch; None: no LayerScale.

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
            if i in self.kept or refined.feats.shape[1] != tokens.feats.shape[1]:
                levels.append(tokens)
            tokens = refined
        return latents, (*levels, tokens)
