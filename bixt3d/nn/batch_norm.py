"""Batch norm whose statistics, if asked, are those of the whole batch of all processes, on any device."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, distributed, nn


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
        factor = self.weight * (variance + self.eps).rsqrt()
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
