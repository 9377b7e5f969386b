"""Optimizers, learning rate schedules, and the exponential moving average (EMA) of the weights."""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from bixt3d.io.extras import need
from bixt3d.types import InputError


@dataclass
class Optim:
    """Settings of optimizer and learning rate schedule: linear warm-up to ``lr``, then decay to ``min_lr`` by step.

    Args:
        name: optimizer; lamb is timm's.
        lr: highest learning rate.
        min_lr: learning rate at the end, at most ``lr``.
        weight_decay: weight decay; decoupled from the gradient in adamw and lamb.
        momentum: momentum of sgd.
        warmup_epochs: epochs of linear warm-up from 0.
        clip_norm: gradient clipping: largest norm of the gradient; 0: no clipping.
        ema: decay of the exponential moving average of the weights, which is then evaluated in their place; 0: none.
            In step n it is at most (1 + n) / (10 + n), so that the initial weights are soon forgotten.
        schedule: decay of the learning rate: cosine, or linear (poly, of power 1).
        decay_norms: apply weight decay to all parameters; if false, not to vectors (norms, biases) and latents, as is
            usual on images.
    """

    name: Literal["sgd", "adamw", "lamb"] = "adamw"
    lr: float = 1e-3
    min_lr: float = 1e-5
    weight_decay: float = 0.05
    momentum: float = 0.9
    warmup_epochs: float = 0.0
    clip_norm: float = 1.0
    ema: float = 0.0
    schedule: Literal["cosine", "poly"] = "cosine"
    decay_norms: bool = True

    def __post_init__(self):
        if not self.lr > 0:
            raise InputError(f"optim.lr must be positive, not {self.lr}")
        for name in ("min_lr", "weight_decay", "momentum", "warmup_epochs", "clip_norm"):
            if not getattr(self, name) >= 0:
                raise InputError(f"optim.{name} must not be negative, but is {getattr(self, name)}")
        if self.min_lr > self.lr:
            raise InputError(
                f"optim.min_lr is {self.min_lr:g}, above optim.lr {self.lr:g}, and the learning rate would rise: lower "
                "--optim.min_lr too"
            )
        if not 0 <= self.ema < 1:
            raise InputError(f"optim.ema must be at least 0 and below 1, not {self.ema}")


def make_optimizer(optim: Optim, named: Iterable[tuple[str, nn.Parameter]]) -> Optimizer:
    """Return the optimizer of a model's named parameters, fused for sgd and adamw."""
    groups = _groups(optim, named)
    if optim.name == "sgd":
        return SGD(groups, optim.lr, optim.momentum, weight_decay=optim.weight_decay, fused=True)
    if optim.name == "adamw":
        return AdamW(groups, optim.lr, weight_decay=optim.weight_decay, fused=True)
    need("the optimizer lamb", "timm")
    from timm.optim import Lamb

    return Lamb(groups, optim.lr, weight_decay=optim.weight_decay, max_grad_norm=None)  # clip_norm does that


def _groups(optim: Optim, named: Iterable[tuple[str, nn.Parameter]]) -> list[dict[str, Any]]:
    parameters = list(named)
    if optim.decay_norms:
        return [{"params": [parameter for _, parameter in parameters]}]
    free = [name.rpartition(".")[2] == "latents" or parameter.ndim < 2 for name, parameter in parameters]
    return [
        {"params": [parameter for (_, parameter), one in zip(parameters, free, strict=True) if not one]},
        {
            "params": [parameter for (_, parameter), one in zip(parameters, free, strict=True) if one],
            "weight_decay": 0.0,
        },
    ]


def make_schedule(optim: Optim, optimizer: Optimizer, num_steps: int, steps_per_epoch: int) -> LambdaLR:
    """Return the learning rate schedule of a run of ``num_steps`` updates; step it after every update."""
    warmup, floor = optim.warmup_epochs * steps_per_epoch, optim.min_lr / optim.lr

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = min(1.0, (step - warmup) / max(1.0, num_steps - warmup))
        if optim.schedule == "poly":
            return floor + (1 - floor) * (1 - progress)
        return floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2

    return LambdaLR(optimizer, factor)


def make_average(optim: Optim, model: nn.Module) -> AveragedModel | None:
    """Return the exponential moving average of the model, running statistics included; None without ``ema``."""
    return MovingAverage(model, optim.ema) if optim.ema else None


class MovingAverage(AveragedModel):
    """The exponential moving average (EMA) of a model, buffers included; see ``ema`` of `Optim`.

    Its step count stays on the CPU: PyTorch's own update compares it on the device, which synchronises in every step.

    Args:
        model: the model to average.
        decay: decay of the average, in 0..1.
    """

    def __init__(self, model: nn.Module, decay: float):
        super().__init__(model, use_buffers=True)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Update the average by the model's weights and buffers; the first call copies them."""
        steps, by_dtype = int(self.n_averaged), defaultdict(list)
        move = get_ema_multi_avg_fn(min(self.decay, (1 + steps) / (10 + steps)) if steps else 0.0)
        own, new = (chain(one.parameters(), one.buffers()) for one in (self.module, model))
        for pair in zip(own, new, strict=True):
            by_dtype[pair[0].dtype].append(pair)
        for pairs in by_dtype.values():
            move(*map(list, zip(*pairs, strict=True)), steps)
        self.n_averaged += 1
