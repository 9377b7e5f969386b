"""What a model costs, counted as the paper does: by fvcore, on a trace of one example."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from math import prod
from typing import Any
from warnings import catch_warnings, simplefilter

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bixt3d.models.decoder import DecoderBlock
from bixt3d.nn.attention import BiAttention
from bixt3d.nn.grouping import GroupBlock
from bixt3d.types import InputError


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
    """What a point operator does to one cloud, over all its calls, none of which fvcore sees.

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
    try:
        with catch_warnings():
            simplefilter("ignore")  # fvcore uses torch.jit, which is about to leave
            from fvcore.nn import ActivationCountAnalysis, FlopCountAnalysis
    except ImportError:
        raise InputError("costs are counted by fvcore: pip install fvcore") from None
    handles = {"aten::scaled_dot_product_attention": _attention_flops, "aten::matmul": _matmul_flops}
    analyses = (
        (FlopCountAnalysis, handles),
        (ActivationCountAnalysis, {"aten::scaled_dot_product_attention": _attention_activations}),
    )
    totals = []
    copy = _explicit(model)
    with torch.no_grad(), _IntegerSizes():
        for analysis, handles in analyses:
            counter = analysis(copy, inputs).set_op_handle(**handles)
            counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
            totals.append(int(counter.total()))
    return Cost(*totals, sum(parameter.numel() for parameter in model.parameters()))


def count_point_work(model: nn.Module, *inputs: Tensor) -> list[PointWork]:
    """Count the searches and look-ups of a model on one cloud, from the sizes that its groupings and decoder see."""
    works: list[PointWork] = []

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

    copy = _explicit(model)
    for part in copy.modules():
        if isinstance(part, (GroupBlock, DecoderBlock)):
            part.register_forward_pre_hook(group if isinstance(part, GroupBlock) else carry)
    with torch.no_grad():
        copy(*inputs)
    return [
        _add_up([work for work in works if work.operator == name]) for name in dict.fromkeys(w.operator for w in works)
    ]


def _add_up(works: list[PointWork]) -> PointWork:
    distances, copied = sum(work.distances for work in works), sum(work.copied for work in works)
    return PointWork(works[0].operator, len(works), distances, copied)


def _explicit(model: nn.Module) -> nn.Module:
    """Return a copy of the model for evaluation, whose bi-directional attention has one similarity, as it is defined."""
    copy = deepcopy(model).eval()
    for part in copy.modules():
        if isinstance(part, BiAttention):
            part.backend = "torch"
    return copy


class _IntegerSizes(TorchFunctionMode):
    """Let a model see sizes as numbers while it is traced, when they would be tensors."""

    def __torch_function__(self, function: Callable, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        if function not in (Tensor.shape.__get__, Tensor.size, Tensor.numel):
            return function(*args, **(kwargs or {}))
        state = torch._C._get_tracing_state()
        torch._C._set_tracing_state(None)
        try:
            return function(*args, **(kwargs or {}))
        finally:
            torch._C._set_tracing_state(state)


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
