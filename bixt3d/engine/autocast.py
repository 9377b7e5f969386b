"""Mixed precision, as a plugin of Fabric."""

from typing import Any

from lightning_fabric.plugins import MixedPrecision
from torch.optim import Optimizer


class Autocast(MixedPrecision):
    """Mixed precision that leaves the inputs of a model in float32: Fabric's own rounds them, and so moves points.

    In bfloat16 a coordinate near 1 can be 0.996 or 1, and nothing between.
    """

    def convert_input(self, data: Any) -> Any:
        return data

    def unscale_gradients(self, optimizer: Optimizer) -> None:
        """Undo the scale of float16's gradients before they are clipped; Fabric refuses that to fused optimizers."""
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)
