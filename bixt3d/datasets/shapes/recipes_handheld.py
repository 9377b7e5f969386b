"""Recipes of hand-held objects: bottle, guitar, hammer, knife, mug and vase."""

import numpy as np
from numpy.random import Generator

from bixt3d.datasets.files.surface import both_sides, join
from bixt3d.datasets.shapes.primitives import bowl, box, cylinder, ellipsoid, extrude, lathe, sleeve, spline, tube
from bixt3d.datasets.shapes.recipe import Solids, maybe, optional


def bottle(rng: Generator) -> Solids:
    """A round or square body, a shoulder that narrows to a neck, and a cap, unless it is open."""
    height, radius = rng.uniform(0.5, 1.2), rng.uniform(0.18, 0.34)
    neck, slope, rise = radius * rng.uniform(0.25, 0.75), rng.uniform(0.08, 0.5), rng.uniform(0.05, 0.45)
    waist, foot = radius * rng.uniform([0.75, 0.6], [1.3, 1.1])
    side = spline([(foot, 0.04), (waist, 0.5 * height), (radius, height)], 8)
    shoulder = spline(
        [(radius, height), (0.5 * (radius + neck) + 0.05, height + 0.6 * slope), (neck, height + slope)], 7
    )
    body = lathe([(0, 0), (0.9 * foot, 0), *side, *shoulder[1:]])
    if maybe(rng, 0.25):
        body = body.stretched(z=rng.uniform(0.5, 0.9))
    top = height + slope
    cap = optional(rng, 0.7, [cylinder(1.25 * neck, rng.uniform(0.06, 0.15)).moved(y=top + rise)])
    return {"body": [body], "neck": [sleeve(neck, neck * rng.uniform(0.8, 1.1), rise).moved(y=top)], "cap": cap}


def guitar(rng: Generator) -> Solids:
    """An acoustic body with a waist or an electric one with horns, a long neck, a head with pegs, and a bridge."""
    length, width, neck = rng.uniform([0.7, 0.45, 0.6], [1.0, 0.75, 1.1])
    waist = rng.uniform(0.55, 0.85)
    half = [(0, 0), (0.7, 0.03), (1, 0.3), (waist, 0.58), (0.72, 0.85), (0.35, 1), (0, 0.98)]
    if maybe(rng, 0.4):
        half[4:6] = [(0.75, 0.95), (0.55, 1.1), (0.25, 0.92)]
    right = np.array(half)
    left = right[-2:0:-1] * (-1, 1 if maybe(rng, 0.5) else 0.94)
    outline = spline(np.concatenate([right, left]) * (width / 2, length), 40, closed=True)
    thick = rng.uniform(0.06, 0.22)
    handle = box(0.09, neck + 0.3 * length, 0.04, 0.75).moved(y=0.7 * length, z=thick / 2)
    top = length + neck
    head = box(0.1, rng.uniform(0.16, 0.28), 0.04, rng.uniform(0.8, 1.6)).turned("x", -rng.uniform(0, 15))
    pegs = [both_sides(tube([(0.04, y, 0), (0.11, y, 0)], 0.015)) for y in (0.04, 0.09, 0.14)]
    bridge = box(rng.uniform(0.15, 0.3), 0.05, 0.03).moved(y=0.25 * length, z=thick / 2 + 0.01)
    head = join([head, *pegs]).moved(y=top, z=thick / 2)
    return {"body": [extrude(outline, thick)], "neck": [handle], "head": [head], "bridge": [bridge]}


def hammer(rng: Generator) -> Solids:
    """A handle, maybe with a grip, and the head of a sledge, a mallet, a claw hammer or an axe."""
    length, radius, reach = rng.uniform([0.8, 0.03, 0.14], [1.5, 0.06, 0.3])
    handle = tube(spline([(0, 0, 0), (0.02, length / 2, 0), (0, length, 0)], 6), radius * rng.uniform(0.7, 1, 6))
    size = rng.uniform(0.06, 0.16)
    block = cylinder(size, 2 * reach).moved(y=-reach).turned("z", 90)
    square = box(2 * reach, 1.6 * size, 1.6 * size).moved(y=-0.8 * size)
    face = join([cylinder(0.8 * size, reach).turned("z", -90), ellipsoid(3 * radius, 2 * size, 4 * radius, 0.5)])
    claw = tube(spline([(0, 0, 0), (-0.6 * reach, 0.02, 0.03), (-reach, -0.1, 0.07)], 6), np.linspace(0.04, 0.012, 6))
    claws = [face, claw, claw.stretched(z=-1)]
    blade = extrude([(-0.2, -0.2), (0.6, -0.25), (1.2, -0.6), (1.2, 0.6), (0.6, 0.25), (-0.2, 0.2)], 0.6 * size)
    head = [[block], [square], claws, [blade.stretched(reach, reach)]][rng.integers(4)]
    grip = cylinder(1.35 * radius, rng.uniform(0.2, 0.45) * length)
    head = join(head).moved(y=length)
    return _maybe_upside_down(rng, {"handle": [handle], "head": [head], "grip": optional(rng, 0.5, [grip])})


def knife(rng: Generator) -> Solids:
    """A handle below a pointed, curved or square blade, with or without a guard between them."""
    length, width, reach = rng.uniform([0.6, 0.08, 0.3], [1.3, 0.26, 0.6])
    tips = [
        [(1, 0.6), (0.75, 0.85), (0, 1)], [(1.15, 0.4), (1.1, 0.75), (0.45, 1)],
        [(1.7, 0.05), (1.7, 1), (0, 1)], [(1, 0.85), (0.5, 1), (0, 0.85)],
    ]  # kitchen knife, sabre, cleaver, dagger  # fmt: skip
    outline = np.array([(0, 0), (1, 0), *tips[rng.integers(4)]]) - (0.5, 0)
    blade = extrude(outline * (width, length), rng.uniform(0.01, 0.04))
    grip = width * rng.uniform(0.4, 0.8) if width > 0.15 else width
    side = spline([(0.8, 0), (1, 0.3), (0.8, 0.7), (1, 1)], 9) * (grip / 2, reach)
    handle = lathe([(0, 0), *side, (0, reach)]) if maybe(rng, 0.5) else box(grip, reach, 1.2 * grip)
    guard = ellipsoid(width * rng.uniform(1.4, 2.5), 0.05, 0.1, 0.5)
    handle = handle.stretched(z=0.5).moved(y=-reach)
    return _maybe_upside_down(rng, {"blade": [blade], "handle": [handle], "guard": optional(rng, 0.5, [guard])})


def mug(rng: Generator) -> Solids:
    """An open cup, straight, flared or bellied, with a round or square handle, and maybe a saucer."""
    radius, height, thin = rng.uniform([0.25, 0.4, 0.02], [0.5, 1.1, 0.05])
    foot, belly = radius * rng.uniform([0.5, 0.8], [1.1, 1.3])
    side = spline([(foot, 0), (belly, 0.45 * height), (radius, height)], 8)
    low, high = rng.uniform([0.15, 0.65], [0.35, 0.9]) * height
    inner, outer = 0.95 * np.interp([low, high], side[:, 1], side[:, 0]), belly + rng.uniform(0.15, 0.32)
    corners = [(inner[0], low, 0), (outer, low, 0), (outer, high, 0), (inner[1], high, 0)]
    ear = [corners[0], (outer, 0.7 * low + 0.3 * high, 0), (outer, 0.2 * low + 0.8 * high, 0), corners[3]]
    path = corners if maybe(rng, 0.3) else spline(ear, 12)
    saucer = bowl([(radius, -0.1), (rng.uniform(1.4, 2) * radius, 0.04)], 0.03)
    handle = tube(path, rng.uniform(0.025, 0.05)).stretched(z=rng.uniform(1, 1.8))
    return {"body": [bowl(side, thin)], "handle": [handle], "saucer": optional(rng, 0.2, [saucer])}


def vase(rng: Generator) -> Solids:
    """A vessel of any turned outline, maybe with one or two handles, empty or with flowers or leaves."""
    radius, height = rng.uniform([0.2, 0.5], [0.42, 1.1])
    curve = radius * rng.uniform([0.45, 0.7, 0.7, 0.25, 0.25], [0.95, 1.3, 1.2, 1.0, 1.2])
    side = spline(np.stack([curve, height * np.array([0, 0.25, 0.55, 0.85, 1])], axis=1), 12)
    handle = spline([(0.9 * curve[2], 0.5), (1.2 * radius + 0.1, 0.68), (curve[3], 0.85)], 8) * (1, height)
    handle = tube(np.pad(handle, ((0, 0), (0, 1))), 0.03)
    handles = [[], [], [], [handle], [both_sides(handle)]][rng.integers(5)]
    stems, flowers = [], []
    if maybe(rng, 0.45):
        leaf = [ellipsoid(0.22, 0.12, 0.22), ellipsoid(0.12, 0.4, 0.03), cylinder(0.03, 0.12, 0.13)][rng.integers(3)]
        for _ in range(rng.integers(2, 6)):
            x, z = rng.uniform(-0.45, 0.45, 2)
            end = np.array([x, height + rng.uniform(0.25, 0.7), z])
            stems.append(tube(spline([(0, 0.1, 0), (0, height, 0), end], 6), 0.012, 6))
            flowers.append(leaf.turned("z", -60 * x).turned("x", 60 * z).moved(*end))
    return {"body": [bowl(side, 0.02)], "handle": handles, "stem": stems, "flower": flowers}


def _maybe_upside_down(rng: Generator, solids: Solids) -> Solids:
    """Return a tool as it is or, one time in three, upside down."""
    turn = 180 * maybe(rng, 1 / 3)
    return {name: [mesh.turned("z", turn) for mesh in meshes] for name, meshes in solids.items()}
