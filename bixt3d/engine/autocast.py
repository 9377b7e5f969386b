"""Mixed precision (autocast), as a plugin of Lightning Fabric."""

from typing import Any

from lightning_fabric.plugins import MixedPrecision
from torch.optim import Optimizer


class Autocast(MixedPrecision):
    """Run a model in mixed precision, but leave its inputs in float32.

    Fabric's own plugin rounds the inputs, and so moves points: bfloat16 has no coordinate between 0.996 and 1.
    """

    def convert_input(self, data: Any) -> Any:
        return data

    def unscale_gradients(self, optimizer: Optimizer) -> None:
        """Undo the loss scale of float16 before gradients are clipped; Fabric refuses this for fused optimizers."""
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)
