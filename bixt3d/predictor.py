"""A trained run, ready to predict: what the Python API and the programs in tools/ share."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import yaml
from jaxtyping import Float, Int
from torch import Tensor, nn

from bixt3d.config import nearest
from bixt3d.datasets.arrays import as_clouds
from bixt3d.datasets.normalize import normalize_clouds
from bixt3d.datasets.source import CloudSource
from bixt3d.datasets.upright import Up, turn_upright
from bixt3d.engine.checkpoint import fit_weights, load_weights
from bixt3d.engine.folder import weights_file
from bixt3d.image_predictor import IMAGE_TASKS, ImagePredictor, ImageSegmentationPredictor, make_image_predictor
from bixt3d.models.classifier import CloudClassifier
from bixt3d.models.presets import build_model, build_segmenter
from bixt3d.models.segmenter import CloudSegmenter
from bixt3d.ops import interpolate
from bixt3d.types import InputError

TASKS = ("classification", "part segmentation", *IMAGE_TASKS)
CHUNK = 2**16
"""Points that get their part at a time."""


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of one cloud: the class, how sure, and the probability of every class, highest first."""

    name: str
    confidence: float
    probabilities: dict[str, float]


@dataclass(frozen=True, eq=False)
class PartPrediction:
    """What a part segmenter says of one cloud: ``part_names[parts[i]]`` is the part of its point i.

    ``shares``: part of the points that each part of the category has, highest first.
    """

    category: str
    parts: Int[Tensor, " N"]
    part_names: tuple[str, ...]
    shares: dict[str, float]


class CloudPredictor:
    """What all trained models have in common: clouds reach them upright, in the unit sphere, and of one size.

    Args:
        model: the trained model.
        num_points: points of each cloud that it sees.
        normals: whether it reads normals.
        up: the axis that pointed up in training.
    """

    def __init__(self, model: nn.Module, num_points: int, normals: bool = False, up: Up = "y"):
        self.model, self.num_points, self.normals, self.up = model.eval(), num_points, normals, up

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return next(self.model.parameters()).device

    def _prepare(
        self, xyz: Tensor, feats: Tensor, up: Up | None
    ) -> tuple[Float[Tensor, "1 N 3"], Int[Tensor, " M"], Float[Tensor, "1 M F"]]:
        """Return the whole cloud as in training, the points of it that the model sees, and their feats."""
        if self.normals and feats.shape[-1] != 3:
            raise InputError(
                "this model reads normals: give them as normals=, or as `normal` of the PyG data; where there are "
                "none, bixt3d.estimate_normals(xyz) guesses them"
            )
        up = up or self.up
        xyz = normalize_clouds(turn_upright(xyz.double(), up, self.up)[None], "the input").float()
        generator = torch.Generator().manual_seed(0)
        index = torch.randperm(xyz.shape[1], generator=generator)[: self.num_points]
        if missing := self.num_points - len(index):
            index = torch.cat([index, torch.randint(xyz.shape[1], (missing,), generator=generator)])
        if self.normals:
            if not torch.isfinite(feats).all():
                raise InputError("the input has normals that are not finite numbers")
            return xyz, index, turn_upright(feats.float()[index], up, self.up)[None]
        return xyz, index, xyz.new_zeros(1, len(index), 0)


class Predictor(CloudPredictor):
    """A trained classifier that takes clouds as people have them."""

    def __init__(
        self,
        model: CloudClassifier,
        class_names: Sequence[str],
        num_points: int,
        normals: bool = False,
        up: Up = "y",
    ):
        super().__init__(model, num_points, normals, up)
        self.class_names = tuple(class_names)

    @torch.inference_mode()
    def predict(self, clouds: Any, normals: Any = None, up: Up | None = None) -> Prediction | list[Prediction]:
        """Say what clouds are: one Prediction for one cloud, a list for several.

        Takes an array or tensor ``(N, 3)`` or ``(B, N, 3)``, with ``normals`` of the same shape where the model reads
        them; a PyG ``Data`` or ``Batch`` (``pos``, and ``normal`` or ``x``); or a list of any of these. Clouds may have
        any number of points: they are centred, scaled and sampled as in training (a fixed random choice, with
        replacement where there are too few). ``up``: what is up in the clouds, y, z, -y or -z; by default that of
        training. Raises InputError for coordinates that are not finite.
        """
        single, pairs = as_clouds(clouds, normals)
        answers = []
        for xyz, feats in pairs:
            xyz, index, feats = self._prepare(xyz, feats, up)
            logits = self.model(xyz[:, index].to(self.device), feats.to(self.device))[0].float()
            answers.append(self._describe(logits.softmax(0).cpu()))
        return answers[0] if single else answers

    def _describe(self, probability: Tensor) -> Prediction:
        order = probability.argsort(descending=True, stable=True).tolist()
        ranked = {self.class_names[i]: float(probability[i]) for i in order}
        name = self.class_names[order[0]]
        return Prediction(name, ranked[name], ranked)


class PartPredictor(CloudPredictor):
    """A trained part segmenter that takes clouds as people have them, and labels all their points."""

    def __init__(
        self,
        model: CloudSegmenter,
        part_names: Sequence[str],
        class_parts: Mapping[str, Sequence[int]],
        num_points: int,
        normals: bool = False,
        up: Up = "y",
    ):
        super().__init__(model, num_points, normals, up)
        self.part_names = tuple(part_names)
        self.class_parts = {name: tuple(parts) for name, parts in class_parts.items()}
        self.class_names = tuple(class_parts)

    @torch.inference_mode()
    def predict(
        self, clouds: Any, normals: Any = None, category: str | None = None, up: Up | None = None
    ) -> PartPrediction | list[PartPrediction]:
        """Say which part each point of clouds is: one PartPrediction for one cloud, a list for several.

        Takes what `Predictor.predict` takes. The model sees as many points of a cloud as in training; every other point
        gets the mean probabilities of the three nearest of them. A point's part is the most probable of its category.
        That is ``category`` for all clouds; without it, that whose parts have the largest total probability, or an
        InputError that lists the categories, if the model wants to be told.
        """
        self.check_category(category)
        single, pairs = as_clouds(clouds, normals)
        answers = [self._label(*self._prepare(xyz, feats, up), category) for xyz, feats in pairs]
        return answers[0] if single else answers

    def check_category(self, category: str | None) -> None:
        """Raise InputError for a category that the model does not know, or for none where it wants to be told."""
        if category is None and self.model.reads_category:
            listed = ", ".join(self.class_names)
            raise InputError(f"this model wants to be told the category of the shape, one of: {listed}")
        if category is not None and category not in self.class_parts:
            raise InputError(f"this model knows no category '{category}'" + nearest(category, self.class_names))

    def _label(self, xyz: Tensor, index: Tensor, feats: Tensor, category: str | None) -> PartPrediction:
        label = torch.tensor([self.class_names.index(category) if category else 0], device=self.device)
        seen = xyz[:, index]
        logits = self.model(seen.to(self.device), feats.to(self.device), label)
        probability = logits.float().softmax(2).cpu()
        totals = probability.sum((0, 1))
        category = category or max(self.class_names, key=lambda name: totals[list(self.class_parts[name])].sum())
        own = torch.tensor(self.class_parts[category])
        probability = probability[:, :, own]
        parts = torch.cat([interpolate(some, seen, probability)[0].argmax(1) for some in xyz.split(CHUNK, dim=1)])
        shares = parts.bincount(minlength=len(own)) / len(parts)
        order = shares.argsort(descending=True, stable=True).tolist()
        ranked = {self.part_names[int(own[i])]: float(shares[i]) for i in order}
        return PartPrediction(category, own[parts], self.part_names, ranked)


def read_run(run: str | Path, task: str | None = None) -> tuple[Path, dict[str, Tensor], dict[str, Any]]:
    """Return the weights file of a run folder (or the file given), its weights, and the settings they come with.

    Raises InputError if there is none, or if no run of bixt3d wrote it, or one for another task than ``task``.
    """
    path = weights_file(Path(run))
    weights, metadata = load_weights(path)
    if metadata.get("task") not in TASKS:
        raise InputError(f"{path} does not come from a run of bixt3d")
    if task not in (None, metadata["task"]):
        own, other = (f"a{'n' * (name[0] in 'aeiou')} {name} run" for name in (metadata["task"], task))
        raise InputError(f"{path} comes from {own}, but {other} is needed here")
    return path, weights, metadata


def load_run(
    run: str | Path, device: str | torch.device = "cpu"
) -> Predictor | PartPredictor | ImagePredictor | ImageSegmentationPredictor:
    """Load a trained model: from a run folder, or from its ``model.safetensors`` alone.

    Classifiers and part segmenters of clouds give a Predictor or PartPredictor, those of images an ImagePredictor or
    ImageSegmentationPredictor. Raises InputError if there is no such run, or if its weights do not fit its settings.
    """
    path, weights, metadata = read_run(run)
    if metadata["task"] in IMAGE_TASKS:
        return make_image_predictor(str(path), weights, metadata, device)
    class_names, data = json.loads(metadata["class_names"]), yaml.safe_load(metadata["config"])["data"]
    options = {"num_points": data["init_args"]["num_points"], "normals": data["init_args"].get("normals", False)}
    options["up"] = _up_axis(data)
    if metadata["task"] == "classification":
        model = build_model(metadata["config"], len(class_names))
        fit_weights(model, weights, str(path))
        return Predictor(model.to(device), class_names, **options)
    part_names, class_parts = (json.loads(metadata[key]) for key in ("part_names", "class_parts"))
    model = build_segmenter(metadata["config"], len(part_names), len(class_names))
    fit_weights(model, weights, str(path))
    return PartPredictor(model.to(device), part_names, {name: class_parts[name] for name in class_names}, **options)


def _up_axis(data: Mapping[str, Any]) -> Up:
    """Return the axis that points up in a data set, as its settings or its class say; y if the class is not here."""
    module, _, name = data["class_path"].rpartition(".")
    try:
        source = getattr(import_module(module or "bixt3d.datasets"), name)
    except (ImportError, AttributeError):
        source = CloudSource
    return data["init_args"].get("up") or source.up
