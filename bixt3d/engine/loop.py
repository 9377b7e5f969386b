"""Training and evaluation over sets of clouds or images, without knowledge of model or task."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Int
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from bixt3d.types import InputError

Batch = dict[str, Tensor]
Step = Callable[[nn.Module, Batch], tuple[Tensor, Tensor]]
"""Returns the loss of a batch, and how many of its examples (or which share of each, summed) are right."""
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
class Learner:
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

    def state(self) -> dict:
        """Return the state to resume from."""
        return {
            "model": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "scaler": self.scaler.state_dict() if self.scaler else None,
        }

    def load_state(self, state: dict) -> None:
        """Go on from a saved state, but with this run's own learning rate, weight decay and so on."""
        own, saved = self.optimizer.state_dict()["param_groups"], state["optimizer"]["param_groups"]
        if [group["params"] for group in own] != [group["params"] for group in saved]:
            raise InputError("the checkpoint decays other weights than this run: go on with its own optim.decay_norms")
        groups = [old | new for old, new in zip(saved, own, strict=True)]  # lamb counts its steps there
        self.module.load_state_dict(state["model"])
        self.optimizer.load_state_dict({"state": state["optimizer"]["state"], "param_groups": groups})
        one_before = {"base_lrs": self.schedule.base_lrs, "last_epoch": state["schedule"]["last_epoch"] - 1}
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


def seed_epoch(seed: int, epoch: int, fabric: Fabric) -> tuple[torch.Generator, torch.Generator]:
    """Return generators for the order of the examples (the same in all processes) and for augmentation.

    They and PyTorch's own (dropout, stochastic depth) depend on seed, epoch and process alone, so that a run resumed
    at any epoch draws what it would have drawn.
    """
    of_epoch = seed * 1_000_003 + epoch * 10_007
    torch.manual_seed(of_epoch + 1 + fabric.global_rank)
    order = torch.Generator().manual_seed(of_epoch)
    return order, torch.Generator(fabric.device).manual_seed(of_epoch + 1 + fabric.global_rank)


class EpochSums:
    """Sums of an epoch, kept on the device: reading them at its end is the only time that the host waits for it."""

    def __init__(self, device: torch.device):
        self.sums = torch.zeros(3, device=device)  # loss, correct, examples
        self.bad_step = torch.full((), -1, device=device)
        self.step = 0
        self.copy: tuple[Tensor, torch.cuda.Event] | None = None

    def add(self, loss: Tensor, correct: Tensor, num_examples: int) -> None:
        loss = loss.detach()
        self.bad_step = torch.where((self.bad_step < 0) & ~loss.isfinite(), self.step, self.bad_step)
        self.sums += torch.stack([loss * num_examples, correct, torch.full_like(loss, num_examples)])
        self.step += 1

    def glance(self) -> dict[str, float]:
        """Return means without waiting for the device: on a GPU those of a little while ago, empty at first."""
        if not self.sums.is_cuda:
            return self.read()
        known = self.copy
        if known and not known[1].query():
            return {}
        self.copy = torch.empty(3, pin_memory=True).copy_(self.sums, non_blocking=True), torch.cuda.Event()
        self.copy[1].record()
        return _means(known[0].tolist()) if known else {}

    def read(self, fabric: Fabric | None = None) -> dict[str, float]:
        """Return mean loss and accuracy of all processes. Raises InputError if a loss was not finite."""
        if (step := int(self.bad_step)) >= 0:
            raise InputError(
                f"the loss was not a number at step {step} of this epoch; the last checkpoint is kept: "
                "lower --optim.lr, or use --runtime.precision 32-true"
            )
        return _means((fabric.all_reduce(self.sums, reduce_op="sum") if fabric else self.sums).tolist())


def _means(sums: Sequence[float]) -> dict[str, float]:
    loss, correct, total = sums
    return {"loss": loss / total, "train_accuracy": correct / total}


def make_batches(
    num_examples: int, batch_size: int, fabric: Fabric, generator: torch.Generator
) -> Iterator[Int[Tensor, " B"]]:
    """Yield this process's share of every batch of a shuffled epoch; a last batch that is not full is dropped."""
    order = torch.randperm(num_examples, generator=generator).to(fabric.device)
    share = batch_size // fabric.world_size
    for first in range(0, num_examples - batch_size + 1, batch_size):
        yield order[first + fabric.global_rank * share :][:share]


def train_epoch(
    learner: Learner,
    fabric: Fabric,
    batches: Iterable[Batch],
    num_steps: int,
    step: Step,
    clip_norm: float,
    title: str,
    unit: str = "clouds",
) -> dict[str, float]:
    """Train on the batches of an epoch, of which there are ``num_steps``; ``step`` returns loss and number correct.

    Returns the epoch's means, and how many examples all processes saw in a second, under ``<unit>_per_second``.
    """
    learner.model.train()
    sums, began, shown, seen = EpochSums(fabric.device), time.perf_counter(), 0.0, 0
    bar = tqdm(total=num_steps, desc=title, leave=False, disable=not fabric.is_global_zero)
    for batch in batches:
        loss, correct = step(learner.model, batch)
        fabric.backward(loss)
        if clip_norm:
            fabric.clip_gradients(learner.model, learner.optimizer, max_norm=clip_norm, error_if_nonfinite=False)
        learner.optimizer.step()
        learner.optimizer.zero_grad(set_to_none=True)
        learner.schedule.step()
        if learner.average:
            learner.average.update_parameters(learner.module)
        num_examples = len(next(iter(batch.values())))
        sums.add(loss, correct, num_examples)
        seen += num_examples * fabric.world_size
        bar.update()
        if (now := time.perf_counter()) - shown > 1:
            means, shown = sums.glance(), now
            words = [f"loss {means['loss']:.3f}", f"accuracy {means['train_accuracy']:.1%}"] if means else []
            bar.set_postfix_str(", ".join([*words, f"{seen / (now - began):.0f} {unit}/s"]))
    bar.close()
    means = sums.read(fabric)
    return means | {f"{unit}_per_second": seen / (time.perf_counter() - began)}


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
        merged = tuple(fabric.all_gather(part).transpose(0, 1).flatten(0, 1)[:total] for part in merged)
    for part in merged:
        check_outputs(part)
    return merged


def check_outputs(outputs: Tensor) -> None:
    """Raise InputError if a model's outputs, one row for each example, are not finite numbers."""
    if bad := int((~outputs.flatten(1).isfinite().all(1) if outputs.ndim > 1 else ~outputs.isfinite()).sum()):
        raise InputError(
            f"the model's output is not a finite number for {bad} of {len(outputs)} examples: its weights diverged or "
            "are damaged, or --runtime.precision 32-true is needed"
        )
