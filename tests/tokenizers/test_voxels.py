"""One token per voxel: which points it pools, and what a batch of clouds with different numbers of voxels gets."""

from functools import partial

import pytest
import torch

from bixt3d.nn.refinement import GroupRefinement
from bixt3d.tokenizers import PointTokenizer, VoxelTokenizer
from bixt3d.tokenizers.voxels import group_by_voxel
from bixt3d.types import InputError

REFINE = partial(GroupRefinement, num_neighbors=4, use_xyz=True, radius=0.2)


def tokenizer(size: float = 0.5, refine: partial | None = None) -> VoxelTokenizer:
    torch.manual_seed(0)
    return VoxelTokenizer(16, PointTokenizer(8, temperature=100.0, scale=12.0), size, refine).eval()


def test_voxels_are_those_of_each_cloud_and_smaller_clouds_repeat_theirs():
    xyz = torch.tensor([[[0.1, 0, 0], [0.2, 0, 0], [0.9, 0, 0]], [[5.0, 5, 5], [5.1, 5, 5], [5.2, 5, 5]]])
    own, count, table = group_by_voxel(xyz, 0.5)
    assert own.tolist() == [0, 0, 1, 2, 2, 2] and count.tolist() == [2, 1, 3]
    assert table.tolist() == [[0, 1], [2, 2]]


def test_clouds_share_no_voxel_however_many_they_are():
    xyz = torch.rand(1500, 5, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([90.0, 1, 20])
    own, count, table = group_by_voxel(xyz, 0.5)
    seen = 0
    for place, cloud in enumerate(xyz):
        alone, _, (voxels,) = group_by_voxel(cloud[None], 0.5)
        assert torch.equal(own[5 * place : 5 * place + 5], alone + seen)
        assert torch.equal(table[place], seen + torch.arange(table.shape[1]) % len(voxels))
        seen += len(voxels)
    assert seen == len(count) and count.sum() == 7500


def test_more_cells_than_numbers_are_refused_and_as_many_are_not():
    xyz = torch.zeros(1025, 2, 3)
    xyz[:512, 1] = 1e6
    own, _, _ = group_by_voxel(xyz[:512], 1.0)
    assert own.tolist() == list(range(1024))
    with pytest.raises(InputError) as refused:
        group_by_voxel(xyz, 1.0)
    grid = "262144 x 262144 x 262144"
    assert str(refused.value) == f"a batch of 1025 clouds in a grid of {grid} voxels is too large: take fewer clouds"


@pytest.mark.parametrize("refine", [None, REFINE])
def test_a_token_lies_at_the_mean_of_its_points_and_pools_their_maximum_and_mean(refine):
    model, xyz = tokenizer(refine=refine), torch.rand(1, 200, 3, generator=torch.Generator().manual_seed(1))
    points, tokens = model(xyz)
    assert torch.equal(points.feats, model.refine(model.points(xyz)[0]).feats)
    assert torch.equal(points.feats, model.points(xyz)[0].feats) == (refine is None)
    own, _, _ = group_by_voxel(xyz, 0.5)
    for voxel in (0, 5):
        inside = own == voxel
        center = xyz[0, inside].mean(0)
        torch.testing.assert_close(tokens.pos[0, voxel], center)
        rows = torch.cat([points.feats[0, inside], (xyz[0, inside] - center) / 0.5], 1)
        local = model.local(rows)
        (position,) = model.position(center[None, None])
        expected = model.pooled(torch.cat([local.amax(0), local.mean(0)])) + position.feats[0, 0]
        torch.testing.assert_close(tokens.feats[0, voxel], expected, rtol=1e-4, atol=1e-5)


def test_a_cloud_has_the_same_tokens_alone_and_in_a_batch():
    model, xyz = (
        tokenizer(),
        torch.rand(3, 100, 3, generator=torch.Generator().manual_seed(2)) * torch.tensor([[[1.0]], [[2.0]], [[0.4]]]),
    )
    _, together = model(xyz)
    for cloud, pos, feats in zip(xyz, together.pos, together.feats, strict=True):
        _, alone = model(cloud[None])
        number = alone.pos.shape[1]
        torch.testing.assert_close(pos[:number], alone.pos[0])
        torch.testing.assert_close(feats[:number], alone.feats[0], rtol=1e-4, atol=1e-5)
        assert {tuple(one) for one in pos[number:].tolist()} <= {tuple(one) for one in pos[:number].tolist()}


def test_gradients_reach_every_parameter():
    model = tokenizer().train()
    _, tokens = model(torch.rand(2, 60, 3))
    tokens.feats.square().sum().backward()
    assert all(one.grad is not None and one.grad.abs().sum() > 0 for name, one in model.named_parameters())


def test_a_refinement_that_drops_points_is_refused():
    with pytest.raises(InputError, match="must keep every point, so its reduce must be 1"):
        tokenizer(refine=partial(GroupRefinement, num_neighbors=4, reduce=2))


def test_a_side_of_0_is_refused():
    with pytest.raises(InputError, match="must be positive"):
        tokenizer(0.0)
