"""Label whole scenes with a segmenter: in one pass, or in overlapping windows whose probabilities are averaged."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from bixt3d.datasets.scenes.crops import Shape, local_positions, nearest_voxels
from bixt3d.datasets.scenes.scene import Scene
from bixt3d.datasets.transforms.augment import rotate, rotation_matrices
from bixt3d.types import Features

EDGE = 0.05
"""Weight of the voxel farthest from the center of its window; the center has weight 1."""
LEAST = 0.1
"""A voxel whose weights in all windows sum to no more becomes the center of another one."""
MIXING = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1))
"""Shifts and factors that make numbers look random, those of SplitMix64 (Steele et al. 2014)."""


@torch.inference_mode()
def scene_probabilities(
    model: nn.Module,
    scene: Scene,
    window: int,
    shape: Shape,
    *,
    device: torch.device | str = "cpu",
    needed: Bool[np.ndarray, " V"] | None = None,
    votes: int = 1,
    progress: Callable[[int], Any] | None = None,
) -> Float[Tensor, "V C"]:
    """Return the probability of each class for every voxel of a scene, on the CPU.

    A scene of at most ``window`` voxels goes through the model in one pass, all others in windows of as many voxels,
    made like the crops of training: the nearest voxels of one voxel. Probabilities are averaged, weighted by the
    distance from the center of each window. The next center is the first voxel, in `random_order`, whose weights sum to
    at most `LEAST`: the windows at a place depend on the voxels around it alone, and blocks of a scene share them.

    ``needed``: the voxels that must be covered, others lie around them and may get zeros; default: all. ``votes``:
    test-time augmentation, the mean over as many turns about z. ``progress``: called with the number of needed voxels
    that are newly covered.
    """
    read = partial(_run, model, scene, device=device, votes=votes)
    needed = np.ones(len(scene), bool) if needed is None else needed
    if len(scene) <= window:
        index, center = np.arange(len(scene)), middle_voxel(scene)
        probability = read(index, center)
        if progress:
            progress(int(needed.sum()))
        return probability
    weights, sums = np.zeros(len(scene)), None
    for center in random_order(scene).tolist():
        if weights[center] > LEAST or not needed[center]:
            continue
        index = nearest_voxels(scene, center, window, shape)
        probability = read(index, center)
        weight = _window_weights(scene, index, center, shape)
        if sums is None:
            sums = torch.zeros(len(scene), probability.shape[1])
        sums[index] += probability * torch.from_numpy(weight[:, None]).float()
        if progress:
            progress(int((needed[index] & (weights[index] == 0)).sum()))
        weights[index] += weight
    return sums / torch.from_numpy(np.maximum(weights, EDGE / 2)[:, None]).float()


def random_order(scene: Scene) -> Int[np.ndarray, " V"]:
    """Return the voxels in random order, by a hash of their cells: voxels of a part have the order of the whole."""
    cells = np.floor(scene.xyz.double().numpy() / scene.grid).astype(np.int64).astype(np.uint64)
    key = np.zeros(len(scene), np.uint64)
    for axis in range(3):
        key += cells[:, axis] + np.uint64(0x9E3779B97F4A7C15)
        for shift, factor in MIXING:
            key = (key ^ (key >> np.uint64(shift))) * np.uint64(factor)
    return key.argsort(kind="stable")


def middle_voxel(scene: Scene) -> int:
    """Return the voxel nearest to the middle of the scene, seen from above."""
    middle = (scene.xyz[:, :2].amin(0) + scene.xyz[:, :2].amax(0)) / 2
    return int((scene.xyz[:, :2] - middle).square().sum(1).argmin())


def _run(
    model: nn.Module,
    scene: Scene,
    index: Int[np.ndarray, " M"],
    center: int,
    *,
    device: torch.device | str,
    votes: int,
) -> Float[Tensor, "M C"]:
    xyz, feats = local_positions(scene, index, center)[None].to(device), scene.feats[index][None].to(device)
    turns = [2 * math.pi * vote / votes for vote in range(votes)]
    views = [_turned(xyz, feats, Features.of(model), turn) if turn else (xyz, feats) for turn in turns]
    return (sum(model(*view).float().softmax(2)[0] for view in views) / votes).cpu()


def _turned(
    xyz: Float[Tensor, "1 M 3"], feats: Float[Tensor, "1 M F"], features: Features, angle: float
) -> tuple[Float[Tensor, "1 M 3"], Float[Tensor, "1 M F"]]:
    """Turn positions and normals about z."""
    quaternion = torch.tensor([[math.cos(angle / 2), 0, 0, math.sin(angle / 2)]], device=xyz.device)
    turn = partial(rotate, rotation_matrices(quaternion))
    return turn(xyz), features.apply(feats, "normal", turn)


def _window_weights(scene: Scene, index: Int[np.ndarray, " M"], center: int, shape: Shape) -> Float[np.ndarray, " M"]:
    """Return the weight of each voxel of a window: 1 at the center, ``EDGE`` at the farthest."""
    axes = 2 if shape == "cylinder" else 3
    offset = (scene.xyz[index, :axes] - scene.xyz[center, :axes]).double().numpy()
    distance = np.sqrt((offset**2).sum(1))
    return EDGE + (1 - EDGE) * (1 - distance / max(distance.max(), 1e-12)) ** 2
