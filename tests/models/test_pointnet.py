"""PointNet and PointNet++: the published sizes, and what set abstraction groups."""

import pytest
import torch

from bixt3d.models import PointNet, PointNet2, PointNet2Segmenter, PointwiseSegmenter
from bixt3d.models.baselines.pointnet2 import SetAbstraction
from bixt3d.types import InputError, Tokens


def size(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_the_models_have_as_many_parameters_as_published():
    assert f"{size(PointNet(40)) / 1e6:.2f}" == "3.47"
    assert f"{size(PointNet2(40)) / 1e6:.2f}" == "1.48"


def test_transform_nets_start_as_the_identity():
    torch.manual_seed(0)
    model = PointNet(4).eval()
    xyz = torch.randn(2, 32, 3)
    assert torch.equal(model.turn_points(xyz), torch.eye(3).expand(2, 3, 3))


def test_set_abstraction_takes_neighbors_within_the_radius_alone():
    torch.manual_seed(0)
    stage = SetAbstraction(2, (8,), 4, 0.5, 8).eval()
    pos = torch.rand(1, 30, 3)
    feats = torch.rand(1, 30, 2)
    near = stage(Tokens(feats, pos))
    far_mask = (pos[0, :, None] - near.pos[0]).norm(dim=2).amin(1) > 0.5
    changed = stage(Tokens(torch.where(far_mask[None, :, None], 9.0, feats), pos))
    assert torch.equal(near.feats, changed.feats)
    for group in range(4):
        inside = (pos[0] - near.pos[0, group]).norm(dim=1) <= 0.5
        rows = torch.cat([pos[0, inside] - near.pos[0, group], feats[0, inside]], 1)
        if len(rows) <= 8:
            torch.testing.assert_close(near.feats[0, group], stage.mlp(rows[None])[0].amax(0))


def test_groups_below_1_are_a_share_of_the_points():
    stage = SetAbstraction(0, (4,), 0.25, 1.0, 4).eval()
    assert stage(Tokens(torch.empty(1, 40, 0), torch.rand(1, 40, 3))).pos.shape == (1, 10, 3)


def test_segmenters_read_features_and_the_category_where_they_are_told_to():
    torch.manual_seed(0)
    xyz, rgb = torch.rand(2, 64, 3), torch.rand(2, 64, 3)
    category = torch.tensor([0, 1])
    settings = {"groups": (16, 4), "num_neighbors": (8, 8), "features": "rgb"}
    model = PointNet2Segmenter(6, 2, **settings).eval()
    out = model(xyz, rgb, category)
    assert out.shape == (2, 64, 6)
    assert not torch.allclose(out, model(xyz, 1 - rgb, category)) and not torch.allclose(
        out, model(xyz, rgb, category.flip(0))
    )
    scenes = PointNet2Segmenter(6, 1, **settings, use_category=False, global_dims=None).eval()
    assert scenes(xyz, rgb).shape == (2, 64, 6)


def test_the_pointwise_floor_sees_no_neighbors():
    torch.manual_seed(0)
    model = PointwiseSegmenter(5, 1).eval()
    xyz = torch.rand(1, 20, 3)
    torch.testing.assert_close(model(xyz)[:, :1], model(xyz[:, :1]))


def test_wrong_sizes_are_refused():
    with pytest.raises(InputError, match="must be positive"):
        SetAbstraction(3, (8,), 4, -1.0, 8)
    with pytest.raises(InputError, match="one entry per stage"):
        PointNet2(4, radii=(0.1,))
