"""MLPs: the transformer's feed-forward network, PointMLP's residual block, batch norm with channels last."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from bixt3d.nn.batch_norm import NormOfRows, SynchronizedBatchNorm, without_constant_channels
from bixt3d.types import InputError


def init_linear(module: nn.Module) -> None:
    """Initialize a linear layer with Xavier-uniform weights and zero bias, as BiXT's authors. For ``Module.apply``."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class FeedForward(nn.Sequential):
    """The transformer's feed-forward network: linear, GELU, linear; hidden width ``ratio * dim``."""

    def __init__(self, dim: int, ratio: float = 4.0):
        hidden = int(dim * ratio)
        super().__init__(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.apply(init_linear)
        for linear in (self[0], self[2]):
            nn.init.normal_(linear.bias, std=1e-6)


class ChannelsLastBatchNorm(SynchronizedBatchNorm, nn.BatchNorm1d):
    """Batch normalization with channels last: each channel of the last axis over all other axes."""

    def forward(self, feats: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        if self.training and feats.shape[:-1].numel() == 1 and not self.synchronized:
            raise InputError(
                "batch normalization cannot train on one cloud at a time: set --train.batch_size to more, or lower "
                "--runtime.accumulate"
            )
        if feats.ndim == 2:
            return self._normalize(feats)  # no view: an in-place ReLU on a view makes autograd copy gradients
        return self._normalize(feats.flatten(0, -2)).view_as(feats)

    def _normalize(self, feats: Float[Tensor, "R D"]) -> Float[Tensor, "R D"]:
        if not self.training or self.synchronized:
            return super().forward(feats)
        if (
            torch.compiler.is_compiling()
        ):  # the same from operations that the compiler fuses: it cannot trace NormOfRows
            feats, weight = without_constant_channels(feats, self.weight, self.eps)
            self.num_batches_tracked += 1
            statistics = (self.running_mean, self.running_var)
            return batch_norm(feats, *statistics, weight, self.bias, True, self.momentum, self.eps)
        self.num_batches_tracked += 1
        statistics = (self.running_mean, self.running_var, self.momentum)
        return NormOfRows.apply(feats, self.weight, self.bias, *statistics, self.eps)


class LinearBatchNormReLU(nn.Sequential):
    """Linear, batch norm, ReLU. The linear layer has no bias: batch norm would cancel it."""

    def __init__(self, dim: int, out_dim: int):
        super().__init__(nn.Linear(dim, out_dim, bias=False), ChannelsLastBatchNorm(out_dim), nn.ReLU(inplace=True))

    def forward(self, feats: Float[Tensor, "... D"]) -> Float[Tensor, "... O"]:
        return super().forward(feats.flatten(0, -2)).unflatten(0, feats.shape[:-1])


class ResidualMLP(nn.Module):
    """PointMLP's residual block: ReLU(x + linear-BN-ReLU-linear-BN(x)); hidden width ``ratio * dim``."""

    def __init__(self, dim: int, ratio: float = 1.0):
        super().__init__()
        hidden = int(dim * ratio)
        if hidden < 1:
            raise InputError(
                f"a residual block of width {dim} with a ratio of {ratio} has no hidden units: raise ratio"
            )
        self.inner = nn.Sequential(
            nn.Linear(dim, hidden, bias=False),
            ChannelsLastBatchNorm(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, dim, bias=False),
            ChannelsLastBatchNorm(dim),
        )

    def forward(self, feats: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        return self.before_relu(feats.flatten(0, -2)).relu_().view_as(feats)

    def before_relu(self, feats: Float[Tensor, "R D"]) -> Float[Tensor, "R D"]:
        """Return the sum before the last ReLU. Max pooling may come before that ReLU: the result is the same."""
        return feats + self.inner(feats)
