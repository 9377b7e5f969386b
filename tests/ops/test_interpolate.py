"""Inverse-distance interpolation of features."""

import pytest
import torch

from bixt3d.ops import interpolate
from bixt3d.types import InputError


def test_interpolation_by_hand():
    points = torch.tensor([[[0.0, 0, 0], [3, 0, 0], [100, 0, 0]]])
    feats = torch.tensor([[[0.0, 10], [5, 20], [1e6, 1e6]]])
    # squared distances 1 and 4 to the two nearest: weights 4/5 and 1/5
    found = interpolate(torch.tensor([[[1.0, 0, 0]]]), points, feats, num_neighbors=2)
    torch.testing.assert_close(found, torch.tensor([[[1.0, 12.0]]]))


def test_a_query_on_a_point_gets_the_feature_of_that_point():
    points, feats = torch.randn(2, 20, 3), torch.randn(2, 20, 4)
    torch.testing.assert_close(interpolate(points, points, feats), feats, rtol=1e-4, atol=1e-4)


def test_one_coarse_point_gives_its_feature_to_all():
    feats = torch.randn(2, 1, 4)
    found = interpolate(torch.randn(2, 7, 3), torch.randn(2, 1, 3), feats)
    torch.testing.assert_close(found, feats.expand(2, 7, 4))


@pytest.mark.parametrize("num_neighbors", [1, 3, 8])
def test_constant_features_stay_constant(num_neighbors: int):
    found = interpolate(torch.randn(2, 50, 3), torch.randn(2, 8, 3), torch.full((2, 8, 4), 7.0), num_neighbors)
    torch.testing.assert_close(found, torch.full((2, 50, 4), 7.0))


def test_each_cloud_reads_its_own_points():
    queries, points, feats = torch.randn(2, 5, 3), torch.randn(2, 9, 3), torch.randn(2, 9, 4)
    both = interpolate(queries, points, feats)
    torch.testing.assert_close(both[1:], interpolate(queries[1:], points[1:], feats[1:]))


def test_gradients_reach_the_features():
    queries, points = torch.randn(2, 6, 3), torch.randn(2, 5, 3)
    feats = torch.randn(2, 5, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda feats: interpolate(queries, points, feats), feats)


def test_weights_are_computed_in_float32_for_features_in_half_precision():
    queries, points, feats = torch.randn(1, 30, 3) + 10, torch.randn(1, 9, 3) + 10, torch.randn(1, 9, 4)
    found = interpolate(queries, points, feats.bfloat16())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), interpolate(queries, points, feats), rtol=0.02, atol=0.02)


def test_less_than_one_neighbor_is_refused():
    with pytest.raises(InputError, match="asked to interpolate from 0 neighbors"):
        interpolate(torch.zeros(1, 1, 3), torch.zeros(1, 2, 3), torch.zeros(1, 2, 4), num_neighbors=0)


def test_copies_of_a_point_share_the_weight_of_a_query_on_them_and_positions_get_no_gradient():
    queries, points, feats = (
        one.requires_grad_() for one in (torch.zeros(1, 2, 3), torch.zeros(1, 4, 3), torch.eye(4)[None])
    )
    found = interpolate(queries, points, feats)
    torch.testing.assert_close(found[0], torch.tensor([[1.0, 1, 1, 0]]).expand(2, 4) / 3)
    found.square().sum().backward()
    assert not queries.grad.any() and not points.grad.any() and feats.grad.isfinite().all()
