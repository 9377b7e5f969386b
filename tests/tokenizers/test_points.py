"""Facts about points as tokens."""

import pytest
import torch

from bixt3d.ops import sinusoid
from bixt3d.tokenizers import PointTokenizer
from bixt3d.types import InputError


def cloud(num_points: int = 20, num_feats: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(2, num_points, 3), torch.rand(2, num_points, num_feats)


@pytest.mark.parametrize("normals", [False, True])
def test_every_point_is_a_token_at_its_place(normals: bool):
    xyz, feats = cloud()
    (tokens,) = PointTokenizer(16, normals)(xyz, feats)
    assert tokens.feats.shape == (2, 20, 16)
    assert torch.equal(tokens.pos, xyz)


@pytest.mark.parametrize("normals", [False, True])
def test_shuffled_points_give_shuffled_tokens(normals: bool):
    (xyz, feats), order, tokenizer = cloud(), torch.randperm(20), PointTokenizer(16, normals)
    (tokens,), (shuffled,) = tokenizer(xyz, feats), tokenizer(xyz[:, order], feats[:, order])
    torch.testing.assert_close(shuffled.feats, tokens.feats[:, order])
    assert torch.equal(shuffled.pos, tokens.pos[:, order])


def test_a_token_is_the_linear_layer_of_the_sinusoids():
    xyz, normals = cloud()
    tokenizer = PointTokenizer(16, normals=True, num_features=8, temperature=100.0, scale=3.0)
    assert tokenizer.dim == 16 and tokenizer.project.in_features == 6 * 8
    expected = tokenizer.project(torch.cat([sinusoid(axes, 8, 100.0, 3.0) for axes in (xyz, normals)], -1))
    torch.testing.assert_close(tokenizer(xyz, normals)[0].feats, expected)


def test_without_normals_features_are_not_read():
    xyz, feats = cloud()
    tokenizer = PointTokenizer(16)
    assert torch.equal(tokenizer(xyz, feats)[0].feats, tokenizer(xyz, feats[..., :0])[0].feats)


def test_normals_are_read():
    xyz, normals = cloud()
    tokenizer = PointTokenizer(16, normals=True)
    assert not torch.allclose(tokenizer(xyz, normals)[0].feats, tokenizer(xyz, normals + 0.1)[0].feats)


@pytest.mark.parametrize("num_feats", [0, 2, 6])
def test_a_model_that_reads_normals_refuses_clouds_without(num_feats: int):
    with pytest.raises(InputError, match=f"reads normals, but the clouds come with {num_feats} features"):
        PointTokenizer(16, normals=True)(*cloud(num_feats=num_feats))


def test_parameter_names_are_frozen():
    assert [name for name, _ in PointTokenizer(16).named_parameters()] == ["project.weight", "project.bias"]


def test_positions_stay_float32_under_autocast():
    xyz, feats = cloud()
    with torch.autocast("cpu", torch.bfloat16):
        (tokens,) = PointTokenizer(16)(xyz, feats)
    assert tokens.feats.dtype == torch.bfloat16 and tokens.pos.dtype == torch.float32
