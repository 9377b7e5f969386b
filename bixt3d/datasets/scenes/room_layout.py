"""Layout of a procedural room: walls, openings and furniture as meshes, each with its class and color.

y points up, as in `bixt3d.datasets.shapes`; lengths are in metres.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from numpy.random import Generator

from bixt3d.datasets.files.surface import Mesh, join
from bixt3d.datasets.shapes.primitives import box, cylinder
from bixt3d.datasets.shapes.recipe import Recipe
from bixt3d.datasets.shapes.recipes_furniture import bed, chair, lamp, shelf, sofa, stool, table
from bixt3d.datasets.shapes.recipes_handheld import bottle, guitar, mug, vase
from bixt3d.datasets.shapes.shapes import MATERIALS

CLASSES = ("ceiling", "floor", "wall", "beam", "column", "window", "door")
CLASSES += ("table", "chair", "sofa", "bookcase", "board", "clutter")
"""The 13 classes of S3DIS."""

FURNITURE: dict[str, tuple[tuple[Recipe, ...], float]] = {
    "sofa": ((sofa, bed), 0.35),
    "bookcase": ((shelf,), 0.7),
    "table": ((table,), 0.9),
    "chair": ((chair, stool), 0.8),
    "clutter": ((lamp, guitar), 0.5),
}
"""Recipes of each class of furniture, and the probability of each of its tries."""
TRIES = 4
ON_TABLES = (bottle, mug, vase)
SMALL = 0.3
"""Scale of the things on tables: their recipes make them about one metre tall."""


@dataclass(frozen=True)
class Piece:
    """A mesh of one class and color (red, green, blue from 0 to 1)."""

    mesh: Mesh
    label: int
    rgb: Float[np.ndarray, "3"]


@dataclass
class Room:
    """A room while it is furnished; its floor is centered on the origin.

    Args:
        size: width (x), height (y) and depth (z).
        pieces: what is in it.
        taken: circles on the floor that are occupied: x, z, radius.
        used: for each wall, the intervals along it that are occupied.
    """

    size: Float[np.ndarray, "3"]
    pieces: list[Piece] = field(default_factory=list)
    taken: list[tuple[float, float, float]] = field(default_factory=list)
    used: dict[int, list[tuple[float, float]]] = field(default_factory=dict)

    def add(self, mesh: Mesh, name: str, rgb: Float[np.ndarray, "3"]) -> None:
        """Add a mesh of a class."""
        self.pieces.append(Piece(mesh, CLASSES.index(name), rgb))

    def find_place(self, radius: float, rng: Generator) -> tuple[float, float] | None:
        """Return a free place on the floor for a circle, and take it; None after 30 tries."""
        half = self.size[[0, 2]] / 2 - radius - 0.1
        for _ in range(30 if half.min() > 0 else 0):
            x, z = rng.uniform(-half, half)
            if all((x - a) ** 2 + (z - b) ** 2 > (radius + c) ** 2 for a, b, c in self.taken):
                self.taken.append((float(x), float(z), radius))
                return float(x), float(z)
        return None

    def add_panel(self, name: str, width: float, height: float, bottom: float, rng: Generator) -> None:
        """Add a flat panel on a free piece of a wall: a door, a window or a board."""
        for _ in range(30):
            wall = int(rng.integers(4))
            length = self.size[0 if wall % 2 else 2]
            place = float(rng.uniform(-1, 1) * (length / 2 - width / 2 - 0.15))
            interval = (place - width / 2, place + width / 2)
            if all(interval[1] < first or interval[0] > last for first, last in self.used.get(wall, [])):
                self.used.setdefault(wall, []).append(interval)
                thick = float(rng.uniform(0.02, 0.06))
                panel = box(width, height, thick).moved(x=place, y=bottom)
                self.add(self.on_wall(panel, wall, thick / 2), name, material(rng))
                return

    def on_wall(self, mesh: Mesh, wall: int, gap: float) -> Mesh:
        """Turn a mesh, whose front is towards +z, into the room and move it to a wall."""
        distance = self.size[2 if wall % 2 else 0] / 2 - gap
        angle = (90, 0, 270, 180)[wall]
        direction = np.array([(1, 0), (0, -1), (-1, 0), (0, 1)][wall])  # from the middle of the room to the wall
        turned = mesh.turned("y", angle + 180 if wall % 2 == 0 else angle)
        return turned.moved(x=float(direction[0] * distance), z=float(direction[1] * distance))


def material(rng: Generator) -> Float[np.ndarray, "3"]:
    """Return the color of a random material, a little changed."""
    rgb, _ = list(MATERIALS.values())[rng.integers(len(MATERIALS))]
    return np.clip(np.array(rgb) * rng.uniform(0.8, 1.2) + rng.normal(0, 0.05, 3), 0, 1)


def pale(rng: Generator) -> Float[np.ndarray, "3"]:
    """Return the color of a wall."""
    return np.clip(rng.uniform(0.7, 1.0) + rng.normal(0, 0.04, 3), 0, 1)


def make_room(rng: Generator) -> Room:
    """Return a furnished room."""
    room = Room(rng.uniform([4.0, 2.5, 4.0], [7.0, 3.2, 7.0]))
    add_structure(room, rng)
    add_openings(room, rng)
    for name, (recipes, chance) in FURNITURE.items():
        for _ in range(TRIES):
            if rng.random() < chance:
                add_furniture(room, name, recipes[rng.integers(len(recipes))], rng)
    return room


def add_structure(room: Room, rng: Generator) -> None:
    """Add floor, ceiling and walls; some rooms get beams and a column."""
    width, height, depth = (float(one) for one in room.size)
    room.add(box(width, 0.05, depth).moved(y=-0.05), "floor", material(rng))
    room.add(box(width, 0.05, depth).moved(y=height), "ceiling", pale(rng))
    paint = pale(rng)
    for wall in range(4):
        length = depth if wall % 2 == 0 else width
        room.add(room.on_wall(box(length, height, 0.05), wall, -0.025), "wall", paint)
    for _ in range(int(rng.integers(0, 3))):
        across = float(rng.uniform(-0.4, 0.4) * depth)
        beam = box(width, rng.uniform(0.15, 0.3), rng.uniform(0.15, 0.3))
        drop = float(np.ptp(beam.corners[..., 1]))
        room.add(beam.moved(y=height - drop, z=across), "beam", paint)
    if rng.random() < 0.6 and (place := room.find_place(0.3, rng)):
        radius = rng.uniform(0.12, 0.22)
        column = cylinder(radius, height) if rng.random() < 0.5 else box(2 * radius, height, 2 * radius)
        room.add(column.moved(x=place[0], z=place[1]), "column", paint)


def add_openings(room: Room, rng: Generator) -> None:
    """Add a door, windows, and in half of the rooms a small board, the rarest class."""
    room.add_panel("door", rng.uniform(0.8, 1.0), rng.uniform(1.95, 2.1), 0.0, rng)
    for _ in range(int(rng.integers(1, 4))):
        room.add_panel("window", rng.uniform(0.8, 1.6), rng.uniform(0.8, 1.3), rng.uniform(0.8, 1.0), rng)
    if rng.random() < 0.5:
        room.add_panel("board", rng.uniform(0.4, 0.7), rng.uniform(0.3, 0.45), rng.uniform(1.2, 1.5), rng)


def add_furniture(room: Room, name: str, recipe: Recipe, rng: Generator) -> None:
    """Add a piece of furniture at a free place, with things on it if it is a table."""
    solids = {part: meshes for part, meshes in recipe(rng).items() if meshes}
    corners = join([join(meshes) for meshes in solids.values()]).corners.reshape(-1, 3)
    middle, low = (corners.min(0) + corners.max(0)) / 2, float(corners[:, 1].min())
    radius = float(np.linalg.norm((corners - middle)[:, [0, 2]], axis=1).max())
    place = room.find_place(0.8 * radius, rng)
    if place is None or np.ptp(corners[:, 1]) > room.size[1] - 0.1:
        return
    angle = float(rng.uniform(0, 360))

    def put(mesh: Mesh) -> Mesh:
        centered = mesh.moved(x=-float(middle[0]), y=-low, z=-float(middle[2]))
        return centered.turned("y", angle).moved(x=place[0], z=place[1])

    for meshes in solids.values():
        room.add(put(join(meshes)), name, material(rng))
    if name == "table":
        top = float(np.ptp(corners[:, 1]))
        for _ in range(int(rng.integers(0, 4))):
            thing = join([join(meshes) for meshes in ON_TABLES[rng.integers(len(ON_TABLES))](rng).values() if meshes])
            small = thing.stretched(SMALL, SMALL, SMALL)
            away = rng.uniform(-0.35, 0.35, 2) * radius
            x, z = place[0] + float(away[0]), place[1] + float(away[1])
            room.add(small.moved(x=x, y=top - float(small.corners[..., 1].min()), z=z), "clutter", material(rng))
