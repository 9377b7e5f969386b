"""Layout of a procedural aerial tile: what a laser scanner in a plane sees of terrain, buildings, trees and streets."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.random import Generator

CLASSES = ("ground", "vegetation", "building", "car", "pole", "wire", "water")
LAS_CODES = (2, 5, 6, 64, 65, 14, 9)
"""Classification of each class in a LAS file: ASPRS codes; 64 and 65 are free for own classes."""
INTENSITY = (0.35, 0.25, 0.55, 0.7, 0.5, 0.15, 0.05)
"""Mean intensity of the returns of each class, from 0 to 1."""

Points = Float[np.ndarray, "N 3"]


@dataclass
class Tile:
    """The points of a tile while it is made.

    Args:
        side: length of the square tile, in metres.
        density: pulses per square metre.
        rng: random numbers.
        blocks: points, class, return number and number of returns of each piece.
    """

    side: float
    density: float
    rng: Generator
    blocks: list[tuple[Points, int, Int[np.ndarray, " N"], Int[np.ndarray, " N"]]] = field(default_factory=list)
    taken: list[tuple[float, float, float]] = field(default_factory=list)

    def __post_init__(self):
        waves = self.rng.normal(0, 1, (4, 3))
        self.waves = waves * (1 / 60, 1 / 60, 2.0) + (0, 0, 0)

    def terrain(self, xy: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, " N"]:
        """Return the height of the ground."""
        return sum(size * np.sin(xy[:, 0] * a + xy[:, 1] * b) for a, b, size in self.waves)

    def add(self, points: Points, name: str, number: int = 1, total: int = 1) -> None:
        """Add points of a class, all of one return number."""
        ones = np.ones(len(points), np.int64)
        self.blocks.append((points, CLASSES.index(name), number * ones, total * ones))

    def count(self, area: float | int) -> int:
        """Return the number of pulses on an area."""
        return int(self.rng.poisson(max(area, 0) * self.density))

    def find_place(self, radius: float) -> Float[np.ndarray, "2"] | None:
        """Return a free place for a circle, and take it; None after 30 tries."""
        for _ in range(30):
            place = self.rng.uniform(radius, self.side - radius, 2)
            if all(np.hypot(place[0] - x, place[1] - y) > radius + r for x, y, r in self.taken):
                self.taken.append((float(place[0]), float(place[1]), radius))
                return place
        return None

    def hide(self, inside: Float[np.ndarray, "2"], reach: Float[np.ndarray, "2"], angle: float) -> None:
        """Remove the ground below a rectangle."""
        for place, (points, label, number, total) in enumerate(self.blocks):
            if label in (CLASSES.index("ground"), CLASSES.index("water")):
                kept = ~in_rectangle(points[:, :2], inside, reach, angle)
                self.blocks[place] = (points[kept], label, number[kept], total[kept])


def in_rectangle(
    xy: Float[np.ndarray, "N 2"], center: Float[np.ndarray, "2"], reach: Float[np.ndarray, "2"], angle: float
) -> Bool[np.ndarray, " N"]:
    """Return the mask of points in a rectangle with half sides ``reach``, turned by ``angle``."""
    return (np.abs((xy - center) @ turn(angle)) <= reach).all(1)


def turn(angle: float) -> Float[np.ndarray, "2 2"]:
    """Return the matrix that turns rows (x, y) by an angle."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def add_ground(tile: Tile) -> None:
    """Add the ground, and in some tiles a pond, which few pulses come back from."""
    xy = tile.rng.uniform(0, tile.side, (tile.count(tile.side**2), 2))
    wet = np.zeros(len(xy), bool)
    if tile.rng.random() < 0.5 and (place := tile.find_place(radius := tile.rng.uniform(5, 9))) is not None:
        wet = np.hypot(*(xy - place).T) < radius
        level = tile.terrain(place[None])[0] - 0.5
        pond = xy[wet & (tile.rng.random(len(xy)) < 0.3)]
        tile.add(np.column_stack([pond, np.full(len(pond), level)]), "water")
    dry = xy[~wet]
    tile.add(np.column_stack([dry, tile.terrain(dry) + tile.rng.normal(0, 0.03, len(dry))]), "ground")


def add_building(tile: Tile) -> None:
    """Add a building with a flat, a pent or a gable roof, and a few points on its walls."""
    rng, reach = tile.rng, tile.rng.uniform([4, 3], [9, 6])
    place = tile.find_place(float(np.hypot(*reach)))
    if place is None:
        return
    angle, height = float(rng.uniform(0, np.pi)), float(rng.uniform(3, 9))
    slope, kind = float(rng.uniform(0.3, 0.8)), rng.integers(3)
    local = rng.uniform(-reach, reach, (tile.count(4 * reach.prod()), 2))
    rise = [0 * local[:, 0], slope * (reach[1] - np.abs(local[:, 1])), 0.5 * slope * (local[:, 1] + reach[1])][kind]
    base = float(tile.terrain(place[None])[0])
    tile.hide(place, reach, angle)
    tile.add(np.column_stack([local @ turn(angle).T + place, base + height + rise]), "building")
    wall = rng.uniform(-1, 1, (tile.count(0.3 * reach.sum() * height), 2))
    side = rng.integers(4, size=len(wall))
    edge = (
        np.where(side % 2 == 0, np.sign(side - 1.0), wall[:, 0]),
        np.where(side % 2 == 1, np.sign(side - 2.0), wall[:, 0]),
    )
    xy = np.column_stack(edge) * reach @ turn(angle).T + place
    tile.add(np.column_stack([xy, base + height * (wall[:, 1] + 1) / 2]), "building")


def add_tree(tile: Tile) -> None:
    """Add a tree: the first return on the crown, often a second inside it or on the ground below."""
    rng, radius = tile.rng, float(tile.rng.uniform(1.2, 3.5))
    place = tile.find_place(0.7 * radius)
    if place is None:
        return
    height, thick = float(rng.uniform(4, 14)), float(rng.uniform(0.5, 0.8))
    number = tile.count(np.pi * radius**2)
    away = radius * np.sqrt(rng.random(number))
    angle = rng.uniform(0, 2 * np.pi, number)
    xy = place + np.column_stack([away * np.cos(angle), away * np.sin(angle)])
    base = tile.terrain(xy)
    bulge = np.sqrt(np.maximum(0, 1 - (away / radius) ** 2))
    top = base + height * (1 - thick / 2) + bulge * height * thick / 2 - rng.exponential(0.25, number)
    twice = rng.random(number) < 0.6
    tile.add(np.column_stack([xy, top])[~twice], "vegetation")
    tile.add(np.column_stack([xy, top])[twice], "vegetation", 1, 2)
    low = twice & (rng.random(number) < 0.5)
    tile.add(np.column_stack([xy, base])[low], "ground", 2, 2)
    inner = twice & ~low
    depth = rng.random(inner.sum()) * height * thick * bulge[inner]
    tile.add(np.column_stack([xy[inner], top[inner] - depth]), "vegetation", 2, 2)


def add_bush(tile: Tile) -> None:
    """Add low vegetation."""
    radius = float(tile.rng.uniform(0.5, 2))
    if (place := tile.find_place(radius)) is not None:
        xy = place + tile.rng.uniform(-radius, radius, (tile.count(4 * radius**2), 2))
        bulge = np.maximum(0, 1 - (((xy - place) / radius) ** 2).sum(1))
        tall = np.column_stack([xy, tile.terrain(xy) + tile.rng.uniform(0.3, 1.5) * bulge + 0.2])[bulge > 0]
        tile.add(tall, "vegetation")


def add_car(tile: Tile) -> None:
    """Add a car: two boxes."""
    if (place := tile.find_place(2.4)) is not None:
        reach, angle = tile.rng.uniform([1.8, 0.8], [2.3, 1.0]), float(tile.rng.uniform(0, np.pi))
        local = tile.rng.uniform(-reach, reach, (tile.count(4 * reach.prod()), 2))
        top = np.where(np.abs(local[:, 0] + 0.2) < 0.55 * reach[0], 1.5, 0.9) + tile.terrain(place[None])[0]
        tile.hide(place, reach, angle)
        tile.add(np.column_stack([local @ turn(angle).T + place, top]), "car")


def add_line(tile: Tile) -> None:
    """Add a power line: poles at equal distances, and wires that hang between them."""
    rng, height = tile.rng, float(tile.rng.uniform(8, 12))
    start, end = np.array([0.0, rng.uniform(0, tile.side)]), np.array([tile.side, rng.uniform(0, tile.side)])
    number = int(tile.side // 25) + 1
    poles = start + (end - start) * np.linspace(0.08, 0.92, number)[:, None]
    bases = tile.terrain(poles)
    for pole, base in zip(poles, bases, strict=True):
        tall = rng.uniform(0, height, tile.count(6))
        tile.add(np.column_stack([pole + rng.normal(0, 0.1, (len(tall), 2)), base + tall]), "pole")
    for first in range(number - 1):
        ends = poles[first : first + 2], bases[first : first + 2] + height - 0.3
        for offset in (-0.8, 0.0, 0.8):
            along = rng.random(tile.count(0.25 * np.linalg.norm(ends[0][1] - ends[0][0])))[:, None]
            across = np.array([-(end - start)[1], (end - start)[0]]) / np.linalg.norm(end - start) * offset
            xy = ends[0][0] + along * (ends[0][1] - ends[0][0]) + across
            sag = 1.5 * 4 * along[:, 0] * (1 - along[:, 0])
            tile.add(np.column_stack([xy, ends[1][0] + along[:, 0] * (ends[1][1] - ends[1][0]) - sag]), "wire")
