"""Predictor of scenes: one class for every point of clouds of any size."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bixt3d.datasets.files.arrays import as_clouds
from bixt3d.datasets.files.cloud import Cloud, with_features
from bixt3d.datasets.scenes.crops import Shape
from bixt3d.datasets.scenes.scene import HEIGHT, make_scene
from bixt3d.inference.predictions import BasePrediction, check_finite, percent_lines
from bixt3d.inference.predictor import BasePredictor
from bixt3d.inference.windows import scene_probabilities
from bixt3d.io.bounds import listed
from bixt3d.types import VOID, Features, InputError, feature_name


@dataclass(frozen=True, eq=False)
class ScenePrediction(BasePrediction):
    """The predicted class of every point of a scene: ``class_names[labels[i]]`` for point i.

    Args:
        labels: the class of each point, in the order of the input; -1 for points without a position (NaN, infinite).
        class_names: names of the classes.
        confidence: probability of each point's class; NaN where there is none.
        entropy: entropy of the probabilities of each point, from 0 (sure) to 1 (all classes alike).
        shares: share of the points of each class, highest first.
        notes: what was guessed, filled, left out or not read.
    """

    labels: Int[Tensor, " N"]
    class_names: tuple[str, ...]
    confidence: Float[Tensor, " N"]
    entropy: Float[Tensor, " N"]
    shares: dict[str, float]
    notes: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        return {"shares": self.shares, "points": len(self.labels)}

    def table(self, top: int) -> list[str]:
        return percent_lines(self.shares)


class ScenePredictor(BasePredictor):
    """Predicts the class of every point of a scene of any size; `bixt3d.load_run` makes it.

    Args:
        model: the trained segmenter.
        class_names: names of the classes, in the order of the logits.
        grid: side of a voxel, in the units of the training set.
        window: voxels that the model reads at a time; a scene with fewer goes through it in one pass.
        shape: shape of a window, ``sphere`` or ``cylinder``.
        fill: values of the features that a scene may lack; None: a missing feature is refused.
    """

    task = "scene segmentation"

    def __init__(
        self,
        model: nn.Module,
        class_names: Sequence[str],
        grid: float,
        window: int,
        shape: Shape = "sphere",
        fill: Mapping[str, Sequence[float]] | None = None,
    ):
        self.model, self.class_names = model.eval(), tuple(class_names)
        self.grid, self.window, self.shape, self.fill = grid, window, shape, fill or {}

    @property
    def features(self) -> Features:
        """The features that the model reads besides positions."""
        return Features.of(self.model)

    def facts(self) -> dict[str, Any]:
        return {"grid": self.grid, "window": self.window, "features": str(self.features) or "none", "up": "z"}

    def predict(
        self,
        scenes: Any,
        features: Mapping[str, Any] | None = None,
        *,
        batch: Any = None,
        progress: Callable[[int], Any] | None = None,
    ) -> ScenePrediction | list[ScenePrediction]:
        """Return the class of every point: one ScenePrediction for a single scene, a list for several.

        Takes clouds as `Predictor.predict` does: arrays, files, PyG data and so on, z up. Raises InputError for a
        missing feature. ``progress``: called with the number of voxels done.
        """
        for name in features or {}:
            if feature_name(name) not in self.features.names:
                raise InputError(f"this model reads {self.features or 'no features'}, not {name}: leave it out")
        single, given = as_clouds(scenes, features, batch)
        answers = [self.label(cloud, progress) for cloud in given]
        return answers[0] if single else answers

    def label(self, cloud: Cloud, progress: Callable[[int], Any] | None = None) -> ScenePrediction:
        """Return the class of every point of one cloud."""
        cloud = self.prepare(cloud)
        unlabelled = np.full(len(cloud), VOID)
        scene = make_scene(cloud.xyz, cloud.columns, unlabelled, self.features, self.grid, cloud.name)
        probability = scene_probabilities(
            self.model, scene, self.window, self.shape, device=self.device, progress=progress
        )
        check_finite(probability, cloud.name)
        confidence, labels = probability.max(1)
        entropy = -(probability * probability.clamp(min=1e-12).log()).sum(1) / np.log(max(2, probability.shape[1]))
        inverse = scene.inverse.long()
        labels, confidence, entropy = labels[inverse], confidence[inverse], entropy[inverse]
        counts = labels.bincount(minlength=len(self.class_names))
        order = counts.argsort(descending=True, stable=True).tolist()
        return ScenePrediction(
            torch.from_numpy(cloud.for_original(labels.numpy(), VOID)),
            self.class_names,
            torch.from_numpy(cloud.for_original(confidence.numpy(), np.nan)),
            torch.from_numpy(cloud.for_original(entropy.numpy(), np.nan)),
            {self.class_names[i]: int(counts[i]) / len(labels) for i in order},
            self._notes(cloud),
        )

    def prepare(self, cloud: Cloud) -> Cloud:
        """Return the cloud with the features that the model reads; missing ones are filled if it was trained so."""
        cloud = with_features(cloud, self.features)
        for name, values in self.fill.items():
            if name not in cloud.columns and name != HEIGHT.name:
                filled = np.tile(np.array(values), (len(cloud), 1))
                note = f"no {name}: filled with {listed([f'{value:.3g}' for value in values])}, as in feature dropout"
                cloud = replace(cloud, columns={**cloud.columns, name: filled}, notes=(*cloud.notes, note))
        return cloud

    def _notes(self, cloud: Cloud) -> tuple[str, ...]:
        unread = [name for name in cloud.columns if name not in self.features.names]
        return (*cloud.notes, f"{listed(unread)} not read") if unread else cloud.notes
