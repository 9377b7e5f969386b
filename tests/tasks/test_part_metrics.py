"""Metrics of part segmentation: by hand, by both conventions, and compared with scikit-learn."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from bixt3d.datasets import PartHDF5
from bixt3d.tasks.part_metrics import PartScores, choose_parts, parts_mask, score_parts

PRINCETON = Path(__file__).parents[3] / "shared/data/psb_partseg"
NAMES = ("mug", "table", "vase")
PARTS = {"mug": (0, 1), "table": (2, 3, 4), "vase": (5,)}
MUG, TABLE, VASE = range(3)


def score(*shapes: tuple[int, list[int], list[int]], freely: list[list[int]] | None = None) -> PartScores:
    """Score shapes given as category, prediction, truth; ``freely``: predictions among all parts, if others."""
    predicted, truth = ([torch.tensor(shape[i]) for shape in shapes] for i in (1, 2))
    free = predicted if freely is None else [torch.tensor(parts) for parts in freely]
    category = torch.tensor([shape[0] for shape in shapes])
    return score_parts(predicted, free, truth, category, NAMES, PARTS)


def test_a_shape_is_the_mean_over_its_parts():
    scores = score((MUG, [0, 1, 1, 1], [0, 0, 1, 1]))
    assert scores.shape_iou.tolist() == [pytest.approx((1 / 2 + 2 / 3) / 2)]
    assert scores.accuracy == 3 / 4


def test_a_part_absent_from_prediction_and_truth_counts_one_or_not_at_all():
    scores = score((TABLE, [2, 2, 2, 3], [2, 2, 3, 3]))
    assert scores.instance_miou == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert scores.pointmlp_instance_miou == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_a_part_predicted_where_the_truth_has_none_counts_nothing_or_not_at_all():
    scores = score((TABLE, [2, 2, 2, 4], [2, 2, 2, 2]))
    assert scores.instance_miou == pytest.approx((3 / 4 + 1 + 0) / 3)
    assert scores.pointmlp_instance_miou == 3 / 4


def test_a_part_of_another_category_is_wrong_only_where_it_may_be_chosen():
    scores = score((MUG, [0, 0, 1, 1], [0, 0, 1, 1]), freely=[[0, 2, 1, 4]])
    assert (scores.instance_miou, scores.class_miou, scores.accuracy) == (1, 1, 1)
    assert scores.pointmlp_instance_miou == scores.pointmlp_class_miou == 1 / 2


def test_instances_count_alike_or_categories_do():
    right, wrong, half = (MUG, [0, 1], [0, 1]), (MUG, [1, 0], [0, 1]), (TABLE, [2, 2, 3, 4], [2, 2, 4, 3])
    scores = score(right, wrong, right, half)
    assert scores.per_category == pytest.approx({"mug": 2 / 3, "table": 1 / 3})  # no vase, no figure
    assert scores.instance_miou == pytest.approx((1 + 0 + 1 + 1 / 3) / 4)
    assert scores.class_miou == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert scores.pointmlp_instance_miou == scores.instance_miou
    assert scores.pointmlp_class_miou == scores.class_miou


def test_shapes_count_alike_but_points_count_one_by_one():
    scores = score((VASE, [5], [5]), (MUG, [0] * 9, [0] * 6 + [1] * 3))
    assert scores.instance_miou == pytest.approx((1 + (6 / 9 + 0) / 2) / 2)
    assert scores.accuracy == 7 / 10


def test_the_most_probable_part_is_sought_within_the_category():
    logits = torch.tensor([[[1.0, 2, 9, 0, 0, 0], [3, 2, 0, 9, 0, 0]], [[9.0, 0, 1, 2, 3, 0], [0, 0, -1, -3, -2, 9]]])
    mask = parts_mask(PARTS, NAMES, 6)
    assert mask.int().tolist() == [[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 0], [0, 0, 0, 0, 0, 1]]
    assert choose_parts(logits, torch.tensor([MUG, TABLE]), mask).tolist() == [[1, 0], [4, 2]]


def random_shapes(num_shapes: int) -> tuple[list[Tensor], list[Tensor], list[Tensor], Tensor]:
    """Return prediction within the category, prediction among all parts, truth and category of shapes of any size."""
    category, mask = torch.randint(3, (num_shapes,)), parts_mask(PARTS, NAMES, 6)
    predicted, freely, truth = [], [], []
    for one in category:
        num_points = int(torch.randint(1, 12, ()))  # so few that parts are often absent
        labels = choose_parts(torch.randn(1, num_points, 6), one[None], mask)
        logits = torch.randn(1, num_points, 6) + functional.one_hot(labels, 6)
        truth.append(labels[0])
        predicted.append(choose_parts(logits, one[None], mask)[0])
        freely.append(logits[0].argmax(1))
    return predicted, freely, truth, category


def test_scores_are_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    predicted, freely, truth, category = random_shapes(200)
    scores = score_parts(predicted, freely, truth, category, NAMES, PARTS)
    own = np.array(
        [
            metrics.jaccard_score(true, chosen, labels=PARTS[NAMES[int(one)]], average="macro", zero_division=1)
            for chosen, true, one in zip(predicted, truth, category, strict=True)
        ]
    )
    free = np.array(
        [
            metrics.jaccard_score(true, chosen, labels=true.unique(), average="macro")
            for chosen, true in zip(freely, truth, strict=True)
        ]
    )
    np.testing.assert_allclose(scores.shape_iou, own)
    assert scores.instance_miou == pytest.approx(own.mean())
    assert scores.pointmlp_instance_miou == pytest.approx(free.mean())
    rows = {name: category.numpy() == row for row, name in enumerate(NAMES)}
    assert scores.per_category == pytest.approx({name: own[row].mean() for name, row in rows.items()})
    assert scores.class_miou == pytest.approx(np.mean([own[row].mean() for row in rows.values()]))
    assert scores.pointmlp_class_miou == pytest.approx(np.mean([free[row].mean() for row in rows.values()]))
    assert scores.accuracy == pytest.approx(metrics.accuracy_score(torch.cat(truth), torch.cat(predicted)))
    assert len({scores.instance_miou, scores.class_miou, scores.pointmlp_instance_miou}) == 3


def test_the_trivial_baseline_of_the_princeton_benchmark_is_what_readme_says():
    if not PRINCETON.is_dir():
        pytest.skip(f"real data are absent: {PRINCETON}")
    train, test = PartHDF5(str(PRINCETON), num_points=1024, include_val=False).load()
    largest = torch.stack(
        [train.parts[train.label == row].flatten().bincount().argmax() for row in range(len(train.class_names))]
    )
    predicted = list(largest[test.label][:, None].expand(-1, 1024))
    truth = list(test.parts[:, :1024])
    scores = score_parts(predicted, predicted, truth, test.label, test.class_names, test.class_parts)
    assert f"{100 * scores.instance_miou:.1f} {100 * scores.accuracy:.1f}" == "27.1 56.1"
