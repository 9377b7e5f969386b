"""Attention maps: the cross-attention between latents and tokens, computed again from the inputs of its layers.

The layers store no attention matrix. Forward hooks record the inputs of every cross-attention while the model predicts.
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
    """The similarities (attention logits before the softmax) of one layer for one cloud or image.

    Args:
        pos: positions of the tokens.
        read_similarity: similarities by which latents read tokens; None in a layer where latents do not read.
        write_similarity: similarities by which tokens read latents; None in a layer where tokens do not read. The same
            as ``read_similarity`` in a bi-directional layer.
        grid: rows and columns of an image's patches, which are the tokens row by row; None for clouds.
    """

    pos: Float[Tensor, "T P"]
    read_similarity: Float[Tensor, "H L T"] | None = None
    write_similarity: Float[Tensor, "H L T"] | None = None
    grid: tuple[int, int] | None = None

    @property
    def reads(self) -> Float[Tensor, "L T"] | None:
        """The attention of latents to tokens: each row sums to 1; mean over heads, as in the paper's figure A2."""
        return None if self.read_similarity is None else self.read_similarity.softmax(-1).mean(0)

    @property
    def writes(self) -> Float[Tensor, "T L"] | None:
        """The attention of tokens to latents: each row sums to 1; mean over heads."""
        return None if self.write_similarity is None else self.write_similarity.softmax(-2).mean(0).T

    @property
    def symmetry(self) -> float | None:
        """The correlation over tokens of both maps of a latent, mean over latents; None for a one-sided layer."""
        if self.reads is None or self.writes is None:
            return None
        pairs = torch.stack([self.reads, self.writes.T])
        pairs = pairs - pairs.mean(-1, keepdim=True)
        return float(torch.cosine_similarity(*pairs, dim=-1).mean())


def attention_maps(
    model: nn.Module, xyz: Float[Tensor, "N 3"], feats: Float[Tensor, "N F"], category: int | None = None
) -> list[LayerAttention]:
    """Return the attention maps of every layer for one cloud.

    ``category``: index of the category, for part segmenters. Raises InputError for a model without latents.
    """
    inputs = [xyz[None], feats[None]] + ([] if category is None else [torch.tensor([category], device=xyz.device)])
    return _run(model, inputs)


def image_attention_maps(model: nn.Module, image: Float[Tensor, "3 X Y"]) -> list[LayerAttention]:
    """Return the attention maps of every layer for one image, normalized as in training.

    Raises InputError for a model without latents, or for a size that the stride of its patches does not divide.
    """
    return _run(model, [image[None]])


@torch.no_grad()
def _run(model: nn.Module, inputs: Sequence[Tensor]) -> list[LayerAttention]:
    encoder = next((module for module in model.modules() if isinstance(module, Encoder)), None)
    if encoder is None:
        raise InputError(f"a {type(model).__name__} has no latents whose attention could be shown")
    layers: list[LayerAttention] = []
    hooks, training = _add_hooks(encoder, layers), model.training
    try:
        model.eval()(*inputs)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return layers


def _add_hooks(encoder: Encoder, layers: list[LayerAttention]) -> list[Any]:
    """Return hooks that append to ``layers`` the attention that the encoder computes, until they are removed."""
    current: dict[str, Tokens] = {}
    hooks = [encoder.register_forward_pre_hook(lambda _, args: current.update(tokens=args[0][-1]))]
    for module in encoder.modules():
        if isinstance(module, EncoderLayer):
            hooks.append(module.register_forward_pre_hook(lambda _, args: current.update(tokens=args[1])))
        elif isinstance(module, CrossBlock):
            hooks.append(module.register_forward_pre_hook(lambda *_: layers.append(_start(current["tokens"]))))
            for attention, latents_read, tokens_read in _directions(module):
                hooks.append(attention.register_forward_hook(partial(_record, layers, latents_read, tokens_read)))
    return hooks


def _start(tokens: Tokens) -> LayerAttention:
    return LayerAttention(tokens.pos[0].cpu(), grid=tokens.grid)


def _directions(block: CrossBlock) -> list[tuple[nn.Module, bool, bool]]:
    """Return the attentions of a block, each with whether latents read in it and whether tokens do."""
    if isinstance(block, SequentialBlock):
        return [(block.latents_read, True, False), (block.tokens_read, False, True)]
    return [
        (block.attention, isinstance(block, (BiBlock, LatentsReadBlock)), isinstance(block, (BiBlock, TokensReadBlock)))
    ]


def _record(
    layers: list[LayerAttention], latents_read: bool, tokens_read: bool, module: nn.Module, args: Any, _: Any
) -> None:
    logits = similarity(*_refs(module, *args, reader_is_latent=latents_read)).float()[0].cpu()
    read = {"read_similarity": logits} if latents_read else {}
    layers[-1] = replace(layers[-1], **read, **({"write_similarity": logits} if tokens_read else {}))


def _refs(
    module: BiAttention | CrossAttention, first: Tensor, second: Tensor, reader_is_latent: bool
) -> tuple[Float[Tensor, "#B L H E"], Float[Tensor, "B T H E"]]:
    """Return the refs of latents and tokens; of one-sided attention, its queries and keys instead."""
    if isinstance(module, BiAttention):
        sides = module.latent_ref_value(first), module.token_ref_value(second)
        latents, tokens = (side.unflatten(-1, (2, -1, module.head_dim)).select(-3, 0) for side in sides)
        return latents, tokens
    query = module.query(first).unflatten(-1, (-1, module.head_dim))
    key = module.key_value(second).unflatten(-1, (2, -1, module.head_dim)).select(-3, 0)
    return (query, key) if reader_is_latent else (key, query)
