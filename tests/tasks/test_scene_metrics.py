"""Metrics and losses of scenes, by hand and beside scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, jaccard_score

from bixt3d.tasks.class_metrics import count_confusion, frequency_weights
from bixt3d.tasks.scene_metrics import lovasz_softmax, score_confusion

NAMES = ("a", "b", "c", "d", "e")


def labels(seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 4, 1000))  # class e is in neither


def test_scores_are_those_of_scikit_learn_and_an_absent_class_is_in_no_mean():
    truth, predicted = labels(0), torch.where(torch.rand(1000) < 0.7, labels(0), labels(1))
    scores = score_confusion(count_confusion(truth, predicted, 5).numpy(), NAMES)
    assert scores.accuracy == pytest.approx(accuracy_score(truth, predicted))
    assert scores.mean_accuracy == pytest.approx(balanced_accuracy_score(truth, predicted))
    assert scores.miou == pytest.approx(jaccard_score(truth, predicted, average="macro"))
    assert list(scores.per_class.values()) == pytest.approx(jaccard_score(truth, predicted, average=None).tolist())
    assert "e" not in scores.per_class and scores.shares["e"] == 0


def test_ignored_points_count_nowhere():
    truth, predicted = torch.tensor([0, -1, 1, -1]), torch.tensor([0, 0, 1, 1])
    assert count_confusion(truth, predicted, 2).tolist() == [[1, 0], [0, 1]]


def test_weights_balance_the_classes_and_their_mean_over_points_is_1():
    counts = torch.tensor([900, 100, 0])
    assert frequency_weights(counts, 0.0).tolist() == [1, 1, 0]
    weight = frequency_weights(counts, 1.0)
    assert float(weight[0]) * 900 == pytest.approx(float(weight[1]) * 100, rel=1e-5)
    assert float((weight * counts).sum()) / 1000 == pytest.approx(1, rel=1e-5)
    root = frequency_weights(counts, 0.5)
    assert float(root[1] / root[0]) == pytest.approx(3, rel=1e-5)


def test_the_lovasz_loss_of_hard_predictions_is_1_minus_the_mean_iou_of_the_classes_present():
    truth, predicted = labels(0), labels(2)
    one_hot = torch.nn.functional.one_hot(predicted, 5).float()
    expected = 1 - jaccard_score(truth, predicted, average="macro")
    assert float(lovasz_softmax(one_hot, truth)) == pytest.approx(expected, abs=1e-6)
    assert float(lovasz_softmax(torch.nn.functional.one_hot(truth, 5).float(), truth)) == 0


def test_the_lovasz_loss_has_gradients_and_is_0_without_points():
    logits = torch.randn(50, 5, requires_grad=True)
    lovasz_softmax(logits.softmax(1), labels(3)[:50]).backward()
    assert logits.grad.isfinite().all() and logits.grad.abs().sum() > 0
    assert float(lovasz_softmax(torch.zeros(0, 5), torch.zeros(0, dtype=torch.long))) == 0
