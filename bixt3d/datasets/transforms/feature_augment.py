"""Augmentation of point features: noise, contrast and shift of colors; feature dropout."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from bixt3d.datasets.transforms.draws import Draws
from bixt3d.types import Features

BLOCK = 2**20
"""Number of points that are summed at a time."""

FILL = {"normal": 0.0, "color": 0.5}
"""What a missing feature of a kind becomes; a scalar becomes its mean over the training set."""


def fill_values(feats: Float[Tensor, "*N F"], features: Features) -> Float[Tensor, " F"]:
    """Return the value of each column that stands for a missing feature: see ``FILL``."""
    rows = feats.flatten(0, -2)
    mean = (sum(block.double().sum(0) for block in rows.split(BLOCK)) / len(rows)).float()
    for feature, columns in zip(features.columns, features.slices(), strict=True):
        if feature.kind in FILL:
            mean[columns] = FILL[feature.kind]
    return mean


def fill_by_name(fill: Float[Tensor, " F"], features: Features) -> dict[str, list[float]]:
    """Return the result of `fill_values` by the names of the features, as JSON takes it."""
    return {name: features.take(fill, name).tolist() for name in features.names}


def without_features(
    feats: Float[Tensor, "*N F"], features: Features, names: Sequence[str], fill: Mapping[str, list[float]]
) -> Float[Tensor, "*N F"]:
    """Return feats with the named features filled, as if they were missing."""
    feats = feats.clone()
    for name in names:
        feats[..., features.slices()[features.names.index(name)]] = feats.new_tensor(fill[name])
    return feats


def drop_features(
    feats: Float[Tensor, "B N F"], features: Features, rate: float, fill: Float[Tensor, " F"], draws: Draws
) -> Float[Tensor, "B N F"]:
    """Fill each feature of each cloud with probability ``rate``."""
    drop_mask = draws.uniform("feature_dropout", 1, len(features.columns)) < rate
    columns = [drop_mask[..., i : i + 1].expand(-1, 1, one.width) for i, one in enumerate(features.columns)]
    return torch.where(torch.cat(columns, dim=2), fill, feats)


def jitter_colors(colors: Float[Tensor, "B N 3"], noise: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 3"]:
    """Add noise to colors from 0 to 1."""
    return (colors + noise).clamp(0, 1)


def change_contrast(
    colors: Float[Tensor, "B N 3"], factors: Float[Tensor, "B 1 1"], shifts: Float[Tensor, "B 1 3"]
) -> Float[Tensor, "B N 3"]:
    """Scale the contrast of the colors of each cloud about their mean, then shift them; they stay from 0 to 1."""
    mean = colors.mean(dim=1, keepdim=True)
    return (mean + factors * (colors - mean) + shifts).clamp(0, 1)
