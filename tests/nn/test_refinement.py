"""Token refinement between encoder layers."""

import pytest
import torch

from bixt3d.nn.refinement import GroupRefinement
from bixt3d.ops import farthest_points, gather, knn
from bixt3d.types import InputError, Tokens


def random_tokens(size: int = 12) -> Tokens:
    generator = torch.Generator().manual_seed(0)
    return Tokens(torch.randn(2, size, 6, generator=generator), torch.randn(2, size, 3, generator=generator))


def test_without_reduction_positions_stay_and_neighbors_are_kept():
    tokens = random_tokens()
    refined = GroupRefinement(6, 6, num_neighbors=4)(tokens)
    assert refined.feats.shape == tokens.feats.shape
    assert refined.pos.equal(tokens.pos)
    assert refined.neighbor_index.equal(knn(tokens.pos, tokens.pos, 4))


@pytest.mark.parametrize(("out_dim", "reduce"), [(6, 1), (6, 2), (8, 2)])
def test_groups_are_added_to_the_features_of_their_centroids(out_dim, reduce):
    tokens, refine = random_tokens(), GroupRefinement(6, out_dim, num_neighbors=4, reduce=reduce)
    torch.nn.init.zeros_(refine.project.weight)
    centroid_index = torch.arange(12).expand(2, 12) if reduce == 1 else farthest_points(tokens.pos, 6)
    refined = refine(tokens)
    torch.testing.assert_close(refined.feats, refine.skip(gather(tokens.feats, centroid_index)))
    assert refined.pos.equal(gather(tokens.pos, centroid_index))


def test_a_token_depends_on_its_neighbors_but_on_no_other():
    tokens, refine = random_tokens(), GroupRefinement(6, 6, num_neighbors=3).eval()
    refine.block.group._deviation = lambda near, *_: near.new_ones(
        len(near)
    )  # the deviation depends on the whole cloud
    feats = tokens.feats.requires_grad_()
    refined = refine(tokens)
    (gradient,) = torch.autograd.grad(refined.feats[0, 0].square().sum(), feats)
    used = gradient.abs().sum(2).nonzero()
    assert set(used[:, 0].tolist()) == {0}
    assert set(used[:, 1].tolist()) <= set(refined.neighbor_index[0, 0].tolist())


@pytest.mark.parametrize(("size", "reduce"), [(1, 1), (3, 1), (1, 2), (3, 2)])
def test_in_evaluation_all_of_too_few_tokens_are_neighbors(size, reduce):
    tokens, refine = random_tokens(size), GroupRefinement(6, 6, num_neighbors=4, reduce=reduce).eval()
    refined = refine(tokens)
    assert refined.feats.shape == (2, max(1, size // reduce), 6) and refined.feats.isfinite().all()
    if size >= reduce:
        fitting = GroupRefinement(6, 6, num_neighbors=size, reduce=reduce).eval()
        fitting.load_state_dict(refine.state_dict())
        assert refined.feats.equal(fitting(tokens).feats)


def test_training_refuses_clouds_of_fewer_tokens_than_neighbors():
    with pytest.raises(InputError, match="asked for 4 neighbors in clouds of 3 points"):
        GroupRefinement(6, 6, num_neighbors=4)(random_tokens(3))


@pytest.mark.parametrize("out_dim", [6, 8])
def test_every_parameter_gets_a_gradient(out_dim):
    torch.manual_seed(0)
    refine = GroupRefinement(6, out_dim, num_neighbors=4, num_pre=1, use_xyz=True).eval()
    refine(random_tokens()).feats.square().sum().backward()
    assert [name for name, parameter in refine.named_parameters() if not parameter.grad.any()] == []
