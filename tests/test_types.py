"""Point features: names, kinds and columns; sets of clouds."""

import pytest
import torch

from bixt3d.types import CloudSet, Feature, Features, InputError


@pytest.mark.parametrize(
    ("text", "feature"),
    [
        ("normal", Feature("normal", "normal", 3)),
        ("rgb", Feature("rgb", "color", 3)),
        ("intensity", Feature("intensity", "scalar", 1)),
        ("fpfh:33", Feature("fpfh", "scalar", 33)),
        ("albedo:color", Feature("albedo", "color", 3)),
        ("axis:normal", Feature("axis", "normal", 3)),
        ("rgb:scalar", Feature("rgb", "scalar", 1)),
        ("rgb:3", Feature("rgb", "scalar", 3)),
        ("Colors", Feature("rgb", "color", 3)),
        (" Normals ", Feature("normal", "normal", 3)),
        ("Intensity", Feature("intensity", "scalar", 1)),
        ("FPFH:33", Feature("fpfh", "scalar", 33)),
    ],
)
def test_a_feature_is_parsed_from_text_and_written_as_text(text, feature):
    assert Feature.parse(text) == feature
    assert Feature.parse(str(feature)) == feature
    assert Features.parse(f"{text},other") == Features((feature, Feature("other", "scalar", 1)))


def test_no_features_have_no_width_and_are_false():
    for text in ("", None, " "):
        assert not Features.parse(text) and Features.parse(text).width == 0 and str(Features.parse(text)) == ""


@pytest.mark.parametrize(
    "text",
    [
        "xyz",
        "x",
        "a b",
        "7",
        "rgb:blue",
        "intensity:0",
        "intensity:²",
        "rgb,rgb",
        "rgb:color:3",
        ":3",
        "größe",
        "_curv",
        "X",
        "rgb,color",
    ],
)
def test_a_wrong_name_of_a_feature_is_an_error(text):
    with pytest.raises(InputError):
        Features.parse(text)


def test_columns_are_in_the_order_of_the_names():
    features = Features.parse("intensity,normal,rgb")
    feats = torch.arange(14.0).view(2, 7)
    assert features.width == 7 and features.names == ("intensity", "normal", "rgb")
    assert features.take(feats, "normal").tolist() == [[1, 2, 3], [8, 9, 10]]
    assert features.slices("normal", "color") == [slice(1, 4), slice(4, 7)]
    with pytest.raises(InputError, match=r"there is no feature 'time' \(there are: intensity,normal,rgb\)"):
        features.take(feats, "time")


def test_change_applies_to_one_kind_only():
    features, feats = Features.parse("intensity,normal,rgb"), torch.arange(7.0)
    assert features.apply(feats, "normal", lambda columns: -columns).tolist() == [0, -1, -2, -3, 4, 5, 6]
    assert features.apply(feats, "scalar", lambda columns: columns + 1).tolist() == [1, 1, 2, 3, 4, 5, 6]
    assert Features.parse("rgb").apply(feats[:3], "normal", lambda columns: -columns).tolist() == [0, 1, 2]


def test_a_set_refuses_feats_of_another_width_than_its_features():
    xyz, label = torch.zeros(2, 4, 3), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(InputError, match=r"feats have 3 columns, but the features of the set \(none\) take 0"):
        CloudSet(xyz, xyz, label, ("a",))
    clouds = CloudSet(xyz, xyz, label, ("a",), features=Features.parse("rgb"))
    assert clouds.subset(torch.tensor([1])).features == clouds.features
