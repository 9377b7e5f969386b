"""Statistical outlier removal: outliers take the place of a neighbor, all other points stay."""

import pytest
import torch

from bixt3d import GroupTokenizer, InputError, PointTokenizer
from bixt3d.ops import gather
from bixt3d.tokenizers.outliers import move_outliers, outlier_mask


def grid(size: int = 6) -> torch.Tensor:
    """Return the points of a flat grid with spacing 1."""
    axes = torch.arange(size).float()
    return torch.cartesian_prod(axes, axes, torch.zeros(1))[None]


def test_a_point_far_from_its_neighbors_takes_the_place_of_the_nearest_one():
    xyz = torch.cat([grid(), torch.tensor([[[2.1, 3.0, 9.0]]])], 1)
    feats = torch.arange(37.0)[None, :, None]
    moved, moved_feats = move_outliers(xyz, feats, 2.0)
    assert moved[0, 36].tolist() == [2.0, 3.0, 0.0] and moved_feats[0, 36].item() == 2 * 6 + 3
    assert moved[:, :36].equal(xyz[:, :36]) and moved_feats[:, :36].equal(feats[:, :36])


def test_a_cloud_without_outliers_stays_as_it_is():
    assert not outlier_mask(grid(), 2.0)[0].any()
    assert move_outliers(grid(), None, 2.0) == (pytest.approx(grid()), None)


def test_an_outlier_whose_neighbors_are_outliers_too_takes_the_place_of_a_good_point():
    pair = torch.tensor([[[2.0, 2.0, 9.0], [2.1, 2.0, 9.0]]])
    moved, _ = move_outliers(torch.cat([grid(), pair], 1), None, 2.0)
    assert moved[0, 36:].tolist() == [[2.0, 2.0, 0.0]] * 2


def test_no_centroid_is_an_outlier():
    torch.manual_seed(0)
    tokenizer = GroupTokenizer(dim=8, points=PointTokenizer(dim=4), num_neighbors=4, num_groups=8, outliers=2.0)
    far = torch.tensor([[[0.0, 0.0, 20.0], [30.0, 0.0, 0.0]]])
    xyz = torch.cat([grid(), far], 1)
    for outliers, found in ((2.0, 0), (0.0, 2)):
        tokenizer.outliers = outliers
        chosen = tokenizer(xyz)[-1].pos
        assert int((torch.cdist(chosen[0], far[0]) == 0).sum()) == found
    with pytest.raises(InputError, match="outliers is 0 or a multiple of the median distance, more than 1, not 0.5"):
        GroupTokenizer(dim=8, points=PointTokenizer(dim=4), outliers=0.5)


def test_outliers_do_not_depend_on_the_rest_of_the_batch():
    clouds = torch.randn(3, 50, 3)
    together, _ = move_outliers(clouds, None, 1.5)
    for one, moved in zip(clouds, together, strict=True):
        assert move_outliers(one[None], None, 1.5)[0][0].equal(moved)
    mask, near = outlier_mask(clouds, 1.5)
    assert mask.any() and near.shape == (3, 50, 8) and gather(clouds, near.flatten(1)).shape == (3, 400, 3)


@pytest.mark.parametrize("size", [37, 5])
def test_a_cloud_filled_up_by_copies_has_the_outliers_of_the_cloud_itself(size):
    cloud = torch.cat([grid()[:, -size + 1 :], torch.tensor([[[2.1, 3.0, 9.0]]])], 1)
    feats = torch.arange(float(size))[None, :, None]
    filled = torch.cat([torch.arange(size), torch.randint(size - 1, (20 * size,)), torch.tensor([size - 1])])
    expected = move_outliers(cloud, feats, 2.0)
    found = move_outliers(cloud[:, filled], feats[:, filled], 2.0)
    assert outlier_mask(cloud, 2.0)[0].nonzero().tolist() == [[0, size - 1]]
    assert all(one[:, filled].equal(other) for one, other in zip(expected, found, strict=True))


def test_a_cloud_of_one_place_has_no_outliers():
    assert not outlier_mask(torch.zeros(1, 30, 3), 2.0)[0].any()
