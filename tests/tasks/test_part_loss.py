"""The loss of part segmentation: points without a label, and weights against rare parts."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from bixt3d.tasks.part_loss import PartTrain, mean_of_labelled, part_loss, part_weights
from bixt3d.types import VOID, InputError

LOGITS = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))


def test_points_without_a_label_change_nothing():
    parts = torch.tensor([[0, 1, VOID, VOID], [2, 2, 1, 0]])
    expected = [cross_entropy(LOGITS[0, :2], parts[0, :2]), cross_entropy(LOGITS[1], parts[1])]
    assert part_loss(LOGITS, parts, void=True) == pytest.approx(float(sum(expected) / 2))
    nothing = torch.full((2, 4), VOID)
    assert part_loss(LOGITS, nothing, void=True) == 0


def test_without_them_it_is_cross_entropy_to_the_bit():
    parts = torch.tensor([[0, 1, 2, 1], [2, 2, 1, 0]])
    assert part_loss(LOGITS, parts, 0.1) == cross_entropy(LOGITS.flatten(0, 1), parts.flatten(), label_smoothing=0.1)
    assert float(part_loss(LOGITS, parts, 0.1, void=True)) == pytest.approx(float(part_loss(LOGITS, parts, 0.1)))


def test_rare_parts_weigh_more_and_the_mean_weight_is_one():
    parts = torch.tensor([[0, 0, 0, 0, 0, 0, 0, 0, 0, 1, VOID]])
    assert part_weights(parts, 3, 0.0).tolist() == [1, 1, 0]
    weight = part_weights(parts, 3, 0.5)
    assert float(weight[1] / weight[0]) == pytest.approx(3)
    assert float(0.9 * weight[0] + 0.1 * weight[1]) == pytest.approx(1)
    assert float(part_weights(parts, 3, 1.0)[1]) == pytest.approx(5)


def test_weights_multiply_the_loss_of_their_points():
    parts, weight = torch.tensor([[0, 1, 1, VOID], [1, 1, 1, 1]]), torch.tensor([2.0, 0.5, 0.0])
    each = cross_entropy(LOGITS.transpose(1, 2), parts.clamp(min=0), reduction="none") * weight[parts.clamp(min=0)]
    expected = (each[0, :3].mean() + each[1].mean()) / 2
    assert float(part_loss(LOGITS, parts, weight=weight, void=True)) == pytest.approx(float(expected))


def test_a_mean_leaves_out_points_without_a_label():
    parts = torch.tensor([[0, VOID], [VOID, VOID]])
    assert mean_of_labelled(torch.tensor([[1.0, 5], [3, 3]]), parts).tolist() == [1, 0]


def test_balance_is_a_power_from_0_to_1():
    with pytest.raises(InputError, match="train.balance must be between 0 and 1, not 2.0"):
        PartTrain(balance=2.0)
