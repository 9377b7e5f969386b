"""A trained run, ready to predict: what the Python API and the programs in tools/ share."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from bixt3d.datasets.normalize import normalize_clouds
from bixt3d.datasets.pyg import from_pyg
from bixt3d.engine.checkpoint import fit_weights, load_weights
from bixt3d.models.classifier import CloudClassifier
from bixt3d.models.presets import build_model
from bixt3d.types import InputError


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of one cloud: the class, how sure, and the probability of every class, highest first."""

    name: str
    confidence: float
    probabilities: dict[str, float]


class Predictor:
    """A trained classifier that takes clouds as people have them."""

    def __init__(self, model: CloudClassifier, class_names: Sequence[str], num_points: int, normals: bool = False):
        self.model, self.class_names = model.eval(), tuple(class_names)
        self.num_points, self.normals = num_points, normals

    @torch.inference_mode()
    def predict(self, clouds: Any, normals: Any = None) -> Prediction | list[Prediction]:
        """Say what clouds are: one Prediction for one cloud, a list for several.

        Takes an array or tensor ``(N, 3)`` or ``(B, N, 3)``, with ``normals`` of the same shape where the model reads
        them; a PyG ``Data`` or ``Batch`` (``pos``, and ``normal`` or ``x``); or a list of any of these. Clouds may have
        any number of points: they are centred, scaled and sampled as in training (a fixed random choice, with
        replacement where there are too few). Raises InputError for coordinates that are not finite.
        """
        single, pairs = _as_clouds(clouds, normals)
        device = next(self.model.parameters()).device
        answers = []
        for xyz, feats in pairs:
            xyz, feats = self._prepare(xyz, feats)
            logits = self.model(xyz.to(device), feats.to(device))[0].float()
            answers.append(self._describe(logits.softmax(0).cpu()))
        return answers[0] if single else answers

    def _prepare(self, xyz: Tensor, feats: Tensor) -> tuple[Tensor, Tensor]:
        if self.normals and feats.shape[-1] != 3:
            raise InputError("this model reads normals: give them as normals=, or as `normal` of the PyG data")
        xyz = normalize_clouds(xyz.float()[None], "the input")
        feats = feats.float()[None] if self.normals else xyz.new_zeros(1, xyz.shape[1], 0)
        generator = torch.Generator().manual_seed(0)
        index = torch.randperm(xyz.shape[1], generator=generator)[: self.num_points]
        if missing := self.num_points - len(index):
            index = torch.cat([index, torch.randint(xyz.shape[1], (missing,), generator=generator)])
        return xyz[:, index], feats[:, index]

    def _describe(self, probability: Tensor) -> Prediction:
        order = probability.argsort(descending=True, stable=True).tolist()
        ranked = {self.class_names[i]: float(probability[i]) for i in order}
        name = self.class_names[order[0]]
        return Prediction(name, ranked[name], ranked)


def _as_clouds(clouds: Any, normals: Any) -> tuple[bool, list[tuple[Tensor, Tensor]]]:
    """Return whether one cloud was given, and every cloud as (xyz, feats)."""
    if isinstance(clouds, (np.ndarray, Tensor)):
        xyz = _as_tensor(clouds)
        if xyz.ndim not in (2, 3) or xyz.shape[-1] != 3 or 0 in xyz.shape:
            raise InputError(f"clouds have the shape (N, 3) or (B, N, 3), not {tuple(xyz.shape)}")
        feats = xyz[..., :0] if normals is None else _as_tensor(normals)
        if feats.shape[:-1] != xyz.shape[:-1]:
            raise InputError(f"normals of shape {tuple(feats.shape)} do not fit points of shape {tuple(xyz.shape)}")
        return (True, [(xyz, feats)]) if xyz.ndim == 2 else (False, list(zip(xyz, feats, strict=True)))
    if isinstance(clouds, (list, tuple)):
        each = normals if normals is not None else [None] * len(clouds)
        if len(each) != len(clouds):
            raise InputError(f"got {len(each)} normals for {len(clouds)} clouds")
        return False, [pair for cloud, its in zip(clouds, each, strict=True) for pair in _as_clouds(cloud, its)[1]]
    if clouds is None or isinstance(clouds, (str, bytes, Path)):
        raise InputError(f"expected an array, a tensor, PyG data or a list of these, not {type(clouds).__name__}")
    from torch_geometric.data import Batch, Data

    return isinstance(clouds, Data) and not isinstance(clouds, Batch), from_pyg(clouds)


def _as_tensor(array: np.ndarray | Tensor) -> Tensor:
    try:
        return torch.as_tensor(array)
    except TypeError as error:
        raise InputError(f"clouds are arrays of numbers, not of {array.dtype}") from error


def read_run(run: str | Path) -> tuple[Path, dict[str, Tensor], dict[str, Any]]:
    """Return the weights file of a run folder (or the file given), its weights, and the settings they come with.

    Raises InputError if there is none, or if it was not written by a classification run of bixt3d.
    """
    path = Path(run)
    path = path / "model.safetensors" if path.is_dir() else path
    weights, metadata = load_weights(path)
    if metadata.get("task") != "classification":
        raise InputError(f"{path} does not come from a classification run of bixt3d")
    return path, weights, metadata


def load_run(run: str | Path, device: str | torch.device = "cpu") -> Predictor:
    """Load a trained classifier: from a run folder, or from its ``model.safetensors`` alone.

    Raises InputError if there is none, or if its weights do not fit its settings.
    """
    path, weights, metadata = read_run(run)
    class_names, settings = json.loads(metadata["class_names"]), yaml.safe_load(metadata["config"])
    model = build_model(metadata["config"], len(class_names))
    fit_weights(model, weights, str(path))
    data = settings["data"]["init_args"]
    return Predictor(model.to(device), class_names, data["num_points"], data.get("normals", False))
