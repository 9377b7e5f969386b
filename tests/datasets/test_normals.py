"""Estimated normals of known surfaces."""

import pytest
import torch
from torch.nn.functional import normalize

from bixt3d.datasets.transforms.normals import estimate_normals
from bixt3d.types import InputError


def test_normals_of_a_sphere_point_away_from_its_middle():
    directions = normalize(torch.randn(4000, 3), dim=1)
    normals = estimate_normals(directions * 3 + torch.tensor([5.0, -2, 100]))
    assert (normals.norm(dim=1) - 1).abs().max() < 1e-5
    assert ((normals * directions).sum(1) > 0.97).all()


@pytest.mark.parametrize(("axis", "height"), [(0, 0.0), (1, 7.0), (2, -7.0)])
def test_normals_of_a_plane_all_point_to_its_positive_side(axis, height):
    plane = torch.rand(200, 3)
    plane[:, axis] = height + 1e-6 * torch.randn(200)
    assert torch.allclose(estimate_normals(plane), torch.eye(3)[axis].expand(200, 3), atol=1e-3)


def test_both_sides_of_a_box_point_outwards():
    sides = torch.rand(400, 3)
    sides[:200, 2], sides[200:, 2] = 0, 3
    normals = estimate_normals(sides, num_neighbors=8)
    assert torch.allclose(normals[:200], torch.tensor([0.0, 0, -1]).expand(200, 3), atol=1e-4)
    assert torch.allclose(normals[200:], torch.tensor([0.0, 0, 1]).expand(200, 3), atol=1e-4)


def test_they_turn_with_the_cloud_and_follow_its_order():
    cloud = torch.randn(100, 3, dtype=torch.float64)
    turn, order = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0], torch.randperm(100)
    normals = estimate_normals(cloud)
    assert normals.dtype == torch.float64
    assert torch.allclose(estimate_normals(cloud[order]), normals[order])
    turned = estimate_normals(cloud @ turn.T)
    assert torch.allclose((turned * (normals @ turn.T)).sum(1).abs(), torch.ones(100, dtype=torch.float64))


def test_a_small_cloud_uses_all_its_points_and_a_large_one_goes_in_chunks(monkeypatch):
    triangle = torch.tensor([[0.0, 0, 1], [1, 0, 1], [0, 1, 1]])
    assert torch.allclose(estimate_normals(triangle), torch.tensor([0.0, 0, 1]).expand(3, 3), atol=1e-6)
    cloud = torch.randn(100, 3)
    whole = estimate_normals(cloud)
    monkeypatch.setattr("bixt3d.datasets.transforms.normals.CHUNK", 7)
    assert torch.equal(estimate_normals(cloud), whole)


def test_two_points_have_no_normals():
    with pytest.raises(InputError, match="at least 3 are needed"):
        estimate_normals(torch.randn(2, 3))
    with pytest.raises(InputError, match="at least 3 are needed"):
        estimate_normals(torch.randn(9, 3), num_neighbors=2)
