"""Trained models of clouds, ready to predict on clouds as people have them."""

from collections.abc import Mapping, Sequence
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
from bixt3d.inference.predictions import Answer, PartPrediction, Prediction, check_finite
from bixt3d.io.bounds import listed
from bixt3d.io.named_configs import nearest
from bixt3d.models.classifier import CloudClassifier
from bixt3d.models.segmenter import CloudSegmenter
from bixt3d.ops import interpolate
from bixt3d.types import Feature, Features, InputError, feature_name

CHUNK = 2**16
"""Points that get their part at a time."""

TINY = 1e-30
"""Where all parts of the category together are less probable, their probabilities sum to less than 1."""

CLOUDS = 32
"""Clouds that are classified at a time."""


class CloudPredictor:
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
        answers = []
        for first in range(0, len(given), CLOUDS):
            prepared = [self._prepare(cloud, up) for cloud in given[first : first + CLOUDS]]
            xyz = torch.cat([xyz[:, index] for xyz, index, _ in prepared])
            feats = torch.cat([feats for _, _, feats in prepared])
            logits = self.model(xyz.to(self.device), feats.to(self.device)).float().cpu()
            some = given[first : first + CLOUDS]
            for cloud, own in zip(some, logits, strict=True):
                check_finite(own, cloud.name)
                answers.append(self.answer(cloud, own, up))
        return answers[0] if single else answers

    def answer(self, cloud: Cloud, logits: Tensor, up: Up | None) -> Answer:
        """Return what the model's output for one cloud means. A model of other inputs has a `predict` of its own."""
        raise NotImplementedError

    @property
    def features(self) -> Features:
        """What the model reads of points beside their positions."""
        return self.model.features

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return next(self.model.parameters()).device

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


class Predictor(CloudPredictor):
    """A trained classifier that takes clouds as people have them."""

    def __init__(
        self,
        model: CloudClassifier,
        class_names: Sequence[str],
        num_points: int,
        up: Up = "y",
    ):
        super().__init__(model, num_points, up)
        self.class_names = tuple(class_names)

    def answer(self, cloud: Cloud, logits: Tensor, up: Up | None) -> Prediction:
        probability = logits.softmax(0)
        order = probability.argsort(descending=True, stable=True).tolist()
        ranked = {self.class_names[i]: float(probability[i]) for i in order}
        name = self.class_names[order[0]]
        return Prediction(name, ranked[name], ranked, self._notes(cloud, up))


class PartPredictor(CloudPredictor):
    """A trained part segmenter that takes clouds as people have them, and labels all their points."""

    def __init__(
        self,
        model: CloudSegmenter,
        part_names: Sequence[str],
        class_parts: Mapping[str, Sequence[int]],
        num_points: int,
        up: Up = "y",
    ):
        super().__init__(model, num_points, up)
        self.part_names = tuple(part_names)
        self.class_parts = {name: tuple(parts) for name, parts in class_parts.items()}
        self.class_names = tuple(class_parts)

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
        """Say which part each point of clouds is: one PartPrediction for one cloud, a list for several.

        Takes what `Predictor.predict` takes. The model sees as many points of a cloud as in training; every other point
        gets the mean probabilities of the three nearest of them. A point's part is the most probable of its category.
        That is ``category`` for all clouds; without it, that whose parts have the largest total probability, or an
        InputError that lists the categories, if the model wants to be told. ``probabilities``: keep those of all parts
        of the category at each point.
        """
        self.check_category(category)
        single, given = self._clouds(clouds, features, batch)
        answers = [self._label(cloud, up, category, probabilities) for cloud in given]
        return answers[0] if single else answers

    def check_category(self, category: str | None) -> None:
        """Raise InputError for a category that the model does not know, or for none where it wants to be told."""
        if category is None and self.model.reads_category:
            listed = ", ".join(self.class_names)
            raise InputError(f"this model wants to be told the category of the shape, one of: {listed}")
        if category is not None and category not in self.class_parts:
            raise InputError(f"this model knows no category '{category}'" + nearest(category, self.class_names))

    def _label(self, cloud: Cloud, up: Up | None, category: str | None, keep: bool) -> PartPrediction:
        xyz, index, feats = self._prepare(cloud, up)
        label = torch.tensor([self.class_names.index(category) if category else 0], device=self.device)
        seen = xyz[:, index]
        logits = self.model(seen.to(self.device), feats.to(self.device), label).float().cpu()
        check_finite(logits, cloud.name)
        probability = logits.softmax(2)
        totals = probability.sum((0, 1))
        category = category or max(self.class_names, key=lambda name: totals[list(self.class_parts[name])].sum())
        own = torch.tensor(self.class_parts[category])
        probability = probability[:, :, own]
        confidence, parts, kept = [], [], []
        for some in xyz.split(CHUNK, dim=1):
            of_parts = interpolate(some, seen, probability)[0]
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
            own[parts],
            self.part_names,
            {name: count / len(parts) for name, count in ranked.items()},
            ranked,
            torch.cat(confidence),
            self.class_parts[category],
            torch.cat(kept) if keep else None,
            self._notes(cloud, up),
        )
