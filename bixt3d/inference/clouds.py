"""Predictors of clouds: classification and part segmentation of raw clouds."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bixt3d.datasets.files.cloud import Cloud
from bixt3d.datasets.transforms.upright import Up
from bixt3d.inference.cloud_predictor import CloudPredictor, Fill
from bixt3d.inference.predictions import PartPrediction, Prediction, check_finite
from bixt3d.inference.predictor import features_of
from bixt3d.io.named_configs import nearest
from bixt3d.models.attention_maps import LayerAttention
from bixt3d.models.classifier import CloudClassifier
from bixt3d.models.features import head_input
from bixt3d.models.segmenter import CloudSegmenter
from bixt3d.ops import interpolate
from bixt3d.types import InputError

__all__ = ["CloudPredictor", "PartPredictor", "Predictor"]

CHUNK = 2**16
"""Points that are labeled at a time."""

TINY = 1e-30
"""Lower bound of the divisor when the probabilities of a category's parts are normalized to sum to 1."""


def check_names(what: str, names: Any, model: nn.Module) -> None:
    """Raise InputError unless there is a name for each output of the model."""
    outputs = getattr(model, "num_classes", None)  # a custom class may not define it
    if isinstance(names, str) or (isinstance(outputs, int) and len(names) != outputs):
        given = f"the text {names!r:.80}" if isinstance(names, str) else f"{len(names)} of them"
        raise InputError(f"{what} is a list of names, one for each of the model's {outputs} outputs, not {given}")


class Predictor(CloudPredictor):
    """Predicts the class of raw clouds of any size with a trained classifier; `bixt3d.load_run` makes it.

    Args:
        model: the trained classifier.
        class_names: names of the classes, in the order of the logits.
        num_points: number of points of each cloud that the model reads.
        up: the up axis of the training set.
        fill: values of the features that a cloud may lack; None: a missing feature is refused.

    Example:
        >>> model = create_model("shapes_cls", num_classes=2)
        >>> predictor = Predictor(model, ["chair", "lamp"], num_points=256)
        >>> predictor.predict(torch.rand(1000, 3)).probabilities
        {'chair': 0.5, 'lamp': 0.5}
    """

    task = "classification"

    def __init__(
        self,
        model: CloudClassifier,
        class_names: Sequence[str],
        num_points: int,
        up: Up = "y",
        fill: Fill | None = None,
    ):
        super().__init__(model, num_points, up, fill)
        self.class_names = tuple(class_names)
        check_names("class_names", class_names, model)

    def make_prediction(self, cloud: Cloud, logits: Tensor, up: Up | None) -> Prediction:
        probability = logits.softmax(0)
        order = probability.argsort(descending=True, stable=True).tolist()
        ranked = {self.class_names[i]: float(probability[i]) for i in order}
        name = self.class_names[order[0]]
        return Prediction(name, ranked[name], ranked, self._notes(cloud, up))


class PartPredictor(CloudPredictor):
    """Predicts the part of every point of raw clouds of any size; `bixt3d.load_run` makes it.

    Args:
        model: the trained part segmenter.
        part_names: names of the parts of all categories, in the order of the logits.
        class_parts: the categories, each with the indices of its parts.
        num_points: number of points of each cloud that the model reads.
        up: the up axis of the training set.
        fill: values of the features that a cloud may lack; None: a missing feature is refused.
    """

    task = "part segmentation"

    def __init__(
        self,
        model: CloudSegmenter,
        part_names: Sequence[str],
        class_parts: Mapping[str, Sequence[int]],
        num_points: int,
        up: Up = "y",
        fill: Fill | None = None,
    ):
        super().__init__(model, num_points, up, fill)
        self.part_names = tuple(part_names)
        check_names("part_names", part_names, model)
        self.class_parts = {name: tuple(parts) for name, parts in class_parts.items()}
        self.class_names = tuple(class_parts)
        if not hasattr(model, "reads_category"):  # a custom class may not define it
            model.reads_category = True

    def facts(self) -> dict[str, Any]:
        return {"parts": len(self.part_names)} | super().facts()

    @torch.inference_mode()
    def predict(
        self,
        clouds: Any,
        features: Mapping[str, Any] | None = None,
        *,
        category: str | None = None,
        batch: Any = None,
        up: Up | None = None,
        probabilities: bool = False,
    ) -> PartPrediction | list[PartPrediction]:
        """Return the part of every point: one PartPrediction for a single cloud, a list for several.

        Takes the arguments of `Predictor.predict`. The model reads as many points of a cloud as in training; the other
        points get probabilities by inverse-distance interpolation of their three nearest. The part of a point is the
        most probable one of the category. Points without a position (NaN, infinite) get part -1 and confidence NaN.

        ``category``: that of all clouds. None: the category whose parts have the largest total probability; or an
        InputError that lists the categories, if the model reads the category. ``probabilities``: also return those of
        all parts of the category for each point.
        """
        self.check_category(category)
        single, given = self._clouds(clouds, features, batch)
        predictions = [self._label(cloud, up, category, probabilities) for cloud in given]
        return predictions[0] if single else predictions

    @torch.no_grad()
    def embed(
        self,
        clouds: Any,
        features: Mapping[str, Any] | None = None,
        *,
        category: str | None = None,
        batch: Any = None,
        up: Up | None = None,
    ) -> Float[Tensor, "N D"] | list[Float[Tensor, "_ D"]]:
        """Return the features of every point before the last layer: (N, D) for a single cloud, a list for several.

        Takes the arguments of `predict`. Points that the model does not read get the inverse-distance interpolation of
        the three nearest that it reads; points without a position get NaN.
        """
        features_of(self.model)
        self.check_category(category)
        single, given = self._clouds(clouds, features, batch)
        found = []
        for cloud in given:
            xyz, index, feats = self._prepare(cloud, up)
            sampled = xyz[:, index]
            inputs = [tensor.to(self.device) for tensor in (sampled, feats, self._category_index(category))]
            output = head_input(self.model, *inputs).float().cpu()
            check_finite(output, cloud.name)
            of_points = torch.cat([interpolate(chunk, sampled, output)[0] for chunk in xyz.split(CHUNK, dim=1)])
            found.append(for_original(cloud, of_points, torch.nan))
        return found[0] if single else found

    def attention_maps(
        self,
        cloud: Any,
        features: Mapping[str, Any] | None = None,
        *,
        category: str | None = None,
        up: Up | None = None,
    ) -> list[LayerAttention]:
        """Return the attention maps between latents and tokens of every layer for one cloud.

        Takes a cloud as `predict` does. Raises InputError for several clouds, and for a model without latents.
        """
        self.check_category(category)
        return self._attention(cloud, features, up, int(self._category_index(category)))

    def _category_index(self, category: str | None) -> Int[Tensor, "1"]:
        """Return the index of the category, or 0 for None (the model then ignores it)."""
        return torch.tensor([self.class_names.index(category) if category else 0])

    def check_category(self, category: str | None) -> None:
        """Raise InputError for an unknown category, and for None if the model reads the category."""
        if category is None and self.model.reads_category and len(self.class_names) > 1:
            listed = ", ".join(self.class_names)
            raise InputError(f"this model needs the category of the shape (--category, or category=): one of {listed}")
        if category is not None and category not in self.class_names:
            raise InputError(f"this model knows no category '{category}'" + nearest(str(category), self.class_names))

    def _label(self, cloud: Cloud, up: Up | None, category: str | None, keep: bool) -> PartPrediction:
        xyz, index, feats = self._prepare(cloud, up)
        label = self._category_index(category).to(self.device)
        sampled = xyz[:, index]
        logits = self.model(sampled.to(self.device), feats.to(self.device), label).float().cpu()
        check_finite(logits, cloud.name)
        probability = logits.softmax(2)
        totals = probability.sum((0, 1))
        category = category or max(self.class_names, key=lambda name: totals[list(self.class_parts[name])].sum())
        own = torch.tensor(self.class_parts[category])
        probability = probability[:, :, own]
        confidence, parts, kept = [], [], []
        for chunk in xyz.split(CHUNK, dim=1):
            of_parts = interpolate(chunk, sampled, probability)[0]
            of_parts = of_parts / of_parts.sum(1, keepdim=True).clamp(min=TINY)
            most = of_parts.max(1)
            confidence, parts = [*confidence, most.values], [*parts, most.indices]
            kept += [of_parts] if keep else []
        parts = torch.cat(parts)
        counts = parts.bincount(minlength=len(own))
        order = counts.argsort(descending=True, stable=True).tolist()
        ranked = {self.part_names[int(own[i])]: int(counts[i]) for i in order}
        return PartPrediction(
            category,
            for_original(cloud, own[parts], -1),
            self.part_names,
            {name: count / len(parts) for name, count in ranked.items()},
            ranked,
            for_original(cloud, torch.cat(confidence), torch.nan),
            self.class_parts[category],
            for_original(cloud, torch.cat(kept), torch.nan) if keep else None,
            self._notes(cloud, up),
        )


def for_original(cloud: Cloud, values: Float[Tensor, "N ..."] | Int[Tensor, "N ..."], missing: float | int) -> Tensor:
    """Return values with a row for each original point of the cloud; see `Cloud.for_original`."""
    return torch.from_numpy(cloud.for_original(values.numpy(force=True), missing))
