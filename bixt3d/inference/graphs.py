"""The modules that are exported: from raw clouds and images to probabilities, with the predictors' preprocessing.

A graph cannot raise an error: where the predictor raises InputError, the output is NaN.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from bixt3d.datasets.files.feature_columns import ROUNDING
from bixt3d.datasets.images.transforms import MEAN, STD
from bixt3d.errors import InputError
from bixt3d.inference.cloud_predictor import CloudPredictor
from bixt3d.inference.clouds import TINY, PartPredictor, Predictor
from bixt3d.inference.images import BaseImagePredictor
from bixt3d.ops import interpolate
from bixt3d.types import Feature, Features


class CloudGraph(nn.Module):
    """A predictor of clouds as one module; it samples the same points of a cloud as the predictor.

    ``output``: name of its output: ``probabilities``, or ``outputs`` for a task with its own predictor.
    """

    def __init__(self, predictor: CloudPredictor):
        super().__init__()
        if "category" in predictor.features.names:
            raise InputError("a feature named category cannot be exported: inputs of this name are categories of parts")
        self.model, self.features, self.num_points = predictor.model, predictor.features, predictor.num_points
        self.output = "probabilities" if isinstance(predictor, Predictor | PartPredictor) else "outputs"
        # the generator of torch and that of NumPy's RandomState are the same Mersenne Twister
        drawn = np.random.RandomState(0).randint(2**32, size=predictor.num_points, dtype=np.uint32)
        self.register_buffer("drawn", torch.from_numpy(drawn.astype(np.int64)), persistent=False)

    def forward(
        self,
        xyz: Float[Tensor, "B N 3"],
        features: dict[str, Float[Tensor, "B N _"]] | None = None,
        category: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B ..."]:
        xyz, valid_mask = to_unit_sphere(xyz)
        index = choose_points(xyz.shape[1], self.drawn)
        seen = xyz[:, index]
        feats = seen[..., :0]
        if self.features:
            feats, readable_mask = read_features(features, self.features)
            feats, valid_mask = feats[:, index], valid_mask & readable_mask
        if category is not None:
            known_mask = (category >= 0) & (category < self.num_categories)
            category, valid_mask = torch.where(known_mask, category, 0), valid_mask & known_mask
        found = self.predict(xyz, seen, feats, category)
        return torch.where(valid_mask.view(-1, *[1] * (found.ndim - 1)), found, torch.nan)

    def predict(
        self,
        xyz: Float[Tensor, "B N 3"],
        seen: Float[Tensor, "B M 3"],
        feats: Float[Tensor, "B M F"],
        category: Int[Tensor, " B"] | None,
    ) -> Float[Tensor, "B ..."]:
        """Return the output for clouds ``xyz``, of which the model reads the points ``seen``."""
        outputs = self.model(seen, feats)
        return outputs.softmax(1) if self.output == "probabilities" else outputs


class PartGraph(CloudGraph):
    """A part predictor as one module: probabilities of all parts at all points, 0 for parts of other categories."""

    def __init__(self, predictor: PartPredictor):
        super().__init__(predictor)
        self.num_categories = len(predictor.class_names)
        mask = torch.zeros(self.num_categories, len(predictor.part_names))
        for row, parts in zip(mask, predictor.class_parts.values(), strict=True):
            row[list(parts)] = 1
        self.register_buffer("parts_mask", mask, persistent=False)

    def predict(
        self,
        xyz: Float[Tensor, "B N 3"],
        seen: Float[Tensor, "B M 3"],
        feats: Float[Tensor, "B M F"],
        category: Int[Tensor, " B"] | None,
    ) -> Float[Tensor, "B N C"]:
        label = torch.zeros(len(seen), dtype=torch.int64, device=seen.device) if category is None else category
        probability = self.model(seen, feats, label).softmax(2)
        if category is None:
            category = (probability.sum(1) @ self.parts_mask.T).argmax(1)
        of_parts = interpolate(xyz, seen, probability * self.parts_mask[category][:, None])
        return of_parts / of_parts.sum(2, keepdim=True).clamp(min=TINY)


class ImageGraph(nn.Module):
    """A predictor of images as one module that reads pixels."""

    output = "probabilities"

    def __init__(self, predictor: BaseImagePredictor):
        super().__init__()
        self.model = predictor.model
        self.register_buffer("mean", 255 * torch.tensor(MEAN), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(STD), persistent=False)

    def forward(self, image: UInt8[Tensor, "B X Y 3"]) -> Float[Tensor, "B C ..."]:
        return self.model(((image.float() - self.mean) / self.std).permute(0, 3, 1, 2)).softmax(1)


def as_graph(predictor: CloudPredictor | BaseImagePredictor) -> nn.Module:
    """Return the graph of a predictor."""
    if isinstance(predictor, BaseImagePredictor):
        return ImageGraph(predictor).eval()
    return (PartGraph if isinstance(predictor, PartPredictor) else CloudGraph)(predictor).eval()


def to_unit_sphere(xyz: Float[Tensor, "B N 3"]) -> tuple[Float[Tensor, "B N 3"], Bool[Tensor, " B"]]:
    """Return clouds normalized as by `normalize_clouds`, in float32, and the mask of valid clouds."""
    valid_mask = torch.isfinite(xyz).flatten(1).all(1) & (xyz != xyz[:, :1]).flatten(1).any(1)
    xyz = torch.where(valid_mask[:, None, None], xyz.double(), 0)
    centred = xyz - xyz.mean(1, keepdim=True)
    radius = centred.square().sum(2).amax(1).sqrt()
    valid_mask = valid_mask & (radius > 1e-150) & (radius < 1e150)
    return (centred / torch.where(valid_mask, radius, 1)[:, None, None]).float(), valid_mask


def read_features(
    features: dict[str, Float[Tensor, "B N _"]], wanted: Features
) -> tuple[Float[Tensor, "B N F"], Bool[Tensor, " B"]]:
    """Return the features concatenated as models read them, and the mask of clouds whose features are valid."""
    valid_masks, columns = [], []
    for feature in wanted.columns:
        values = features[feature.name]
        finite_mask = torch.isfinite(values)
        valid_masks.append(finite_mask.flatten(1).all(1))
        values, own_mask = _read_feature(torch.where(finite_mask, values, 0), feature)
        columns.append(values)
        valid_masks += [] if own_mask is None else [own_mask]
    return torch.cat(columns, 2), torch.stack(valid_masks).all(0)


def _read_feature(
    values: Float[Tensor, "B N W"], feature: Feature
) -> tuple[Float[Tensor, "B N W"], Bool[Tensor, " B"] | None]:
    if feature.kind == "color":
        return values.clamp(max=1), ((values >= 0) & (values <= 1 + ROUNDING)).flatten(1).all(1)
    if feature.kind == "scalar":
        return values, None
    length = values.square().sum(2, keepdim=True).sqrt()
    directed_mask = length > 1e-6
    scaled = torch.where(directed_mask, values / torch.where(directed_mask, length, 1), 0)
    return torch.where((length - 1).abs() < ROUNDING, values, scaled), directed_mask.float().mean((1, 2)) >= 0.9


def choose_points(size: int | torch.SymInt, drawn: Int[Tensor, " M"]) -> Int[Tensor, " M"]:
    """Return the indices of the M of ``size`` points that a predictor samples, from its generator's first M numbers.

    They are ``torch.randperm(size)[:M]``: step i swaps position i with position ``i + drawn[i] % (size - i)``. If
    ``size`` is less than M, further numbers repeat some points. All steps are computed in parallel.
    """
    count = len(drawn)
    step = torch.arange(count, device=drawn.device)
    left = size - step
    partner = step + drawn % left.clamp(min=1)
    order = (partner * count + step).sort().values % count
    before, after = order[:-1], order[1:]
    again_mask = partner[before] == partner[after]
    # the last step before each that had the same partner, or -1
    earlier = torch.full_like(step, -1).scatter(0, after, torch.where(again_mask, before, -1))
    # the entry at position i before step i: written by the last earlier step whose partner was i
    at_place = torch.full((count + 1,), -1, device=drawn.device, dtype=torch.int64)
    moved = torch.where(partner == step, -1, step)
    at_place = at_place.scatter_reduce(0, partner.clamp(max=count), moved, "amax")[:count]
    origin = torch.where(at_place < 0, step, at_place)
    for _ in range(count.bit_length()):
        origin = origin[origin]
    chosen = torch.where(earlier < 0, partner, origin[earlier.clamp(min=0)])
    return torch.where(left > 0, chosen, drawn.roll(1) % left[0])
