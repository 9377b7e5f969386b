"""Optimizers, schedules and averages of weights, from PyTorch."""

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
    """How weights are updated: linear warm-up, then from ``lr`` down to ``min_lr``, step by step.

    Args:
        name: optimizer; lamb is timm's.
        lr: highest learning rate.
        min_lr: learning rate at the end.
        weight_decay: weight decay.
        momentum: momentum of sgd.
        warmup_epochs: epochs in which the learning rate rises from 0.
        clip_norm: largest norm of the gradient; 0: not clipped.
        ema: decay of an exponential moving average of the weights, evaluated in their place; 0: none. It is smaller in
            the first steps: (1 + n) / (10 + n) at most after n of them, so that the first weights are soon forgotten.
        schedule: how the learning rate falls: along half a cosine, or along a line (poly, power 1).
        decay_norms: decay all parameters; if not, no vectors (norms, biases) and no latents, as is usual on images.
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
        if not 0 <= self.ema < 1:
            raise InputError(f"optim.ema must be at least 0 and below 1, not {self.ema}")


def make_optimizer(optim: Optim, named: Iterable[tuple[str, nn.Parameter]]) -> Optimizer:
    """Return the optimizer of a model's named parameters, with one fused kernel for its update where there is one."""
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
    """Return the schedule of a run of so many steps: to be stepped after every update."""
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
    """Return the moving average of the model, BatchNorm statistics included, or None."""
    return MovingAverage(model, optim.ema) if optim.ema else None


class MovingAverage(AveragedModel):
    """The exponential moving average of a model, buffers included; see ``ema`` of `Optim`.

    Its count stays on the CPU: PyTorch's own update takes it to the device in every step, and waits for that.
    """

    def __init__(self, model: nn.Module, decay: float):
        super().__init__(model, use_buffers=True)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Move the average towards the model as it is now; the first time, copy it."""
        steps, parts = int(self.n_averaged), defaultdict(list)
        move = get_ema_multi_avg_fn(min(self.decay, (1 + steps) / (10 + steps)) if steps else 0.0)
        own, new = (chain(one.parameters(), one.buffers()) for one in (self.module, model))
        for pair in zip(own, new, strict=True):
            parts[pair[0].dtype].append(pair)
        for pairs in parts.values():
            move(*map(list, zip(*pairs, strict=True)), steps)
        self.n_averaged += 1
