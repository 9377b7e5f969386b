"""Procedural CAD-like objects of 16 categories with labelled parts: a data set that needs no download.

Each category is a short recipe that draws a style and proportions, and returns the solids of each part.
"""

from collections.abc import Callable
from difflib import get_close_matches

import numpy as np
import torch
from jaxtyping import Float32, Int64
from numpy import ndarray
from numpy.random import Generator

from bixt3d.datasets.primitives import (
    Mesh,
    around,
    both_sides,
    bowl,
    box,
    cylinder,
    ellipsoid,
    extrude,
    four_corners,
    join,
    lathe,
    rotation,
    sample_surface,
    sleeve,
    spline,
    torus,
    tube,
)
from bixt3d.datasets.source import CloudSource
from bixt3d.types import CloudSet, InputError

Solids = dict[str, list[Mesh]]
"""The meshes of each part; a part that this object has not is absent or empty."""


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


def bed(rng: Generator) -> Solids:
    """A mattress on a frame with feet, with or without a headboard, a footboard and pillows."""
    width, length, height = rng.uniform([0.8, 1.7, 0.15], [1.9, 2.2, 0.5])
    soft, thick = rng.uniform(0.75, 0.95), rng.uniform(0.12, 0.28)
    mattress = ellipsoid(0.97 * width, thick, 0.97 * length, soft).moved(y=height + 0.4 * thick)
    frame = box(width, 0.12, length).moved(y=height - 0.12)
    foot = box(0.08, height, 0.08, rng.uniform(0.8, 1.8)).moved(x=width / 2 - 0.08, z=length / 2 - 0.08)
    pillow = ellipsoid(rng.uniform(0.4, 0.6), 0.14, 0.35, 0.4).moved(y=height + thick, z=0.25 - length / 2)
    pillows = [[], [pillow], [both_sides(pillow.moved(x=width / 4))]][
        rng.integers(3) if width > 1.2 else rng.integers(2)
    ]
    boards = [_board(rng, width, height + rng.uniform(0.3, 0.8)).moved(z=-length / 2 - 0.03)]
    boards += [_board(rng, width, height + rng.uniform(0.1, 0.35)).moved(z=length / 2 + 0.03)] * _maybe(rng, 0.4)
    boards *= _maybe(rng, 0.85)
    return {"mattress": [mattress], "frame": [frame, four_corners(foot)], "board": boards, "pillow": pillows}


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
    if _maybe(rng, 0.25):
        body = body.stretched(z=rng.uniform(0.5, 0.9))
    top = height + slope
    cap = [cylinder(1.25 * neck, rng.uniform(0.06, 0.15)).moved(y=top + rise)] * _maybe(rng, 0.7)
    return {"body": [body], "neck": [sleeve(neck, neck * rng.uniform(0.8, 1.1), rise).moved(y=top)], "cap": cap}


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
    bumpers = [bumper, bumper.stretched(z=-1)] * _maybe(rng, 0.5)
    return {"body": [body], "cabin": [cabin], "wheel": [four_corners(tyre)], "bumper": bumpers}


def chair(rng: Generator) -> Solids:
    """A seat with a solid, slatted or curved back; four legs, runners or a swivel foot; arms or none."""
    width, depth, height, rise = rng.uniform([0.4, 0.4, 0.3, 0.2], [0.75, 0.7, 0.7, 0.8])
    thick = rng.uniform(0.04, 0.2)
    round_seat = _maybe(rng, 0.25)
    seat = cylinder(0.5, thick).stretched(width, 1, depth) if round_seat else box(width, thick, depth)
    back = _board(rng, width, rise).turned("x", -rng.uniform(0, 15)).moved(y=height + thick, z=-0.46 * depth)
    if _maybe(rng, 0.2):
        back = ellipsoid(width, rise, 0.2, 0.7).moved(y=height + 0.5 * rise, z=-0.42 * depth)
    arms = []
    if _maybe(rng, 0.4):
        rest = height + thick + rng.uniform(0.15, 0.28)
        x, front = width / 2, rng.uniform(0, 0.4) * depth
        arms = [both_sides(tube([(x, height, front), (x, rest, front), (x, rest, -depth / 2)], 0.025, 4))]
    reach = 0.3 if round_seat else 0.43
    kind = rng.choice(["legs", "legs", "runners", "swivel"])
    return {
        "seat": [seat.moved(y=height)],
        "back": [back],
        "leg": _legs(rng, kind, height, reach * width, reach * depth),
        "arm": arms,
    }


def guitar(rng: Generator) -> Solids:
    """An acoustic body with a waist or an electric one with horns, a long neck, a head with pegs, and a bridge."""
    length, width, neck = rng.uniform([0.7, 0.45, 0.6], [1.0, 0.75, 1.1])
    waist = rng.uniform(0.55, 0.85)
    half = [(0, 0), (0.7, 0.03), (1, 0.3), (waist, 0.58), (0.72, 0.85), (0.35, 1), (0, 0.98)]
    if _maybe(rng, 0.4):
        half[4:6] = [(0.75, 0.95), (0.55, 1.1), (0.25, 0.92)]
    right = np.array(half)
    left = right[-2:0:-1] * (-1, 1 if _maybe(rng, 0.5) else 0.94)
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
    return _either_way_up(rng, {"handle": [handle], "head": [head], "grip": [grip] * _maybe(rng, 0.5)})


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
    handle = lathe([(0, 0), *side, (0, reach)]) if _maybe(rng, 0.5) else box(grip, reach, 1.2 * grip)
    guard = ellipsoid(width * rng.uniform(1.4, 2.5), 0.05, 0.1, 0.5)
    handle = handle.stretched(z=0.5).moved(y=-reach)
    return _either_way_up(rng, {"blade": [blade], "handle": [handle], "guard": [guard] * _maybe(rng, 0.5)})


def lamp(rng: Generator) -> Solids:
    """A shade on a pole, on a bellied base, on a bent arm, or hanging from the ceiling."""
    wide, tall = rng.uniform(0.18, 0.5), rng.uniform(0.2, 0.45)
    shade = sleeve(wide, wide * rng.uniform(0.3, 1), tall)
    if _maybe(rng, 0.25):
        shade = lathe(spline([(wide, 0), (0.9 * wide, 0.5 * tall), (0.05, tall)], 8))
    length, foot = rng.uniform(0.5, 1.6), rng.uniform(0.15, 0.35)
    plate = cylinder(foot, rng.uniform(0.02, 0.08), rng.uniform(0.3, 1) * foot)
    belly = lathe([(0, 0), *spline([(0.6 * foot, 0), (foot, 0.25), (0.1, 0.6)], 9)]).stretched(y=rng.uniform(0.6, 1.2))
    bent = spline([(0, 0, 0), (0.1, 0.6 * length, -0.25), (0, length, 0.2), (0, 0.8 * length + tall, 0.45)], 10)
    pole = tube([(0, 0, 0), (0, length, 0)], 0.02)
    style = rng.integers(4)
    if style == 0:
        return {"shade": [shade.moved(y=length - tall / 2)], "pole": [pole], "base": [plate]}
    if style == 1:
        return {"shade": [shade.moved(y=0.65)], "pole": [pole.stretched(y=0.7 / length)], "base": [belly]}
    if style == 2:
        tilted = shade.moved(y=-tall).turned("x", -30).moved(*bent[-1])
        return {"shade": [tilted.stretched(0.8, 1, 1)], "pole": [tube(bent, 0.02)], "base": [plate]}
    hung = plate.stretched(0.5, -1, 0.5).moved(y=length + tall)
    return {"shade": [shade], "pole": [pole.moved(y=tall)], "base": [hung]}


def mug(rng: Generator) -> Solids:
    """An open cup, straight, flared or bellied, with a round or square handle, and maybe a saucer."""
    radius, height, thin = rng.uniform([0.25, 0.4, 0.02], [0.5, 1.1, 0.05])
    foot, belly = radius * rng.uniform([0.5, 0.8], [1.1, 1.3])
    side = spline([(foot, 0), (belly, 0.45 * height), (radius, height)], 8)
    low, high = rng.uniform([0.15, 0.65], [0.35, 0.9]) * height
    inner, outer = 0.95 * np.interp([low, high], side[:, 1], side[:, 0]), belly + rng.uniform(0.15, 0.32)
    corners = [(inner[0], low, 0), (outer, low, 0), (outer, high, 0), (inner[1], high, 0)]
    ear = [corners[0], (outer, 0.7 * low + 0.3 * high, 0), (outer, 0.2 * low + 0.8 * high, 0), corners[3]]
    path = corners if _maybe(rng, 0.3) else spline(ear, 12)
    saucer = bowl([(radius, -0.1), (rng.uniform(1.4, 2) * radius, 0.04)], 0.03)
    handle = tube(path, rng.uniform(0.025, 0.05)).stretched(z=rng.uniform(1, 1.8))
    return {"body": [bowl(side, thin)], "handle": [handle], "saucer": [saucer] * _maybe(rng, 0.2)}


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
    boosters = [around(booster, 2, rng.uniform(0, 180))] * _maybe(rng, 0.3)
    return {"body": [hull], "nose": [nose], "fin": [fins], "nozzle": [nozzle], "booster": boosters}


def shelf(rng: Generator) -> Solids:
    """Boards between two sides or four posts, low and wide or tall, with or without a back and a divider."""
    width, height, depth = rng.uniform([0.5, 0.4, 0.25], [1.6, 1.9, 0.65])
    count, thick = rng.integers(3, 4 + int(2 * height)), rng.uniform(0.025, 0.06)
    floor = rng.uniform(0, 0.12)
    boards = [box(width, thick, depth).moved(y=y) for y in np.linspace(floor, height - thick, count)]
    side = box(thick, height, depth).moved(x=width / 2)
    post = box(0.06, height + rng.uniform(0, 0.1), 0.06).moved(x=width / 2, z=depth / 2 - 0.03)
    sides = both_sides(side) if _maybe(rng, 0.6) else four_corners(post)
    back = [box(width, height - floor, 0.02).moved(y=floor, z=-depth / 2)] * _maybe(rng, 0.5)
    divider = box(thick, height - floor, 0.95 * depth).moved(x=rng.uniform(-0.2, 0.2) * width, y=floor)
    return {"board": boards, "side": [sides], "back": back, "divider": [divider] * _maybe(rng, 0.3)}


def sofa(rng: Generator) -> Solids:
    """A padded seat for one to three with a back, arms or none, on feet or a plinth, maybe with a corner seat."""
    width, depth, height, rise = rng.uniform([0.65, 0.6, 0.25, 0.2], [2.2, 0.95, 0.5, 0.65])
    soft, arm = rng.uniform(0.6, 0.95), rng.uniform(0.1, 0.25)
    count = int(width / 0.65)
    cushion = ellipsoid(width / count, 0.2, depth, soft)
    places = (np.arange(count) - (count - 1) / 2) * width / count
    seat = [box(width, 0.6 * height, depth).moved(y=0.4 * height)]
    seat += [cushion.moved(x=x, y=height + 0.05) for x in places]
    if width > 1.3 and _maybe(rng, 0.3):
        seat.append(ellipsoid(0.65, height, 0.8, soft).moved(x=width / 2 - 0.32, y=0.7 * height, z=0.9 * depth))
    back = ellipsoid(width, rise + height, 0.25, soft).turned("x", -rng.uniform(0, 15))
    back = back.moved(y=height + 0.3 * rise, z=-depth / 2)
    rest = (
        ellipsoid(arm, height + 0.15, depth, soft)
        if _maybe(rng, 0.6)
        else box(arm, height, depth).moved(y=-0.4 * height)
    )
    rest = both_sides(rest.moved(x=(width + arm) / 2, y=0.3 * height + 0.2))
    foot = cylinder(0.03, 0.45 * height, 0.05).moved(x=width / 2 - 0.08, z=depth / 2 - 0.08)
    feet = [four_corners(foot)] * _maybe(rng, 0.7)
    return {"seat": seat, "back": [back], "arm": [rest] * _maybe(rng, 0.8), "foot": feet}


def stool(rng: Generator) -> Solids:
    """A round, square or padded seat without a back on three or four legs or a pedestal, maybe with a footrest."""
    width, height, thick = rng.uniform([0.35, 0.3, 0.03], [0.65, 0.9, 0.14])
    deep = width * rng.uniform(0.75, 1)
    seat = [
        cylinder(width / 2, thick),
        box(width, thick, deep),
        ellipsoid(width, 2 * thick, deep, 0.6).moved(y=thick),
    ][rng.integers(3)]
    kind = rng.choice(["legs", "legs", "tripod", "pedestal", "swivel"])
    reach = rng.uniform(0.28, 0.36)
    legs = _legs(rng, kind, height, reach * width, reach * deep)
    ring = torus(rng.uniform(0.33, 0.45) * width, 0.015).moved(y=rng.uniform(0.25, 0.45) * height)
    return {"seat": [seat.moved(y=height)], "leg": legs, "footrest": [ring] * _maybe(rng, 0.4)}


def table(rng: Generator) -> Solids:
    """A round, oval or rectangular top on four legs, a pedestal, three legs or panels, maybe with a tray or drawer."""
    width, depth, height = rng.uniform([0.5, 0.4, 0.35], [1.9, 1.0, 0.95])
    thick = rng.uniform(0.03, 0.09)
    is_round = _maybe(rng, 0.4)
    if is_round and _maybe(rng, 0.6):
        depth = width = min(width, 1.2)
    top = cylinder(0.5, thick).stretched(width, 1, depth) if is_round else box(width, thick, depth)
    kinds = ["legs", "pedestal", "tripod", "swivel"] if is_round else ["legs", "legs", "panels", "runners", "pedestal"]
    kind = rng.choice(kinds)
    reach = 0.32 if is_round else 0.44
    legs = _legs(rng, kind, height, reach * width, reach * depth)
    tray = (cylinder(0.5, 0.03) if is_round else box(1, 0.03, 1)).stretched(0.6 * width, 1, 0.6 * depth)
    drawer = box(0.8 * width, 0.12, 0.75 * depth).moved(y=height - 0.12)
    below = [tray.moved(y=rng.uniform(0.2, 0.5) * height)] if is_round or _maybe(rng, 0.5) else [drawer]
    return {"top": [top.moved(y=height)], "leg": legs, "tray": below * _maybe(rng, 0.35)}


def vase(rng: Generator) -> Solids:
    """A vessel of any turned outline, maybe with one or two handles, empty or with flowers or leaves."""
    radius, height = rng.uniform([0.2, 0.5], [0.42, 1.1])
    curve = radius * rng.uniform([0.45, 0.7, 0.7, 0.25, 0.25], [0.95, 1.3, 1.2, 1.0, 1.2])
    side = spline(np.stack([curve, height * np.array([0, 0.25, 0.55, 0.85, 1])], axis=1), 12)
    handle = spline([(0.9 * curve[2], 0.5), (1.2 * radius + 0.1, 0.68), (curve[3], 0.85)], 8) * (1, height)
    handle = tube(np.pad(handle, ((0, 0), (0, 1))), 0.03)
    handles = [[], [], [], [handle], [both_sides(handle)]][rng.integers(5)]
    stems, flowers = [], []
    if _maybe(rng, 0.45):
        leaf = [ellipsoid(0.22, 0.12, 0.22), ellipsoid(0.12, 0.4, 0.03), cylinder(0.03, 0.12, 0.13)][rng.integers(3)]
        for _ in range(rng.integers(2, 6)):
            x, z = rng.uniform(-0.45, 0.45, 2)
            end = np.array([x, height + rng.uniform(0.25, 0.7), z])
            stems.append(tube(spline([(0, 0.1, 0), (0, height, 0), end], 6), 0.012, 6))
            flowers.append(leaf.turned("z", -60 * x).turned("x", 60 * z).moved(*end))
    return {"body": [bowl(side, 0.02)], "handle": handles, "stem": stems, "flower": flowers}


def _maybe(rng: Generator, chance: float) -> bool:
    return bool(rng.random() < chance)


def _either_way_up(rng: Generator, solids: Solids) -> Solids:
    """Return a tool as it is or, one time in three, upside down."""
    turn = 180 * _maybe(rng, 1 / 3)
    return {name: [mesh.turned("z", turn) for mesh in meshes] for name, meshes in solids.items()}


def _wing(span: float, chord: float, sweep: float, taper: float) -> Mesh:
    """Return a right wing in the plane y = 0: from the origin to the right, its rear edge behind it."""
    outline = [(0, 0), (span, -sweep), (span, -sweep - taper * chord), (0, -chord)]
    return extrude(outline, 0.035).turned("x", 90)


def _board(rng: Generator, width: float, height: float) -> Mesh:
    """Return an upright panel on y = 0: solid, arched, of upright slats or of cross rails."""
    kind = rng.choice(["solid", "arch", "slats", "rails"])
    if kind == "solid":
        return box(width, height, rng.uniform(0.03, 0.08), rng.uniform(0.8, 1.1))
    if kind == "arch":
        outline = [(-1, 0), (1, 0), (1, 0.5), (0.8, 0.8), (0.4, 0.96), (0, 1), (-0.4, 0.96), (-0.8, 0.8), (-1, 0.5)]
        return extrude(np.array(outline) * (width / 2, height), 0.05)
    post = both_sides(box(0.06, height, 0.05).moved(x=width / 2 - 0.03))
    rail = box(width - 0.06, rng.uniform(0.06, 0.12), 0.04)
    if kind == "rails":
        return join([post, *[rail.moved(y=y) for y in np.linspace(0.3, 0.85, rng.integers(2, 5)) * height]])
    slats = [box(0.035, 0.9 * height, 0.02).moved(x=x) for x in np.linspace(-0.35, 0.35, rng.integers(3, 7)) * width]
    return join([post, rail.moved(y=0.85 * height), *slats])


def _legs(rng: Generator, kind: str, height: float, x: float, z: float) -> list[Mesh]:
    """Return what carries a top at ``height``: legs that meet it at (x, z), or runners, panels, a foot of one pole."""
    thick, splay, sides = rng.uniform(0.018, 0.04), rng.uniform(0.95, 1.3), int(rng.choice([4, 8]))
    if kind == "legs":
        return [four_corners(tube([(splay * x, 0, splay * z), (x, height, z)], [0.8 * thick, thick], sides))]
    if kind == "tripod":
        return [around(tube([(0, 0, splay * x), (0, height, 0.9 * x)], [0.8 * thick, thick], sides), 3)]
    if kind == "runners":
        return [both_sides(tube([(x, height, z), (x, 0, z), (x, 0, -z), (x, height, -z)], thick, 4))]
    if kind == "panels":
        return [both_sides(box(0.05, height, 2 * z).moved(x=x))]
    pole = cylinder(rng.uniform(0.03, 0.07), height)
    if kind == "pedestal":
        return [pole, cylinder(rng.uniform(0.8, 1.2) * min(x, z), 0.04, 0.1)]
    foot = tube([(0, 0.12, 0), (0, 0.02, 1.1 * max(x, z))], 0.03, 4)
    return [pole, around(foot, int(rng.integers(4, 6)))]


RECIPES: dict[str, tuple[Callable[[Generator], Solids], tuple[str, ...]]] = {
    "airplane": (airplane, ("body", "wing", "tail", "engine")),
    "bed": (bed, ("mattress", "frame", "board", "pillow")),
    "bottle": (bottle, ("body", "neck", "cap")),
    "car": (car, ("body", "cabin", "wheel", "bumper")),
    "chair": (chair, ("seat", "back", "leg", "arm")),
    "guitar": (guitar, ("body", "neck", "head", "bridge")),
    "hammer": (hammer, ("handle", "head", "grip")),
    "knife": (knife, ("blade", "handle", "guard")),
    "lamp": (lamp, ("shade", "pole", "base")),
    "mug": (mug, ("body", "handle", "saucer")),
    "rocket": (rocket, ("body", "nose", "fin", "nozzle", "booster")),
    "shelf": (shelf, ("board", "side", "back", "divider")),
    "sofa": (sofa, ("seat", "back", "arm", "foot")),
    "stool": (stool, ("seat", "leg", "footrest")),
    "table": (table, ("top", "leg", "tray")),
    "vase": (vase, ("body", "handle", "stem", "flower")),
}
CLASS_NAMES = tuple(RECIPES)
PART_NAMES = tuple(f"{category}/{part}" for category, (_, parts) in RECIPES.items() for part in parts)
CLASS_PARTS = {
    category: tuple(PART_NAMES.index(f"{category}/{part}") for part in parts)
    for category, (_, parts) in RECIPES.items()
}


def make_shape(
    category: str, num_points: int, rng: Generator
) -> tuple[Float32[ndarray, "N 3"], Float32[ndarray, "N 3"], Int64[ndarray, " N"]]:
    """Return the points of a new object, their outward normals, and their parts as indices into ``PART_NAMES``.

    The object is upright along y and looks along +z, up to a few degrees; it is centred and fills the unit sphere.
    Raises InputError if there is no such category or ``num_points`` is not positive.
    """
    if category not in RECIPES:
        near = get_close_matches(category, CLASS_NAMES, 1, cutoff=0) or CLASS_NAMES
        raise InputError(f"there is no category {category!r}: did you mean {near[0]!r} of {', '.join(CLASS_NAMES)}?")
    if num_points < 1:
        raise InputError(f"num_points must be positive, not {num_points}")
    recipe, parts = RECIPES[category]
    solids = recipe(rng)
    stretch = rng.lognormal(0, (0.07, 0.15, 0.07))
    names = [name for name in parts if solids.get(name)]
    meshes = [join(solids[name]).stretched(*stretch) for name in names]
    xyz, normals, index = sample_surface(meshes, num_points, rng)
    pose = rotation("y", rng.uniform(-15, 15)) @ rotation("x", rng.normal(0, 3)) @ rotation("z", rng.normal(0, 3))
    pose = pose * (rng.choice([-1, 1]), 1, 1)  # half of the objects are mirrored, left to right
    xyz, normals = (xyz - xyz.mean(axis=0)) @ pose.T, normals @ pose.T
    xyz /= max(np.linalg.norm(xyz, axis=1).max(), 1e-12)
    part = np.array([CLASS_PARTS[category][parts.index(name)] for name in names], dtype=np.int64)[index]
    return xyz.astype(np.float32), normals.astype(np.float32), part


class Shapes(CloudSource):
    """Procedural objects of 16 categories (airplane to vase) with labelled parts; nothing to download.

    Args:
        train_per_class: objects of each category in the training set.
        test_per_class: objects of each category in the test set.
        seed: another seed makes other objects.
        num_points: points of each object.
        normals: give the surface normals to the model as features of the points.
        val_fraction: share of the training clouds of each class set aside to select on (0: none).
    """

    def __init__(
        self,
        train_per_class: int = 100,
        test_per_class: int = 25,
        seed: int = 0,
        num_points: int = 1024,
        normals: bool = False,
        val_fraction: float = 0.0,
    ):
        super().__init__(num_points, normals, val_fraction)
        sizes = {"train_per_class": train_per_class, "test_per_class": test_per_class, "num_points": num_points}
        for name, size in sizes.items():
            if size < 1:
                raise InputError(f"{name} must be positive, not {size}")
        if seed < 0:
            raise InputError(f"seed must not be negative, not {seed}")
        self.train_per_class = train_per_class
        self.test_per_class = test_per_class
        self.seed = seed

    def load(self) -> tuple[CloudSet, CloudSet]:
        """Return the training and the test set; an object depends on the seed, its split, class and index alone."""
        return self._make(0, self.train_per_class), self._make(1, self.test_per_class)

    def _make(self, split: int, per_class: int) -> CloudSet:
        shapes = [
            make_shape(category, self.num_points, np.random.default_rng([self.seed, split, label, index]))
            for label, category in enumerate(CLASS_NAMES)
            for index in range(per_class)
        ]
        xyz, normals, parts = (torch.from_numpy(np.stack(arrays)) for arrays in zip(*shapes, strict=True))
        return CloudSet(
            xyz=xyz,
            feats=normals if self.normals else xyz[..., :0],
            label=torch.arange(len(CLASS_NAMES)).repeat_interleave(per_class),
            class_names=CLASS_NAMES,
            parts=parts,
            part_names=PART_NAMES,
            class_parts=CLASS_PARTS,
        )
