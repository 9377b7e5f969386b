import math

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from bixt3d.datasets.transforms.augment import CloudAugment, cut_and_mix, rotation_matrices, take_points
from bixt3d.datasets.transforms.draws import Draws
from bixt3d.types import Features, InputError


def draws(seed: int = 0, num_clouds: int = 6) -> Draws:
    return Draws(torch.arange(num_clouds), "test", seed)


def batch_of(num_clouds: int = 6, num_points: int = 20, num_feats: int = 3) -> dict[str, torch.Tensor]:
    """Clouds whose parts are the indices of their points."""
    xyz = torch.randn(num_clouds, num_points, 3, generator=torch.Generator().manual_seed(1))
    feats = torch.nn.functional.normalize(
        torch.randn(num_clouds, num_points, num_feats, generator=torch.Generator().manual_seed(2)), dim=2
    )
    parts = torch.arange(num_points).repeat(num_clouds, 1)
    return {"xyz": xyz, "feats": feats, "parts": parts, "label": torch.arange(num_clouds)}


def assert_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


NORMAL = Features.parse("normal")
EVERYTHING = CloudAugment(
    (0.5, 2.0), shift=0.2, rotate="so3", jitter=0.01, dropout=0.5, resample=True, shuffle=True
)  # fmt: skip


def test_without_settings_the_first_points_are_shown_as_they_are():
    batch = batch_of()
    shown = CloudAugment()(batch, 7, draws())
    assert_equal(shown, take_points(batch, 7))
    assert torch.equal(shown["xyz"], batch["xyz"][:, :7])
    assert shown["parts"].tolist() == [list(range(7))] * 6


def test_take_points_works_without_parts():
    batch = batch_of(num_feats=0)
    del batch["parts"]
    assert take_points(batch, 3)["feats"].shape == (6, 3, 0)


def test_the_same_key_gives_the_same_batch_and_another_key_another():
    batch = batch_of()
    assert_equal(EVERYTHING(batch, 8, draws(5)), EVERYTHING(batch, 8, draws(5)))
    assert not torch.equal(EVERYTHING(batch, 8, draws(5))["xyz"], EVERYTHING(batch, 8, draws(6))["xyz"])


def test_no_generator_of_pytorch_is_used_and_the_batch_given_stays():
    batch, state = batch_of(), torch.get_rng_state()
    EVERYTHING(batch, 8, draws())
    assert torch.equal(torch.get_rng_state(), state)
    assert_equal(batch, batch_of())


def test_a_cloud_is_augmented_alike_in_every_batch():
    batch, index = batch_of(), torch.tensor([4, 1, 5])
    together = EVERYTHING(batch, 8, draws())
    some = EVERYTHING({key: value[index] for key, value in batch.items()}, 8, Draws(index, "test", 0))
    assert_equal(some, {key: value[index] for key, value in together.items()})


def test_one_augmentation_does_not_change_what_another_draws():
    batch = batch_of()
    moved = CloudAugment(shift=0.2)(batch, 20, draws())["xyz"] - batch["xyz"]
    both = CloudAugment(anisotropic=False, mirror="x", shift=0.2)(batch, 20, draws())["xyz"]
    mirrored = CloudAugment(anisotropic=False, mirror="x")(batch, 20, draws())["xyz"]
    torch.testing.assert_close(both - mirrored, moved, atol=1e-6, rtol=1e-4)


def test_labels_pass_through_and_sizes_are_right():
    shown = EVERYTHING(batch_of(), 8, draws())
    assert shown["label"].tolist() == list(range(6))
    assert {key: tuple(value.shape) for key, value in shown.items()} == {
        "xyz": (6, 8, 3),
        "feats": (6, 8, 3),
        "parts": (6, 8),
        "label": (6,),
    }


@pytest.mark.parametrize("num_feats", [0, 3, 5])
@pytest.mark.parametrize("picked", [{"resample": True}, {"shuffle": True}, {"dropout": 0.9}])
def test_feats_and_parts_follow_their_points(picked, num_feats):
    batch = batch_of(num_feats=num_feats)
    shown = CloudAugment(**picked)(batch, 11, draws())
    index = shown["parts"]
    for cloud in range(6):
        assert torch.equal(shown["xyz"][cloud], batch["xyz"][cloud, index[cloud]])
        assert torch.equal(shown["feats"][cloud], batch["feats"][cloud, index[cloud]])


def test_resampling_draws_distinct_points_from_all_of_them():
    parts = CloudAugment(resample=True)(batch_of(200), 5, draws(0, 200))["parts"]
    assert all(len(set(cloud)) == 5 for cloud in parts.tolist())
    counts = parts.flatten().bincount(minlength=20)
    assert counts.sum() == 1000
    assert counts.min() > 25 and counts.max() < 80  # 50 each are expected


def test_shuffling_keeps_the_first_points_in_another_order():
    parts = CloudAugment(shuffle=True)(batch_of(), 9, draws())["parts"]
    assert parts.sort(dim=1).values.tolist() == [list(range(9))] * 6
    assert len({tuple(cloud) for cloud in parts.tolist()}) == 6


def test_more_points_than_stored_are_refused():
    for augment in (CloudAugment(), CloudAugment(resample=True), CloudAugment(shuffle=True)):
        with pytest.raises(InputError, match="asked for 21 points of clouds that have 20"):
            augment(batch_of(), 21, draws())


def test_scale_stays_within_its_bounds_on_every_axis():
    batch = batch_of(100)
    factors = CloudAugment((0.5, 2.0))(batch, 20, draws(0, 100))["xyz"] / batch["xyz"]
    assert torch.allclose(factors, factors[:, :1].expand_as(factors), rtol=1e-4)
    assert factors.min() > 0.499 and factors.max() < 2.001
    assert factors[:, 0].std(dim=1).min() > 0  # the axes differ
    assert abs(float(factors[:, 0].mean()) - 1.25) < 0.1


def test_isotropic_scale_keeps_proportions_and_normals():
    batch = batch_of()
    shown = CloudAugment((0.5, 2.0), anisotropic=False)(batch, 20, draws(), NORMAL)
    factors = shown["xyz"] / batch["xyz"]
    assert torch.allclose(factors, factors[:, :1, :1].expand_as(factors), rtol=1e-4)
    assert torch.allclose(shown["feats"], batch["feats"], atol=1e-6)


@pytest.mark.parametrize("rotate", ["none", "y", "so3"])
def test_normals_stay_normal_to_the_surface(rotate):
    # two directions in the surface and their cross product, its normal
    surface = torch.randn(5, 2, 3)
    normal = torch.nn.functional.normalize(torch.linalg.cross(surface[:, 0], surface[:, 1]), dim=1)
    batch = {"xyz": surface, "feats": normal.unsqueeze(1).expand(-1, 2, -1), "label": torch.zeros(5)}
    shown = CloudAugment((0.3, 3.0), rotate=rotate)(batch, 2, draws(0, 5), NORMAL)
    assert torch.allclose((shown["xyz"] * shown["feats"]).sum(dim=2), torch.zeros(5, 2), atol=1e-5)
    assert torch.allclose(shown["feats"].norm(dim=2), torch.ones(5, 2), atol=1e-5)


@pytest.mark.parametrize("features", ["rgb", "intensity:3", "a,b,c", "rgb,intensity"])
def test_features_that_are_no_normals_are_left_alone(features):
    features = Features.parse(features)
    batch = batch_of(num_feats=features.width)
    shown = CloudAugment((0.5, 2.0), rotate="so3")(batch, 20, draws(), features)
    assert torch.equal(shown["feats"], batch["feats"])


def test_shift_moves_a_cloud_as_a_whole_and_not_too_far():
    batch = batch_of(100)
    moved = CloudAugment(shift=0.2)(batch, 20, draws(0, 100))["xyz"] - batch["xyz"]
    assert torch.allclose(moved, moved[:, :1].expand_as(moved), atol=1e-5)
    assert 0.15 < moved.abs().max() <= 0.2001
    assert moved.mean().abs() < 0.03


@pytest.mark.parametrize(("up", "axis"), [("y", 1), ("z", 2)])
def test_turning_about_the_up_axis_keeps_lengths_and_heights(up, axis):
    batch = batch_of()
    shown = CloudAugment(rotate=up)(batch, 20, draws(), NORMAL)
    assert torch.allclose(shown["xyz"].norm(dim=2), batch["xyz"].norm(dim=2), atol=1e-5)
    assert torch.allclose(shown["xyz"][..., axis], batch["xyz"][..., axis], atol=1e-5)
    assert torch.allclose(shown["feats"][..., axis], batch["feats"][..., axis], atol=1e-5)
    assert not torch.allclose(shown["xyz"], batch["xyz"], atol=0.1)


def test_turns_about_the_up_axis_are_uniform():
    batch = {"xyz": torch.tensor([[[1.0, 0, 0]]]).expand(4000, 1, 3), "feats": torch.zeros(4000, 1, 0)}
    xyz = CloudAugment(rotate="y")(batch, 1, draws(0, 4000))["xyz"].squeeze(1)
    angle = torch.atan2(xyz[:, 2], xyz[:, 0])
    assert torch.histc(angle, 8, -math.pi, math.pi).min() > 420  # 500 each are expected


def test_a_quarter_turn_about_z_by_hand():
    half = math.pi / 4
    (turn,) = rotation_matrices(torch.tensor([[math.cos(half), 0, 0, math.sin(half)]]))
    expected = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])  # x goes to y, y to -x
    assert torch.allclose(turn, expected, atol=1e-6)


def test_rotations_in_space_are_orthonormal_and_uniform():
    batch = {"xyz": torch.eye(3).expand(4000, 3, 3), "feats": torch.zeros(4000, 3, 0)}
    turned_axes = CloudAugment(rotate="so3")(batch, 3, draws(0, 4000))["xyz"]
    assert torch.allclose(turned_axes @ turned_axes.mT, torch.eye(3).expand(4000, 3, 3), atol=1e-5)
    assert torch.allclose(torch.linalg.det(turned_axes), torch.ones(4000), atol=1e-5)
    assert turned_axes.mean(dim=0).abs().max() < 0.04
    # a coordinate of a uniform direction is uniform (Archimedes)
    assert torch.histc(turned_axes[:, 0, 0], 8, -1, 1).min() > 420


def test_jitter_is_clipped_and_touches_no_normal():
    batch = batch_of(50)
    shown = CloudAugment(jitter=0.04, jitter_clip=0.05)(batch, 20, draws(0, 50))
    noise = shown["xyz"] - batch["xyz"]
    assert 0.049 < noise.abs().max() <= 0.0501
    assert 0.025 < noise.std() < 0.04
    assert torch.equal(shown["feats"], batch["feats"])


def test_dropped_points_become_the_first_point_left():
    parts = CloudAugment(dropout=0.9)(batch_of(100), 20, draws(0, 100))["parts"]
    index = torch.arange(20).expand(100, 20)
    first_kept = (parts == index).int().argmax(dim=1, keepdim=True)
    assert torch.equal(parts, torch.where(parts == index, index, first_kept))
    dropped = (parts != index).float().mean(dim=1)
    assert 0.35 < dropped.mean() < 0.5  # the mean share is 0.45, less the first point left
    assert dropped.std() > 0.15  # it differs from cloud to cloud


@pytest.mark.parametrize(
    "setting",
    [{"scale": (2.0, 1.0)}, {"scale": (0.0, 1.0)}, {"shift": -1.0}, {"jitter": -1.0}, {"dropout": 1.0}],
)
def test_settings_without_sense_are_refused(setting):
    with pytest.raises(InputError):
        CloudAugment(**setting)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_host_never_waits_for_the_device_which_draws_what_a_cpu_draws():
    batch = {key: value.cuda() for key, value in batch_of().items()}
    index, expected = torch.arange(6).cuda(), EVERYTHING(batch_of(), 8, draws())
    torch.cuda.set_sync_debug_mode("error")
    try:
        shown = EVERYTHING(batch, 8, Draws(index, "test", 0))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for key, value in expected.items():
        torch.testing.assert_close(shown[key].cpu(), value)


def test_mirroring_flips_the_axes_named_in_about_half_of_the_clouds_and_normals_with_them():
    xyz = torch.tensor([[[1.0, 2.0, 3.0]]]).expand(200, 1, 3)
    batch = {
        "xyz": xyz,
        "feats": torch.nn.functional.normalize(xyz, dim=2),
        "label": torch.zeros(200, dtype=torch.long),
    }
    shown = CloudAugment(mirror="xz")(batch, 1, draws(0, 200), NORMAL)
    assert torch.equal(shown["xyz"].abs(), xyz)
    flipped = (shown["xyz"] < 0).float().mean((0, 1))
    assert flipped[1] == 0 and 0.35 < flipped[0] < 0.65 and 0.35 < flipped[2] < 0.65
    assert not torch.equal(shown["xyz"][..., 0] < 0, shown["xyz"][..., 2] < 0)  # each axis by itself
    torch.testing.assert_close(shown["feats"], torch.nn.functional.normalize(shown["xyz"], dim=2))


def test_clouds_that_are_not_mixed_stay_as_they_are():
    batch = batch_of()
    mixed = cut_and_mix(batch, 0.0, draws())
    assert torch.equal(mixed["xyz"], batch["xyz"][1:]) and torch.equal(mixed["feats"], batch["feats"][1:])
    assert mixed["kept"].tolist() == [1.0] * 5
    assert mixed["label"].tolist() == [1, 2, 3, 4, 5] and mixed["other_label"].tolist() == [0, 1, 2, 3, 4]


def test_a_mixed_cloud_has_one_side_of_its_own_and_the_other_of_the_cloud_before_it():
    batch = batch_of(7)
    mixed = cut_and_mix(batch, 1.0, draws(0, 7))
    assert 0 < mixed["kept"].min() < mixed["kept"].max() < 1
    for i in range(6):
        ours, theirs = batch["xyz"][i + 1], batch["xyz"][i]
        own = [any((point == old).all() for old in ours) for point in mixed["xyz"][i]]
        other = [any((point == old).all() for old in theirs) for point in mixed["xyz"][i]]
        kept = round(20 * mixed["kept"][i].item())
        assert own == [True] * kept + [False] * (20 - kept)
        assert other == [not one for one in own]
        for half, rest in ((mixed["xyz"][i, :kept], ours), (mixed["xyz"][i, kept:], theirs)):
            left = torch.stack([point for point in rest if not (point == half).all(1).any()])
            line = LogisticRegression(C=1e6).fit(torch.cat([half, left]), [1] * len(half) + [0] * len(left))
            assert line.score(torch.cat([half, left]), [1] * len(half) + [0] * len(left)) == 1.0  # cut by a plane


def test_a_cloud_is_mixed_alike_in_a_part_of_its_batch():
    batch = batch_of()
    whole = cut_and_mix(batch, 0.5, draws())
    part = cut_and_mix({key: value[2:] for key, value in batch.items()}, 0.5, Draws(torch.arange(2, 6), "test", 0))
    assert_equal(part, {key: value[2:] for key, value in whole.items()})


def test_points_of_a_mixed_cloud_keep_their_features():
    batch = batch_of()
    mixed = cut_and_mix(batch | {"feats": batch["xyz"] * 2}, 1.0, draws())
    assert torch.equal(mixed["feats"], mixed["xyz"] * 2)
