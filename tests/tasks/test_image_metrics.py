"""Metrics of images, computed by hand."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from bixt3d.datasets.images.sceneparse import read_annotation, read_class_names
from bixt3d.tasks.image_metrics import count_pixels, score_segments, top_k_accuracy

NAMES = ("sky", "road", "car", "tree")
CAMVID = Path(__file__).parents[3] / "shared" / "data" / "camvid_sceneparse"


def test_top_2_accuracy_by_hand():
    logits = torch.tensor([[3.0, 2.0, 1.0], [1.0, 3.0, 2.0], [3.0, 1.0, 2.0]])
    labels = torch.tensor([1, 0, 0])
    assert top_k_accuracy(logits, labels, 1) == pytest.approx(1 / 3)
    assert top_k_accuracy(logits, labels, 2) == pytest.approx(2 / 3)


def test_top_k_accuracy_of_at_most_k_classes_is_1():
    assert top_k_accuracy(torch.randn(7, 3), torch.tensor([0, 1, 2, 0, 1, 2, 0]), 5) == 1.0


def test_pixels_are_counted_per_image_and_class_but_not_where_the_truth_is_unknown():
    truth = torch.tensor([[[0, 0, 1], [1, -1, -1]], [[2, 2, 2], [2, 2, 2]]])
    predicted = torch.tensor([[[0, 1, 1], [1, 2, 0]], [[2, 2, 2], [0, 0, 0]]])
    counts = count_pixels(predicted, truth, 4)
    assert counts.tolist() == [
        [[1, 2, 0, 0], [1, 3, 0, 0], [2, 2, 0, 0]],
        [[0, 0, 3, 0], [3, 0, 3, 0], [0, 0, 6, 0]],
    ]


def test_scores_by_hand():
    counts = torch.tensor(
        [
            [[1, 2, 0, 0], [1, 3, 0, 0], [2, 2, 0, 0]],
            [[0, 0, 3, 0], [3, 0, 3, 0], [0, 0, 6, 0]],
        ]
    )
    scores = score_segments(counts, NAMES)
    # sky: 1 of 4 + 2 - 1, road: 2 of 3 + 2 - 2, car: 3 of 3 + 6 - 3, no tree anywhere
    assert scores.per_class == pytest.approx({"sky": 1 / 5, "road": 2 / 3, "car": 1 / 2})
    assert scores.miou == pytest.approx((1 / 5 + 2 / 3 + 1 / 2) / 3)
    assert scores.accuracy == pytest.approx(6 / 10)
    assert scores.mean_accuracy == pytest.approx((1 / 2 + 1 + 1 / 2) / 3)
    assert scores.shares == pytest.approx({"sky": 0.2, "road": 0.2, "car": 0.6, "tree": 0.0})
    assert scores.image_iou.tolist() == pytest.approx([(1 / 2 + 2 / 3) / 2, (0 + 1 / 2) / 2])


def test_a_class_that_is_predicted_but_not_there_counts_zero():
    counts = count_pixels(torch.tensor([[[0, 3]]]), torch.tensor([[[0, 0]]]), 4)
    scores = score_segments(counts, NAMES)
    assert scores.per_class == {"sky": 0.5, "tree": 0.0}
    assert scores.miou == 0.25
    assert scores.mean_accuracy == 0.5


def test_the_scores_of_a_set_are_those_of_its_pixels_together():
    truth, predicted = torch.randint(-1, 4, (6, 5, 7)), torch.randint(0, 4, (6, 5, 7))
    one_by_one = score_segments(count_pixels(predicted, truth, 4), NAMES)
    at_once = score_segments(count_pixels(predicted.view(1, -1, 7), truth.view(1, -1, 7), 4), NAMES)
    assert one_by_one.per_class == at_once.per_class
    assert one_by_one.miou == at_once.miou == at_once.image_iou[0]


def test_a_set_without_any_true_class_scores_zero():
    counts = count_pixels(torch.zeros(1, 2, 2, dtype=torch.int64), torch.full((1, 2, 2), -1), 4)
    scores = score_segments(counts, NAMES)
    assert (scores.miou, scores.accuracy, scores.mean_accuracy) == (0.0, 0.0, 0.0)


def test_the_trivial_baseline_of_camvid_is_what_readme_says():
    """A baseline without input: the most frequent class of all pixels, or of each position."""
    if not CAMVID.is_dir():
        pytest.skip(f"real data are absent: {CAMVID}")
    names = read_class_names(CAMVID / "objectInfo.txt")
    train, truth = read_labels("training", len(names)), read_labels("validation", len(names))
    frequency = torch.stack([(train == number).sum(0) for number in range(len(names))])

    def score(predicted: Tensor) -> str:
        scores = score_segments(count_pixels(predicted.expand_as(truth), truth, len(names)), names)
        return f"{100 * scores.miou:.1f} {100 * scores.accuracy:.1f}"

    assert score(frequency.sum((1, 2)).argmax()) == "2.7 29.5"
    assert score(frequency.argmax(0)) == "16.7 59.0"


def read_labels(split: str, num_classes: int) -> Tensor:
    paths = sorted((CAMVID / "annotations" / split).glob("*.png"))
    return torch.stack([torch.from_numpy(read_annotation(path, num_classes)) for path in paths]).short() - 1
