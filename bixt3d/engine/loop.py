"""Training and evaluation over sets of clouds or images, without knowledge of model or task."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from bixt3d.engine.fabric import Fabric
from bixt3d.engine.sums import EpochSums
from bixt3d.types import InputError

Batch = dict[str, Tensor]
T = TypeVar("T")
Step = Callable[[nn.Module, Batch], tuple[Tensor, Tensor]]
"""Returns the mean loss of a batch, and how many of its examples (or which share of each, summed) are right.

Examples weigh alike in the mean, or as the ``weight`` of the batch says."""
Forward = Callable[[nn.Module, Batch], tuple[Tensor, ...]]
"""Returns any number of tensors with a row for each example of a batch."""


@runtime_checkable
class Examples(Protocol):
    """A set of examples: clouds in memory, or images that are read when they are needed."""

    def __len__(self) -> int: ...

    def batches(self, indices: Iterable[Int[Tensor, " _"]], seed: int | None = None) -> Iterator[Batch]:
        """Yield the batches of these examples, in order; one of images that differ in size may come as several.

        ``seed``: show the examples as in training, augmented as the seed and the place of each say (None: as they are).
        """
        ...


@dataclass
class TrainingState:
    """All that changes in the course of a training run. ``model`` is ``module`` as Fabric runs it.

    ``scaler`` is there in float16 alone, whose gradients it keeps from vanishing.

    Randomness is not part of it: each epoch draws its own from seed, epoch and process (see ``seed_epoch``).
    """

    module: nn.Module
    model: nn.Module
    optimizer: Optimizer
    schedule: LambdaLR
    average: AveragedModel | None
    scaler: GradScaler | None = None

    def state_dict(self) -> dict:
        """Return the state to resume from."""
        return {
            "model": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "scaler": self.scaler.state_dict() if self.scaler else None,
        }

    def load_state_dict(self, state: dict, num_steps: int | None = None) -> None:
        """Go on from a saved state, but with this run's own learning rate, weight decay and so on.

        Its schedule goes on after ``num_steps`` updates; None: after those that were made.
        """
        own, saved = self.optimizer.state_dict()["param_groups"], state["optimizer"]["param_groups"]
        if [group["params"] for group in own] != [group["params"] for group in saved]:
            raise InputError("the checkpoint decays other weights than this run: go on with its own optim.decay_norms")
        groups = [old | new for old, new in zip(saved, own, strict=True)]  # lamb counts its steps there
        self.module.load_state_dict(state["model"])
        self.optimizer.load_state_dict({"state": state["optimizer"]["state"], "param_groups": groups})
        done = state["schedule"]["last_epoch"] if num_steps is None else num_steps
        one_before = {"base_lrs": self.schedule.base_lrs, "last_epoch": done - 1}
        self.schedule.load_state_dict(state["schedule"] | one_before)
        self.schedule.step()
        if self.average and state["average"]:
            self.average.load_state_dict(state["average"])
        elif self.average:  # it is new: it starts from these weights
            self.average.module.load_state_dict(state["model"])
        if self.scaler and state.get("scaler"):
            self.scaler.load_state_dict(state["scaler"])

    def best_module(self) -> nn.Module:
        """Return the module to evaluate and to keep: the average of the weights where there is one."""
        return self.average.module if self.average else self.module


def seed_epoch(seed: int, epoch: int, fabric: Fabric) -> torch.Generator:
    """Seed PyTorch (dropout, stochastic depth), and return a generator for the order of the examples.

    The order depends on seed and epoch, dropout on the process too: a run resumed at any epoch draws what it would have
    drawn. Augmentation draws from neither.
    """
    of_epoch = seed * 1_000_003 + epoch * 10_007
    torch.manual_seed(of_epoch + 1 + fabric.global_rank)
    return torch.Generator().manual_seed(of_epoch)


def train_epoch(
    state: TrainingState,
    fabric: Fabric,
    steps: Iterable[Sequence[Batch]],
    sizes: Sequence[int],
    step: Step,
    clip_norm: float,
    title: str,
    sums: EpochSums,
) -> dict[str, float]:
    """Train for an epoch of steps, over whose batches gradients accumulate.

    ``sizes``: how many examples each step has in all processes; ``sums``: a new one, whose unit is that of an example.
    Gradient and loss are those of the mean over the examples of a step in all processes; where a batch says ``weight``,
    examples count by that. Returns the epoch's means, and how many examples all processes saw in a second, under
    ``<unit>_per_second``.
    """
    state.model.train()
    began, shown = time.perf_counter(), 0.0
    bar = tqdm(total=len(sizes), desc=title, leave=False, disable=not fabric.is_global_zero)
    for batches, size in zip(steps, sizes, strict=True):
        _add_gradients(state.model, fabric, batches, size, step, sums)
        if clip_norm:
            fabric.clip_gradients(state.model, state.optimizer, max_norm=clip_norm, error_if_nonfinite=False)
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        state.schedule.step()
        if state.average:
            state.average.update_parameters(state.module)
        bar.update()
        if (now := time.perf_counter()) - shown > 1:
            means, shown = sums.glance(), now
            words = [f"loss {means['loss']:.3f}", f"accuracy {means['train_accuracy']:.1%}"] if means else []
            speed = fabric.world_size * sums.num_examples / (now - began)
            bar.set_postfix_str(", ".join([*words, f"{speed:.0f} {sums.unit}/s"]))
    bar.close()
    means = sums.read(fabric)
    return means | {f"{sums.unit}_per_second": float(sums.sums[2]) / (time.perf_counter() - began)}


def _add_gradients(
    model: nn.Module, fabric: Fabric, batches: Sequence[Batch], number: int, step: Step, sums: EpochSums
) -> None:
    """Add the gradients of a step's batches to those of the weights, and its loss to the sums.

    ``number``: examples of the step in all processes.
    """
    sizes = [len(next(iter(batch.values()))) for batch in batches]
    weights = [batch["weight"].sum() if "weight" in batch else size for batch, size in zip(batches, sizes, strict=True)]
    weight = sum(weights) if "weight" in batches[0] else number
    if isinstance(weight, Tensor) and fabric.world_size > 1:
        torch.distributed.all_reduce(weight)  # Fabric's own begins with a barrier, at which the host waits for a GPU
    losses, right = [], []
    for place, (batch, part) in enumerate(zip(batches, weights, strict=True), 1):
        share = part / weight if isinstance(weight, int) else part / weight.clamp(min=1)
        with fabric.no_backward_sync(model, enabled=place < len(batches)):
            loss, correct = step(model, batch)
            fabric.backward(loss * (share * fabric.world_size))  # which takes the mean over processes
        losses.append(loss.detach() * share * number)
        right.append(correct)
    sums.add(sum(losses), sum(right), sum(sizes))


@torch.inference_mode()
def predict_all(
    model: nn.Module, examples: Examples, batch_size: int, forward: Forward, fabric: Fabric
) -> tuple[Tensor, ...]:
    """Return what ``forward(model, batch)`` gives for every example of a set, in order; processes share the work."""
    model.eval()
    if fabric.world_size > 1:  # each process has seen others: BatchNorm's statistics are those of the first
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, 0)
    total = len(examples)
    share = -(-total // fabric.world_size)
    mine = (torch.arange(share, device=fabric.device) * fabric.world_size + fabric.global_rank) % total
    outputs = []
    for batch in examples.batches(mine.split(batch_size)):
        with fabric.autocast():
            outputs.append(forward(model, batch))
    merged = tuple(torch.cat(parts) for parts in zip(*outputs, strict=True))
    if fabric.world_size > 1:
        merged = tuple(_in_order(part, fabric.world_size)[:total] for part in merged)
    for part in merged:
        check_outputs(part)
    return merged


def merge(mine: Sequence[T], fabric: Fabric) -> list[T]:
    """Return what all processes made of a set, in order; each made that of every ``world_size``-th example."""
    parts: list[Any] = [mine]
    if fabric.world_size > 1:
        parts = [None] * fabric.world_size
        torch.distributed.all_gather_object(parts, list(mine))
    return [one for row in zip_longest(*parts) for one in row if one is not None]


def _in_order(rows: Tensor, num_processes: int) -> Tensor:
    """Return the rows of all processes: the first of each, then the second of each, and so on."""
    parts = [torch.empty_like(rows) for _ in range(num_processes)]
    torch.distributed.all_gather(parts, rows.contiguous())
    return torch.stack(parts, 1).flatten(0, 1)


def check_outputs(outputs: Tensor) -> None:
    """Raise InputError if a model's outputs, one row for each example, are not finite numbers."""
    if bad := int((~outputs.flatten(1).isfinite().all(1) if outputs.ndim > 1 else ~outputs.isfinite()).sum()):
        raise InputError(
            f"the model's output is not a finite number for {bad} of {len(outputs)} examples: its weights diverged or "
            "are damaged, or --runtime.precision 32-true is needed"
        )
