"""Features of points on a common scale, whatever their units."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bixt3d.types import Features


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
        """Take mean and deviation of the scalars from a training set; returns the names of those that never change."""
        constant = []
        for name, columns in zip(self.features.names, self.features.slices(), strict=True):
            if columns in self.features.slices("scalar"):
                values = feats[..., columns].reshape(-1, columns.stop - columns.start).double()
                deviation = values.std(0, correction=0)
                flat = deviation <= 1e-6 * values.abs().amax(0)
                self.mean[columns] = values.mean(0).float()
                self.deviation[columns] = deviation.float().where(~flat, 1.0)
                constant += [name] * bool(flat.any())
        return constant


def fit_feature_scales(model: nn.Module, feats: Float[Tensor, "*N F"]) -> list[str]:
    """Fit every `FeatureScale` of a model to a training set; returns the names of features that never change."""
    scales = [part for part in model.modules() if isinstance(part, FeatureScale)]
    return sorted({name for scale in scales for name in scale.fit(feats)})
