"""Procedural rooms with the classes of S3DIS, as a laser scanner sees them: no download."""

import numpy as np
from jaxtyping import Float, Int
from numpy.random import Generator

from bixt3d.datasets.files.surface import sample_surface
from bixt3d.datasets.scenes.crops import SceneSet, Shape
from bixt3d.datasets.scenes.room_layout import CLASSES, Room, make_room
from bixt3d.datasets.scenes.scanner import visible_points, with_range_noise
from bixt3d.datasets.scenes.scene import Scene, make_scene
from bixt3d.datasets.scenes.source import SceneSource
from bixt3d.types import InputError

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


class Rooms(SceneSource):
    """Procedural rooms with the 13 classes of S3DIS, scanned from two or three places; units are metres.

    Args:
        train_rooms: rooms in the training set.
        test_rooms: rooms in the test set.
        seed: seed of the rooms.
        grid, num_points, crops, shape, balance, features: see `SceneSource`; columns: ``rgb``, and ``height``.
    """

    def __init__(  # noqa: PLR0913 (one argument for each line of a config)
        self,
        train_rooms: int = 24,
        test_rooms: int = 8,
        seed: int = 0,
        grid: float = 0.05,
        num_points: int = 4096,
        crops: int = 1000,
        shape: Shape = "sphere",
        balance: float = 0.0,
        features: str = "",
    ):
        super().__init__(grid, num_points, crops, shape, balance, features)
        if min(train_rooms, test_rooms) < 1 or seed < 0:
            raise InputError("train_rooms and test_rooms must be positive, and seed not negative")
        self.train_rooms, self.test_rooms, self.seed = train_rooms, test_rooms, seed

    def load(self) -> tuple[SceneSet, SceneSet]:
        """Return the training and the test set; a room depends only on the seed, its split and its index."""
        train, test = (
            [self.make(split, index) for index in range(number)]
            for split, number in enumerate((self.train_rooms, self.test_rooms))
        )
        return self.as_set(train, CLASSES), self.as_set(test, CLASSES)

    def make(self, split: int, index: int) -> Scene:
        """Return one room; ``split``: 0 for training, 1 for testing."""
        xyz, rgb, label = make_room_cloud(np.random.default_rng((self.seed, split, index)))
        name = f"{('train', 'test')[split]} room {index}"
        return make_scene(xyz, {"rgb": rgb}, label, self.features, self.grid, name)
