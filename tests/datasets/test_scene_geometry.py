"""Geometric features of scenes: linearity, planarity, scattering and verticality."""

import numpy as np
import pytest
import torch

from bixt3d.datasets.scenes.computed import voxel_geometry
from bixt3d.datasets.scenes.geometry import CHUNK, geometric_features
from bixt3d.datasets.scenes.relief import raise_scenes
from bixt3d.datasets.scenes.scene import make_scene
from bixt3d.datasets.transforms.draws import Draws
from bixt3d.types import Features, InputError

NAMES = "linearity:2,planarity:2,scattering:2,verticality:2"


def grid_of(*sides: int) -> torch.Tensor:
    return torch.cartesian_prod(*(torch.arange(side) + 0.5 for side in sides)).double().view(-1, 3)


def expected(points: torch.Tensor) -> torch.Tensor:
    """Return the features of the points of one neighborhood, from NumPy's covariance."""
    values, vectors = np.linalg.eigh(np.cov(points.T.numpy(), bias=True))
    third, second, first = np.sqrt(np.maximum(values, 0))
    shares = [(first - second) / first, (second - third) / first, third / first]
    return torch.tensor([*shares, 1 - abs(vectors[2, 0])])


@pytest.mark.parametrize("cell", [0.7, 1.3, 40.0])
def test_they_are_those_of_the_points_in_the_27_cells_around_a_point(cell):
    points = torch.rand(3000, 3, generator=torch.Generator().manual_seed(0)) * 10 - 3
    found, cells = geometric_features(points, cell), (points.double() / cell).floor()
    for i in range(0, 3000, 300):
        near = ((cells - cells[i]).abs() <= 1).all(1)
        assert found[i].numpy() == pytest.approx(expected(points[near].double()).numpy(), abs=1e-6)


@pytest.mark.parametrize(
    ("sides", "shape"),
    [((9, 9, 1), [0, 1, 0, 0]), ((1, 9, 9), [0, 1, 0, 1]), ((9, 1, 1), [1, 0, 0, 0]), ((9, 9, 9), [0, 0, 1])],
)
def test_planes_walls_lines_and_volumes_have_their_shape(sides, shape):
    points = grid_of(*sides)
    inside = geometric_features(points, 1.0)[len(points) // 2]
    assert inside[: len(shape)].tolist() == pytest.approx(shape, abs=1e-6)


def test_points_in_one_place_have_no_shape():
    assert not geometric_features(torch.full((5, 3), 7.3), 1.0).any()


@pytest.mark.parametrize(("direction", "steepness"), [((0, 0, 1), 1), ((1, 0, 0), 0), ((0, 1, 1), 0.5**0.5)])
def test_a_line_is_as_steep_as_its_direction(direction, steepness):
    points = torch.arange(9.0)[:, None] * torch.tensor(direction) + 0.5
    assert geometric_features(points, 1.0)[4].tolist() == pytest.approx([1, 0, 0, steepness], abs=1e-6)


def test_points_far_from_the_origin_have_the_shapes_of_those_near_it():
    points = torch.rand(500, 3, generator=torch.Generator().manual_seed(0)).double() * 5
    far = points + torch.tensor([600_000, 6_000_000, 300])
    assert torch.allclose(geometric_features(far, 1.0), geometric_features(points, 1.0), atol=1e-4)


def test_means_at_the_border_of_a_voxel_stay_in_it():
    points = (grid_of(12, 12, 1) - 0.5) * 0.7
    rounded = points * (1 - 1e-15)  # as the mean of three equal points is
    assert torch.allclose(geometric_features(rounded, 0.7), geometric_features(points, 0.7))


def test_too_many_cells_are_refused():
    points = torch.tensor([[0.0, 0, 0], [2.0**31, 2.0**31, 0]]).double()
    with pytest.raises(InputError, match="cells: too many"):
        geometric_features(points, 1.0)


def test_more_cells_than_are_summed_at_a_time_are_all_alike():
    found = geometric_features(grid_of(400, 300, 1), 1.0).view(400, 300, 4)[1:-1, 1:-1]
    assert CHUNK < 400 * 300 and torch.allclose(found, found.new_tensor([0, 1, 0, 0]), atol=1e-6)


def test_scenes_have_them_on_two_scales_of_their_voxels():
    rng = np.random.default_rng(0)
    xyz, nothing = rng.random((4000, 3)) * (10, 8, 1), np.zeros(4000, np.int64)
    made = make_scene(xyz, {}, nothing, Features.parse("verticality:2,height,linearity:2"), 0.5)
    assert torch.allclose(made.feats[:, [3, 0]].double(), geometric_features(made.xyz, 0.5)[:, [0, 3]], atol=1e-4)
    assert torch.allclose(made.feats[:, [4, 1]].double(), geometric_features(made.xyz, 1.5)[:, [0, 3]], atol=1e-4)
    own = make_scene(xyz, {"planarity": xyz[:, :2]}, nothing, Features.parse("planarity:2,linearity:2"), 0.5)
    assert torch.equal(own.feats[:, 2:], made.feats[:, 3:])
    assert torch.allclose(own.feats[:, :2], made.xyz[:, :2] + torch.from_numpy(xyz.min(0)[:2]).float(), atol=1e-5)


def test_crops_on_hills_have_those_of_the_hills():
    xyz = (grid_of(40, 40, 1) - 20).float()[None].repeat(40, 1, 1)
    features, index = Features.parse(f"intensity,{NAMES}"), torch.arange(40)
    flat = torch.cat(list(voxel_geometry(xyz[0], 1.0).values()), 1).float()
    feats = torch.cat([torch.ones(1600, 1), 0.9 * flat + 0.01], 1).repeat(40, 1, 1)  # of cells that lie otherwise
    raised = raise_scenes({"xyz": xyz, "feats": feats, "index": index}, 30.0, features, 0.5, Draws(index, "relief"))
    changed = (raised["xyz"] != xyz).flatten(1).any(1)
    assert 5 < changed.sum() < 20 and torch.equal(raised["feats"][~changed], feats[~changed])
    for i in changed.nonzero().flatten().tolist():
        shapes = torch.cat(list(voxel_geometry(raised["xyz"][i], 1.0).values()), 1).float()
        expected = (feats[i, :, 1:] + shapes - flat).clamp(0, 1)
        assert torch.allclose(raised["feats"][i, :, 1:], expected, atol=1e-4)
    assert raised["feats"][changed][..., -1].amax() > 0.1 and feats[..., -1].amax() < 0.02
