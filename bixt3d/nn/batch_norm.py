"""Batch normalization that can be synchronized over processes (as SyncBatchNorm, but on any device)."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable

RESOLUTION = 4e-12
"""Smallest variance that float32 distinguishes from zero after 1e-5 is added to it."""


class SynchronizedBatchNorm(nn.Module):
    """Base class that adds SyncBatchNorm to a batch norm of PyTorch: set the attribute ``synchronized`` to True.

    In training, mean, variance and their gradients are then computed over the batches of all processes, which must all
    call the module equally often. In evaluation, or if not ``synchronized``, it is PyTorch's batch norm.
    """

    synchronized: bool = False

    def forward(self, feats: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        if not (self.training and self.synchronized):
            return super().forward(feats)
        return self._normalize_together(feats)

    @torch._disable_dynamo  # torch.compiler.disable would import the compiler with this file, for a second or more
    def _normalize_together(self, feats: Float[Tensor, "B D ..."]) -> Float[Tensor, "B D ..."]:
        precise = feats.to(torch.promote_types(feats.dtype, torch.float32))
        others = [axis for axis in range(feats.ndim) if axis != 1]
        variance, mean = (_to_float64(moment) for moment in torch.var_mean(precise, others, correction=0))
        size = feats.numel() // feats.shape[1]
        sums, squares, total = self.sum_over_processes(mean * size, (variance + mean.square()) * size, size)
        mean = sums / total
        variance = (squares / total - mean.square()).clamp(min=0)
        self.update_running_statistics(mean, variance, total)
        factor = self.weight * (variance + self.eps).rsqrt().masked_fill(are_constant(mean, variance), 0)
        offset = self.bias - mean * factor
        shape = [-1, *[1] * (feats.ndim - 2)]
        return (precise * factor.to(precise.dtype).view(shape) + offset.to(precise.dtype).view(shape)).to(feats.dtype)

    def sum_over_processes(
        self, sums: Float[Tensor, " D"], squares: Float[Tensor, " D"], size: int
    ) -> tuple[Float[Tensor, " D"], Float[Tensor, " D"], int | Float[Tensor, ""]]:
        """Return the sum of values, the sum of squares and the count; over all processes if ``synchronized``."""
        if not self.synchronized:
            return sums, squares, size
        return self._sum_over_processes(sums, squares, size)

    @torch._disable_dynamo  # torch.compiler.disable would import the compiler with this file, for a second or more
    def _sum_over_processes(
        self, sums: Float[Tensor, " D"], squares: Float[Tensor, " D"], size: int
    ) -> tuple[Float[Tensor, " D"], Float[Tensor, " D"], Float[Tensor, ""]]:
        packed = torch.cat([sums, squares, torch.full_like(sums[:1], size)])
        sums, squares, total = _SumOverProcesses.apply(packed).split([len(sums), len(squares), 1])
        return sums, squares, total.squeeze(0).detach()

    @torch.no_grad()
    def update_running_statistics(
        self, mean: Float[Tensor, " D"], variance: Float[Tensor, " D"], size: int | Float[Tensor, ""]
    ) -> None:
        """Update the running statistics as PyTorch does, from the mean and biased variance of ``size`` values."""
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_((variance * (size / (size - 1))).to(self.running_var.dtype), self.momentum)


def are_constant(mean: Float[Tensor, " D"], variance: Float[Tensor, " D"]) -> Bool[Tensor, " D"]:
    """Return the mask of channels that have the same value everywhere, up to float32 rounding.

    They get no gradient: a batch norm would multiply it by about 300 (1 / sqrt(1e-5)), and a dozen such layers overflow
    float32. Channels that are 0 everywhere are not in the mask, so that a linear layer can start from zero weights.
    """
    rounding = 8 * torch.finfo(torch.float32).eps * mean.detach().abs()
    return (variance.detach() <= rounding.square().clamp(min=RESOLUTION)) & (mean.detach() != 0)


def without_constant_channels(
    feats: Float[Tensor, "R D"], weight: Float[Tensor, " D"], eps: float
) -> tuple[Float[Tensor, "R D"], Float[Tensor, " D"]]:
    """Return the inputs of a batch norm with the same values, but without a gradient for constant channels."""
    variance, mean = torch.var_mean(feats.detach().to(torch.promote_types(feats.dtype, torch.float32)), 0, correction=0)
    constant_mask = are_constant(mean, (variance + eps) - eps)  # rounded as in NormOfRows
    return feats.where(~constant_mask, feats.detach()), weight.where(~constant_mask, weight.detach())


class NormOfRows(torch.autograd.Function):
    """PyTorch's batch norm in training mode, with no gradient for constant channels (see `are_constant`)."""

    @staticmethod
    def forward(  # noqa: PLR0913 (as in PyTorch)
        ctx: Any,
        feats: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        momentum: float,
        eps: float,
    ) -> Tensor:
        out, mean, inverse = torch.native_batch_norm(
            feats, weight, bias, running_mean, running_var, True, momentum, eps
        )
        ctx.save_for_backward(feats, weight, mean, inverse.masked_fill(are_constant(mean, inverse**-2 - eps), 0))
        ctx.eps = eps
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        feats, weight, mean, inverse = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:3]
        grads = torch.ops.aten.native_batch_norm_backward(
            grad, feats, weight, None, None, mean, inverse, True, ctx.eps, wanted
        )
        return *grads, None, None, None, None


class ImageBatchNorm(SynchronizedBatchNorm, nn.BatchNorm2d):
    """Batch normalization of the channels of images (B, D, X, Y)."""


class _SumOverProcesses(torch.autograd.Function):
    """Sum values over all processes, and gradients in the backward pass (all-reduce)."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return _all_sum(values)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _all_sum(grad)


def _all_sum(values: Tensor) -> Tensor:
    total = values.clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(total)
    return total


def _to_float64(values: Tensor) -> Tensor:
    """Return the values in float64 where the device supports it."""
    return values if values.device.type == "mps" else values.double()
