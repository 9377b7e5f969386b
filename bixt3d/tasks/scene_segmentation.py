"""Segmentation of scenes: settings, training step, evaluation and report."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bixt3d.datasets.scenes.computed import HIGHEST
from bixt3d.datasets.scenes.crops import SceneSet
from bixt3d.datasets.scenes.mix import mix_scenes
from bixt3d.datasets.scenes.noise import scatter_scenes
from bixt3d.datasets.scenes.relief import raise_scenes
from bixt3d.datasets.scenes.source import SceneSource
from bixt3d.datasets.transforms.draws import Draws
from bixt3d.engine.fabric import Fabric
from bixt3d.engine.loop import Batch, Step, merge, share_buffers
from bixt3d.inference.predictions import check_finite
from bixt3d.inference.scenes import ScenePredictor
from bixt3d.inference.windows import scene_probabilities
from bixt3d.models.presets import MakeSegmenter
from bixt3d.tasks.calibration import calibration_bins, calibration_facts, calibration_text
from bixt3d.tasks.class_metrics import count_confusion, frequency_weights, sum_correct_shares
from bixt3d.tasks.scene_input import describe_scenes, read_scenes
from bixt3d.tasks.scene_metrics import (
    CONVENTION,
    SceneScores,
    lovasz_softmax,
    score_confusion,
)
from bixt3d.tasks.scores import Evaluation, Score
from bixt3d.tasks.settings import Run, Train
from bixt3d.tasks.task import Task
from bixt3d.types import InputError


@dataclass
class SceneTrain(Train):
    """Settings of training and evaluation.

    Args:
        balance: weights against rare classes: a point weighs by the frequency of its class in the training set to the
            power of minus ``balance``; 0: all points alike, 0.5: by the inverse root, 1: all classes alike.
        lovasz: weight of the Lovász-softmax loss, which is added to the cross entropy.
        mix: probability that a crop is laid over another one (Mix3D, see `mix_scenes`).
        relief: largest height in voxels of random hills under some of the crops, for steep terrain that the training
            set lacks (see `raise_scenes`).
        noise: largest share of the points of a crop that are moved far up or down in some of the crops, for scans with
            noise (see `scatter_scenes`).
        window: evaluation: voxels of a window; a scene with fewer goes through the model in one pass (0: those of the
            largest crops).
    """

    label_smoothing: float = 0.0
    balance: float = 0.0
    lovasz: float = 0.0
    mix: float = 0.0
    relief: float = 0.0
    noise: float = 0.0
    window: int = 0

    def __post_init__(self):
        super().__post_init__()
        for name in ("balance", "lovasz", "relief", "window"):
            if getattr(self, name) < 0:
                raise InputError(f"train.{name} must not be negative, but is {getattr(self, name)}")
        if self.relief > HIGHEST:
            raise InputError(f"train.relief must be at most {HIGHEST} voxels, the largest height that models read")
        if not 0 <= self.noise <= 0.5:
            raise InputError(f"train.noise must be between 0 and 0.5, not {self.noise}")
        if not 0 <= self.mix <= 1:
            raise InputError(f"train.mix must be between 0 and 1, not {self.mix}")


@dataclass
class SceneEvaluation(Evaluation):
    """The predicted class of every voxel of every scene of a set, and the scores over all points."""

    predicted: list[Int[Tensor, " _"]]
    scores: SceneScores
    calibration: Tensor

    def row(self) -> dict[str, float]:
        scores = self.scores
        return {"miou": scores.miou, "accuracy": scores.accuracy, "mean_accuracy": scores.mean_accuracy}

    def facts(self) -> dict[str, Any]:
        scores = self.scores
        return {
            "convention": CONVENTION,
            "miou": scores.miou,
            "overall_accuracy": scores.accuracy,
            "mean_accuracy": scores.mean_accuracy,
            "per_class": scores.per_class,
            "recall": scores.recall,
            "shares": scores.shares,
            **calibration_facts(self.calibration),
        }

    def text(self) -> str:
        scores = self.scores
        width = max([5, *(len(name) for name in scores.shares)])
        lines = [f"{'class':{width}}      IoU   recall  share of the points"]
        for name, share in scores.shares.items():
            cells = [
                f"{found[name]:8.2%}" if name in found else "       -" for found in (scores.per_class, scores.recall)
            ]
            lines.append(f"{name:{width}} {' '.join(cells)} {share:8.3%}")
        if absent := [name for name in scores.shares if name not in scores.per_class]:
            lines.append(f"absent from truth and prediction, and so not in the mean: {', '.join(absent)}")
        words = f"mIoU {scores.miou:.2%}, overall accuracy {scores.accuracy:.2%}, mean class accuracy "
        return "\n".join([*lines, f"{words}{scores.mean_accuracy:.2%}", calibration_text(self.calibration)])


class SceneSegmentation(Task):
    """Segment scenes: one class for every point of a cloud of any size."""

    name = "scene segmentation"
    program = "scenes"
    example = "bixt3d train scenes --cfg rooms_small"
    headline = {"miou": Score("miou"), "overall_accuracy": Score("accuracy")}
    data, model, train = SceneSource, MakeSegmenter, SceneTrain
    unit = "crops"
    less_data = "lower --data.num_points or raise --data.grid"
    less_evaluation = "lower --train.window, the voxels of a window, which changes results a little"

    def outputs(self, names: Mapping[str, Any]) -> tuple[int, ...]:
        return len(names["class_names"]), 1

    def describe_input(self, run: Run, scenes: SceneSet) -> dict[str, Any]:
        return describe_scenes(run, scenes)

    def make_predictor(self, model: nn.Module, names: Mapping[str, Any], given: Mapping[str, Any], source: str) -> Any:
        return ScenePredictor(
            model, names["class_names"], **read_scenes(given, model, len(names["class_names"]), source)
        )

    def test_size(self, test: SceneSet) -> tuple[int, str]:
        return sum(len(scene.point_label) for scene in test.scenes), "points"

    def mixes(self, run: Run) -> bool:
        return run.train.mix > 0

    def sample_size(self, run: Run, batch: Batch) -> int:
        return batch["xyz"].shape[1]

    def make_augment(self, run: Run, train: SceneSet, epoch: int) -> Callable[[Batch, int], Batch]:
        alone = super().make_augment(run, train, epoch)

        def augment(batch: Batch, step: int) -> Batch:
            if run.train.relief:
                draws = Draws(batch["index"], "relief", run.seed, epoch)
                batch = raise_scenes(batch, run.train.relief, train.features, run.data.grid, draws)
            if run.train.noise:
                draws = Draws(batch["index"], "noise", run.seed, epoch)
                batch = scatter_scenes(batch, run.train.noise, train.features, run.data.grid, draws)
            batch = alone(batch, step)
            if run.train.mix:
                batch = mix_scenes(batch, run.train.mix, Draws(batch["index"], "mix", run.seed, epoch))
            return batch | {"weight": (batch["labels"] >= 0).sum(1)}  # all labelled voxels have equal weight

        return augment

    def make_step(self, run: Run, train: SceneSet) -> Step:
        weights = frequency_weights(torch.from_numpy(train.counts.sum(0)), run.train.balance).to(train.device)

        def step(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
            logits, labels, weight = model(batch["xyz"], batch["feats"]).float(), batch["labels"], batch["weight"]
            known = labels >= 0
            losses = cross_entropy(
                logits.flatten(0, 1),
                labels.flatten(),
                weights,
                ignore_index=-1,
                label_smoothing=run.train.label_smoothing,
                reduction="none",
            )
            loss = losses.sum() / weight.sum().clamp(min=1)
            if run.train.lovasz:
                loss = loss + run.train.lovasz * lovasz_softmax(logits.softmax(2)[known], labels[known])
            return loss, sum_correct_shares(logits.argmax(2), labels)

        return step

    def evaluate(self, module: nn.Module, scenes: SceneSet, run: Run, fabric: Fabric, votes: int = 1) -> Evaluation:
        module.eval()
        share_buffers(module, fabric)
        number, window = len(scenes.class_names), run.train.window or run.data.crop_sizes[-1]
        mine = []
        for place in range(fabric.global_rank, len(scenes.scenes), fabric.world_size):
            scene = scenes.scenes[place]
            with fabric.autocast():
                probability = scene_probabilities(
                    module, scene, window, run.data.shape, device=fabric.device, votes=votes
                )
            check_finite(probability, scene.name)
            confidence, predicted = probability.max(1)
            voxel, label = scene.inverse.long(), scene.point_label
            bins = calibration_bins(confidence[voxel], predicted[voxel] == label, label >= 0)
            mine.append([predicted.short(), count_confusion(label, predicted[voxel], number), bins])
        predicted, counts, bins = map(list, zip(*merge(mine, fabric), strict=True))
        return SceneEvaluation(predicted, score_confusion(sum(counts).numpy(), scenes.class_names), sum(bins))

    def write_report(
        self, folder: Path, evaluation: SceneEvaluation, test: SceneSet, run: Run, page: Mapping[str, Any]
    ) -> None:
        from bixt3d.viz.scenes import write_scene_report

        write_scene_report(folder, evaluation.scores, evaluation.predicted, test, page, CONVENTION)
