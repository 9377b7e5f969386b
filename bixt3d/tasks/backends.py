"""Choose the backends of a model's operators: all give the same result, at different cost."""

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
    """Return advice: the settings of a run that make a training step use less memory."""
    lower = [f"--train.batch_size (it is {run.train.batch_size})"]
    if hasattr(run.data, "num_points"):
        lower.append("--data.num_points")
    use = [f"--runtime.accumulate {2 * run.runtime.accumulate}"]
    if not run.runtime.checkpointing and any(isinstance(layer, EncoderLayer) for layer in module.modules()):
        use.append("--runtime.checkpointing true")
    return f"lower {' or '.join(lower)}, or use {' or '.join(use)}"


def choose_backends(module: nn.Module, runtime: Runtime, num_processes: int = 1) -> None:
    """Set the backends of a model's modules, activation checkpointing, and synchronised batch norm.

    Batch norms are synchronised among ``num_processes`` (as SyncBatchNorm), unless ``runtime.sync_batchnorm`` is false.
    Raises InputError for settings that the model does not support.
    """
    if runtime.checkpointing and not any(isinstance(layer, EncoderLayer) for layer in module.modules()):
        raise InputError("runtime.checkpointing is for models with BiXT's encoder, and this model has none")
    synchronized = num_processes > 1 and runtime.sync_batchnorm is not False
    for layer in module.modules():
        if isinstance(layer, BiAttention):
            layer.backend = runtime.attention
        elif isinstance(layer, GroupBlock | AffineGroupLinear):
            layer.backend = runtime.points
        elif isinstance(layer, EncoderLayer | FeedForwardUnit):
            layer.checkpointing = runtime.checkpointing
        elif isinstance(layer, SynchronizedBatchNorm):
            layer.synchronized = synchronized
        elif isinstance(layer, _BatchNorm) and synchronized:
            raise InputError(
                f"the statistics of {type(layer).__name__} cannot be synchronised among processes: use a batch norm of "
                "bixt3d.nn.batch_norm, or --runtime.sync_batchnorm false"
            )
