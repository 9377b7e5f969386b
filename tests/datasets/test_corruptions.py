"""Corruptions of clouds: each has its effect, in proportion to its level, and the same at every call."""

import pytest
import torch
from torch import Tensor

from bixt3d.datasets import CORRUPTIONS, LEVELS, corrupt
from bixt3d.datasets.transforms.normalize import normalize_clouds
from bixt3d.types import CloudSet, Features, InputError

NUM_POINTS = 1024


@pytest.fixture(scope="module")
def clouds() -> CloudSet:
    """Return sixteen clouds in the unit sphere; their feats are normals: the direction of each point."""
    torch.manual_seed(0)
    xyz = normalize_clouds(torch.randn(16, NUM_POINTS + 100, 3))
    feats = xyz / xyz.norm(dim=2, keepdim=True)
    return CloudSet(xyz, feats, torch.arange(16) % 2, ("a", "b"), features=Features.parse("normal"))


def shares_kept(clouds: CloudSet, corrupted: CloudSet) -> Tensor:
    """Return the share of each cloud's first points that is still there, exactly as it was."""
    same = (clouds.xyz[:, :NUM_POINTS, None] == corrupted.xyz[:, None]).all(3)
    return same.any(2).float().mean(1)


def share_added(clouds: CloudSet, corrupted: CloudSet) -> Tensor:
    """Return the share of each corrupted cloud's points that the cloud had not."""
    return 1 - (corrupted.xyz[:, :, None] == clouds.xyz[:, None]).all(3).any(2).float().mean(1)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_clouds_keep_their_size_and_classes_and_are_corrupted_alike_at_every_call(clouds, name, level):
    corrupted, again = (corrupt(clouds, name, level, NUM_POINTS) for _ in range(2))
    assert corrupted.xyz.shape == corrupted.feats.shape == (16, NUM_POINTS, 3)
    assert corrupted.xyz.isfinite().all()
    assert corrupted.label.equal(clouds.label)
    assert corrupted.xyz.equal(again.xyz)
    assert corrupted.feats.equal(again.feats)
    torch.testing.assert_close(corrupted.feats.norm(dim=2), torch.ones(16, NUM_POINTS))
    assert not corrupted.xyz.equal(clouds.xyz[:, :NUM_POINTS])


@pytest.mark.parametrize("level", LEVELS)
def test_jitter_is_noise_of_a_hundredth_for_each_level(clouds, level):
    noise = corrupt(clouds, "jitter", level, NUM_POINTS).xyz - clouds.xyz[:, :NUM_POINTS]
    assert noise.std().item() == pytest.approx(0.01 * level, rel=0.02)


@pytest.mark.parametrize("level", LEVELS)
def test_turns_keep_distances_and_take_normals_along(clouds, level):
    corrupted = corrupt(clouds, "rotate", level, NUM_POINTS)
    before, after = (some.xyz[:, :20] for some in (clouds, corrupted))
    torch.testing.assert_close(torch.cdist(after, after), torch.cdist(before, before), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(corrupted.feats, torch.nn.functional.normalize(corrupted.xyz, dim=2))
    cosine = (corrupted.feats * clouds.feats[:, :NUM_POINTS]).sum(2).clamp(-1, 1)
    assert 6 * level < cosine.arccos().rad2deg().max() <= 3 * 6 * level


@pytest.mark.parametrize("level", LEVELS)
def test_a_size_along_each_axis_ends_in_the_unit_sphere(clouds, level):
    corrupted = corrupt(clouds, "scale", level, NUM_POINTS)
    torch.testing.assert_close(corrupted.xyz.norm(dim=2).amax(1), torch.ones(16))
    spread = corrupted.xyz.std(1) / clouds.xyz[:, :NUM_POINTS].std(1)
    assert (spread.amax(1) / spread.amin(1)).max() <= (1.5 + 0.1 * level) ** 2 + 1e-3
    assert (spread.amax(1) / spread.amin(1)).max() > 1.5


@pytest.mark.parametrize(("level", "kept"), [(1, 0.75), (2, 0.625), (3, 0.5), (4, 0.375), (5, 0.25)])
def test_a_quarter_to_three_quarters_of_the_points_are_missing(clouds, level, kept):
    corrupted = corrupt(clouds, "drop_global", level, NUM_POINTS)
    assert shares_kept(clouds, corrupted).tolist() == [kept] * 16
    assert share_added(clouds, corrupted).max() == 0


@pytest.mark.parametrize("level", LEVELS)
def test_regions_are_missing(clouds, level):
    corrupted = corrupt(clouds, "drop_local", level, NUM_POINTS)
    assert shares_kept(clouds, corrupted).tolist() == [1 - 100 * level / NUM_POINTS] * 16
    assert share_added(clouds, corrupted).max() == 0


def test_a_dropped_region_is_connected():
    """On a line of 64 points a dropped region is an interval: no more gaps than regions."""
    line = torch.stack([torch.linspace(-1, 1, 64), torch.zeros(64), torch.zeros(64)], 1)[None]
    corrupted = corrupt(CloudSet(line, line[..., :0], torch.tensor([0]), ("line",)), "drop_local", 5, 64)
    left = (line[0, :, None, 0] == corrupted.xyz[0, None, :, 0]).any(1).int()
    assert int((left.diff() == -1).sum() + (left[0] == 0)) <= 7
    assert left.sum() == 64 - 64 * 500 // 1024


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("name", "count", "tolerance"), [("add_global", 10, 0.35), ("add_local", 100, 0.1)])
def test_points_are_added_within_the_unit_sphere(clouds, name, count, tolerance, level):
    corrupted = corrupt(clouds, name, level, NUM_POINTS)
    share = share_added(clouds, corrupted).mean().item()
    assert share == pytest.approx(count * level / (NUM_POINTS + count * level), rel=tolerance)
    assert corrupted.xyz.norm(dim=2).max() <= 1 + 1e-6


@pytest.mark.parametrize(
    ("name", "distance"),
    [("add_local", 0.1), ("add_global", 0.2**0.5)],  # of a point anywhere in the sphere, along an axis: variance 1 / 5
)
def test_points_are_added_near_others_or_anywhere(name, distance):
    """To lines: added points have the distance of their corruption along another axis."""
    lines = torch.zeros(64, NUM_POINTS, 3)
    lines[:, :, 0] = torch.linspace(-0.7, 0.7, NUM_POINTS)
    corrupted = corrupt(CloudSet(lines, lines[..., :0], torch.zeros(64).long(), ("line",)), name, 5, NUM_POINTS)
    beside = corrupted.xyz[corrupted.xyz[..., 1] != 0]
    assert beside[:, 1:].std().item() == pytest.approx(distance, rel=0.05)


@pytest.mark.parametrize("num_points", [2, 7, 40])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_small_clouds_without_feats_can_be_corrupted_too(clouds, name, num_points):
    small = CloudSet(clouds.xyz, clouds.xyz[..., :0], clouds.label, clouds.class_names)
    assert corrupt(small, name, 5, num_points).xyz.shape == (16, num_points, 3)


@pytest.mark.parametrize(("name", "level"), [("snow", 1), ("jitter", 0), ("jitter", 6)])
def test_an_unknown_corruption_is_refused_with_the_known_ones(clouds, name, level):
    with pytest.raises(
        InputError, match=f"no corruption '{name}' of level {level}: scale, jitter, .*, in levels 1 to 5"
    ):
        corrupt(clouds, name, level, NUM_POINTS)
