"""What predictors of clouds and images have in common: where they lie, what they are, and features beside answers."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from bixt3d.io.bounds import shortened
from bixt3d.models.features import ModelFeatures
from bixt3d.types import InputError


class BasePredictor:
    """A trained model, ready to predict. ``task``: what it does, in words; ``class_names``: what it tells apart."""

    task: str = "prediction"
    model: nn.Module
    class_names: tuple[str, ...] = ()

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return next(self.model.parameters()).device

    def to(self, device: str | torch.device) -> "BasePredictor":
        """Move the model to a device; returns this predictor."""
        self.model.to(device)
        return self

    def predict(self, *given: Any, **more: Any) -> Any:
        """Say what clouds or images are: see the predictor of each task."""
        raise NotImplementedError

    def __call__(self, *given: Any, **more: Any) -> Any:
        """Predict: the same as `predict`."""
        return self.predict(*given, **more)

    def facts(self) -> dict[str, Any]:
        """Return what a predictor says of itself, beside its task and its classes."""
        return {}

    def __repr__(self) -> str:
        names = shortened(", ".join(self.class_names), 60)
        facts = {"task": self.task} | ({"classes": f"{len(self.class_names)} ({names})"} if self.class_names else {})
        facts |= self.facts() | {
            "model": type(self.model).__name__,
            "parameters": f"{sum(parameter.numel() for parameter in self.model.parameters()):,}",
            "device": str(self.device),
        }
        return f"{type(self).__name__}({', '.join(f'{name}: {value}' for name, value in facts.items())})"


def features_of(model: nn.Module) -> Callable[..., ModelFeatures]:
    """Return the function of a model that gives its features. Raises InputError for a class that has none."""
    if not hasattr(model, "forward_features"):
        raise InputError(
            f"a {type(model).__name__} gives no features: derive its class from one of bixt3d.models, such as "
            "CloudClassifier, and define forward_features and make_head"
        )
    return model.forward_features
