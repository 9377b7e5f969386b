"""Voxel grid: which points share a voxel, and what is pooled of them."""

import numpy as np
import pytest
import torch
from scipy.stats import mode

from bixt3d.ops.voxels import voxel_grid
from bixt3d.types import InputError


def points(number: int = 500, seed: int = 0) -> torch.Tensor:
    return torch.rand(number, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 4


def cells(xyz: torch.Tensor, size: float) -> list[tuple[int, ...]]:
    return [tuple(row) for row in (xyz / size).floor().long().tolist()]


@pytest.mark.parametrize("size", [0.3, 1.0, 10.0])
def test_points_share_a_voxel_if_and_only_if_they_lie_in_the_same_cube(size):
    xyz = points()
    grid, expected = voxel_grid(xyz, size), cells(xyz, size)
    of_cell = {}
    for cell, voxel in zip(expected, grid.inverse.tolist(), strict=True):
        assert of_cell.setdefault(cell, voxel) == voxel
    assert len(grid) == len(of_cell) and sorted(of_cell.values()) == list(range(len(grid)))
    assert sorted(of_cell) == sorted(of_cell, key=of_cell.get)  # x first, then y, then z


def test_first_mean_and_majority_are_those_of_the_points_in_each_voxel():
    xyz = points()
    labels = torch.from_numpy(np.random.default_rng(1).integers(0, 4, len(xyz)))
    grid = voxel_grid(xyz, 0.8)
    for voxel in range(len(grid)):
        inside = (grid.inverse == voxel).nonzero().squeeze(1)
        assert grid.count[voxel] == len(inside)
        assert torch.equal(grid.first(xyz)[voxel], xyz[inside[0]])
        torch.testing.assert_close(grid.mean(xyz)[voxel], xyz[inside].mean(0))
        assert grid.majority(labels)[voxel] == mode(labels[inside].numpy()).mode  # of ties the lowest


def test_maxima_are_those_of_each_voxel_and_unpooling_gives_each_point_the_values_of_its_voxel():
    xyz = points()
    grid = voxel_grid(xyz, 0.8)
    largest = grid.unpool(grid.max(xyz))
    assert largest.shape == xyz.shape
    for voxel in range(len(grid)):
        inside = grid.inverse == voxel
        assert (largest[inside] == xyz[inside].amax(0)).all()
    assert grid.max(grid.inverse).tolist() == list(range(len(grid)))  # whole numbers, too
    values = torch.tensor([3.0, 5, 4, -7], requires_grad=True)
    voxel_grid(torch.tensor([[0.0, 0, 0], [0.1, 0, 0], [0.2, 0, 0], [5, 0, 0]]), 1.0).max(values).sum().backward()
    assert values.grad.tolist() == [0, 1, 0, 1]


def test_clouds_of_a_batch_have_the_voxels_that_they_have_alone():
    xyz, batch = points(), torch.arange(500) // 200
    grid = voxel_grid(xyz, 0.8, batch)
    alone = [voxel_grid(cloud, 0.8) for cloud in xyz.split(200)]
    ends = torch.tensor([0, *map(len, alone)]).cumsum(0)
    assert torch.equal(grid.inverse, torch.cat([one.inverse + end for one, end in zip(alone, ends, strict=False)]))
    assert torch.equal(grid.max(xyz), torch.cat([one.max(own) for one, own in zip(alone, xyz.split(200), strict=True)]))
    assert grid.first(batch).tolist() == torch.arange(3).repeat_interleave(ends.diff()).tolist()
    shuffled = torch.randperm(500)
    assert torch.equal(voxel_grid(xyz[shuffled], 0.8, batch[shuffled]).inverse, grid.inverse[shuffled])
    with pytest.raises(InputError, match="batch must be from 0 on"):
        voxel_grid(xyz, 0.8, batch - 1)


def test_unknown_labels_win_only_where_no_other_is():
    grid = voxel_grid(torch.tensor([[0.0, 0, 0], [0.1, 0, 0], [0.2, 0, 0], [5, 0, 0]]), 1.0)
    assert grid.majority(torch.tensor([-1, -1, 3, -1])).tolist() == [3, -1]
    assert grid.majority(torch.tensor([-1, -1, -1, -1])).tolist() == [-1, -1]


def test_a_cloud_moved_by_whole_numbers_has_the_same_voxels():
    xyz = (points() * 1000).round() / 1000
    moved = xyz + torch.tensor([500_000.0, 5_000_000.0, 100.0], dtype=torch.float64)
    first = voxel_grid(((xyz - xyz.amin(0)) * 1e6).round() / 1e6, 0.25)
    second = voxel_grid(((moved - moved.amin(0)) * 1e6).round() / 1e6, 0.25)
    assert torch.equal(first.inverse, second.inverse)


@pytest.mark.parametrize(
    ("xyz", "size", "sentence"),
    [
        (torch.zeros(3, 3), 0.0, "must be positive"),
        (torch.zeros(0, 3), 1.0, "at least one point"),
        (torch.tensor([[0.0, 0, float("nan")]]), 1.0, "finite"),
        (torch.tensor([[0.0, 0, 0], [1e9, 1e9, 1e9]]), 1e-3, "too many"),
    ],
)
def test_impossible_grids_are_refused(xyz, size, sentence):
    with pytest.raises(InputError, match=sentence):
        voxel_grid(xyz, size)
