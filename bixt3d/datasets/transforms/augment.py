"""Data augmentation of clouds, batch-wise on the batch's device; all random numbers come from `Draws`."""

import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from bixt3d.datasets.transforms.draws import Draws
from bixt3d.datasets.transforms.feature_augment import change_contrast, drop_features, jitter_colors
from bixt3d.types import NO_FEATURES, Features, InputError

POINTWISE = ("xyz", "feats", "parts", "labels")
"""Keys of a batch with one entry per point; all others have one per cloud and pass through unchanged."""


def take_points(batch: dict[str, Tensor], num_points: int) -> dict[str, Tensor]:
    """Return the batch with the first ``num_points`` points of every cloud, as in evaluation.

    Raises InputError if clouds have fewer.
    """
    _check_size(batch, num_points)
    return batch | {key: batch[key][:, :num_points] for key in POINTWISE if key in batch}


class CloudAugment:
    """Data augmentation of clouds: random points, scale, mirror, translation, rotation, jitter, colors, dropout.

    The steps come in the order of the arguments below, except that choosing points (``resample``, ``shuffle``) comes
    first and ``dropout`` last. Normals follow scaling and rotation. The defaults change nothing.

    Args:
        scale: smallest and largest scale factor.
        anisotropic: a scale factor for each axis, not one for the cloud.
        mirror: axes along which to mirror, each with probability 1/2, such as "xz" (omit the axis that points up).
        shift: largest translation along each axis, in both directions.
        rotate: "none", about "y" or "z" (the axis that points up), or "so3" (any rotation, uniform).
        jitter: standard deviation of the Gaussian noise added to each coordinate.
        jitter_clip: largest absolute value of that noise.
        dropout: each cloud loses a share of its points, uniform in [0, dropout]; its first remaining point replaces
            them.
        resample: use a random subset of all stored points, in random order, not the first ones.
        shuffle: put the points in random order.
        color_contrast: smallest and largest factor of the contrast of a cloud's colors.
        color_shift: largest shift of a cloud's colors, for each channel, in both directions (colors are from 0 to 1).
        color_jitter: standard deviation of the Gaussian noise added to the colors of each point.
        feature_dropout: probability that a feature of a cloud is missing in training (a normal becomes 0, a color mid
            gray, a scalar its mean); the trained model then also takes clouds that lack features.

    Example:
        >>> batch = {"xyz": torch.rand(2, 256, 3), "feats": torch.empty(2, 256, 0)}
        >>> draws = Draws(torch.arange(2), "train", 0, 1)  # seed 0, epoch 1
        >>> CloudAugment(rotate="y", resample=True)(batch, 128, draws)["xyz"].shape
        torch.Size([2, 128, 3])
    """

    def __init__(  # noqa: PLR0913 (one argument for each line of a config)
        self,
        scale: tuple[float, float] = (1.0, 1.0),
        anisotropic: bool = True,
        mirror: Literal["", "x", "y", "z", "xy", "xz"] = "",
        shift: float = 0.0,
        rotate: Literal["none", "y", "z", "so3"] = "none",
        jitter: float = 0.0,
        jitter_clip: float = 0.05,
        dropout: float = 0.0,
        resample: bool = False,
        shuffle: bool = False,
        color_contrast: tuple[float, float] = (1.0, 1.0),
        color_shift: float = 0.0,
        color_jitter: float = 0.0,
        feature_dropout: float = 0.0,
    ):
        for name, range_ in {"scale": scale, "color_contrast": color_contrast}.items():
            if not 0 < range_[0] <= range_[1]:
                raise InputError(f"{name} must be two positive factors, the smaller first, not {range_}")
        sizes = {"shift": shift, "jitter": jitter, "jitter_clip": jitter_clip}
        for name, size in (sizes | {"color_shift": color_shift, "color_jitter": color_jitter}).items():
            if size < 0:
                raise InputError(f"{name} must not be negative, but is {size}")
        for name, share in {"dropout": dropout, "feature_dropout": feature_dropout}.items():
            if not 0 <= share < 1:
                raise InputError(f"{name} must be at least 0 and below 1, not {share}")
        self.scale, self.anisotropic, self.shift = tuple(scale), anisotropic, shift
        self.mirror, self.rotate = mirror, rotate
        self.jitter, self.jitter_clip, self.dropout = jitter, jitter_clip, dropout
        self.resample, self.shuffle = resample, shuffle
        self.color_contrast, self.color_shift = tuple(color_contrast), color_shift
        self.color_jitter, self.feature_dropout = color_jitter, feature_dropout

    def __call__(
        self,
        batch: dict[str, Tensor],
        num_points: int,
        draws: Draws,
        features: Features = NO_FEATURES,
        fill: Float[Tensor, " F"] | None = None,
    ) -> dict[str, Tensor]:
        """Return an augmented copy of the batch, with ``num_points`` points in every cloud.

        ``features`` says which columns of ``feats`` are normals and colors. ``fill``: the values of missing features
        (see `fill_values`); without them there is no feature dropout. Raises InputError if clouds have fewer points.
        """
        batch = self._pick(batch, num_points, draws)
        xyz, feats = batch["xyz"], batch["feats"]
        if self.scale != (1.0, 1.0) or self.mirror:
            factors = self._factors(draws)
            xyz = xyz * factors
            feats = features.apply(feats, "normal", lambda normals: scale_normals(normals, factors))
        if self.shift:
            xyz = xyz + (2 * draws.uniform("shift", 1, 3) - 1) * self.shift
        if self.rotate != "none":
            rotations = self._rotations(draws)
            xyz = rotate(rotations, xyz)
            feats = features.apply(feats, "normal", lambda normals: rotate(rotations, normals))
        if self.jitter:
            noise = draws.normal("jitter", xyz.shape[1], 3) * self.jitter
            xyz = xyz + noise.clamp(-self.jitter_clip, self.jitter_clip)
        feats = self._change_colors(feats, draws, features)
        if self.feature_dropout and fill is not None and features:
            feats = drop_features(feats, features, self.feature_dropout, fill, draws)
        batch = batch | {"xyz": xyz, "feats": feats}
        return self._drop(batch, draws) if self.dropout else batch

    def _change_colors(self, feats: Float[Tensor, "B N F"], draws: Draws, features: Features) -> Float[Tensor, "B N F"]:
        if self.color_contrast != (1.0, 1.0) or self.color_shift:
            low, high = self.color_contrast
            factors = low + (high - low) * draws.uniform("color_contrast", 1, 1)
            shifts = self.color_shift * (2 * draws.uniform("color_shift", 1, 3) - 1)
            feats = features.apply(feats, "color", lambda colors: change_contrast(colors, factors, shifts))
        if self.color_jitter and features.slices("color"):
            noise = self.color_jitter * draws.normal("color_jitter", feats.shape[1], 3)
            feats = features.apply(feats, "color", lambda colors: jitter_colors(colors, noise))
        return feats

    def _pick(self, batch: dict[str, Tensor], num_points: int, draws: Draws) -> dict[str, Tensor]:
        if not (self.resample or self.shuffle):
            return take_points(batch, num_points)
        _check_size(batch, num_points)
        batch = batch if self.resample else take_points(batch, num_points)
        keys = draws.uniform("points", batch["xyz"].shape[1])
        return select_points(batch, keys.argsort(dim=1, stable=True)[:, :num_points])

    def _factors(self, draws: Draws) -> Float[Tensor, "B 1 axes"]:
        low, high = self.scale
        factors = low + (high - low) * draws.uniform("scale", 1, 3 if self.anisotropic else 1)
        if not self.mirror:
            return factors
        signs = torch.where(draws.uniform("mirror", 1, 3) < 0.5, -1.0, 1.0)
        for place, axis in enumerate("xyz"):  # no mask created here: copying it to a GPU would synchronize
            if axis not in self.mirror:
                signs[:, :, place] = 1.0
        return factors * signs

    def _rotations(self, draws: Draws) -> Float[Tensor, "B 3 3"]:
        if self.rotate == "so3":
            # four normal numbers have a uniform direction, and a uniform unit quaternion is a uniform rotation
            quaternions = draws.normal("rotate", 4)
        else:
            half = math.pi * draws.uniform("rotate")
            axis = torch.zeros(len(half), 3, device=half.device)
            axis[:, "xyz".index(self.rotate)] = half.sin()
            quaternions = torch.cat([half.cos().unsqueeze(1), axis], dim=1)
        return rotation_matrices(quaternions)

    def _drop(self, batch: dict[str, Tensor], draws: Draws) -> dict[str, Tensor]:
        xyz = batch["xyz"]
        ratio = self.dropout * draws.uniform("dropout_share", 1)
        drop_mask = draws.uniform("dropout", xyz.shape[1]) < ratio
        first_kept_index = (~drop_mask).int().argmax(dim=1, keepdim=True)
        own_index = torch.arange(xyz.shape[1], device=xyz.device)
        return select_points(batch, torch.where(drop_mask, first_kept_index, own_index))


def cut_and_mix(batch: dict[str, Tensor], rate: float, draws: Draws) -> dict[str, Tensor]:
    """Apply CutMix to clouds: replace the points beyond a random plane by those of the previous cloud of the batch.

    As CutMix (Yun et al. 2019) for clouds in RSMix and PointCutMix. The first cloud, which has no previous one, is left
    out. A cloud is mixed with probability ``rate``, and then keeps a share of its points uniform in [0, 1]; the number
    of points stays. Returns the batch with ``other_label``, the class of the previous cloud, and ``kept``, the share of
    points that each cloud kept: the weight of its own label.
    """
    num_points = batch["xyz"].shape[1]
    other = {key: batch[key][:-1] for key in ("xyz", "feats", "label")}
    batch = {key: value[1:] for key, value in batch.items()}
    mixed = (draws.uniform("mixed") < rate)[1:]
    kept = torch.where(mixed, (draws.uniform("kept")[1:] * (num_points + 1)).floor(), num_points)
    direction = draws.normal("direction", 1, 3)[1:]
    rank, other_rank = (_rank((clouds["xyz"] * direction).sum(2)) for clouds in (batch, other))
    # stable: own points on this side come first, other points beyond the plane last, each in their order
    index = (rank >= kept[:, None]).int().argsort(dim=1, stable=True)
    other_index = (other_rank >= kept[:, None]).int().argsort(dim=1, stable=True)
    own_mask = (torch.arange(num_points, device=kept.device) < kept[:, None])[..., None]
    joined = {
        key: torch.where(own_mask, select_points(batch, index)[key], select_points(other, other_index)[key])
        for key in ("xyz", "feats")
    }
    return batch | joined | {"other_label": other["label"], "kept": kept / num_points}


def _rank(values: Float[Tensor, "B N"]) -> Int[Tensor, "B N"]:
    """Return the rank of every value in its cloud, 0 for the smallest."""
    return values.argsort(1).argsort(1)


def rotation_matrices(quaternions: Float[Tensor, "B 4"]) -> Float[Tensor, "B 3 3"]:
    """Return the rotation matrices (for column vectors) of quaternions: real part first, any length but 0."""
    r, i, j, k = functional.normalize(quaternions, dim=1).unbind(dim=1)
    rows = [
        [1 - 2 * (j * j + k * k), 2 * (i * j - k * r), 2 * (i * k + j * r)],
        [2 * (i * j + k * r), 1 - 2 * (i * i + k * k), 2 * (j * k - i * r)],
        [2 * (i * k - j * r), 2 * (j * k + i * r), 1 - 2 * (i * i + j * j)],
    ]
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)


def scale_normals(normals: Float[Tensor, "B N 3"], factors: Float[Tensor, "B 1 axes"]) -> Float[Tensor, "B N 3"]:
    """Return the unit normals of clouds whose coordinates were multiplied by these factors."""
    return functional.normalize(normals / factors, dim=2)  # normals transform by the inverse transpose


def rotate(rotations: Float[Tensor, "B 3 3"], vectors: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 3"]:
    """Rotate the vectors of every cloud by its rotation matrix."""
    # a sum of products: a matmul may use TF32 or, under autocast, bfloat16
    return (rotations.unsqueeze(1) * vectors.unsqueeze(2)).sum(dim=3)


def select_points(batch: dict[str, Tensor], point_index: Int[Tensor, "B M"]) -> dict[str, Tensor]:
    """Return the batch with the points at ``point_index`` of every cloud, in that order."""
    selected = {}
    for key in POINTWISE:
        if key in batch:
            value = batch[key]
            index = point_index if value.ndim == 2 else point_index.unsqueeze(2).expand(-1, -1, value.shape[2])
            selected[key] = value.gather(1, index)
    return batch | selected


def _check_size(batch: dict[str, Tensor], num_points: int) -> None:
    stored = batch["xyz"].shape[1]
    if num_points > stored:
        raise InputError(f"asked for {num_points} points of clouds that have {stored}")
