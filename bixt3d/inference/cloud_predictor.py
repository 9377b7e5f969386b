"""What predictors of clouds share: how clouds, as people have them, become what a model reads."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bixt3d.datasets.files.arrays import as_clouds
from bixt3d.datasets.files.cloud import Cloud, with_features
from bixt3d.datasets.files.feature_columns import select_features
from bixt3d.datasets.files.reader import MESH_POINTS
from bixt3d.datasets.transforms.normalize import normalize_clouds
from bixt3d.datasets.transforms.normals import estimate_normals
from bixt3d.datasets.transforms.upright import Up, turn_upright
from bixt3d.inference.predictions import Answer, check_finite
from bixt3d.inference.predictor import BasePredictor, features_of
from bixt3d.io.bounds import listed
from bixt3d.models.attention_maps import LayerAttention, attention_maps
from bixt3d.types import Feature, Features, InputError, feature_name

CLOUDS = 32
"""Clouds that are classified at a time."""


class CloudPredictor(BasePredictor):
    """What all trained models have in common: clouds reach them upright, in the unit sphere, and of one size.

    Args:
        model: the trained model.
        num_points: points of each cloud that it sees.
        up: the axis that pointed up in training.
    """

    def __init__(self, model: nn.Module, num_points: int, up: Up = "y"):
        self.model, self.num_points, self.up = model.eval(), num_points, up

    @torch.inference_mode()
    def predict(
        self, clouds: Any, features: Mapping[str, Any] | None = None, *, batch: Any = None, up: Up | None = None
    ) -> Any:
        """Say what clouds are: one answer for one cloud, a list for several.

        Takes an array or tensor ``(N, 3)`` or ``(B, N, 3)``, with the features that the model reads by name, such as
        ``{"normal": ...}``; with ``batch``, points ``(N, 3)`` of several clouds as PyG has them (the number of the
        cloud of each point), or dense clouds and the mask ``(B, N)`` of the points that are no padding. Also a file, a
        `Cloud`, a PyG ``Data`` or ``Batch``, a mesh or cloud of trimesh or Open3D; or a list of any of these. Clouds
        may have any number of points: they are centred, scaled and sampled as in training (a fixed random choice, with
        replacement where there are too few). ``up``: what is up in the clouds, y, z, -y or -z; by default that of
        training. Raises InputError for coordinates that are not finite, and for features that are missing.
        """
        single, given = self._clouds(clouds, features, batch)
        answers = [self.answer(cloud, logits, up) for cloud, logits in self._outputs(self.model, given, up)]
        return answers[0] if single else answers

    @torch.no_grad()  # not inference mode: features are there to be trained on
    def embed(
        self, clouds: Any, features: Mapping[str, Any] | None = None, *, batch: Any = None, up: Up | None = None
    ) -> Float[Tensor, "*B D"]:
        """Return the pooled features that the model's head reads: (D,) of one cloud, (B, D) of several, on the CPU.

        Takes what `predict` takes, and prepares clouds in the same way. Raises InputError for a model class of the
        user's own that gives no features.
        """
        features_of_clouds = features_of(self.model)
        single, given = self._clouds(clouds, features, batch)
        outputs = self._outputs(lambda xyz, feats: features_of_clouds(xyz, feats).pooled, given, up)
        pooled = torch.stack([vector for _, vector in outputs])
        return pooled[0] if single else pooled

    def attention_maps(
        self, cloud: Any, features: Mapping[str, Any] | None = None, *, up: Up | None = None
    ) -> list[LayerAttention]:
        """Return what latents and tokens read of each other in every layer while the model sees one cloud.

        Takes one cloud, as `predict` does. Raises InputError for several, and for a model without latents.
        """
        return self._attention(cloud, features, up)

    def _attention(self, cloud: Any, features: Any, up: Up | None, category: int | None = None) -> list[LayerAttention]:
        _, (only, *more) = self._clouds(cloud, features, None)
        if more:
            raise InputError(f"attention is shown of one cloud at a time, not of {1 + len(more)}")
        xyz, index, feats = self._prepare(only, up)
        return attention_maps(self.model, xyz[0, index].to(self.device), feats[0].to(self.device), category)

    def _outputs(
        self, function: Callable[[Tensor, Tensor], Tensor], given: Sequence[Cloud], up: Up | None
    ) -> Iterator[tuple[Cloud, Float[Tensor, "..."]]]:
        """Yield what a function of ``xyz`` (B, N, 3) and ``feats`` (B, N, F) returns for each cloud, on the CPU."""
        for first in range(0, len(given), CLOUDS):
            some = given[first : first + CLOUDS]
            prepared = [self._prepare(cloud, up) for cloud in some]
            xyz = torch.cat([xyz[:, index] for xyz, index, _ in prepared])
            feats = torch.cat([feats for _, _, feats in prepared])
            found = function(xyz.to(self.device), feats.to(self.device)).float().cpu()
            for cloud, own in zip(some, found, strict=True):
                check_finite(own, cloud.name)
                yield cloud, own

    def answer(self, cloud: Cloud, logits: Tensor, up: Up | None) -> Answer:
        """Return what the model's output for one cloud means. A model of other inputs has a `predict` of its own."""
        raise NotImplementedError

    @property
    def features(self) -> Features:
        """What the model reads of points beside their positions."""
        return Features.of(self.model)

    def facts(self) -> dict[str, Any]:
        return {"points": self.num_points, "features": str(self.features) or "none", "up": self.up}

    def up_of(self, cloud: Cloud, up: Up | None = None) -> Up:
        """Return what is up in a cloud: as asked, or as its format says, or as in training.

        A .pcd comes from a sensor, never y up: depth cameras write -y up; lidars z up, which is taken for granted only
        where the model was trained so.
        """
        return up or (cloud.up if cloud.up and self.up == "y" else None) or self.up

    def _clouds(self, clouds: Any, features: Mapping[str, Any] | None, batch: Any) -> tuple[bool, list[Cloud]]:
        for name in features or {}:
            if feature_name(name) not in self.features.names:
                raise InputError(f"this model reads {self.features or 'no features'}, not {name}: leave it out")
        single, found = as_clouds(clouds, features, batch, max(MESH_POINTS, self.num_points))
        return single, [self._with_features(cloud) for cloud in found]

    def _with_features(self, cloud: Cloud) -> Cloud:
        """Return a cloud whose features are as the model reads them; normals are estimated where there are none."""
        cloud = with_features(cloud, self.features)
        if Feature.parse("normal") not in self.features.columns or "normal" in cloud.columns:
            return cloud
        normalize_clouds(torch.from_numpy(cloud.xyz)[None], cloud.name)  # raises for what has no surface
        normals = estimate_normals(torch.from_numpy(cloud.xyz)).numpy()
        return replace(cloud, columns={**cloud.columns, "normal": normals}, notes=(*cloud.notes, "normals estimated"))

    def _prepare(
        self, cloud: Cloud, up: Up | None
    ) -> tuple[Float[Tensor, "1 N 3"], Int[Tensor, " M"], Float[Tensor, "1 M F"]]:
        """Return the whole cloud as in training, the points of it that the model sees, and their feats."""
        up = self.up_of(cloud, up)
        xyz = torch.from_numpy(cloud.xyz)
        xyz = normalize_clouds(turn_upright(xyz.double(), up, self.up)[None], cloud.name).float()
        generator = torch.Generator().manual_seed(0)
        index = torch.randperm(xyz.shape[1], generator=generator)[: self.num_points]
        if missing := self.num_points - len(index):
            index = torch.cat([index, torch.randint(xyz.shape[1], (missing,), generator=generator)])
        if not self.features:
            return xyz, index, xyz.new_zeros(1, len(index), 0)
        try:
            feats = torch.from_numpy(select_features(cloud.columns, self.features, cloud.name))[index]
        except InputError as error:
            raise InputError("; ".join([str(error), *cloud.notes])) from error
        return xyz, index, self.features.change(feats, "normal", lambda part: turn_upright(part, up, self.up))[None]

    def _notes(self, cloud: Cloud, up: Up | None) -> tuple[str, ...]:
        """Return what was guessed, repeated, left out or not read of a cloud."""
        notes = []
        if len(cloud) != self.num_points:
            fewer = len(cloud) < self.num_points
            notes.append(f"repeated to make {self.num_points}" if fewer else f"a random {self.num_points} of them seen")
        if up is None and self.up_of(cloud) != self.up:
            notes.append(f"{cloud.up} taken for up, as its format has it")
        notes += cloud.notes
        own = [name for name in cloud.columns if not (cloud.from_mesh and name == "normal")]
        unread = [name for name in own if name not in self.features.names]
        if unread:
            notes.append(f"{listed(unread)} not read")
        return tuple(notes)
