"""Batch norm whose statistics, if asked, are those of the whole batch of all processes, on any device."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable

RESOLUTION = 4e-12
"""Of a variance next to the 1e-5 that are added to it, in float32."""


class SynchronizedBatchNorm(nn.Module):
    """What makes a batch norm of PyTorch's one that can be synchronised: ``synchronized`` may be set on a module.

    In training its mean and variance then are those of the values of all processes, gradients included; all processes
    must call it equally often. With one process, and in evaluation, it is PyTorch's own.
    """

    synchronized: bool = False

    def forward(self, feats: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        if not (self.training and self.synchronized):
            return super().forward(feats)
        return self._normalize_together(feats)

    @torch._disable_dynamo  # torch.compiler.disable would import the compiler with this file, for a second or more
    def _normalize_together(self, feats: Float[Tensor, "B D ..."]) -> Float[Tensor, "B D ..."]:
        fine = feats.to(torch.promote_types(feats.dtype, torch.float32))
        others = [axis for axis in range(feats.ndim) if axis != 1]
        variance, mean = (_finest(part) for part in torch.var_mean(fine, others, correction=0))
        size = feats.numel() // feats.shape[1]
        sums, squares, total = self.sum_over_processes(mean * size, (variance + mean.square()) * size, size)
        mean = sums / total
        variance = (squares / total - mean.square()).clamp(min=0)
        self.update_running_statistics(mean, variance, total)
        factor = self.weight * (variance + self.eps).rsqrt().masked_fill(are_constant(mean, variance), 0)
        offset = self.bias - mean * factor
        shape = [-1, *[1] * (feats.ndim - 2)]
        return (fine * factor.to(fine.dtype).view(shape) + offset.to(fine.dtype).view(shape)).to(feats.dtype)

    def sum_over_processes(
        self, sums: Float[Tensor, " D"], squares: Float[Tensor, " D"], size: int
    ) -> tuple[Float[Tensor, " D"], Float[Tensor, " D"], int | Float[Tensor, ""]]:
        """Return sums of values, of their squares, and how many there are: in all processes if synchronised."""
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
        """Move the running statistics as PyTorch does, for ``size`` values known by mean and (biased) variance."""
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_((variance * (size / (size - 1))).to(self.running_var.dtype), self.momentum)


def are_constant(mean: Float[Tensor, " D"], variance: Float[Tensor, " D"]) -> Bool[Tensor, " D"]:
    """Return which channels have the same value everywhere, but for rounding in float32: there is nothing to learn.

    A batch norm would pass their gradients on multiplied by about 300, and a dozen of them overflow float32. Channels
    that are 0 everywhere do not count: a linear layer may have such weights to start from.
    """
    rounding = 8 * torch.finfo(torch.float32).eps * mean.detach().abs()
    return (variance.detach() <= rounding.square().clamp(min=RESOLUTION)) & (mean.detach() != 0)


class NormOfRows(torch.autograd.Function):
    """PyTorch's batch norm in training, which gives no gradient to channels that are constant."""

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
    """Batch normalisation of the channels of images (B, D, X, Y)."""


class _SumOverProcesses(torch.autograd.Function):
    """Values, and their gradients on the way back, summed over all processes."""

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


def _finest(values: Tensor) -> Tensor:
    """Return the values in float64, where the device has it."""
    return values if values.device.type == "mps" else values.double()
