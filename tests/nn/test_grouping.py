"""Affine grouping against PointMLP's formula, precision, and stages of PointMLP."""

import pytest
import torch

from bixt3d.nn.grouping import AffineGroupLinear, GroupBlock
from bixt3d.ops import farthest_points, gather, knn
from bixt3d.types import InputError, Tokens


def random_tokens(num_clouds: int = 2, size: int = 12, dim: int = 5) -> Tokens:
    generator = torch.Generator().manual_seed(0)
    feats = torch.randn(num_clouds, size, dim, dtype=torch.float64, generator=generator)
    return Tokens(feats, torch.randn(num_clouds, size, 3, dtype=torch.float64, generator=generator))


def random_block(**settings) -> GroupBlock:
    """Return a block from width 5 to 6 with 4 neighbors and random parameters."""
    torch.manual_seed(0)
    block = GroupBlock(5, 6, 4, **{"num_pre": 1, "num_post": 1, **settings}).double()
    for parameter in block.parameters():
        torch.nn.init.uniform_(parameter, -1, 1)
    return block


def affine_group_by_formula(layer, feats, pos, centroid_index, neighbor_index):
    """Gather, subtract, divide, scale, shift, concatenate the centroid, then the linear layer: cloud by cloud."""
    clouds = []
    for feat, xyz, centroid, neighbor in zip(feats, pos, centroid_index, neighbor_index, strict=True):
        xyz = xyz / layer.radius if layer.radius else xyz
        near = torch.cat([feat, xyz], -1) if layer.near_dim > feat.shape[-1] else feat
        groups = near[neighbor]
        mean = near[centroid][:, None] if layer.normalize == "anchor" else groups.mean(1, keepdim=True)
        difference = groups - mean
        deviation = (difference - difference.mean()).square().sum().div(difference.numel() - 1).sqrt() + 1e-5
        deviation = 1 if layer.radius else deviation
        affine = layer.scale * difference / deviation + layer.shift
        joined = torch.cat([affine, feat[centroid][:, None].expand(-1, neighbor.shape[1], -1)], -1)
        clouds.append(joined @ layer.linear.weight.T)
    return torch.stack(clouds)


@pytest.mark.parametrize(("xyz_dim", "radius"), [(0, 0), (3, 0), (3, 0.4)])
@pytest.mark.parametrize("normalize", ["anchor", "center"])
def test_outputs_and_gradients_equal_the_formula(normalize, xyz_dim, radius):
    torch.manual_seed(0)
    layer = AffineGroupLinear(5, 7, normalize, xyz_dim, float(radius)).double()
    torch.nn.init.normal_(layer.scale)
    torch.nn.init.normal_(layer.shift)
    tokens = random_tokens()
    centroid_index = farthest_points(tokens.pos, 6)
    neighbor_index = knn(gather(tokens.pos, centroid_index), tokens.pos, 4)
    leaves = [tokens.feats.requires_grad_(), *layer.parameters()]
    if xyz_dim:
        leaves.append(tokens.pos.requires_grad_())
    ours = layer(tokens.feats, tokens.pos, centroid_index, neighbor_index)
    formula = affine_group_by_formula(layer, tokens.feats, tokens.pos, centroid_index, neighbor_index)
    torch.testing.assert_close(ours, formula, rtol=1e-11, atol=1e-11)
    probe = torch.randn_like(ours)
    expected = torch.autograd.grad(formula, leaves, probe)
    torch.testing.assert_close(torch.autograd.grad(ours, leaves, probe), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("normalize", "differences"), [("anchor", [2.0, 0.0]), ("center", [1.0, -1.0])])
def test_two_points_on_a_line_by_hand(normalize, differences):
    layer = AffineGroupLinear(1, 1, normalize).double()
    layer.linear.weight = torch.nn.Parameter(torch.tensor([[1.0, 10.0]], dtype=torch.float64))  # [neighbor, centroid]
    layer.shift = torch.nn.Parameter(torch.tensor([100.0], dtype=torch.float64))
    feats = torch.tensor([[[3.0], [1.0]]], dtype=torch.float64)
    output = layer(feats, feats, torch.tensor([[1]]), torch.tensor([[[0, 1]]]))
    expected = torch.tensor(differences, dtype=torch.float64) / (2**0.5 + 1e-5) + 100 + 10 * 1
    torch.testing.assert_close(output.flatten(), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("radius", "changed"), [(0.4, [11]), (0.0, [*range(12)])])
def test_with_a_radius_a_stray_point_changes_its_own_group_alone(radius, changed):
    torch.manual_seed(0)
    layer, tokens = AffineGroupLinear(5, 7, xyz_dim=3, radius=radius).double(), random_tokens()
    neighbor_index = knn(tokens.pos[:, :11], tokens.pos[:, :11], 4)
    neighbor_index = torch.cat([neighbor_index, torch.tensor([11, 0, 1, 2]).expand(2, 1, 4)], 1)
    far = tokens.pos.clone()
    far[:, 11] += 1000
    one, other = (layer(tokens.feats, pos, torch.arange(12).expand(2, 12), neighbor_index) for pos in (tokens.pos, far))
    differ = (one - other).abs().amax((0, 2, 3)) > 1e-6
    assert differ.nonzero().flatten().tolist() == changed


@pytest.mark.parametrize("radius", [0.0, 0.4])
def test_grouping_works_in_half_precision(radius):
    torch.manual_seed(0)
    layer, tokens = AffineGroupLinear(5, 7, xyz_dim=3, radius=radius), random_tokens()
    where = (torch.arange(12).expand(2, 12), knn(tokens.pos, tokens.pos, 4))
    full = layer(tokens.feats.float(), tokens.pos.float(), *where)
    half = layer.bfloat16()(tokens.feats.bfloat16(), tokens.pos.bfloat16(), *where)
    torch.testing.assert_close(half.float(), full, rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"radius": -1.0, "xyz_dim": 3}, "must be finite and not negative, but is -1.0"),
        ({"radius": float("inf"), "xyz_dim": 3}, "must be finite and not negative, but is inf"),
        ({"radius": 1.0}, "a radius divides positions: it needs use_xyz: true"),
    ],
)
def test_a_radius_that_cannot_be_is_refused(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        AffineGroupLinear(5, 7, **settings)


def test_every_cloud_has_a_deviation_of_its_own():
    torch.manual_seed(0)
    layer, tokens = AffineGroupLinear(5, 7).double(), random_tokens()
    inputs = (tokens.feats, tokens.pos, torch.arange(12).expand(2, 12), knn(tokens.pos, tokens.pos, 4))
    alone = torch.cat([layer(*(value[i : i + 1] for value in inputs)) for i in (0, 1)])
    torch.testing.assert_close(layer(*inputs), alone)


@pytest.mark.parametrize("normalize", ["anchor", "center"])
def test_order_of_neighbors_does_not_change_a_group(normalize):
    block, tokens = random_block(normalize=normalize, use_xyz=True), random_tokens()
    neighbor_index = knn(tokens.pos, tokens.pos, 4)
    ours, _ = block(Tokens(tokens.feats, tokens.pos, neighbor_index))
    turned, _ = block(Tokens(tokens.feats, tokens.pos, neighbor_index[:, :, [2, 0, 3, 1]]))
    torch.testing.assert_close(turned.feats, ours.feats)


def run(block: GroupBlock, tokens: Tokens, feats_of) -> list[torch.Tensor]:
    """Return the output of ``feats_of``, the gradients of features and parameters, and the buffers."""
    feats = tokens.feats.detach().requires_grad_()
    output = feats_of(block, Tokens(feats, tokens.pos))
    probe = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).to(output)
    grads = torch.autograd.grad(output, [feats, *block.parameters()], probe)
    return [output.detach(), *grads, *(buffer.clone() for buffer in block.buffers())]


def reference_features(block: GroupBlock, tokens: Tokens) -> torch.Tensor:
    """Compute a block in the order of its definition: all layers on every neighbor, then max pooling."""
    groups = block.group(tokens.feats, tokens.pos, *block._search(tokens))
    return block.post(block.pre(torch.relu(block.norm(groups))).amax(2))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("reduce", [1, 2])
@pytest.mark.parametrize("use_xyz", [False, True])
@pytest.mark.parametrize("normalize", ["anchor", "center"])
@pytest.mark.parametrize(("num_pre", "backend"), [(0, "torch"), (0, "numba"), (1, "auto"), (2, "auto")])
def test_max_pooling_first_gives_the_same_outputs_gradients_and_statistics(
    num_pre, backend, normalize, use_xyz, reduce, training
):
    """The same as norm, ReLU, residual blocks and maximum in this order."""
    settings = {"num_pre": num_pre, "normalize": normalize, "use_xyz": use_xyz, "reduce": reduce}
    block, other = (random_block(**settings).train(training) for _ in range(2))
    block.backend = block.group.backend = backend
    assert (block.norm.weight < 0).any() and (block.norm.weight > 0).any()
    for _ in range(2):
        found = run(block, random_tokens(), lambda block, tokens: block(tokens)[0].feats)
        torch.testing.assert_close(found, run(other, random_tokens(), reference_features), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("dense", [False, True])
def test_nearly_equal_neighbors_keep_their_precision_in_float32(dense: bool, backend: str):
    """Points or neighbors are 0.001 apart, far from the origin: variances in float32 would be noise."""
    block, tokens = random_block(num_pre=0), random_tokens(size=2000)
    block.backend = block.group.backend = backend
    if dense:
        pos = torch.linspace(-3, 3, 2000, dtype=torch.float64).expand(2, -1)[..., None]
        tokens = Tokens((1 + torch.arange(5)) * pos, pos.expand(-1, -1, 3).contiguous())
    else:
        tokens = Tokens(3 + 1e-3 * tokens.feats, tokens.pos)
    exact = block(tokens)[0].feats
    found = block.float()(Tokens(tokens.feats.float(), tokens.pos.float()))[0].feats
    stored = reference_features(block, Tokens(tokens.feats.float(), tokens.pos.float()))
    assert (found - exact).norm() < 2 * (stored - exact).norm() + 1e-5 * exact.norm() < 0.01 * exact.norm()


@pytest.mark.parametrize("normalize", ["anchor", "center"])
def test_nearly_equal_neighbors_keep_their_precision_in_bfloat16(normalize: str):
    """Neighbors are 1/500 of the cloud apart: subtracted after rounding, the error would be 10 %."""
    layer = AffineGroupLinear(5, 7, normalize).double()
    feats = ((1 + torch.arange(5)) * torch.linspace(-1, 1, 500)[:, None])[None].sin()
    neighbor_index = torch.arange(498)[None, :, None] + torch.arange(3)
    where = (feats, neighbor_index[..., 1], neighbor_index)
    exact = layer(feats.double(), *where)
    layer.float()
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(feats, *where)
    assert found.dtype == torch.bfloat16
    difference, expected = (out.double() - out.double().mean(2, keepdim=True) for out in (found, exact))
    assert (difference - expected).norm() < 0.005 * expected.norm()


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize("normalize", ["anchor", "center"])
def test_equal_neighbors_give_zero_and_get_no_gradient(normalize: str, size: float):
    """Their difference to the mean is float32 rounding, which must not be divided by 1e-5."""
    layer, feats = AffineGroupLinear(5, 7, normalize), size * torch.rand(2, 1, 5).expand(2, 12, 5).clone()
    index = torch.arange(12).expand(2, 12), torch.randint(12, (2, 12, 7))
    points, _ = layer.parts(feats.requires_grad_(), feats, *index)
    assert not points.any()
    points.sum().backward()
    assert not feats.grad.any() and not layer.scale.grad.any()


def test_under_autocast_the_grouping_stays_in_float32():
    block, tokens = random_block(num_pre=0, num_post=0).float(), random_tokens()
    tokens = Tokens(tokens.feats.float(), tokens.pos.float())
    expected = block(tokens)[0].feats
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(block(tokens)[0].feats, expected)


def test_no_tensor_of_all_neighbors_is_saved_for_the_backward_pass():
    saved, tokens = [], random_tokens(size=30)
    with torch.autograd.graph.saved_tensors_hooks(lambda one: (saved.append(one.numel()), one)[1], lambda one: one):
        random_block(num_pre=0)(tokens)
    assert max(saved) < 2 * 30 * 4 * 6


@pytest.mark.parametrize("num_pre", [0, 1])
def test_shuffled_points_give_the_same_tokens_shuffled(num_pre):
    block, tokens, order = random_block(num_pre=num_pre, use_xyz=True), random_tokens(), torch.randperm(12)
    ours, _ = block(tokens)
    shuffled, _ = block(Tokens(tokens.feats[:, order], tokens.pos[:, order]))
    torch.testing.assert_close(shuffled.feats, ours.feats[:, order])
    assert shuffled.pos.equal(ours.pos[:, order])


@pytest.mark.parametrize("reduce", [1, 2])
@pytest.mark.parametrize("normalize", ["anchor", "center"])
@pytest.mark.parametrize("num_pre", [0, 1])
def test_a_cloud_of_equal_points_gives_finite_outputs_and_gradients(num_pre, normalize, reduce):
    block = random_block(num_pre=num_pre, normalize=normalize, reduce=reduce).float()
    feats = torch.full((2, 12, 5), 0.3, requires_grad=True)
    groups, _ = block(Tokens(feats, torch.full((2, 12, 3), 0.7)))
    groups.feats.sum().backward()
    assert groups.feats.isfinite().all()
    assert all(leaf.grad.isfinite().all() for leaf in (feats, *block.parameters()))


def test_reduction_by_two_keeps_the_farthest_points():
    tokens = random_tokens(size=13)
    groups, centroid_index = random_block(reduce=2)(tokens)
    assert centroid_index.equal(farthest_points(tokens.pos, 6))
    assert groups.pos.equal(gather(tokens.pos, centroid_index))
    assert groups.feats.shape == (2, 6, 6)
    assert groups.neighbor_index is None


def test_num_groups_has_priority_over_reduce():
    groups, centroid_index = random_block(num_groups=5, reduce=2)(random_tokens())
    assert groups.feats.shape[1] == centroid_index.shape[1] == 5


def test_known_neighbors_are_reused(monkeypatch):
    block, tokens = random_block().eval(), random_tokens()
    every = torch.arange(12).expand(2, 12)
    wrong = torch.randint(12, (2, 12, 5), generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr("bixt3d.nn.grouping.knn", lambda *_: pytest.fail("searched again"))
    groups, centroid_index = block(Tokens(tokens.feats, tokens.pos, wrong))
    by_formula = affine_group_by_formula(block.group, tokens.feats, tokens.pos, every, wrong[:, :, :4])
    expected = block.post(block.pre(block.norm(by_formula).relu()).amax(2))
    torch.testing.assert_close(groups.feats, expected)
    assert centroid_index.equal(every)
    assert groups.neighbor_index.equal(wrong[:, :, :4])


def test_a_block_reuses_neighbors_of_the_block_before_if_they_are_enough():
    first, second, wider = random_block(), GroupBlock(6, 6, 4).double(), GroupBlock(6, 6, 5).double()
    groups, _ = first(random_tokens())
    assert groups.neighbor_index.equal(knn(groups.pos, groups.pos, 4))
    assert second(groups)[0].neighbor_index.equal(groups.neighbor_index)
    assert wider(groups)[0].neighbor_index.equal(knn(groups.pos, groups.pos, 5))


def test_more_neighbors_than_points_are_an_error():
    with pytest.raises(InputError, match="asked for 4 neighbors in clouds of 3 points"):
        random_block()(random_tokens(size=3))


def test_every_parameter_gets_a_gradient():
    block = random_block(use_xyz=True).eval()
    block(random_tokens())[0].feats.square().sum().backward()
    assert [name for name, parameter in block.named_parameters() if not parameter.grad.any()] == []
