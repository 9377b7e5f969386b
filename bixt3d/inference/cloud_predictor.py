"""Base class of cloud predictors: it turns raw clouds into the input of a model."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bixt3d.datasets.clouds.preparing import choose_points, prepare_cloud, up_axis, with_model_features
from bixt3d.datasets.files.arrays import as_clouds
from bixt3d.datasets.files.cloud import Cloud, with_features
from bixt3d.datasets.files.las_large import is_large, read_part
from bixt3d.datasets.files.reader import MESH_POINTS, read_file
from bixt3d.datasets.transforms.upright import Up
from bixt3d.errors import check_whole
from bixt3d.inference.predictions import BasePrediction, check_finite
from bixt3d.inference.predictor import BasePredictor, check_features, features_of
from bixt3d.io.bounds import listed
from bixt3d.models.attention_maps import LayerAttention, attention_maps
from bixt3d.types import Features, InputError, feature_name

Fill = Mapping[str, Sequence[float]]
"""Values of missing features by name, one for each column."""

CLOUDS = 32
"""Batch size: clouds that the model reads at a time."""


class CloudPredictor(BasePredictor):
    """Base class of cloud predictors: turns clouds upright, scales them to the unit sphere, samples their points.

    Args:
        model: the trained model.
        num_points: number of points of each cloud that the model reads.
        up: the up axis of the training set.
        fill: values of the features that a cloud may lack, by name; None: a missing feature is refused.
    """

    def __init__(self, model: nn.Module, num_points: int, up: Up = "y", fill: Fill | None = None):
        check_predictor(model, num_points, up)
        self.model, self.num_points, self.up, self.fill = model.eval(), num_points, up, fill or {}

    @torch.inference_mode()
    def predict(
        self,
        clouds: Any,
        features: Mapping[str, Any] | None = None,
        *,
        batch: Any = None,
        up: Up | None = None,
        category: Any = None,
    ) -> Any:
        """Return the predictions for clouds: one for a single cloud, a list for several.

        ``clouds``: an array or tensor ``(N, 3)`` or ``(B, N, 3)``, a file, a `Cloud`, a PyG ``Data`` or ``Batch``, a
        mesh or cloud of trimesh or Open3D, or a list of any of these. ``features``: the point features that the model
        reads by name, for arrays, such as ``{"normal": ...}``. ``batch``: for points ``(N, 3)`` of several clouds, the
        index of the cloud of each point, as in PyG; for dense clouds, the mask ``(B, N)`` of points that are no
        padding. ``up``: the up axis of the clouds, y, z, -y or -z; by default that of the training set.

        Clouds may have any number of points: they are centered, scaled and sampled as in training (at random with a
        fixed seed; points are repeated where there are too few). Points without a position (NaN, infinite) are dropped,
        and counted in ``notes``. Raises InputError for a cloud without any other point, and for missing features.
        ``category`` is for part segmenters: others refuse it.
        """
        if category is not None:
            raise InputError(f"category is for part segmenters, and this predictor is for {self.task}: leave it out")
        single, given = self._clouds(clouds, features, batch)
        predictions = [
            self.make_prediction(cloud, logits, up) for cloud, logits in self._outputs(self.model, given, up)
        ]
        return predictions[0] if single else predictions

    @torch.no_grad()  # not inference mode: autograd may use the features later
    def embed(
        self, clouds: Any, features: Mapping[str, Any] | None = None, *, batch: Any = None, up: Up | None = None
    ) -> Float[Tensor, "*B D"]:
        """Return the embedding of clouds, the pooled features before the head: (D,) or (B, D), on the CPU.

        Takes the arguments of `predict`, and prepares clouds as it does. Raises InputError for a custom model class
        without features.
        """
        features_of_clouds = features_of(self.model)
        single, given = self._clouds(clouds, features, batch)
        outputs = self._outputs(lambda xyz, feats: features_of_clouds(xyz, feats).pooled, given, up)
        pooled = torch.stack([vector for _, vector in outputs])
        return pooled[0] if single else pooled

    def attention_maps(
        self, cloud: Any, features: Mapping[str, Any] | None = None, *, up: Up | None = None
    ) -> list[LayerAttention]:
        """Return the attention maps between latents and tokens of every layer for one cloud.

        Takes a cloud as `predict` does. Raises InputError for several clouds, and for a model without latents.
        """
        return self._attention(cloud, features, up)

    def _attention(self, cloud: Any, features: Any, up: Up | None, category: int | None = None) -> list[LayerAttention]:
        _, (only, *more) = self._clouds(cloud, features, None)
        if more:
            raise InputError(f"attention is shown of one cloud at a time, not of {1 + len(more)}")
        xyz, index, feats = self._prepare(only, up)
        return attention_maps(self.model, xyz[0, index].to(self.device), feats[0].to(self.device), category)

    def _outputs(
        self, function: Callable[[Tensor, Tensor], Tensor], clouds: Sequence[Cloud], up: Up | None
    ) -> Iterator[tuple[Cloud, Float[Tensor, "..."]]]:
        """Yield each cloud with the output of a function of ``xyz`` (B, N, 3) and ``feats`` (B, N, F), on the CPU."""
        for first in range(0, len(clouds), CLOUDS):
            chunk = clouds[first : first + CLOUDS]
            prepared = [self._prepare(cloud, up) for cloud in chunk]
            xyz = torch.cat([xyz[:, index] for xyz, index, _ in prepared])
            feats = torch.cat([feats for _, _, feats in prepared])
            outputs = function(xyz.to(self.device), feats.to(self.device)).float().cpu()
            for cloud, output in zip(chunk, outputs, strict=True):
                check_finite(output, cloud.name)
                yield cloud, output

    def make_prediction(self, cloud: Cloud, logits: Tensor, up: Up | None) -> BasePrediction:
        """Return the prediction for one cloud, given the model's output. Abstract, unless `predict` is overridden."""
        raise NotImplementedError

    @property
    def features(self) -> Features:
        """The point features that the model reads besides the coordinates."""
        return Features.of(self.model)

    def facts(self) -> dict[str, Any]:
        return {"points": self.num_points, "features": str(self.features) or "none", "up": self.up}

    def up_of(self, cloud: Cloud, up: Up | None = None) -> Up:
        """Return the up axis of a cloud: the one given, or that of its file format, or that of the training set."""
        return up or up_axis(cloud, self.up)

    def read(self, path: Path, viewpoint: bool = True) -> list[Cloud]:
        """Read the clouds of a file; of a LAS or LAZ too large for memory, only points that a classifier reads.

        ``viewpoint``: see `read_file`.
        """
        mesh_points = max(MESH_POINTS, self.num_points)
        whole = type(self).predict is not CloudPredictor.predict  # an answer for every point needs them all
        if whole or not is_large(path):
            return read_file(path, mesh_points, viewpoint=viewpoint)
        return [read_part(path, lambda size: choose_points(size, mesh_points).numpy(), self.features.names)]

    def _clouds(self, clouds: Any, features: Mapping[str, Any] | None, batch: Any) -> tuple[bool, list[Cloud]]:
        if features is not None and not isinstance(features, Mapping):
            raise InputError(f"features are given by name, such as {{'normal': normals}}, not as {features!r:.80}")
        for name in features or {}:
            if feature_name(name) not in self.features.names:
                raise InputError(f"this model reads {self.features or 'no features'}, not {name}: leave it out")
        if isinstance(clouds, str | Path) and features is None and batch is None:
            clouds = self.read(Path(clouds))
            clouds = clouds[0] if len(clouds) == 1 else clouds
        single, found = as_clouds(clouds, features, batch, max(MESH_POINTS, self.num_points))
        return single, [self._with_features(cloud) for cloud in found]

    def _with_features(self, cloud: Cloud) -> Cloud:
        """Return a cloud with the features that the model reads.

        Missing features are filled if the model was trained with feature dropout; else missing normals are estimated.
        """
        if not self.fill:
            return check_features(with_model_features(cloud, self.features), self.features.columns)
        cloud = with_features(cloud, self.features)
        for name in self.fill:
            if name not in cloud.columns:
                cloud = self._filled(cloud, name)
        return cloud

    def _filled(self, cloud: Cloud, name: str) -> Cloud:
        values = np.tile(np.array(self.fill[name]), (len(cloud), 1))
        note = f"no {name}: filled with {listed([f'{value:.3g}' for value in self.fill[name]])}, as in feature dropout"
        return replace(cloud, columns={**cloud.columns, name: values}, notes=(*cloud.notes, note))

    def _prepare(
        self, cloud: Cloud, up: Up | None
    ) -> tuple[Float[Tensor, "1 N 3"], Int[Tensor, " M"], Float[Tensor, "1 M F"]]:
        """Return the whole cloud, normalized, the indices of the points that the model reads, and their feats."""
        return prepare_cloud(cloud, self.features, self.num_points, self.up_of(cloud, up), self.up)

    def _notes(self, cloud: Cloud, up: Up | None) -> tuple[str, ...]:
        """Return the notes on a cloud: what was guessed, repeated, left out or not read."""
        notes = []
        if len(cloud) != self.num_points:
            fewer = len(cloud) < self.num_points
            notes.append(f"repeated to make {self.num_points}" if fewer else f"a random {self.num_points} of them seen")
        if up is None and cloud.up != self.up:
            used = self.up_of(cloud)
            notes.append(f"{used} taken for up" + (", as its format has it" if used != self.up else ""))
        notes += cloud.notes
        own = [name for name in cloud.columns if not (cloud.from_mesh and name == "normal")]
        unread = [name for name in own if name not in self.features.names]
        if unread:
            notes.append(f"{listed(unread)} not read")
        return tuple(notes)


def check_predictor(model: Any, num_points: Any, up: Any) -> None:
    """Raise InputError for what cannot be a predictor's model, number of points or up axis."""
    if not isinstance(model, nn.Module):
        raise InputError(f"model is an nn.Module, not {model!r:.80}: load_run makes a predictor from a run")
    check_whole(num_points=num_points)
    if num_points < 1:
        raise InputError(f"num_points must be at least 1, not {num_points}")
    if up not in get_args(Up):
        raise InputError(f"up is one of {', '.join(get_args(Up))}, not {up!r}")
