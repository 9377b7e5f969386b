"""Features of points on a common scale, whatever their units."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bixt3d.types import Features

BLOCK = 2**18
"""Points whose sums are taken at a time."""


class FeatureScale(nn.Module):
    """Bring colors to [-1, 1], and scalars to mean 0 and deviation 1 over the training set; leave normals as they are.

    Mean and deviation are buffers: they are stored and exported with the weights. There are none where all features are
    normals.
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
        """Take mean and deviation of the scalars from a training set; returns what is wrong with some, in words."""
        faults = []
        for name, columns in zip(self.features.names, self.features.slices(), strict=True):
            if columns in self.features.slices("scalar"):
                values = feats.flatten(0, -2)[:, columns]
                mean, deviation = mean_and_deviation(values)
                least, greatest = values.aminmax(dim=0)
                flat = deviation <= 1e-6 * torch.maximum(least.abs(), greatest.abs())
                self.mean[columns] = mean.float()
                self.deviation[columns] = deviation.float().where(~flat, 1.0)
                if (flat & (least < greatest)).any():
                    faults.append(f"feature {name} is too far from 0 for its spread: subtract an offset")
                elif flat.any():
                    faults.append(f"feature {name} is the same at all points of the training set")
        return faults


def mean_and_deviation(values: Float[Tensor, "M W"]) -> tuple[Float[Tensor, " W"], Float[Tensor, " W"]]:
    """Return mean and deviation of each column in double precision, of which a block at a time takes memory."""
    mean = sum(block.double().sum(0) for block in values.split(BLOCK)) / len(values)
    square = sum((block.double() - mean).square().sum(0) for block in values.split(BLOCK)) / len(values)
    return mean, square.sqrt()


def fit_feature_scales(model: nn.Module, feats: Float[Tensor, "*N F"]) -> list[str]:
    """Fit every `FeatureScale` of a model to a training set; returns what is wrong with some features, in words."""
    scales = [part for part in model.modules() if isinstance(part, FeatureScale)]
    return sorted({fault for scale in scales for fault in scale.fit(feats)})
