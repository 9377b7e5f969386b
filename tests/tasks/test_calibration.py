"""Expected calibration error: by hand, and compared with scikit-learn's calibration curve."""

import numpy as np
import pytest
import torch

from bixt3d.tasks.calibration import bins_of_logits, calibration_bins, calibration_error
from bixt3d.tasks.part_metrics import part_confidence


def test_the_error_is_the_mean_distance_of_accuracy_and_confidence_weighted_by_the_bins():
    confidence = torch.tensor([0.5, 0.5, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9], dtype=torch.float64)
    correct = torch.tensor([True, True, *[True] * 4, *[False] * 4])
    bins = calibration_bins(confidence, correct)
    assert bins[:, [7, 13]].tolist() == [[2, 8], [1.0, pytest.approx(7.2)], [2, 4]] and bins.sum(1)[0] == 10
    assert calibration_error(bins) == pytest.approx(0.2 * 0.5 + 0.8 * 0.4)


def test_a_bin_contains_its_upper_edge_and_not_its_lower():
    confidence = torch.tensor([0.0, 1 / 15, 1 / 15 + 1e-9, 14 / 15, 1.0], dtype=torch.float64)
    count = calibration_bins(confidence, torch.ones(5, dtype=torch.bool))[0]
    assert (count[0], count[1], count[13], count[14], count.sum()) == (2, 1, 1, 1, 5)


def test_bins_of_parts_of_a_set_add_up_to_those_of_the_set():
    confidence, correct, counted = torch.rand(6, 50), torch.rand(6, 50) < 0.7, torch.rand(6, 50) < 0.8
    whole = calibration_bins(confidence[counted], correct[counted])
    each = calibration_bins(confidence, correct, counted)
    assert each.shape == (6, 3, 15)
    torch.testing.assert_close(each.sum(0), whole, rtol=0, atol=1e-12)


def test_the_error_is_that_of_scikit_learns_calibration_curve():
    from sklearn.calibration import calibration_curve

    logits, labels = 2 * torch.randn(500, 4), torch.randint(4, (500,))
    confidence, predicted = logits.softmax(1).max(1)
    accuracy, mean = calibration_curve((predicted == labels).numpy(), confidence.double().numpy(), n_bins=15)
    count = np.histogram(confidence.double().numpy(), np.linspace(0, 1, 16))[0]
    expected = (np.abs(accuracy - mean) * count[count > 0]).sum() / 500
    assert calibration_error(bins_of_logits(logits, labels)) == pytest.approx(expected, abs=1e-9)


def test_the_confidence_of_a_part_is_its_probability_among_the_parts_of_its_category():
    mask = torch.tensor([[True, True, False, False], [False, False, True, True]])
    probability = torch.tensor([[[0.1, 0.3, 0.6, 0.0]], [[0.9, 0.0, 0.05, 0.05]]])
    torch.testing.assert_close(part_confidence(probability, torch.tensor([0, 1]), mask), torch.tensor([[0.75], [0.5]]))
