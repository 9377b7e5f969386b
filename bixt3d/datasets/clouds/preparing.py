"""The input of a model from one cloud of any size, the same in training and in prediction."""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bixt3d.datasets.files.cloud import Cloud, with_features
from bixt3d.datasets.files.feature_columns import select_features
from bixt3d.datasets.transforms.draws import first_permuted
from bixt3d.datasets.transforms.invariants import INVARIANTS, invariants
from bixt3d.datasets.transforms.normalize import normalize_clouds
from bixt3d.datasets.transforms.normals import estimate_normals
from bixt3d.datasets.transforms.upright import Up, turn_upright
from bixt3d.types import Feature, Features, InputError

ESTIMATED = "normals estimated"


def with_model_features(cloud: Cloud, features: Features) -> Cloud:
    """Return a cloud with those of its features that a model reads.

    Missing normals are estimated, which is noted, and missing `invariants` computed.
    """
    cloud = with_features(cloud, features)
    missing = [feature for feature in features.columns if feature.name not in cloud.columns]
    for feature, compute, notes in (
        (Feature.parse("normal"), estimate_normals, (ESTIMATED,)),
        (INVARIANTS, invariants, ()),
    ):
        if feature in missing:
            normalize_clouds(torch.from_numpy(cloud.xyz)[None], cloud.name)  # InputError for points without extent
            columns = {**cloud.columns, feature.name: compute(torch.from_numpy(cloud.xyz)).numpy()}
            cloud = replace(cloud, columns=columns, notes=(*cloud.notes, *notes))
    return cloud


def up_axis(cloud: Cloud, wanted: Up) -> Up:
    """Return the up axis of a cloud: that of its file format if models have y up, else the one of the set.

    A .pcd comes from a sensor and is never y up: depth cameras write -y up; lidars z up, which is assumed only if the
    set is z up.
    """
    return (cloud.up if cloud.up and wanted == "y" else None) or wanted


def choose_points(size: int, num_points: int, seed: int = 0) -> Int[Tensor, " M"]:
    """Return the indices of the points that a model reads of a cloud; see `prepare_cloud`."""
    if size >= num_points:
        return first_permuted(size, num_points, seed)
    generator = torch.Generator().manual_seed(seed)
    index = torch.randperm(size, generator=generator)
    return torch.cat([index, torch.randint(size, (num_points - size,), generator=generator)])


def _normalized(cloud: Cloud, up: Up, wanted: Up) -> Float[Tensor, "1 N 3"]:
    """Return a cloud upright and in the unit sphere; some points of a large one as they lie in the whole."""
    xyz = torch.from_numpy(cloud.xyz).double()
    if cloud.extent is None:
        return normalize_clouds(turn_upright(xyz, up, wanted)[None], cloud.name).float()
    centred = (xyz - torch.from_numpy(cloud.extent.mean)) / cloud.extent.radius
    return turn_upright(centred, up, wanted)[None].float()


def prepare_cloud(
    cloud: Cloud, features: Features, num_points: int, up: Up, wanted: Up, seed: int = 0
) -> tuple[Float[Tensor, "1 N 3"], Int[Tensor, " M"], Float[Tensor, "1 M F"]]:
    """Return the whole cloud, upright and in the unit sphere; ``num_points`` indices of its points; their features.

    The points are a random subset; all of them and random repetitions if there are fewer. ``up``: the up axis of the
    cloud; ``wanted``: that of the model. Raises InputError for a missing feature, and for points without extent.
    """
    xyz = _normalized(cloud, up, wanted)
    index = torch.arange(num_points) if cloud.extent else choose_points(len(cloud), num_points, seed)
    if not features:
        return xyz, index, xyz.new_zeros(1, len(index), 0)
    try:
        feats = torch.from_numpy(select_features(cloud.columns, features, cloud.name))[index]
    except InputError as error:
        raise InputError("; ".join([str(error), *cloud.notes])) from error
    return xyz, index, features.apply(feats, "normal", lambda normals: turn_upright(normals, up, wanted))[None]
