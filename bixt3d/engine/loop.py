"""The training loop and evaluation over a data set, for any model and task."""

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
"""A training step: returns the mean loss of a batch, and the number of correct examples (or a sum of shares in 0..1).

In the mean all examples have equal weight, or that of ``batch["weight"]``."""
Forward = Callable[[nn.Module, Batch], tuple[Tensor, ...]]
"""A forward pass: returns any number of tensors, each with a row for each example of the batch."""


@runtime_checkable
class Examples(Protocol):
    """A data set or split: clouds in memory, or images that are read when they are needed."""

    def __len__(self) -> int: ...

    def batches(self, indices: Iterable[Int[Tensor, " _"]], seed: int | None = None) -> Iterator[Batch]:
        """Yield the batches with these indices, in order; images of different sizes may split a batch into several.

        ``seed``: load the examples with training augmentation, drawn from seed and index; None: without augmentation.
        """
        ...


@dataclass
class TrainingState:
    """The training state: all that changes while a run trains, except random numbers (see `seed_epoch`).

    Args:
        module: the model itself.
        model: the same model as Fabric runs it: compiled, wrapped for distributed training, in mixed precision.
        optimizer: its optimizer.
        schedule: its learning rate schedule, stepped after every update.
        average: exponential moving average of the weights, or None.
        scaler: loss scaling for float16; else None.
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
        """Resume from a saved state, but with this run's own learning rate, weight decay and so on.

        Its schedule continues after ``num_steps`` updates; None: after the number in the saved state.
        """
        own, saved = self.optimizer.state_dict()["param_groups"], state["optimizer"]["param_groups"]
        if [group["params"] for group in own] != [group["params"] for group in saved]:
            raise InputError("the checkpoint decays other weights than this run: go on with its own optim.decay_norms")
        groups = [old | new for old, new in zip(saved, own, strict=True)]  # lamb keeps its step count there
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
        """Return the module to evaluate and save: with exponential moving average, the averaged one."""
        return self.average.module if self.average else self.module


def seed_epoch(seed: int, epoch: int, fabric: Fabric) -> torch.Generator:
    """Seed PyTorch (dropout, stochastic depth), and return a generator for shuffling the examples.

    Shuffling depends on seed and epoch, dropout also on the process: a resumed run draws the same numbers as one that
    never stopped. Augmentation has its own generators.
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
    """Train for an epoch; return mean loss, accuracy, and throughput as ``<unit>_per_second``.

    Loss and gradient of a step are means over its examples in all processes, weighted by ``batch["weight"]`` if there
    is one; so gradient accumulation changes neither, but for a loss that is no mean over examples, such as Lovász.

    Args:
        state: model, optimizer and schedule, which are updated.
        fabric: the processes.
        steps: micro-batches of each step of this process, over which gradients accumulate.
        sizes: examples of each step, over all processes.
        step: the training step of the task.
        clip_norm: largest norm of the gradient; 0: no clipping.
        title: label of the progress bar, which a terminal shows.
        sums: new sums, whose unit names the examples.
    """
    state.model.train()
    began, shown = time.perf_counter(), 0.0
    hidden = None if fabric.is_global_zero else True  # None: shown on a terminal, not in a log file
    bar = tqdm(total=len(sizes), desc=title, leave=False, disable=hidden)
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
    """Accumulate the gradients of a step's micro-batches, and add its loss to the sums.

    ``number``: examples of the step, over all processes; with weights they are counted, as a step may have fewer.
    """
    sizes = [len(next(iter(batch.values()))) for batch in batches]
    weights = [batch["weight"].sum() if "weight" in batch else size for batch, size in zip(batches, sizes, strict=True)]
    weight = number
    if "weight" in batches[0]:
        totals = torch.stack([sum(weights), torch.full_like(weights[0], sum(sizes))])
        if fabric.world_size > 1:
            torch.distributed.all_reduce(totals)  # Fabric's begins with a barrier, which synchronises the host
        weight, number = totals
    losses, right = [], []
    for place, (batch, own) in enumerate(zip(batches, weights, strict=True), 1):
        share = own / weight if isinstance(weight, int) else own / weight.clamp(min=1)
        with fabric.no_backward_sync(model, enabled=place < len(batches)):
            loss, correct = step(model, batch)
            fabric.backward(loss * (share * fabric.world_size))  # DDP takes the mean over processes
        losses.append(loss.detach() * share * number)
        right.append(correct)
    sums.add(sum(losses), sum(right), sum(sizes))


@torch.inference_mode()
def predict_all(
    model: nn.Module, examples: Examples, batch_size: int, forward: Forward, fabric: Fabric
) -> tuple[Tensor, ...]:
    """Return the outputs of ``forward(model, batch)`` for every example of a set, in order; processes share the work.

    Runs in evaluation mode. Raises InputError for outputs that are not finite.
    """
    model.eval()
    share_buffers(model, fabric)
    total = len(examples)
    share = -(-total // fabric.world_size)
    mine = (torch.arange(share, device=fabric.device) * fabric.world_size + fabric.global_rank) % total
    outputs = []
    for batch in examples.batches(mine.split(batch_size)):
        with fabric.autocast():
            outputs.append(forward(model, batch))
    merged = tuple(torch.cat(rows) for rows in zip(*outputs, strict=True))
    if fabric.world_size > 1:
        merged = tuple(_in_order(rows, fabric.world_size)[:total] for rows in merged)
    for rows in merged:
        check_outputs(rows)
    return merged


def share_buffers(model: nn.Module, fabric: Fabric) -> None:
    """Give all processes the buffers of the first one, whose running statistics are saved; theirs may differ."""
    if fabric.world_size > 1:
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, 0)


def merge(mine: Sequence[T], fabric: Fabric) -> list[T]:
    """Return the results of all processes in order (all-gather); process r has those of examples r, r + W, r + 2W ...

    W is the number of processes.
    """
    shares: list[Any] = [mine]
    if fabric.world_size > 1:
        shares = [None] * fabric.world_size
        torch.distributed.all_gather_object(shares, list(mine))
    return [one for row in zip_longest(*shares) for one in row if one is not None]


def _in_order(rows: Tensor, num_processes: int) -> Tensor:
    """All-gather rows, interleaved: the first row of each process, then the second of each, and so on."""
    shares = [torch.empty_like(rows) for _ in range(num_processes)]
    torch.distributed.all_gather(shares, rows.contiguous())
    return torch.stack(shares, 1).flatten(0, 1)


def check_outputs(outputs: Tensor) -> None:
    """Raise InputError if outputs, one row for each example, contain NaN or infinity."""
    if bad := int((~outputs.flatten(1).isfinite().all(1) if outputs.ndim > 1 else ~outputs.isfinite()).sum()):
        raise InputError(
            f"the model's output is not a finite number for {bad} of {len(outputs)} examples: its weights diverged or "
            "are damaged, or --runtime.precision 32-true is needed"
        )
