"""Eigenfeatures of voxels: the shape of their 8 and 64 nearest ones."""

import numpy as np
import pytest
import torch

from bixt3d.datasets.scenes import eigenfeatures as module
from bixt3d.datasets.scenes.eigenfeatures import FARTHEST, NEIGHBORS, eigenfeatures
from bixt3d.datasets.scenes.relief import raise_scenes
from bixt3d.datasets.scenes.scene import make_scene
from bixt3d.datasets.transforms.draws import Draws
from bixt3d.types import Features, InputError


def expected(points: np.ndarray, grid: float) -> list[float]:
    """Return linearity, planarity, scattering, verticality and roughness of some points, from NumPy's covariance."""
    values, vectors = np.linalg.eigh(np.cov(points.T, bias=True))
    third, second, first = np.sqrt(np.maximum(values, 0))
    shares = [(first - second) / first, (second - third) / first, third / first]
    return [*shares, 1 - abs(vectors[2, 0]), np.log1p(5 * third / grid)]


@pytest.mark.parametrize("grid", [0.05, 0.5])
def test_they_are_those_of_a_voxel_with_its_8_and_its_64_nearest(grid):
    points = torch.rand(3000, 3, generator=torch.Generator().manual_seed(0)).double() * 20 * grid
    found = eigenfeatures(points, grid)
    for i in range(0, 3000, 300):
        order = (points - points[i]).square().sum(1).argsort()
        both = [expected(points[order[: number + 1]].numpy(), grid) for number in NEIGHBORS]
        assert found[i].numpy() == pytest.approx(np.concatenate(both), abs=1e-6)


def test_a_roof_a_wall_and_a_wire_have_their_shape_on_both_scales_dense_or_sparse():
    line, zero = torch.arange(-20.0, 21), torch.zeros(41 * 41)
    row, column = (one.flatten() for one in torch.meshgrid(line, line, indexing="ij"))
    for spacing in (0.5, 3.0):
        for points, shape in (
            (torch.stack([row, column, zero], 1), [0, 1, 0, 0, 0]),
            (torch.stack([zero, row, column], 1), [0, 1, 0, 1, 0]),
            (torch.stack([line, 0 * line, 0 * line], 1), [1, 0, 0, 0, 0]),
        ):
            found = eigenfeatures(spacing * points, 1.0)[len(points) // 2].view(2, 5)
            assert found.tolist() == pytest.approx([pytest.approx(shape, abs=0.05)] * 2)


def test_voxels_that_are_too_far_away_do_not_count():
    rng = torch.Generator().manual_seed(0)
    near = 4 * torch.rand(30, 3, generator=rng).double()
    far = torch.rand(100, 3, generator=rng).double() + torch.tensor([0, 0, FARTHEST + 5])
    found = eigenfeatures(torch.cat([near, far]), 1.0)[:30, 5:]
    assert found.numpy() == pytest.approx(np.tile(expected(near.numpy(), 1.0), (30, 1)), abs=1e-6)
    assert not eigenfeatures(near[:1], 1.0).any()


def test_of_voxels_that_are_equally_near_the_same_ones_count_in_every_part_of_a_raster(monkeypatch):
    x, y = (one.flatten() + 0.5 for one in torch.meshgrid(torch.arange(200.0), torch.arange(60.0), indexing="ij"))
    points = torch.stack([x, y, (3 * (x / 20).sin()).round() + 0.5], 1).double()
    whole, part = eigenfeatures(points, 1.0), x < 100
    monkeypatch.setattr(module, "SEARCHED", 1111)
    monkeypatch.setattr(module, "CHUNK", 100)
    core = x[part] < 100 - FARTHEST - 1
    assert torch.equal(eigenfeatures(points[part], 1.0)[core], whole[part][core])


def test_more_voxels_than_are_taken_at_a_time_are_all_alike(monkeypatch):
    points = torch.cartesian_prod(*[0.3 * torch.arange(27.0)] * 3)
    whole = eigenfeatures(points, 1.0)
    monkeypatch.setattr(module, "SEARCHED", 1111)
    monkeypatch.setattr(module, "CHUNK", 100)
    assert torch.equal(eigenfeatures(points, 1.0), whole)


def test_scenes_have_them_among_other_features():
    xyz, nothing = np.random.default_rng(0).random((4000, 3)) * (10, 8, 1), np.zeros(4000, np.int64)
    made = make_scene(xyz, {}, nothing, Features.parse("height,eigenfeatures:10"), 0.5)
    assert torch.allclose(made.feats[:, 1:], eigenfeatures(made.xyz, 0.5), atol=1e-4)
    with pytest.raises(InputError, match="write eigenfeatures:10, which is computed"):
        make_scene(xyz, {}, nothing, Features.parse("eigenfeatures:5"), 0.5)


@pytest.mark.parametrize("distinct", [1600, 100])
def test_crops_on_hills_have_those_of_the_hills_also_of_small_scenes_that_are_repeated(distinct):
    row, column = torch.meshgrid(torch.arange(-20.0, 20), torch.arange(-20.0, 20), indexing="ij")
    flat = torch.stack([row.flatten(), column.flatten(), torch.zeros(1600)], 1)
    flat += 0.4 * torch.rand(1600, 3, generator=torch.Generator().manual_seed(0))
    flat = flat[:distinct].repeat(1600 // distinct, 1)
    features, index = Features.parse("intensity,eigenfeatures:10"), torch.arange(40)
    own = eigenfeatures(flat[:distinct], 1.0).repeat(1600 // distinct, 1)
    xyz, feats = flat.repeat(40, 1, 1), torch.cat([torch.ones(1600, 1), own], 1).repeat(40, 1, 1)
    raised = raise_scenes({"xyz": xyz, "feats": feats, "index": index}, 80.0, features, 0.5, Draws(index, "relief"))
    changed = (raised["xyz"] != xyz).flatten(1).any(1)
    assert changed.sum() > 5 and torch.equal(raised["feats"][~changed], feats[~changed])
    assert raised["feats"][changed][..., [4, 9]].amax() > 0.5
    for i in changed.nonzero().flatten().tolist():
        after = eigenfeatures(raised["xyz"][i, :distinct], 1.0)
        assert torch.allclose(raised["feats"][i, :distinct, 1:], after, atol=1e-5)
        assert torch.equal(raised["feats"][i, -distinct:], raised["feats"][i, :distinct])
