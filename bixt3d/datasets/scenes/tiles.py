"""Procedural tiles of an aerial laser scan: no download."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, Shaped

from bixt3d.datasets.scenes.source import ProceduralScenes
from bixt3d.datasets.scenes.tile_layout import (
    CLASSES,
    INTENSITY,
    LAS_CODES,
    Tile,
    add_building,
    add_bush,
    add_car,
    add_ground,
    add_line,
    add_tree,
)

ORIGIN = (448_000.0, 5_411_000.0, 212.0)
"""Lowest corner of the first tile, in metres: coordinates as in UTM."""
DIGITS = 3
"""Decimals of the coordinates: millimetres."""

Columns = dict[str, Shaped[np.ndarray, "N 1"]]


def make_tile_cloud(
    rng: np.random.Generator, side: float = 64.0, density: float = 8.0
) -> tuple[Float[np.ndarray, "N 3"], Columns, Int[np.ndarray, " N"]]:
    """Generate a tile; return points (z up, in metres, map coordinates), their columns, and their classes.

    Columns: ``intensity`` (0 to 65535), ``return_number``, ``number_of_returns``.
    """
    tile = Tile(side, density, rng)
    add_ground(tile)
    for add, most in ((add_building, 6), (add_tree, 30), (add_bush, 20), (add_car, 12)):
        for _ in range(int(rng.integers(most // 3, most + 1))):
            add(tile)
    if rng.random() < 0.7:
        add_line(tile)
    points, label, number, total = (
        np.concatenate(part)
        for part in zip(*((xyz, np.full(len(xyz), k), *more) for xyz, k, *more in tile.blocks), strict=True)
    )
    points[:, 2] += rng.normal(0, 0.02, len(points))
    order = rng.permutation(len(points))
    shine = np.array(INTENSITY)[label] * rng.lognormal(0, 0.35, len(label))
    columns = {
        "intensity": np.clip(shine * 40_000, 0, 65_535).astype(np.uint16)[order, None],
        "return_number": number.astype(np.uint8)[order, None],
        "number_of_returns": total.astype(np.uint8)[order, None],
    }
    corner = np.array(ORIGIN) + (*np.floor(rng.uniform(0, 1000, 2)), 0)
    return (points[order] + corner).round(DIGITS), columns, label[order]


class Tiles(ProceduralScenes):
    """Procedural aerial tiles of 64 m: ground, vegetation, buildings, cars, poles, wires and water; units are metres.

    Columns: ``intensity``, ``return_number``, ``number_of_returns``, and ``height``. The arguments are those of
    `ProceduralScenes`; take ``grid=0.5`` and ``shape="cylinder"``.
    """

    class_names, codes = CLASSES, LAS_CODES

    def make(self, rng: np.random.Generator) -> tuple[np.ndarray, Columns, np.ndarray]:
        return make_tile_cloud(rng)


def write_tile(path: Path, seed: int, split: int = 1, index: int = 0) -> None:
    """Write a tile as LAS or LAZ, with its classes as ``classification``: a scan of one's own to try things on."""
    from bixt3d.datasets.files.las_new import write_las

    xyz, columns, label = make_tile_cloud(np.random.default_rng((seed, split, index)))
    codes = np.array(LAS_CODES, np.uint8)[label][:, None]
    write_las(path, xyz, columns | {"classification": codes})
