"""Trace a model on the device ``meta``, which knows shapes only, in little time."""

from collections.abc import Callable
from typing import Any, no_type_check

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.modules.utils import _pair
from torch.overrides import TorchFunctionMode


class Traceable(TorchFunctionMode):
    """Let a model without numbers be traced: sizes are no tensors, and operators of our own give shapes alone."""

    @no_type_check  # called for every operation of a trace
    def __torch_function__(self, function: Callable, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        if function in _OURS:
            return _OURS[function](*args, **(kwargs or {}))
        if function is Tensor.view and isinstance(args[1], torch.dtype):  # a trace has no word for other types' bits
            return args[0].to(args[1])
        if function not in _SIZES:
            return function(*args, **(kwargs or {}))
        state = torch._C._get_tracing_state()
        torch._C._set_tracing_state(None)
        try:
            return function(*args, **(kwargs or {}))
        finally:
            torch._C._set_tracing_state(state)


def _conv2d(image: Tensor, weight: Tensor, bias: Tensor | None, *settings: Any) -> Tensor:
    """Convolve as `nn.Conv2d` calls it."""
    stride, padding, dilation, groups = settings
    settings = _pair(stride), _pair(padding), _pair(dilation), False, _pair(0), groups
    return torch.ops.bixt3d.shapes_of_convolution(image, weight, bias, *settings, *_FLAGS)


def _conv_transpose2d(image: Tensor, weight: Tensor, bias: Tensor | None, *settings: Any) -> Tensor:
    """Convolve as `nn.ConvTranspose2d` calls it."""
    stride, padding, extra, groups, dilation = settings
    settings = _pair(stride), _pair(padding), _pair(dilation), True, _pair(extra), groups
    return torch.ops.bixt3d.shapes_of_convolution(image, weight, bias, *settings, *_FLAGS)


def _define(name: str, arguments: str, compute: Callable) -> Callable:
    """Define an operator ``bixt3d::shapes_of_NAME`` for the device meta alone, and return it."""
    torch.library.define(f"bixt3d::shapes_of_{name}", f"({arguments}) -> Tensor")
    torch.library.impl(f"bixt3d::shapes_of_{name}", "Meta", compute)
    return getattr(torch.ops.bixt3d, f"shapes_of_{name}")


_FLAGS = (False, False, False)
"""Of cuDNN: fvcore counts their places."""

# Neither conv2d nor its parts can be traced on the device meta in every version of torch: an operator of our own can.
_define(
    "convolution",
    "Tensor image, Tensor weight, Tensor? bias, int[] stride, int[] padding, int[] dilation, bool transposed, "
    "int[] output_padding, int groups, bool benchmark, bool deterministic, bool cudnn_enabled",
    lambda *inputs: torch.convolution(*inputs[:9]),
)
# The others can, but torch works out their shapes in Python, step by step: about half of the time of a trace.
_linear = _define(
    "linear",
    "Tensor input, Tensor weight, Tensor? bias=None",
    lambda input, weight, *bias: input.new_empty((*input.shape[:-1], len(weight))),
)
_layer_norm = _define(
    "layer_norm",
    "Tensor input, int[] normalized_shape, Tensor? weight=None, Tensor? bias=None, float eps=1e-05",
    lambda input, *settings: input.new_empty(input.shape),
)
_gelu = _define("gelu", "Tensor input, *, str approximate='none'", lambda input, **how: input.new_empty(input.shape))
_OURS = {
    torch.conv2d: _conv2d,
    torch.conv_transpose2d: _conv_transpose2d,
    functional.linear: _linear,
    functional.layer_norm: _layer_norm,
    functional.gelu: _gelu,
}
COUNTED_AS = {
    "bixt3d::shapes_of_convolution": "aten::_convolution",
    "bixt3d::shapes_of_linear": "aten::linear",
    "bixt3d::shapes_of_layer_norm": "aten::layer_norm",
}
"""Operators of our own, and those of torch as which they are counted."""
_SIZES = {Tensor.shape.__get__, Tensor.size, Tensor.numel}
