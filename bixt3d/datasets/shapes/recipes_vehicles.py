"""Recipes of vehicles: airplane, car and rocket."""

import numpy as np
from numpy.random import Generator

from bixt3d.datasets.files.surface import Mesh, around, both_sides, four_corners
from bixt3d.datasets.shapes.primitives import box, cylinder, extrude, lathe, sleeve, spline
from bixt3d.datasets.shapes.recipe import Solids, optional


def airplane(rng: Generator) -> Solids:
    """A fuselage with swept or straight wings, high or low, a tail fin with a tailplane, and maybe engines."""
    length, girth = rng.uniform(1.5, 2.6), rng.uniform(0.09, 0.22)
    span, chord, sweep = rng.uniform([0.6, 0.22, -0.05], [1.4, 0.6, 0.7])
    line = [(0, 0), (0.5, 0.1), (0.95, 0.3), (1, 0.5), (1, 0.7), (0.8, 0.88), (0.5, 0.97), (0, 1)]
    body = lathe(spline(np.array(line) * (girth, length), 16)).moved(y=-length / 2).turned("x", 90)
    level = girth * rng.choice([-0.6, 0.0, 0.8])
    wing = _wing(span, chord, sweep, rng.uniform(0.15, 0.9)).turned("z", rng.uniform(-3, 8)).moved(y=level, z=chord / 2)
    rise, rear = rng.uniform(0.3, 0.5), -length / 2
    fin = _wing(rise, 0.35, 0.25, 0.6).turned("z", 90).moved(z=rear + 0.35)
    y, z = [(0, 0.3), (rise, 0.08)][rng.integers(2)]
    plane = _wing(0.25 * span + 0.15, 0.25, 0.4 * sweep, 0.6).moved(y=y, z=rear + z)
    engine = lathe([(0, 0), (0.05, 0), (0.08, 0.2), (0.06, 0.3), (0, 0.28)]).turned("x", 90)
    under = [(x * span, level - 0.1, 0.1 - x * sweep) for x in (0.3, 0.6)[: rng.integers(3)]]
    engines = [both_sides(engine.moved(x, y, z)) for x, y, z in under]
    return {"body": [body], "wing": [both_sides(wing)], "tail": [both_sides(plane), fin], "engine": engines}


def car(rng: Generator) -> Solids:
    """A sedan, van, pickup or hatchback: the body, a cabin of that kind, four wheels and maybe bumpers."""
    length, width, height = rng.uniform([1.6, 0.65, 0.2], [2.4, 0.9, 0.36])
    nose, wheel = rng.uniform(0.6, 1), rng.uniform(0.14, 0.24)
    side = np.array([(-1, 0), (1, 0), (1.02, 0.6 * nose), (0.9, nose), (0.3, 1), (-0.95, 1), (-1.02, 0.6)])
    body = extrude(side * (length / 2, height), width).turned("y", -90).moved(y=wheel)
    low, roof = [
        [(-0.75, 0.45), (-0.45, 0.15)], [(-0.98, 0.7), (-0.95, 0.5)],
        [(-0.15, 0.5), (-0.1, 0.3)], [(-0.98, 0.45), (-0.75, 0.1)],
    ][rng.integers(4)]  # sedan, van, pickup, hatchback  # fmt: skip
    tall = rng.uniform(0.28, 0.45)
    outline = np.array([(low[0], 0), (low[1], 0), (roof[1], 1), (roof[0], 1)]) * (length / 2, tall)
    cabin = extrude(outline, width * rng.uniform(0.8, 0.96)).turned("y", -90).moved(y=wheel + height)
    tyre = (
        cylinder(wheel, 0.14).turned("z", 90).moved(x=width / 2 + 0.02, y=wheel, z=rng.uniform(0.56, 0.68) * length / 2)
    )
    bumper = box(width, 0.1, 0.1).moved(y=wheel, z=length / 2)
    bumpers = optional(rng, 0.5, [bumper, bumper.stretched(z=-1)])
    return {"body": [body], "cabin": [cabin], "wheel": [four_corners(tyre)], "bumper": bumpers}


def rocket(rng: Generator) -> Solids:
    """A slim or bellied hull with a pointed or round nose, fins, a nozzle, and maybe boosters at its sides."""
    height, radius = rng.uniform(0.7, 1.7), rng.uniform(0.13, 0.3)
    belly, shoulder = rng.uniform([0.8, 0.5], [1.4, 1]) * radius
    hull = lathe([(0, 0), *spline([(0.85 * radius, 0), (belly, 0.4 * height), (shoulder, height)], 9), (0, height)])
    tip, blunt = rng.uniform(0.15, 0.6), rng.uniform(0.35, 0.95)
    nose = lathe(spline([(shoulder, 0), (blunt * shoulder, 0.55 * tip), (0, tip)], 7)).moved(y=height)
    reach, root, drop = rng.uniform([0.08, 0.12, -0.1], [0.4, 0.5, 0.25])
    inside = 0.8 * radius
    outline = [(inside, root), (inside, 0.02), (inside + reach, -drop), (inside + reach, rng.uniform(0, 0.6) * root)]
    count = int(rng.choice([3, 4]))
    fins = around(extrude(outline, 0.03), count, rng.uniform(0, 90))
    nozzle = sleeve(rng.uniform(0.6, 0.9) * radius, 0.4 * radius, 0.15).moved(y=-0.15)
    slim, long = 0.45 * radius, rng.uniform(0.3, 0.7) * height
    booster = lathe([(0, 0), (slim, 0), (slim, long), (0, long + 2 * slim)]).moved(x=radius + slim)
    boosters = optional(rng, 0.3, [around(booster, 2, rng.uniform(0, 180))])
    return {"body": [hull], "nose": [nose], "fin": [fins], "nozzle": [nozzle], "booster": boosters}


def _wing(span: float, chord: float, sweep: float, taper: float) -> Mesh:
    """Return a right wing in the plane y = 0: from the origin to the right, its rear edge behind it."""
    outline = [(0, 0), (span, -sweep), (span, -sweep - taper * chord), (0, -chord)]
    return extrude(outline, 0.035).turned("x", 90)
