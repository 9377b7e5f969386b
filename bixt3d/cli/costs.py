"""Count the cost of a model as the paper does: with fvcore, on a trace of one example."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any
from warnings import catch_warnings, simplefilter

import torch
from torch import Tensor, nn

from bixt3d.cli.cost_trace import COUNTED_AS, Traceable
from bixt3d.io.extras import need
from bixt3d.models.decoder import DecoderBlock
from bixt3d.nn.attention import BiAttention
from bixt3d.nn.grouping import GroupBlock
from bixt3d.ops import similarity
from bixt3d.tokenizers import GroupTokenizer
from bixt3d.types import Tokens


@dataclass(frozen=True)
class Cost:
    """Cost of one example.

    ``flops``: multiply-adds of convolutions, linear layers and matrix products; 5 for every element of a LayerNorm, 2
    of a BatchNorm, 4 (bilinear) or 1 of an enlarged image; no softmax, activation or sum. ``activations``: elements
    that convolutions, linear layers and matrix products put out ("Mem." in the paper). ``parameters``: all of them.
    """

    flops: int
    activations: int
    parameters: int


@dataclass(frozen=True)
class PointWork:
    """The work of a point operator on one cloud over all its calls, which fvcore does not count.

    ``distances``: pairs of points whose distance is worked out if all are compared (a k-d tree compares fewer);
    ``copied``: elements gathered by index.
    """

    operator: str
    calls: int
    distances: int
    copied: int


def count_cost(model: nn.Module, *inputs: Tensor) -> Cost:
    """Count the cost of a model on a batch of one example, in evaluation.

    Attention counts in its explicit form: the similarity, once for both directions of a bi-directional one, and each
    product with the values. Raises InputError without fvcore.
    """
    need("counting costs", "fvcore")
    with catch_warnings():
        simplefilter("ignore")  # fvcore uses torch.jit, which is deprecated
        from fvcore.nn import activation_count, flop_count
        from fvcore.nn.jit_analysis import JitModelAnalysis
    flops = sys.modules[flop_count.__module__]._DEFAULT_SUPPORTED_OPS | _FLOPS
    activations = sys.modules[activation_count.__module__]._DEFAULT_SUPPORTED_OPS | _ACTIVATIONS
    for counts in (flops, activations):
        counts |= {ours: counts[known] for ours, known in COUNTED_AS.items() if known in counts}
    handles = {name: partial(_count_both, flops.get(name), activations.get(name)) for name in flops | activations}
    with _without_numbers(model, inputs) as (copy, empty), Traceable():
        analysis = JitModelAnalysis(copy, empty).set_op_handle(**handles)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        totals = analysis.by_operator()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Cost(int(totals["flops"]), int(totals["activations"]), parameters)


def count_point_work(model: nn.Module, *inputs: Tensor) -> list[PointWork]:
    """Count the distances and gathered elements of a model on one cloud, by the sizes of its groups and decoder."""
    works = _search_for_outliers(model, inputs)

    def add(operator: str, distances: int, copied: int = 0) -> None:
        works.append(PointWork(operator, 1, distances, copied))

    def group(block: GroupBlock, args: tuple[Any, ...]) -> None:
        size, known = args[0].pos.shape[1], args[0].neighbor_index
        groups = block.num_groups or size // block.reduce
        if groups < size:
            add("farthest point sampling", (groups - 1) * size)
        if groups < size or known is None or known.shape[2] < block.num_neighbors:
            add("nearest neighbors", groups * size)
        rows = groups * block.num_neighbors
        add("gathering of neighbors", 0, rows * (block.norm.num_features + block.group.near_dim))

    def carry(block: DecoderBlock, args: tuple[Any, ...]) -> None:
        fine, coarse = (level.pos.shape[1] for level in args)
        add("nearest neighbors", fine * coarse)
        add("interpolation", 0, fine * min(3, coarse) * block.fuse[0].out_features)

    with _without_numbers(model, inputs) as (copy, empty):
        for part in copy.modules():
            if isinstance(part, (GroupBlock, DecoderBlock)):
                part.register_forward_pre_hook(group if isinstance(part, GroupBlock) else carry)
        copy(*empty)
    return [
        _add_up([work for work in works if work.operator == name]) for name in dict.fromkeys(w.operator for w in works)
    ]


def _search_for_outliers(model: nn.Module, inputs: Sequence[Tensor]) -> list[PointWork]:
    tokenizers = [part for part in model.modules() if isinstance(part, GroupTokenizer) and part.outliers]
    return [PointWork("nearest neighbors", 1, inputs[0].shape[1] ** 2, 0) for _ in tokenizers]


def _add_up(works: list[PointWork]) -> PointWork:
    distances, copied = sum(work.distances for work in works), sum(work.copied for work in works)
    return PointWork(works[0].operator, len(works), distances, copied)


@contextmanager
def _without_numbers(model: nn.Module, inputs: Sequence[Tensor]) -> Iterator[tuple[nn.Module, tuple[Tensor, ...]]]:
    """Give a copy of the model for evaluation and the inputs, both on the device ``meta``, which knows shapes only."""
    copy = deepcopy(model).to("meta").eval()
    for part in copy.modules():
        if type(part) in (BiAttention, GroupBlock):
            part.__class__ = {BiAttention: _ExplicitAttention, GroupBlock: _IdleGroupBlock}[type(part)]
        if isinstance(part, GroupTokenizer):
            part.outliers = 0.0  # they are found by numbers
    with torch.no_grad():
        yield copy, tuple(one.to("meta") for one in inputs)


class _ExplicitAttention(BiAttention):
    """Bi-directional attention as it is defined: one similarity, two softmaxes."""

    def forward(self, latents: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        sides = self.latent_ref_value(latents), self.token_ref_value(tokens)
        (latent_refs, latent_values), (token_refs, token_values) = (
            side.unflatten(-1, (2, -1, self.head_dim)).unbind(-3) for side in sides
        )
        shared = similarity(latent_refs, token_refs)
        latents = shared.softmax(-1) @ token_values.transpose(1, 2)
        tokens = shared.softmax(-2).transpose(-1, -2) @ latent_values.transpose(1, 2)
        return self.latent_out(latents.transpose(1, 2).flatten(2)), self.token_out(tokens.transpose(1, 2).flatten(2))


class _IdleGroupBlock(GroupBlock):
    """Groups without a search for them, which takes numbers."""

    def _search(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        size = tokens.pos.shape[1]
        index = torch.zeros(1, self.num_groups or size // self.reduce, dtype=torch.int64, device="meta")
        return index, index[:, :, None].expand(-1, -1, self.num_neighbors)


def _count_both(flops: Callable | None, activations: Callable | None, inputs: list[Any], outputs: list[Any]) -> Counter:
    """Return what one operator of the trace adds to both counts; fvcore's functions give a number, or one by name."""
    counted = {}
    for name, function in {"flops": flops, "activations": activations}.items():
        found = function(inputs, outputs) if function else 0
        counted[name] = sum(found.values()) if isinstance(found, Counter) else found
    return Counter(counted)


def _shape(value: Any) -> list[int]:
    return value.type().sizes()


def _attention_flops(inputs: list[Any], outputs: list[Any]) -> int:
    query, key, value = (_shape(one) for one in inputs[:3])
    return prod(query[:-1]) * key[-2] * (key[-1] + value[-1])


def _attention_activations(inputs: list[Any], outputs: list[Any]) -> int:
    query, key, value = (_shape(one) for one in inputs[:3])
    return prod(query[:-1]) * (key[-2] + value[-1])


def _matmul_flops(inputs: list[Any], outputs: list[Any]) -> int:
    """Count a matrix product as fvcore does, and also that of a matrix and a vector, which it does not know."""
    first, second = (_shape(one) for one in inputs)
    return prod(first) * (second[-1] if len(second) > 1 else 1)


_FLOPS = {"aten::scaled_dot_product_attention": _attention_flops, "aten::matmul": _matmul_flops}
_ACTIVATIONS = {"aten::scaled_dot_product_attention": _attention_activations}
