"""Local patch interaction: formula, receptive field and errors."""

import pytest
import torch
from torch import nn

from bixt3d.nn.local_patch import LocalPatchRefinement
from bixt3d.types import InputError, Tokens


def patches(rows: int = 5, columns: int = 6, dim: int = 4) -> Tokens:
    return Tokens(torch.randn(2, rows * columns, dim), torch.rand(2, rows * columns, 2), grid=(rows, columns))


def test_positions_and_grid_do_not_change():
    tokens = patches()
    refined = LocalPatchRefinement(4, 4)(tokens)
    assert refined.feats.shape == tokens.feats.shape
    assert refined.grid == tokens.grid and refined.pos is tokens.pos


def test_it_adds_two_depthwise_convolutions_to_the_tokens():
    tokens, refine = patches(), LocalPatchRefinement(4, 4)
    feats = nn.functional.layer_norm(tokens.feats, (4,), eps=1e-6)[0].T.unflatten(1, (5, 6))
    feats = nn.functional.conv2d(feats, refine.spread.weight, refine.spread.bias, padding=1, groups=4)
    feats = nn.functional.layer_norm(nn.functional.gelu(feats).permute(1, 2, 0), (4,), eps=1e-6).permute(2, 0, 1)
    feats = nn.functional.conv2d(feats, refine.gather.weight, refine.gather.bias, padding=1, groups=4)
    torch.testing.assert_close(refine(tokens).feats[0], tokens.feats[0] + feats.flatten(1).T)


def test_a_patch_reads_those_at_most_two_rows_and_columns_away():
    tokens, refine = patches(7, 8), LocalPatchRefinement(4, 4)
    feats = tokens.feats.requires_grad_()
    (gradient,) = torch.autograd.grad(refine(tokens).feats[0, 3 * 8 + 3].square().sum(), feats)
    rows, columns = gradient.abs().sum(2).unflatten(1, (7, 8))[0].nonzero().unbind(1)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (1, 5, 1, 5)
    assert not gradient[1].any()


def test_every_parameter_gets_a_gradient():
    refine = LocalPatchRefinement(4, 4)
    refine(patches()).feats.square().sum().backward()
    assert [name for name, parameter in refine.named_parameters() if not parameter.grad.any()] == []


def test_parameter_names_are_frozen():
    names = [name for name, _ in LocalPatchRefinement(4, 4).named_parameters()]
    assert names == [
        f"{layer}.{part}" for layer in ("norm", "spread", "inner_norm", "gather") for part in ("weight", "bias")
    ]


def test_points_are_an_error():
    with pytest.raises(InputError, match="works on patches of images, not on points"):
        LocalPatchRefinement(4, 4)(Tokens(torch.randn(1, 6, 4), torch.rand(1, 6, 3)))


@pytest.mark.parametrize(
    "settings, sentence",
    [((4, 8), "keeps the width of its tokens, 4: it cannot make 8"), ((4, 4, 2), "an odd kernel, not 2")],
)
def test_wrong_settings_are_an_error(settings: tuple[int, ...], sentence: str):
    with pytest.raises(InputError, match=sentence):
        LocalPatchRefinement(*settings)
