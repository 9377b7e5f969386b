"""The input of a model from one cloud of any size, the same in training and in prediction."""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bixt3d.datasets.files.cloud import Cloud, with_features
from bixt3d.datasets.files.feature_columns import select_features
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


def prepare_cloud(
    cloud: Cloud, features: Features, num_points: int, up: Up, wanted: Up, seed: int = 0
) -> tuple[Float[Tensor, "1 N 3"], Int[Tensor, " M"], Float[Tensor, "1 M F"]]:
    """Return the whole cloud, upright and in the unit sphere; ``num_points`` indices of its points; their features.

    The points are a random subset; all of them and random repetitions if there are fewer. ``up``: the up axis of the
    cloud; ``wanted``: that of the model. Raises InputError for a missing feature, and for points without extent.
    """
    xyz = torch.from_numpy(cloud.xyz)
    xyz = normalize_clouds(turn_upright(xyz.double(), up, wanted)[None], cloud.name).float()
    generator = torch.Generator().manual_seed(seed)
    index = torch.randperm(xyz.shape[1], generator=generator)[:num_points]
    if missing := num_points - len(index):
        index = torch.cat([index, torch.randint(xyz.shape[1], (missing,), generator=generator)])
    if not features:
        return xyz, index, xyz.new_zeros(1, len(index), 0)
    try:
        feats = torch.from_numpy(select_features(cloud.columns, features, cloud.name))[index]
    except InputError as error:
        raise InputError("; ".join([str(error), *cloud.notes])) from error
    return xyz, index, features.change(feats, "normal", lambda normals: turn_upright(normals, up, wanted))[None]
