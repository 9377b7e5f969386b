"""PointTokenizer: one token per point."""

import pytest
import torch

from bixt3d.nn.feature_scale import fit_feature_scales
from bixt3d.ops import sinusoid
from bixt3d.tokenizers import PointTokenizer
from bixt3d.types import Features, InputError


def cloud(num_points: int = 20, num_feats: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(2, num_points, 3), torch.rand(2, num_points, num_feats)


FEATURES = ["", "normal", "rgb", "normal,rgb,intensity,fpfh:33", "intensity,normal"]


def cloud_with(features: str) -> tuple[torch.Tensor, torch.Tensor]:
    return cloud(num_feats=Features.parse(features).width)


@pytest.mark.parametrize("features", FEATURES)
def test_every_point_is_a_token_at_its_coordinates(features: str):
    xyz, feats = cloud_with(features)
    (tokens,) = PointTokenizer(16, features)(xyz, feats)
    assert tokens.feats.shape == (2, 20, 16)
    assert torch.equal(tokens.pos, xyz)


@pytest.mark.parametrize("features", FEATURES)
def test_shuffled_points_give_shuffled_tokens(features: str):
    (xyz, feats), order, tokenizer = cloud_with(features), torch.randperm(20), PointTokenizer(16, features)
    (tokens,), (shuffled,) = tokenizer(xyz, feats), tokenizer(xyz[:, order], feats[:, order])
    torch.testing.assert_close(shuffled.feats, tokens.feats[:, order])
    assert torch.equal(shuffled.pos, tokens.pos[:, order])


def test_a_token_is_a_linear_layer_of_the_sinusoidal_encoding():
    xyz, normals = cloud()
    tokenizer = PointTokenizer(16, features="normal", num_features=8, temperature=100.0, scale=3.0)
    assert tokenizer.dim == 16 and tokenizer.project.in_features == 6 * 8
    expected = tokenizer.project(torch.cat([sinusoid(axes, 8, 100.0, 3.0) for axes in (xyz, normals)], -1))
    torch.testing.assert_close(tokenizer(xyz, normals)[0].feats, expected)


def test_colors_and_scalars_go_through_a_separate_linear_layer():
    xyz, feats = cloud_with("intensity,normal,rgb")
    tokenizer = PointTokenizer(16, features="intensity,normal,rgb")
    intensity, normal, rgb = feats.split([1, 3, 3], -1)
    assert fit_feature_scales(tokenizer, feats) == []
    intensity = (intensity - intensity.mean()) / intensity.std(correction=0)
    encoded = torch.cat([sinusoid(axes, 32) for axes in (xyz, normal)], -1)
    expected = tokenizer.project(encoded) + tokenizer.project_feats(torch.cat([intensity, 2 * rgb - 1], -1))
    torch.testing.assert_close(tokenizer(xyz, feats)[0].feats, expected)


def test_colors_and_scalars_go_through_an_mlp_with_a_hidden_layer():
    xyz, feats = cloud_with("normal,rgb")
    tokenizer = PointTokenizer(16, features="normal,rgb", hidden=8)
    first, _, last = tokenizer.project_feats
    normal, rgb = feats.split([3, 3], -1)
    encoded = torch.cat([sinusoid(axes, 32) for axes in (xyz, normal)], -1)
    expected = tokenizer.project(encoded) + ((2 * rgb - 1) @ first.weight.T + first.bias).relu() @ last.weight.T
    torch.testing.assert_close(tokenizer(xyz, feats)[0].feats, expected)


def test_a_hidden_layer_of_negative_width_is_refused():
    with pytest.raises(InputError, match="0 for none, not -8"):
        PointTokenizer(16, hidden=-8)


def test_a_constant_feature_is_named_and_becomes_zero():
    tokenizer = PointTokenizer(16, features="intensity,time")
    feats = torch.stack([torch.full((2, 20), 7.0), torch.arange(40.0).view(2, 20)], -1)
    assert fit_feature_scales(tokenizer, feats) == ["feature intensity is the same at all points of the training set"]
    scaled = tokenizer.feature_scale(feats)
    assert (scaled[..., 0] == 0).all()
    torch.testing.assert_close(scaled[..., 1].std(correction=0), torch.tensor(1.0))


@pytest.mark.parametrize("feature", ["normal", "rgb", "intensity"])
def test_each_feature_is_read(feature: str):
    xyz, feats = cloud_with("normal,rgb,intensity")
    features = Features.parse("normal,rgb,intensity")
    tokenizer = PointTokenizer(16, features=str(features))
    changed = feats.clone()
    features.take(changed, feature).add_(0.1)
    assert not torch.allclose(tokenizer(xyz, feats)[0].feats, tokenizer(xyz, changed)[0].feats)


def test_clouds_of_a_wrong_shape_are_an_error():
    tokenizer = PointTokenizer(16)
    for xyz, words in (
        (torch.rand(20, 3), r"shape \(B, N, 3\), not \(20, 3\)"),
        (torch.rand(2, 3, 20), r"not \(2, 3, 20\): coordinates come last, so give xyz.transpose\(1, 2\)"),
        (torch.rand(2, 20, 4), r"not \(2, 20, 4\)"),
    ):
        with pytest.raises(InputError, match=words):
            tokenizer(xyz)
    with pytest.raises(InputError, match=r"feats have the shape \(B, N, F\)"):
        tokenizer(torch.rand(2, 20, 3), torch.rand(2, 19, 0))


@pytest.mark.parametrize("num_feats", [0, 2, 6])
def test_missing_normals_are_an_error(num_feats: int):
    with pytest.raises(InputError, match=rf"reads normal \(3 columns\), but was given feats of {num_feats} columns"):
        PointTokenizer(16, features="normal")(*cloud(num_feats=num_feats))


def test_parameter_names_are_frozen():
    assert [name for name, _ in PointTokenizer(16).named_parameters()] == ["project.weight", "project.bias"]


def test_positions_stay_float32_under_autocast():
    xyz, _ = cloud()
    with torch.autocast("cpu", torch.bfloat16):
        (tokens,) = PointTokenizer(16)(xyz)
    assert tokens.feats.dtype == torch.bfloat16 and tokens.pos.dtype == torch.float32


def test_mean_and_deviation_are_computed_in_float64_and_too_small_a_spread_is_a_warning():
    tokenizer = PointTokenizer(16, features="time")
    feats = (1e4 + torch.rand(3, 400, 1)).repeat(1, 1000, 1)
    assert fit_feature_scales(tokenizer, feats) == []
    assert tokenizer.feature_scale.mean.item() == pytest.approx(feats.double().mean().item(), rel=1e-7)
    assert tokenizer.feature_scale.deviation.item() == pytest.approx(feats.double().std().item(), rel=1e-5)
    assert fit_feature_scales(tokenizer, 3e8 + 60 * torch.rand(2, 50, 1)) == [
        "feature time is too far from 0 for its spread: subtract an offset"
    ]
