"""What the latents look at: the attention between latents and tokens, computed again from their refs.

The layers themselves keep no matrix. Hooks see what goes into every cross-attention while a model predicts as always.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bixt3d.models.encoder import Encoder, EncoderLayer
from bixt3d.nn.attention import BiAttention, CrossAttention
from bixt3d.nn.blocks import BiBlock, CrossBlock, LatentsReadBlock, SequentialBlock, TokensReadBlock
from bixt3d.ops.bi_attention import similarity
from bixt3d.types import InputError, Tokens


@dataclass(frozen=True)
class LayerAttention:
    """The similarities of one layer for one cloud or image, before any softmax; ``pos`` are positions of the tokens.

    In a bi-directional layer both are the same. Where latents do not read or tokens do not, theirs is None.
    ``grid``: rows and columns of an image's patches; the tokens are row after row of them.
    """

    pos: Float[Tensor, "T P"]
    read_similarity: Float[Tensor, "H L T"] | None = None
    write_similarity: Float[Tensor, "H L T"] | None = None
    grid: tuple[int, int] | None = None

    @property
    def reads(self) -> Float[Tensor, "L T"] | None:
        """How much each latent reads of each token: its row adds up to 1; the mean over heads, as in figure A2."""
        return None if self.read_similarity is None else self.read_similarity.softmax(-1).mean(0)

    @property
    def writes(self) -> Float[Tensor, "T L"] | None:
        """How much each token reads of each latent: its row adds up to 1; the mean over heads."""
        return None if self.write_similarity is None else self.write_similarity.softmax(-2).mean(0).T

    @property
    def symmetry(self) -> float | None:
        """How alike both maps of a latent are: correlation over tokens, mean over latents; None if one-sided."""
        if self.reads is None or self.writes is None:
            return None
        pairs = torch.stack([self.reads, self.writes.T])
        pairs = pairs - pairs.mean(-1, keepdim=True)
        return float(torch.cosine_similarity(*pairs, dim=-1).mean())


def attention_maps(
    model: nn.Module, xyz: Float[Tensor, "N 3"], feats: Float[Tensor, "N F"], category: int | None = None
) -> list[LayerAttention]:
    """Return the attention of every layer while a model looks at one cloud; ``category``: what a segmenter is told.

    Raises InputError for a model without latents.
    """
    given = [xyz[None], feats[None]] + ([] if category is None else [torch.tensor([category], device=xyz.device)])
    return _run(model, given)


def image_attention_maps(model: nn.Module, image: Float[Tensor, "3 X Y"]) -> list[LayerAttention]:
    """Return the attention of every layer while a model looks at one image, normalized as in training.

    Raises InputError for a model without latents, or for a size that the stride of its patches does not divide.
    """
    return _run(model, [image[None]])


@torch.no_grad()
def _run(model: nn.Module, given: Sequence[Tensor]) -> list[LayerAttention]:
    encoder = next((part for part in model.modules() if isinstance(part, Encoder)), None)
    if encoder is None:
        raise InputError(f"a {type(model).__name__} has no latents whose attention could be shown")
    layers: list[LayerAttention] = []
    hooks, training = _watch(encoder, layers), model.training
    try:
        model.eval()(*given)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return layers


def _watch(encoder: Encoder, layers: list[LayerAttention]) -> list[Any]:
    """Add to ``layers`` whatever the encoder computes from now on, until the hooks returned are removed."""
    here: dict[str, Tokens] = {}
    hooks = [encoder.register_forward_pre_hook(lambda _, args: here.update(tokens=args[0][-1]))]
    for part in encoder.modules():
        if isinstance(part, EncoderLayer):
            hooks.append(part.register_forward_pre_hook(lambda _, args: here.update(tokens=args[1])))
        elif isinstance(part, CrossBlock):
            hooks.append(part.register_forward_pre_hook(lambda *_: layers.append(_start(here["tokens"]))))
            for attention, latents_read, tokens_read in _directions(part):
                hooks.append(attention.register_forward_hook(partial(_record, layers, latents_read, tokens_read)))
    return hooks


def _start(tokens: Tokens) -> LayerAttention:
    return LayerAttention(tokens.pos[0].cpu(), grid=tokens.grid)


def _directions(block: CrossBlock) -> list[tuple[nn.Module, bool, bool]]:
    """Return the attentions of a block: do the latents read in it, do the tokens?"""
    if isinstance(block, SequentialBlock):
        return [(block.latents_read, True, False), (block.tokens_read, False, True)]
    return [
        (block.attention, isinstance(block, (BiBlock, LatentsReadBlock)), isinstance(block, (BiBlock, TokensReadBlock)))
    ]


def _record(
    layers: list[LayerAttention], latents_read: bool, tokens_read: bool, module: nn.Module, args: Any, _: Any
) -> None:
    found = similarity(*_refs(module, *args, reader_is_latent=latents_read)).float()[0].cpu()
    seen = {"read_similarity": found} if latents_read else {}
    layers[-1] = replace(layers[-1], **seen, **({"write_similarity": found} if tokens_read else {}))


def _refs(
    module: BiAttention | CrossAttention, first: Tensor, second: Tensor, reader_is_latent: bool
) -> tuple[Float[Tensor, "#B L H E"], Float[Tensor, "B T H E"]]:
    """Return the refs of latents and tokens; in one-sided attention, queries and keys take their place."""
    if isinstance(module, BiAttention):
        sides = module.latent_ref_value(first), module.token_ref_value(second)
        latents, tokens = (side.unflatten(-1, (2, -1, module.head_dim)).select(-3, 0) for side in sides)
        return latents, tokens
    query = module.query(first).unflatten(-1, (-1, module.head_dim))
    key = module.key_value(second).unflatten(-1, (2, -1, module.head_dim)).select(-3, 0)
    return (query, key) if reader_is_latent else (key, query)
