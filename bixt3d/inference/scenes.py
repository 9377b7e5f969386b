"""Predictor of scenes: one class for every point of clouds of any size."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bixt3d.datasets.files.arrays import as_clouds
from bixt3d.datasets.files.cloud import Cloud, median_spacing, with_features
from bixt3d.datasets.files.las_large import is_large
from bixt3d.datasets.scenes.computed import COMPUTED, note_columns
from bixt3d.datasets.scenes.crops import Shape, las_codes
from bixt3d.datasets.scenes.las_blocks import LasBlocks
from bixt3d.datasets.scenes.scene import check_scene, cloud_in_meters
from bixt3d.inference.predictions import BasePrediction, percent_lines
from bixt3d.inference.predictor import BasePredictor, check_features
from bixt3d.inference.scene_blocks import BLOCK, CHUNK, Labels, label_cloud, label_las, numbers_in
from bixt3d.io.bounds import listed
from bixt3d.types import VOID, Features, InputError, feature_name

SPARSE, DENSE = 20, 200
"""Of points with a larger spacing than so many voxels, or with more points along a voxel, the unit may be another."""
SHOWN = 0.0005
"""Smallest share of a class that is printed: smaller ones would be 0.0 %."""


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
        return percent_lines({name: share for name, share in self.shares.items() if share >= SHOWN})


class ScenePredictor(BasePredictor):
    """Predicts the class of every point of a scene of any size; `bixt3d.load_run` makes it.

    Args:
        model: the trained segmenter.
        class_names: names of the classes, in the order of the logits.
        grid: side of a voxel, in the units of the training set.
        window: voxels that the model reads at a time; a scene with fewer goes through it in one pass.
        shape: shape of a window, ``sphere`` or ``cylinder``.
        fill: values of the features that a scene may lack; None: a missing feature is refused.
        codes: LAS classification of each class; None: the numbers that are its names, if they are.

    ``block``: points that are labelled at a time, at most: larger scenes are cut into overlapping blocks.
    """

    task = "scene segmentation"
    block = BLOCK

    def __init__(
        self,
        model: nn.Module,
        class_names: Sequence[str],
        grid: float,
        window: int,
        shape: Shape = "sphere",
        fill: Mapping[str, Sequence[float]] | None = None,
        codes: Sequence[int] | None = None,
    ):
        self.model, self.class_names = model.eval(), tuple(class_names)
        self.grid, self.window, self.shape, self.fill = grid, window, shape, fill or {}
        self.las_codes = tuple(codes) if codes else las_codes([[name] for name in self.class_names])

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

        Takes clouds as `Predictor.predict` does: arrays, files, PyG data and so on, z up. The path of a LAS or LAZ file
        of more than ``block`` points is read in parts, by way of a temporary folder. Raises InputError for a
        mesh, y up and a missing feature. ``progress``: called with the number of points done.
        """
        for name in features or {}:
            if feature_name(name) not in self.features.names:
                raise InputError(f"this model reads {self.features or 'no features'}, not {name}: leave it out")
        if isinstance(scenes, str | Path) and features is None and batch is None and self.is_large(Path(scenes)):
            with TemporaryDirectory(prefix="bixt3d_", ignore_cleanup_errors=True) as folder:
                found = self.predict_las(Path(scenes), Path(folder), progress)[0]
                copies = (one.clone() for one in (found.confidence, found.entropy))
                return replace(found, labels=found.labels.long(), **dict(zip(Labels._fields[1:], copies, strict=True)))
        single, given = as_clouds(scenes, features, batch)
        answers = [self.label(cloud, progress) for cloud in given]
        return answers[0] if single else answers

    def is_large(self, path: Path) -> bool:
        """Return whether a file is a LAS or LAZ of more than ``block`` points, for `predict_las`."""
        return is_large(path, self.block)

    def label(self, cloud: Cloud, progress: Callable[[int], Any] | None = None) -> ScenePrediction:
        """Return the class of every point of one cloud."""
        check_scene(cloud, cloud.name)
        cloud = self.prepare(cloud_in_meters(cloud))
        cloud = replace(cloud, notes=(*cloud.notes, *self._unit_notes(cloud.xyz)))
        label, confidence, entropy = label_cloud(self, cloud, progress)
        shares = self._shares(np.bincount(label, minlength=len(self.class_names)))
        label = cloud.for_original(label, VOID)
        confidence, entropy = (cloud.for_original(values, np.nan) for values in (confidence, entropy))
        return self._prediction((label, confidence, entropy), shares, cloud.notes, cloud.columns)

    def predict_las(
        self, path: Path, folder: Path, progress: Callable[[int], Any] | None = None
    ) -> tuple[ScenePrediction, LasBlocks]:
        """Return the class of every point of a LAS or LAZ file of any size, in bounded memory.

        The tensors are mapped from files in ``folder``, where an interrupted call goes on. Returns also the parts of
        the file, whose `LasBlocks.sample` is for pictures.
        """
        few, parts = label_las(self, path, folder, progress)
        notes = (*few.notes, *self._unit_notes(few.xyz))
        found, counts = numbers_in(folder, self), np.zeros(len(self.class_names), np.int64)
        for first in range(0, parts.total, CHUNK):
            counts += np.bincount(found[0][first : first + CHUNK], minlength=len(counts))
        mapped = [np.memmap(one.path, one.dtype, "c") for one in found]
        return self._prediction(mapped, self._shares(counts), notes, map(feature_name, parts.unread)), parts

    def _unit_notes(self, xyz: Float[np.ndarray, "N 3"]) -> tuple[str, ...]:
        """Return a note if the spacing of points cannot be that of scenes that the model was trained on."""
        spacing = median_spacing(xyz)
        if not spacing or self.grid / DENSE <= spacing <= SPARSE * self.grid:
            return ()
        units = f"points lie {spacing:.3g} apart, and the model reads voxels of {self.grid:g}"
        return (f"{units}: coordinates may be in another unit than those it was trained on",)

    def _shares(self, counts: Int[np.ndarray, " C"]) -> dict[str, float]:
        order = np.argsort(-counts, kind="stable").tolist()
        return {self.class_names[i]: int(counts[i]) / int(counts.sum()) for i in order}

    def _prediction(
        self, labels: Sequence[np.ndarray], shares: dict[str, float], notes: tuple[str, ...], columns: Iterable[str]
    ) -> ScenePrediction:
        unread = [name for name in columns if name not in self.features.names]
        notes = (*notes, f"{listed(unread)} not read") if unread else notes
        label, confidence, entropy = map(torch.from_numpy, labels)
        return ScenePrediction(label, self.class_names, confidence, entropy, shares, notes)

    def prepare(self, cloud: Cloud) -> Cloud:
        """Return the cloud with the features that the model reads; missing ones are filled if it was trained so."""
        cloud = note_columns(with_features(cloud, self.features), self.features)
        computed = [one.name for one in COMPUTED if one in self.features.columns]
        for name, values in self.fill.items():
            if name not in cloud.columns and name not in computed:
                filled = np.tile(np.array(values), (len(cloud), 1))
                note = f"no {name}: filled with {listed([f'{value:.3g}' for value in values])}, as in feature dropout"
                cloud = replace(cloud, columns={**cloud.columns, name: filled}, notes=(*cloud.notes, note))
        return check_features(cloud, [one for one in self.features.columns if one not in COMPUTED])
