"""Standardization of point features by the statistics of the training set."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bixt3d.types import Features

BLOCK = 2**18
"""Number of points that are summed at a time."""


class FeatureScale(nn.Module):
    """Scale colors to [-1, 1] and standardize scalars to mean 0, standard deviation 1; leave normals unchanged.

    Mean and standard deviation of the training set (see `fit`) are buffers, which are saved and exported with the
    weights. There are no buffers if all features are normals.

    Args:
        features: names and kinds of the columns of ``feats``.
    """

    def __init__(self, features: Features):
        super().__init__()
        self.features, self.scales = features, bool(features.slices("color", "scalar"))
        if self.scales:
            middle, half = torch.zeros(features.width), torch.ones(features.width)
            for columns in features.slices("color"):
                middle[columns] = half[columns] = 0.5
            self.register_buffer("mean", middle)
            self.register_buffer("deviation", half)

    def forward(self, feats: Float[Tensor, "*N F"]) -> Float[Tensor, "*N F"]:
        return (feats - self.mean) / self.deviation if self.scales else feats

    @torch.no_grad()
    def fit(self, feats: Float[Tensor, "*N F"]) -> list[str]:
        """Compute mean and deviation of the scalars of a training set; return a warning for each bad feature."""
        warnings = []
        for name, columns in zip(self.features.names, self.features.slices(), strict=True):
            if columns in self.features.slices("scalar"):
                values = feats.flatten(0, -2)[:, columns]
                mean, deviation = mean_and_deviation(values)
                least, greatest = values.aminmax(dim=0)
                flat = deviation <= 1e-6 * torch.maximum(least.abs(), greatest.abs())
                self.mean[columns] = mean.float()
                self.deviation[columns] = deviation.float().where(~flat, 1.0)
                if (flat & (least < greatest)).any():
                    warnings.append(f"feature {name} is too far from 0 for its spread: subtract an offset")
                elif flat.any():
                    warnings.append(f"feature {name} is the same at all points of the training set")
        return warnings


def mean_and_deviation(values: Float[Tensor, "M W"]) -> tuple[Float[Tensor, " W"], Float[Tensor, " W"]]:
    """Return mean and standard deviation of each column, in float64, block by block to save memory."""
    mean = sum(block.double().sum(0) for block in values.split(BLOCK)) / len(values)
    square = sum((block.double() - mean).square().sum(0) for block in values.split(BLOCK)) / len(values)
    return mean, square.sqrt()


def fit_feature_scales(model: nn.Module, feats: Float[Tensor, "*N F"]) -> list[str]:
    """Fit every `FeatureScale` of a model to a training set; return a warning for each bad feature."""
    scales = [module for module in model.modules() if isinstance(module, FeatureScale)]
    return sorted({warning for scale in scales for warning in scale.fit(feats)})
