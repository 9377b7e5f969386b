"""Recipes of furniture: bed, chair, lamp, shelf, sofa, stool and table; the front is towards +z."""

import numpy as np
from numpy.random import Generator

from bixt3d.datasets.files.surface import Mesh, around, both_sides, four_corners, join
from bixt3d.datasets.shapes.primitives import box, cylinder, ellipsoid, extrude, lathe, sleeve, spline, torus, tube
from bixt3d.datasets.shapes.recipe import Solids, maybe, optional


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
    boards += optional(rng, 0.4, [_board(rng, width, height + rng.uniform(0.1, 0.35)).moved(z=length / 2 + 0.03)])
    boards *= maybe(rng, 0.85)
    return {"mattress": [mattress], "frame": [frame, four_corners(foot)], "board": boards, "pillow": pillows}


def chair(rng: Generator) -> Solids:
    """A seat with a solid, slatted or curved back; four legs, runners or a swivel foot; arms or none."""
    width, depth, height, rise = rng.uniform([0.4, 0.4, 0.3, 0.2], [0.75, 0.7, 0.7, 0.8])
    thick = rng.uniform(0.04, 0.2)
    round_seat = maybe(rng, 0.25)
    seat = cylinder(0.5, thick).stretched(width, 1, depth) if round_seat else box(width, thick, depth)
    back = _board(rng, width, rise).turned("x", -rng.uniform(0, 15)).moved(y=height + thick, z=-0.46 * depth)
    if maybe(rng, 0.2):
        back = ellipsoid(width, rise, 0.2, 0.7).moved(y=height + 0.5 * rise, z=-0.42 * depth)
    arms = []
    if maybe(rng, 0.4):
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


def lamp(rng: Generator) -> Solids:
    """A shade on a pole, on a bellied base, on a bent arm, or hanging from the ceiling."""
    wide, tall = rng.uniform(0.18, 0.5), rng.uniform(0.2, 0.45)
    shade = sleeve(wide, wide * rng.uniform(0.3, 1), tall)
    if maybe(rng, 0.25):
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


def shelf(rng: Generator) -> Solids:
    """Boards between two sides or four posts, low and wide or tall, with or without a back and a divider."""
    width, height, depth = rng.uniform([0.5, 0.4, 0.25], [1.6, 1.9, 0.65])
    count, thick = rng.integers(3, 4 + int(2 * height)), rng.uniform(0.025, 0.06)
    floor = rng.uniform(0, 0.12)
    boards = [box(width, thick, depth).moved(y=y) for y in np.linspace(floor, height - thick, count)]
    side = box(thick, height, depth).moved(x=width / 2)
    post = box(0.06, height + rng.uniform(0, 0.1), 0.06).moved(x=width / 2, z=depth / 2 - 0.03)
    sides = both_sides(side) if maybe(rng, 0.6) else four_corners(post)
    back = optional(rng, 0.5, [box(width, height - floor, 0.02).moved(y=floor, z=-depth / 2)])
    divider = box(thick, height - floor, 0.95 * depth).moved(x=rng.uniform(-0.2, 0.2) * width, y=floor)
    return {"board": boards, "side": [sides], "back": back, "divider": optional(rng, 0.3, [divider])}


def sofa(rng: Generator) -> Solids:
    """A padded seat for one to three with a back, arms or none, on feet or a plinth, maybe with a corner seat."""
    width, depth, height, rise = rng.uniform([0.65, 0.6, 0.25, 0.2], [2.2, 0.95, 0.5, 0.65])
    soft, arm = rng.uniform(0.6, 0.95), rng.uniform(0.1, 0.25)
    count = int(width / 0.65)
    cushion = ellipsoid(width / count, 0.2, depth, soft)
    places = (np.arange(count) - (count - 1) / 2) * width / count
    seat = [box(width, 0.6 * height, depth).moved(y=0.4 * height)]
    seat += [cushion.moved(x=x, y=height + 0.05) for x in places]
    if width > 1.3 and maybe(rng, 0.3):
        seat.append(ellipsoid(0.65, height, 0.8, soft).moved(x=width / 2 - 0.32, y=0.7 * height, z=0.9 * depth))
    back = ellipsoid(width, rise + height, 0.25, soft).turned("x", -rng.uniform(0, 15))
    back = back.moved(y=height + 0.3 * rise, z=-depth / 2)
    rest = (
        ellipsoid(arm, height + 0.15, depth, soft)
        if maybe(rng, 0.6)
        else box(arm, height, depth).moved(y=-0.4 * height)
    )
    rest = both_sides(rest.moved(x=(width + arm) / 2, y=0.3 * height + 0.2))
    foot = cylinder(0.03, 0.45 * height, 0.05).moved(x=width / 2 - 0.08, z=depth / 2 - 0.08)
    feet = optional(rng, 0.7, [four_corners(foot)])
    return {"seat": seat, "back": [back], "arm": optional(rng, 0.8, [rest]), "foot": feet}


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
    return {"seat": [seat.moved(y=height)], "leg": legs, "footrest": optional(rng, 0.4, [ring])}


def table(rng: Generator) -> Solids:
    """A round, oval or rectangular top on four legs, a pedestal, three legs or panels, maybe with a tray or drawer."""
    width, depth, height = rng.uniform([0.5, 0.4, 0.35], [1.9, 1.0, 0.95])
    thick = rng.uniform(0.03, 0.09)
    is_round = maybe(rng, 0.4)
    if is_round and maybe(rng, 0.6):
        depth = width = min(width, 1.2)
    top = cylinder(0.5, thick).stretched(width, 1, depth) if is_round else box(width, thick, depth)
    kinds = ["legs", "pedestal", "tripod", "swivel"] if is_round else ["legs", "legs", "panels", "runners", "pedestal"]
    kind = rng.choice(kinds)
    reach = 0.32 if is_round else 0.44
    legs = _legs(rng, kind, height, reach * width, reach * depth)
    tray = (cylinder(0.5, 0.03) if is_round else box(1, 0.03, 1)).stretched(0.6 * width, 1, 0.6 * depth)
    drawer = box(0.8 * width, 0.12, 0.75 * depth).moved(y=height - 0.12)
    below = [tray.moved(y=rng.uniform(0.2, 0.5) * height)] if is_round or maybe(rng, 0.5) else [drawer]
    return {"top": [top.moved(y=height)], "leg": legs, "tray": below * maybe(rng, 0.35)}


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
