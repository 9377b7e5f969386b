"""Part segmentation of point clouds: settings, training step, evaluation and report."""

import math
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bixt3d.datasets import CloudAugment, PartSource, take_points
from bixt3d.datasets.transforms.draws import Draws
from bixt3d.engine.fabric import Fabric
from bixt3d.engine.loop import Batch, Step, check_outputs, merge, predict_all
from bixt3d.inference.clouds import PartPredictor
from bixt3d.models.presets import MakeSegmenter
from bixt3d.ops import interpolate
from bixt3d.tasks.calibration import calibration_bins
from bixt3d.tasks.inputs import check_parts, read_clouds
from bixt3d.tasks.part_evaluation import PartEvaluation
from bixt3d.tasks.part_loss import PartTrain, mean_of_labelled, part_loss, part_weights
from bixt3d.tasks.part_metrics import choose_parts, part_confidence, parts_mask, score_parts
from bixt3d.tasks.scores import Evaluation, Score
from bixt3d.tasks.settings import Run
from bixt3d.tasks.task import Task
from bixt3d.types import VOID, CloudSet

if TYPE_CHECKING:
    from bixt3d.viz.parts import PartCloud

VOTES = CloudAugment(scale=(0.8, 1.25))
"""Test-time augmentation: the augmentation of all votes but the first."""


class PartSegmentation(Task):
    """Segment objects into parts: one part for every point, given the object's category."""

    name = "part segmentation"
    program = "partseg"
    example = "bixt3d train partseg --cfg shapes_partseg"
    headline = {"instance_miou": Score("instance_miou"), "class_miou": Score("class_miou")}
    data, model, train = PartSource, MakeSegmenter, PartTrain
    name_keys = ("class_names", "part_names", "class_parts")
    check_names = staticmethod(check_parts)
    more = "full", "score every original point, not only those that the model sees"

    def names(self, clouds: CloudSet) -> dict[str, Any]:
        class_parts = {name: list(clouds.class_parts[name]) for name in clouds.class_names}
        return super().names(clouds) | {"part_names": list(clouds.part_names), "class_parts": class_parts}

    def outputs(self, names: Mapping[str, Any]) -> tuple[int, ...]:
        return len(names["part_names"]), len(names["class_names"])

    def make_predictor(self, model: nn.Module, names: Mapping[str, Any], given: Mapping[str, Any], source: str) -> Any:
        parts = {name: names["class_parts"][name] for name in names["class_names"]}
        return PartPredictor(model, names["part_names"], parts, **read_clouds(given, model, source))

    def make_step(self, run: Run, train: CloudSet) -> Step:
        mask, void = _mask(train), bool((train.parts == VOID).any())
        weight = part_weights(train.parts, len(train.part_names), run.train.balance) if run.train.balance else None

        def step(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
            logits, parts = model(batch["xyz"], batch["feats"], batch["label"]), batch["parts"]
            loss = part_loss(logits, parts, run.train.label_smoothing, weight, void)
            right = choose_parts(logits.detach(), batch["label"], mask) == parts
            return loss, (mean_of_labelled(right.float(), parts) if void else right.float().mean(1)).sum()

        return step

    def evaluate(self, module: nn.Module, clouds: CloudSet, run: Run, fabric: Fabric, votes: int = 1) -> Evaluation:
        shown = take_points({"xyz": clouds.xyz, "parts": clouds.parts}, run.data.num_points)
        *parts, loss, bins = predict_parts(module, clouds, run, fabric, votes)
        predicted, free, truth = (list(labels) for labels in (*parts, shown["parts"]))
        scores = score_parts(predicted, free, truth, clouds.label, clouds.class_names, clouds.class_parts)
        names = clouds.part_names, clouds.class_parts
        bins = bins.sum(0).cpu()
        return PartEvaluation(list(shown["xyz"]), predicted, truth, scores, *names, bins, float(loss.mean()))

    def evaluate_more(self, module: nn.Module, clouds: CloudSet, run: Run, fabric: Fabric, votes: int) -> Evaluation:
        return evaluate_fully(module, clouds, run, fabric, votes)

    def write_report(
        self, folder: Path, evaluation: PartEvaluation, test: CloudSet, run: Run, page: Mapping[str, Any]
    ) -> None:
        from bixt3d.io.writing import replace_file
        from bixt3d.viz.parts import parts_png
        from bixt3d.viz.plots import draw_curves
        from bixt3d.viz.report import PartReport, write_part_report

        draw_curves(page["rows"], folder / "curves.png")
        pictures = []
        for name, title, words, index in _pick_clouds(evaluation, test):
            shown = [show_cloud(evaluation, test, i) for i in index]
            png, renderer = parts_png(shown, test.part_names, run.data.up)
            replace_file(folder / f"{name}.png", png)
            pictures.append((title, f"{words} Drawn by {renderer}.", png))
        report = PartReport(num_clouds=len(test), pictures=pictures, up=run.data.up, **page)
        write_part_report(folder / "report.html", report)


def predict_parts(
    model: nn.Module, clouds: CloudSet, run: Run, fabric: Fabric, votes: int = 1
) -> tuple[Int[Tensor, "S N"], Int[Tensor, "S N"], Float[Tensor, " S"], Float[Tensor, "S 3 15"]]:
    """Return the parts of input points, within the category and among all parts, loss and calibration of every cloud.

    ``votes`` > 1 is test-time augmentation: it averages probabilities.
    """
    mask, void = _mask(clouds), bool((clouds.parts == VOID).any())

    def forward(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        log_probability, parts = _log_probability(model, batch, run, votes), batch["parts"][:, : run.data.num_points]
        losses = -log_probability.gather(2, parts[:, :, None].clamp(min=0))
        loss = mean_of_labelled(losses[:, :, 0], parts) if void else losses.mean((1, 2))
        own = choose_parts(log_probability, batch["label"], mask)
        confidence = part_confidence(log_probability.exp(), batch["label"], mask)
        bins = calibration_bins(confidence, own == parts, parts != VOID)
        return own, log_probability.argmax(2), loss, bins

    return predict_all(model, clouds, run.train.eval_batch_size, forward, fabric)


def evaluate_fully(module: nn.Module, clouds: CloudSet, run: Run, fabric: Fabric, votes: int = 1) -> PartEvaluation:
    """Score every original point of every test cloud, by inverse-distance interpolation from its 3 nearest inputs."""
    mask = _mask(clouds)
    points, _, truth = map(list, zip(*run.data.full_clouds(), strict=True))
    mine = []
    module.eval()
    for i in range(fabric.global_rank, len(points), fabric.world_size):
        batch = clouds[torch.tensor([i], device=clouds.label.device)]
        with torch.inference_mode(), fabric.autocast():
            seen = _log_probability(module, batch, run, votes).exp()
        check_outputs(seen)
        every = interpolate(points[i].to(seen.device)[None], batch["xyz"][:, : run.data.num_points], seen)
        own, known = choose_parts(every, batch["label"], mask)[0].cpu(), truth[i] != VOID
        confidence = part_confidence(every, batch["label"], mask)[0].cpu()
        mine.append([own, every[0].argmax(1).cpu(), calibration_bins(confidence, own == truth[i], known)])
    predicted, freely, bins = map(list, zip(*merge(mine, fabric), strict=True))
    scores = score_parts(predicted, freely, truth, clouds.label, clouds.class_names, clouds.class_parts)
    return PartEvaluation(points, predicted, truth, scores, clouds.part_names, clouds.class_parts, sum(bins))


def _mask(clouds: CloudSet) -> Tensor:
    return parts_mask(clouds.class_parts, clouds.class_names, len(clouds.part_names)).to(clouds.label.device)


def _log_probability(model: nn.Module, batch: Batch, run: Run, votes: int) -> Float[Tensor, "B N P"]:
    """Return the log of the mean probability over the votes."""
    views = (_view(batch, vote, run) for vote in range(votes))
    logits = (model(view["xyz"], view["feats"], view["label"]).float() for view in views)
    # log-sum-exp: probabilities too small for float32 would all become 0, and make arg-max meaningless
    return reduce(torch.logaddexp, (one.log_softmax(2) for one in logits)) - math.log(votes)


def _view(batch: Batch, vote: int, run: Run) -> Batch:
    """Return the clouds of a vote: unchanged in the first, else with axes scaled by factors in [0.8, 1.25].

    The factors depend on the vote alone, so that no result depends on the batch size.
    """
    batch = take_points(batch, run.data.num_points)
    if not vote:
        return batch
    as_one = {key: batch[key].flatten(0, 1)[None] for key in ("xyz", "feats")}
    index = torch.zeros(1, dtype=torch.int64, device=batch["xyz"].device)
    as_one = VOTES(as_one, as_one["xyz"].shape[1], Draws(index, "vote", vote), run.data.features)
    return batch | {key: points.view_as(batch[key]) for key, points in as_one.items()}


def show_cloud(evaluation: PartEvaluation, test: CloudSet, i: int) -> "PartCloud":
    """Return test cloud ``i`` for a picture: truth and prediction of its labelled points, its IoU as the title."""
    from bixt3d.viz.parts import PartCloud

    category, iou = test.class_names[int(test.label[i])], evaluation.scores.shape_iou[i]
    xyz, predicted, truth = (
        tensors[i].cpu().numpy() for tensors in (evaluation.xyz, evaluation.predicted, evaluation.truth)
    )
    known = truth != VOID
    xyz, predicted, truth = xyz[known], predicted[known], truth[known]
    return PartCloud(xyz, predicted, test.class_parts[category], f"{category} (index {i}), IoU {iou:.1%}", truth)


def _pick_clouds(evaluation: PartEvaluation, test: CloudSet, most: int = 8) -> list[tuple[str, str, str, list[int]]]:
    """Return the clouds for the report: the first of each category, and those with the lowest IoU."""
    label = test.label.cpu().numpy()
    iou = evaluation.scores.shape_iou
    known = ~np.isnan(iou)  # those with labelled points
    firsts = [int(np.flatnonzero((label == category) & known)[0]) for category in np.unique(label[known])]
    worst = iou.argsort(kind="stable")[: min(most, known.sum())]
    return [
        ("predictions", "Examples", "The first test cloud of each category.", firsts),
        ("worst", "Worst", f"The {len(worst)} test clouds with the lowest IoU.", worst.tolist()),
    ]
