"""Running sums of an epoch: loss, accuracy, and the first step whose loss was not finite."""

from collections.abc import Sequence
from math import inf

import torch
from torch import Tensor

from bixt3d.engine.fabric import Fabric
from bixt3d.engine.watch import ends_all
from bixt3d.types import InputError


class EpochSums:
    """Sums of an epoch, kept on the device: only `read`, at its end, synchronises with the host.

    ``known_bad`` is the first step whose loss was not finite, as of the last `glance`; else infinity.

    Args:
        device: where the sums are.
        unit: name of the examples, such as clouds.
    """

    def __init__(self, device: torch.device, unit: str = "examples"):
        self.unit, self.known_bad = unit, inf
        self.sums = torch.zeros(3, device=device)  # loss, correct, examples
        self.bad_step = torch.full((), inf, device=device)
        self.step = self.num_examples = 0
        self.copy: tuple[Tensor, torch.cuda.Event] | None = None

    def add(self, loss: Tensor, correct: Tensor, num_examples: int) -> None:
        """Add a step: the sum of the losses of its examples, the number of correct ones, and their number."""
        loss = loss.detach()
        self.bad_step = torch.where((self.bad_step == inf) & ~loss.isfinite(), float(self.step), self.bad_step)
        self.sums += torch.stack([loss, correct, torch.full_like(loss, num_examples)])
        self.step += 1
        self.num_examples += num_examples

    def glance(self) -> dict[str, float]:
        """Return means without synchronising with the device: on a GPU slightly older ones, at first none."""
        now, known = torch.cat([self.sums, self.bad_step[None]]), self.copy
        if now.is_cuda:
            if known and not known[1].query():
                return {}
            self.copy = torch.empty(4, pin_memory=True).copy_(now, non_blocking=True), torch.cuda.Event()
            self.copy[1].record()
            if not known:
                return {}
            now = known[0]
        *sums, self.known_bad = now.tolist()
        return _means(sums)

    def read(self, fabric: Fabric | None = None) -> dict[str, float]:
        """Return mean loss and accuracy over all processes. Raises InputError, in all, if a loss was not finite."""
        if fabric:
            self.sums = fabric.all_reduce(self.sums, reduce_op="sum")
            self.bad_step = fabric.all_reduce(self.bad_step, reduce_op="min")
        check_step(float(self.bad_step))
        return _means(self.sums.tolist())


def check_step(bad: float) -> None:
    """Raise InputError, in all processes, for the first step whose loss was not finite; infinity: there is none."""
    if bad < inf:
        raise ends_all(
            InputError(
                f"the loss was not a number at step {bad:.0f} of this epoch; the last checkpoint is kept: "
                "lower --optim.lr, or use --runtime.precision 32-true"
            )
        )


def _means(sums: Sequence[float]) -> dict[str, float]:
    loss, correct, total = sums
    return {"loss": loss / total, "train_accuracy": correct / total}
