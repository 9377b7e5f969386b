"""Optimizers, schedules and averages of weights, from PyTorch."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from bixt3d.types import InputError


@dataclass
class Optim:
    """How weights are updated: linear warm-up, then a cosine from ``lr`` to ``min_lr``, step by step.

    Args:
        name: optimizer.
        lr: highest learning rate.
        min_lr: learning rate at the end.
        weight_decay: weight decay, on all parameters.
        momentum: momentum of sgd.
        warmup_epochs: epochs in which the learning rate rises from 0.
        clip_norm: largest norm of the gradient; 0: not clipped.
        ema: decay of an exponential moving average of the weights, evaluated in their place; 0: none.
    """

    name: Literal["sgd", "adamw"] = "adamw"
    lr: float = 1e-3
    min_lr: float = 1e-5
    weight_decay: float = 0.05
    momentum: float = 0.9
    warmup_epochs: float = 0.0
    clip_norm: float = 1.0
    ema: float = 0.0

    def __post_init__(self):
        if not self.lr > 0:
            raise InputError(f"optim.lr must be positive, not {self.lr}")
        for name in ("min_lr", "weight_decay", "momentum", "warmup_epochs", "clip_norm"):
            if not getattr(self, name) >= 0:
                raise InputError(f"optim.{name} must not be negative, but is {getattr(self, name)}")
        if not 0 <= self.ema < 1:
            raise InputError(f"optim.ema must be at least 0 and below 1, not {self.ema}")


def make_optimizer(optim: Optim, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """Return the optimizer, with one fused kernel for its update."""
    if optim.name == "sgd":
        return SGD(parameters, optim.lr, optim.momentum, weight_decay=optim.weight_decay, fused=True)
    return AdamW(parameters, optim.lr, weight_decay=optim.weight_decay, fused=True)


def make_schedule(optim: Optim, optimizer: Optimizer, epochs: int, steps_per_epoch: int) -> LambdaLR:
    """Return the schedule: to be stepped after every update."""
    warmup, total, floor = optim.warmup_epochs * steps_per_epoch, epochs * steps_per_epoch, optim.min_lr / optim.lr

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = min(1.0, (step - warmup) / max(1.0, total - warmup))
        return floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2

    return LambdaLR(optimizer, factor)


def make_average(optim: Optim, model: nn.Module) -> AveragedModel | None:
    """Return the moving average of the model, BatchNorm statistics included, or None."""
    if not optim.ema:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(optim.ema), use_buffers=True)
