"""Base class of all predictors: device, text representation, and access to features."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from bixt3d.datasets.files.cloud import Cloud
from bixt3d.datasets.files.feature_columns import TRAIN_WITHOUT, missing_features
from bixt3d.io.bounds import shortened
from bixt3d.io.error_messages import first_line, is_out_of_memory
from bixt3d.models.features import ModelFeatures
from bixt3d.types import Feature, InputError


class BasePredictor:
    """Base class of predictors. ``task``: name of the task, for `repr`; ``class_names``: names of the classes."""

    task: str = "prediction"
    model: nn.Module
    class_names: tuple[str, ...] = ()

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return next(self.model.parameters()).device

    def to(self, device: str | torch.device) -> "BasePredictor":
        """Move the model to a device and return this predictor. Raises InputError for a device that is not there."""
        move(self.model, device)
        return self

    def predict(self, *inputs: Any, **options: Any) -> Any:
        """Return predictions for clouds or images: see the subclass of each task."""
        raise NotImplementedError

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """Return predictions: the same as `predict`."""
        return self.predict(*inputs, **options)

    def facts(self) -> dict[str, Any]:
        """Return the entries of `repr` besides task and classes."""
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


def check_features(cloud: Cloud, features: Iterable[Feature]) -> Cloud:
    """Return a cloud. Raises InputError that names the features that a model reads and the cloud lacks."""
    if fault := missing_features(features, cloud.columns, cloud.name):
        raise InputError("; ".join([f"{cloud.name} {fault}", *cloud.notes, TRAIN_WITHOUT]))
    return cloud


def move(model: nn.Module, device: str | torch.device) -> nn.Module:
    """Move a model to a device. Raises InputError for a device that is not there."""
    try:
        return model.to(device)
    except (RuntimeError, AssertionError) as error:  # PyTorch without CUDA raises AssertionError
        if is_out_of_memory(error):
            raise
        raise InputError(f"the model cannot be moved to {device!s:.40}: {first_line(error)}") from error


def features_of(model: nn.Module) -> Callable[..., ModelFeatures]:
    """Return the ``forward_features`` of a model. Raises InputError for a class without it."""
    if not hasattr(model, "forward_features"):
        raise InputError(
            f"a {type(model).__name__} gives no features: derive its class from one of bixt3d.models, such as "
            "CloudClassifier, and define forward_features and make_head"
        )
    return model.forward_features
