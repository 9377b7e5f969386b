"""Which implementation of an operator a model runs: all give the same results, at another cost."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from bixt3d.engine.runtime import Runtime
from bixt3d.models.encoder import EncoderLayer
from bixt3d.nn.attention import BiAttention
from bixt3d.nn.batch_norm import SynchronizedBatchNorm
from bixt3d.nn.blocks import FeedForwardUnit
from bixt3d.nn.grouping import AffineGroupLinear, GroupBlock
from bixt3d.tasks.settings import Run
from bixt3d.types import InputError


def with_less_memory(run: Run, module: nn.Module) -> str:
    """Return the settings of a run that make its training steps take less memory, as advice."""
    lower = [f"--train.batch_size (it is {run.train.batch_size})"]
    if hasattr(run.data, "num_points"):
        lower.append("--data.num_points")
    use = [f"--runtime.accumulate {2 * run.runtime.accumulate}"]
    if not run.runtime.checkpointing and any(isinstance(part, EncoderLayer) for part in module.modules()):
        use.append("--runtime.checkpointing true")
    return f"lower {' or '.join(lower)}, or use {' or '.join(use)}"


def choose_backends(module: nn.Module, runtime: Runtime, num_processes: int = 1) -> None:
    """Set which implementation of their operators the modules of a model run; all give the same result.

    The batch norms of ``num_processes`` that train together are synchronised, unless the settings say otherwise.
    """
    if runtime.checkpointing and not any(isinstance(part, EncoderLayer) for part in module.modules()):
        raise InputError("runtime.checkpointing is for models with BiXT's encoder, and this model has none")
    synchronized = num_processes > 1 and runtime.sync_batchnorm is not False
    for part in module.modules():
        if isinstance(part, BiAttention):
            part.backend = runtime.attention
        elif isinstance(part, GroupBlock | AffineGroupLinear):
            part.backend = runtime.points
        elif isinstance(part, EncoderLayer | FeedForwardUnit):
            part.checkpointing = runtime.checkpointing
        elif isinstance(part, SynchronizedBatchNorm):
            part.synchronized = synchronized
        elif isinstance(part, _BatchNorm) and synchronized:
            raise InputError(
                f"the statistics of {type(part).__name__} cannot be those of several processes: use a batch norm of "
                "bixt3d.nn.batch_norm, or --runtime.sync_batchnorm false"
            )
