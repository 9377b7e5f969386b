"""Procedural rooms with the classes of S3DIS, as a laser scanner sees them: no download."""

import numpy as np
from jaxtyping import Float, Int
from numpy.random import Generator

from bixt3d.datasets.files.surface import sample_surface
from bixt3d.datasets.scenes.room_layout import CLASSES, Room, make_room
from bixt3d.datasets.scenes.scanner import visible_points, with_range_noise
from bixt3d.datasets.scenes.source import ProceduralScenes

SPACING = 0.02
"""Distance between the points on the surfaces of which the scanner sees some, in metres."""
STEP = 0.9
"""Angle between two directions of the scanner, in degrees."""
NOISE = 0.004
"""Standard deviation of the range of the scanner, in metres."""


def make_room_cloud(
    rng: Generator,
) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"], Int[np.ndarray, " N"]]:
    """Generate a room; return what two or three scanners see of it: points (z up), colors from 0 to 1, and classes."""
    room = make_room(rng)
    points, normals, rgb, label = _surface(room, rng)
    lamp = np.array([0.0, 0.0, room.size[1] - 0.2])
    to_lamp = lamp - points
    to_lamp /= np.maximum(np.linalg.norm(to_lamp, axis=1, keepdims=True), 1e-9)
    light = 0.55 + 0.45 * np.abs((normals * to_lamp).sum(1, keepdims=True))
    seen, positions = [], []
    for _ in range(int(rng.integers(2, 4))):
        half = room.size[[0, 2]] / 2 - 0.7
        position = np.array([*rng.uniform(-half, half), rng.uniform(1.2, 1.6)])
        index = visible_points(points, position, STEP)
        seen.append(index)
        positions.append(with_range_noise(points[index], position, NOISE, rng))
    index = np.concatenate(seen)
    colors = rgb[index] * light[index] + 0.02 * rng.standard_normal((len(index), 3))
    return np.concatenate(positions), np.clip(colors, 0, 1), label[index]


def _surface(
    room: Room, rng: Generator
) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"], Int[np.ndarray, " N"]]:
    """Return dense points on all surfaces of a room, z up, with their normals, colors and classes."""
    meshes = [piece.mesh for piece in room.pieces]
    corners = np.concatenate([mesh.corners for mesh in meshes])
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum() / 2
    points, normals, index = sample_surface(meshes, int(area / SPACING**2), rng, 0.0)
    rgb = np.stack([piece.rgb for piece in room.pieces])[index]
    label = np.array([piece.label for piece in room.pieces])[index]
    upright = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])  # y up to z up
    return points @ upright.T, normals @ upright.T, rgb, label


class Rooms(ProceduralScenes):
    """Procedural rooms with the 13 classes of S3DIS, scanned from two or three places; units are metres.

    Columns: ``rgb``, and ``height``. The arguments are those of `ProceduralScenes`.
    """

    class_names = CLASSES

    def make(self, rng: Generator) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
        xyz, rgb, label = make_room_cloud(rng)
        return xyz, {"rgb": rgb}, label
