"""GroupTokenizer: one token per group of points."""

import pytest
import torch

from bixt3d.ops import farthest_points, gather
from bixt3d.tokenizers import GroupTokenizer, PointTokenizer
from bixt3d.types import InputError


def build(num_groups: int | None = None, **settings) -> GroupTokenizer:
    return GroupTokenizer(16, PointTokenizer(8), num_neighbors=4, num_groups=num_groups, **settings)


def cloud() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(2, 20, 3), torch.rand(2, 20, 0)


def test_levels_are_points_then_groups():
    xyz, feats = cloud()
    points, groups = build(num_groups=5)(xyz, feats)
    assert points.feats.shape == (2, 20, 8) and torch.equal(points.pos, xyz)
    assert groups.feats.shape == (2, 5, 16)
    assert torch.equal(groups.pos, gather(xyz, farthest_points(xyz, 5)))


@pytest.mark.parametrize("num_groups", [None, 20])
def test_every_point_can_be_a_centroid_in_the_order_of_points(num_groups: int | None):
    xyz, feats = cloud()
    _, groups = build(num_groups)(xyz, feats)
    assert groups.feats.shape == (2, 20, 16) and torch.equal(groups.pos, xyz)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("use_xyz", [True, False])
def test_shuffled_points_give_shuffled_tokens(use_xyz: bool, training: bool):
    (xyz, feats), order, tokenizer = cloud(), torch.randperm(20), build(use_xyz=use_xyz).train(training)
    _, groups = tokenizer(xyz, feats)
    _, shuffled = tokenizer(xyz[:, order], feats[:, order])
    torch.testing.assert_close(shuffled.feats, groups.feats[:, order], rtol=1e-4, atol=1e-5)
    assert torch.equal(shuffled.pos, groups.pos[:, order])


def test_few_groups_do_not_depend_on_the_order_of_the_points_but_the_first():
    """Farthest point sampling starts at the first point; the order of the others does not matter."""
    (xyz, feats), tokenizer = cloud(), build(num_groups=5)
    order = torch.cat([torch.zeros(1, dtype=torch.int64), 1 + torch.randperm(19)])
    torch.testing.assert_close(
        tokenizer(xyz[:, order], feats)[1].feats, tokenizer(xyz, feats)[1].feats, rtol=1e-4, atol=1e-5
    )


def test_a_token_reads_its_neighbors_only(monkeypatch: pytest.MonkeyPatch):
    """Two clusters far apart: moving one does not change the tokens of the other, for a fixed deviation."""
    xyz = torch.rand(1, 20, 3)
    xyz[:, 10:] += 50
    moved = xyz.clone()
    moved[:, 10:13] += 0.3
    tokenizer = build().eval()
    monkeypatch.setattr(tokenizer.group.group, "_deviation", lambda *_: torch.ones(1))
    (_, groups), (_, found) = (tokenizer(points, points[..., :0]) for points in (xyz, moved))
    torch.testing.assert_close(found.feats[:, :10], groups.feats[:, :10])
    assert not torch.allclose(found.feats[:, 10:], groups.feats[:, 10:])


def test_more_groups_or_neighbors_than_points_are_an_error():
    with pytest.raises(InputError, match="asked for 21 farthest points of clouds of 20 points"):
        build(num_groups=21)(*cloud())
    with pytest.raises(InputError, match="asked for 4 neighbors in clouds of 3 points"):
        build()(torch.rand(1, 3, 3), torch.rand(1, 3, 0))


def test_missing_normals_are_an_error():
    with pytest.raises(InputError, match=r"reads normal \(3 columns\), but was given feats of 0 columns"):
        GroupTokenizer(16, PointTokenizer(8, features="normal"), num_neighbors=4)(*cloud())


def test_training_uses_a_random_subset_of_groups_and_evaluation_all():
    xyz, feats = cloud()
    tokenizer, every = build(num_groups=9, train_groups=4), farthest_points(xyz, 9)
    _, some = tokenizer(xyz, feats)
    assert some.feats.shape == (2, 4, 16)
    place = (some.pos[:, :, None] == gather(xyz, every)[:, None]).all(3).int()
    assert (place.sum(2) == 1).all() and (place.argmax(2).diff() > 0).all()  # a subset of the groups, in their order
    assert not torch.equal(place[0], place[1]) and not torch.equal(tokenizer(xyz, feats)[1].pos, some.pos)
    _, groups = tokenizer.eval()(xyz, feats)
    assert torch.equal(groups.pos, gather(xyz, every))


@pytest.mark.parametrize("num_groups", [None, 9])
def test_train_groups_equal_to_all_groups_changes_nothing(num_groups: int | None):
    (xyz, feats), plain = cloud(), build(num_groups, num_post=0)
    chosen = build(num_groups, num_post=0, train_groups=num_groups or 20)
    chosen.load_state_dict(plain.state_dict())
    for found, expected in zip(chosen(xyz, feats), plain(xyz, feats), strict=True):
        assert torch.equal(found.feats, expected.feats) and torch.equal(found.pos, expected.pos)


@pytest.mark.parametrize("train_groups", [0, 10])
def test_train_groups_out_of_range_is_an_error(train_groups: int):
    with pytest.raises(InputError, match=rf"train_groups must be between 1 and num_groups \(9\), not {train_groups}"):
        build(num_groups=9, train_groups=train_groups)
