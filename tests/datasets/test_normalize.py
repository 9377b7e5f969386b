import pytest
import torch

from bixt3d.datasets.transforms.normalize import normalize_clouds
from bixt3d.types import InputError


def test_a_cloud_by_hand_is_centred_and_scaled():
    xyz = torch.tensor([[[1.0, 0, 0], [3.0, 0, 0]], [[0, 5.0, 0], [0, 5.0, 8.0]]])
    assert normalize_clouds(xyz).tolist() == [[[-1, 0, 0], [1, 0, 0]], [[0, 0, -1], [0, 0, 1]]]


def test_normalizing_far_from_the_origin_loses_nothing():
    xyz = torch.rand(1, 50, 3).round(decimals=2)
    assert torch.allclose(normalize_clouds(xyz + 1024), normalize_clouds(xyz), atol=1e-3)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_coordinates_that_are_no_numbers_are_named(value):
    xyz = torch.rand(3, 4, 3)
    xyz[2, 1, 0] = value
    with pytest.raises(InputError, match="cloud 2 of some.h5 has coordinates that are not finite"):
        normalize_clouds(xyz, "some.h5")


def test_a_cloud_without_extent_is_named():
    xyz = torch.rand(3, 4, 3)
    xyz[1] = 0.1
    with pytest.raises(InputError, match="cloud 1 of some.h5 has all its points in one place"):
        normalize_clouds(xyz, "some.h5")
