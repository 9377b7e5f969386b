"""Facts about the augmentation of point features: which columns change, by how much, and with which probability."""

import pytest
import torch

from bixt3d.datasets.transforms.augment import CloudAugment
from bixt3d.datasets.transforms.draws import Draws
from bixt3d.datasets.transforms.feature_augment import fill_by_name, fill_values, without_features
from bixt3d.types import Features, InputError

FEATURES = Features.parse("normal,rgb,intensity")
CLOUDS, POINTS = 200, 16
DRAWS = Draws(torch.arange(CLOUDS), "test", 0)


def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    feats = torch.rand(CLOUDS, POINTS, 7, generator=generator)
    feats[..., 6] = 40 + 10 * feats[..., 6]
    return {"xyz": torch.randn(CLOUDS, POINTS, 3, generator=generator), "feats": feats}


def changed(augment: CloudAugment, **more: torch.Tensor) -> torch.Tensor:
    return augment(batch(), POINTS, DRAWS, FEATURES, **more)["feats"]


@pytest.mark.parametrize(
    "setting", [{"color_jitter": 0.1}, {"color_shift": 0.3}, {"color_contrast": (0.5, 1.5)}], ids=str
)
def test_color_augmentation_changes_only_colors_which_stay_from_0_to_1(setting):
    before, after = batch()["feats"], changed(CloudAugment(**setting))
    assert torch.equal(after[..., [0, 1, 2, 6]], before[..., [0, 1, 2, 6]])
    assert not torch.equal(after[..., 3:6], before[..., 3:6])
    assert after[..., 3:6].min() >= 0 and after[..., 3:6].max() <= 1


def test_contrast_0_5_halves_the_distance_from_the_mean_color_of_the_cloud():
    before, after = batch()["feats"][..., 3:6], changed(CloudAugment(color_contrast=(0.5, 0.5)))[..., 3:6]
    mean = before.mean(1, keepdim=True)
    torch.testing.assert_close(after, mean + 0.5 * (before - mean))


def test_a_shift_of_colors_is_one_for_each_channel_of_a_cloud():
    pale = batch()
    pale["feats"] = 0.4 + 0.2 * pale["feats"]
    moved = CloudAugment(color_shift=0.1)(pale, POINTS, DRAWS, FEATURES)["feats"] - pale["feats"]
    torch.testing.assert_close(moved[..., 3:6], moved[:, :1, 3:6].expand(-1, POINTS, -1))
    assert 0.08 < moved[..., 3:6].abs().max() <= 0.1001


def test_a_dropped_feature_is_filled_in_all_points_of_a_cloud_and_features_drop_independently():
    fill = fill_values(batch()["feats"], FEATURES)
    before, after = batch()["feats"], changed(CloudAugment(feature_dropout=0.3), fill=fill)
    dropped = [(after[..., columns] == fill[columns]).all(2) for columns in FEATURES.slices()]
    for mask, columns in zip(dropped, FEATURES.slices(), strict=True):
        assert (mask.all(1) | ~mask.any(1)).all()
        assert 0.2 < mask[:, 0].float().mean() < 0.4
        assert torch.equal(after[..., columns][~mask], before[..., columns][~mask])
    assert 0.05 < (dropped[0] & dropped[1])[:, 0].float().mean() < 0.14


def test_missing_normals_are_0_colors_mid_gray_and_scalars_their_mean():
    fill = fill_values(batch()["feats"], FEATURES)
    assert fill[:6].tolist() == [0, 0, 0, 0.5, 0.5, 0.5]
    torch.testing.assert_close(fill[6], batch()["feats"][..., 6].mean())


def test_without_values_to_fill_in_nothing_is_dropped():
    assert torch.equal(changed(CloudAugment(feature_dropout=0.9)), batch()["feats"])


def test_features_left_out_of_a_set_are_filled_as_in_feature_dropout():
    fill = fill_by_name(fill_values(batch()["feats"], FEATURES), FEATURES)
    before = batch()["feats"]
    after = without_features(before, FEATURES, ["rgb"], fill)
    assert (after[..., 3:6] == 0.5).all()
    assert torch.equal(after[..., [0, 1, 2, 6]], before[..., [0, 1, 2, 6]])


@pytest.mark.parametrize(
    "setting",
    [{"feature_dropout": 1.0}, {"color_jitter": -1.0}, {"color_shift": -0.1}, {"color_contrast": (1.5, 0.5)}],
    ids=str,
)
def test_impossible_settings_are_refused_by_name(setting):
    with pytest.raises(InputError, match=next(iter(setting))):
        CloudAugment(**setting)
