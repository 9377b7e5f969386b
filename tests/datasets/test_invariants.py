"""Rotation-invariant features of points."""

import numpy as np
import pytest
import torch

from bixt3d.datasets.clouds.preparing import with_model_features
from bixt3d.datasets.files.cloud import Cloud
from bixt3d.datasets.transforms.invariants import invariants
from bixt3d.types import Features, InputError


def test_turning_moving_and_scaling_a_cloud_changes_nothing():
    xyz = torch.rand(200, 3, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    assert torch.allclose(invariants(7 * xyz @ rotation + 1e5), invariants(xyz), atol=1e-6)


@pytest.mark.parametrize(("axes", "shape"), [(1, [1, 0, 0]), (2, [0, 1, 0])])
def test_a_line_is_linear_and_a_plane_planar(axes: int, shape: list[int]):
    grid = torch.stack(torch.meshgrid(*(torch.arange(15.0) for _ in range(axes)), indexing="ij"), -1).view(-1, axes)
    xyz = torch.cat([grid, torch.zeros(len(grid), 3 - axes)], 1)
    middle = invariants(xyz, 9)[len(xyz) // 2]
    assert middle[1:4].tolist() == pytest.approx(shape, abs=0.05)


def test_on_a_sphere_every_radius_and_slope_is_1():
    xyz = torch.nn.functional.normalize(torch.randn(4000, 3), dim=1)
    found = invariants(xyz)
    assert found[:, 0].min() > 0.9 and found[:, 4].min() > 0.9


def test_clouds_get_them_when_a_model_reads_them_and_keep_a_column_of_that_name():
    features = Features.parse("invariants:5")
    cloud = Cloud(np.random.default_rng(0).random((50, 3)))
    assert with_model_features(cloud, features).columns["invariants"].shape == (50, 5)
    own = Cloud(cloud.xyz, {"invariants": np.ones((50, 5))})
    assert (with_model_features(own, features).columns["invariants"] == 1).all()
    with pytest.raises(InputError, match="of 2 points: at least 3"):
        invariants(torch.eye(3)[:2])
