"""PointMLP's decoder: what each step reads, the context that all points share, and the category."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from bixt3d.models import PointMLPDecoder
from bixt3d.models.decoder import DecoderBlock
from bixt3d.ops import interpolate
from bixt3d.types import InputError, Pyramid, Tokens

DIMS = (4, 6, 8)


def build(level_dims: tuple[int, ...] = DIMS, category_dim: int = 5, **settings) -> PointMLPDecoder:
    """Return a tiny decoder for 7 parts of 3 categories, in evaluation."""
    steps = len(level_dims) - 1
    blocks = {"dims": (10, 9, 11)[:steps], "num_blocks": (1, 2, 0)[:steps], "ratio": 0.5} | settings
    return PointMLPDecoder(7, 3, level_dims, category_dim=category_dim, **{"context_dim": 3} | blocks).eval()


def pyramid(level_dims: tuple[int, ...] = DIMS, num_clouds: int = 2) -> Pyramid:
    """Return levels of 16, 8, 4 ... points, the points of each among those of the finer one."""
    pos = torch.randn(num_clouds, 16, 3)
    return tuple(Tokens(torch.randn(num_clouds, 16 >> i, dim), pos[:, : 16 >> i]) for i, dim in enumerate(level_dims))


CATEGORY = torch.tensor([0, 2])


def fuse_directly(block: DecoderBlock, fine: Tokens, coarse: Tokens) -> Tensor:
    """The reference implementation of a step: interpolate, concatenate, then all layers."""
    carried = interpolate(fine.pos, coarse.pos, coarse.feats)
    return block.refine(block.fuse(torch.cat([fine.feats, carried], 2)))


def test_parameter_names_are_frozen():
    norm = ["0.weight", "1.weight", "1.bias"]
    inner = ["inner.0.weight", "inner.1.weight", "inner.1.bias", "inner.3.weight", "inner.4.weight", "inner.4.bias"]
    expected = [f"blocks.0.fuse.{name}" for name in norm] + [f"blocks.0.refine.0.{name}" for name in inner]
    expected += [f"blocks.1.fuse.{name}" for name in norm]
    expected += [f"blocks.1.refine.{i}.{name}" for i in range(2) for name in inner]
    expected += [f"level_context.{i}.{name}" for i in range(3) for name in norm] + [f"context.{name}" for name in norm]
    expected += [f"category.{i}.{name}" for i in range(2) for name in norm]
    expected += [f"head.{i}.{name}" for i in (0, 1, 3) for name in ("weight", "bias")]
    assert [name for name, _ in build().named_parameters()] == expected


def test_features_are_interpolated_by_inverse_squared_distance():
    """A fine point at 1 between coarse points at 0 and 3 is at squared distances 1 and 4: weights 4/5 and 1/5."""
    block, line = DecoderBlock(1, 1, 2, 0, 1.0).eval(), torch.tensor([[[0.0, 0, 0], [1, 0, 0], [3, 0, 0]]])
    nn.init.eye_(block.fuse[0].weight)  # what the level knew | what was carried
    fine, coarse = Tokens(torch.tensor([[[7.0], [8], [9]]]), line), Tokens(torch.tensor([[[10.0], [20]]]), line[:, ::2])
    torch.testing.assert_close(block(fine, coarse), torch.tensor([[[7.0, 10], [8, 12], [9, 20]]]), rtol=1e-4, atol=1e-4)


def test_a_step_equals_its_reference_implementation():
    block = PointMLPDecoder(7, 3, (6, 8), (10,), (2,)).blocks[0].double()
    fine, coarse = (Tokens(level.feats.double(), level.pos.double()) for level in pyramid((6, 8)))
    results = []
    for compute in (block, partial(fuse_directly, block)):
        block.zero_grad()
        result = compute(fine, coarse)
        result.square().sum().backward()
        results.append([result, *(parameter.grad for parameter in block.parameters())])
    for ours, plain in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain)


def test_steps_go_from_the_coarsest_level_to_the_finest():
    decoder, (fine, middle, coarse) = build(), pyramid()
    found = Tokens(decoder.blocks[0](middle, coarse), middle.pos)
    expected = decoder.blocks[1](fine, found)
    seen = []
    decoder.blocks[1].register_forward_hook(lambda _, given, result: seen.append(result))
    assert decoder((fine, middle, coarse), CATEGORY).shape == (2, 16, 7)
    assert seen[0].equal(expected)


def test_a_single_level_is_read_by_the_head_alone():
    decoder, (points,) = build((4,)), pyramid((4,))
    maximum = decoder.level_context[0](points.feats).amax(1)
    known = [decoder.context(maximum), decoder.category(torch.eye(3)[CATEGORY])]
    expected = decoder.head(torch.cat([points.feats, torch.cat(known, 1)[:, None].expand(-1, 16, -1)], 2))
    assert len(decoder.blocks) == 0
    torch.testing.assert_close(decoder((points,), CATEGORY), expected)


def test_the_context_of_every_level_reaches_all_points_of_its_cloud_and_no_other():
    decoder, levels = build(), pyramid()
    for layer in (*decoder.level_context, decoder.context):
        nn.init.uniform_(layer[0].weight, 0.5, 1)  # more of a feature is more of the context
    before = decoder(levels, CATEGORY)
    for place, level in enumerate(levels):
        feats = level.feats.clone()
        feats[0, -1] += 10  # one point of the first cloud
        changed = (*levels[:place], Tokens(feats, level.pos), *levels[place + 1 :])
        difference = (decoder(changed, CATEGORY) - before).abs().amax(2)
        assert difference[0].min() > 0 and difference[1].max() == 0


@pytest.mark.parametrize("category_dim", [0, 5])
def test_without_a_context_no_point_changes_another_far_away(category_dim: int):
    decoder, levels = build(category_dim=category_dim, context_dim=0), pyramid()
    before = decoder(levels, CATEGORY)
    levels[0].feats[0, -1] += 10
    difference = (decoder(levels, CATEGORY) - before).abs().amax(2)
    assert difference[0, -1] > 0 and difference[0, :-1].max() == 0
    assert not any("context" in name for name, _ in decoder.named_parameters())


@pytest.mark.parametrize("category_dim", [0, 5])
def test_the_category_changes_the_logits_only_where_it_is_read(category_dim: int):
    decoder, levels = build(category_dim=category_dim), pyramid()
    one, other = (decoder(levels, torch.tensor(category)) for category in ([0, 2], [1, 2]))
    assert decoder.reads_category == (category_dim > 0)
    assert one[0].equal(other[0]) == (category_dim == 0)
    assert one[1].equal(other[1])


def test_every_parameter_gets_a_gradient():
    decoder, levels = build(), pyramid(num_clouds=3)  # in evaluation: batch normalization would undo a bias before it
    decoder(levels, torch.tensor([0, 1, 2])).square().sum().backward()
    assert [name for name, parameter in decoder.named_parameters() if not parameter.grad.any()] == []


def test_it_trains_in_bfloat16_too():
    decoder, levels = build().train(), pyramid()
    with torch.autocast("cpu", torch.bfloat16):
        logits = decoder(levels, CATEGORY)
    nn.functional.cross_entropy(logits.float().flatten(0, 1), torch.randint(7, (32,))).backward()
    assert all(parameter.grad.isfinite().all() for parameter in decoder.parameters())


@pytest.mark.parametrize(
    ("level_dims", "sizes", "sentence"),
    [
        (DIMS, {"dims": (10, 9, 8)}, "a decoder of 3 levels takes 2 steps, but dims has 3 numbers and num_blocks 2"),
        (DIMS, {"num_blocks": (1,)}, "a decoder of 3 levels takes 2 steps, but dims has 2 numbers and num_blocks 1"),
        ((4,), {"dims": (8,)}, "a decoder of 1 levels takes 0 steps, but dims has 1 numbers and num_blocks 0"),
    ],
)
def test_another_number_of_steps_is_refused(level_dims: tuple[int, ...], sizes: dict, sentence: str):
    with pytest.raises(InputError, match=sentence):
        build(level_dims, **sizes)
