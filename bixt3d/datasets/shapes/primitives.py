"""Simple solids as triangle meshes with normals, from which objects are built.

y points up, the front is towards +z; angles are in degrees. Letters: T triangles, K points of a polyline.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from bixt3d.datasets.files.surface import Mesh, Number, join, unit

NUM_SIDES = 20  # of the polygon that approximates a circle


def spline(points: Sequence | ndarray, num: int, closed: bool = False) -> Float[ndarray, "K axes"]:
    """Return ``num`` points of a Catmull-Rom spline through the points; ``closed`` joins its end to its start."""
    points = np.asarray(points, dtype=float)
    ends = (points[-1:], points[:2]) if closed else (points[:1], points[-1:])
    points = np.concatenate([ends[0], points, ends[1]])
    time = np.linspace(0, len(points) - 3, num)
    index = np.minimum(time.astype(int), len(points) - 4)
    t = (time - index)[:, None]
    before, start, end, after = (points[index + k] for k in range(4))
    bend = 2 * before - 5 * start + 4 * end - after + t * (3 * (start - end) + after - before)
    return start + t / 2 * (end - before + t * bend)


def box(width: Number, height: Number, depth: Number, taper: Number = 1.0) -> Mesh:
    """Return a box with its base on y = 0, centred in x and z; its top is ``taper`` times as wide and deep."""
    x, z = np.array([-1, 1, 1, -1]) * width / 2, np.array([1, 1, -1, -1]) * depth / 2
    low = np.stack([x, np.zeros(4), z], axis=1)
    high = np.stack([x * taper, np.full(4, height), z * taper], axis=1)
    sides = [[low[k], low[k - 3], high[k - 3], high[k]] for k in range(4)]
    return _flat_quads(np.array([*sides, high, low[::-1]], dtype=float))


def lathe(profile: Sequence | ndarray) -> Mesh:
    """Return the surface of revolution of a polyline of points (radius, y) about the y axis.

    The outside is to the right of the polyline: the profile of a solid runs from its lowest point upwards.
    """
    profile = np.asarray(profile, dtype=float)
    start, end = _line_normals(profile)
    angle = np.linspace(0, 2 * np.pi, NUM_SIDES + 1)
    cos_sin = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    low, high, low_normal, high_normal = (_sweep(line, cos_sin) for line in (profile[:-1], profile[1:], start, end))
    return Mesh(_split(low, high), _split(low_normal, high_normal))


def cylinder(radius: Number, height: Number, top: Number | None = None) -> Mesh:
    """Return an upright cylinder with its base on y = 0; ``top`` is the radius of its top: 0 makes a cone."""
    return lathe([(0, 0), (radius, 0), (radius if top is None else top, height), (0, height)])


def bowl(profile: Sequence | ndarray, thickness: Number) -> Mesh:
    """Return a vessel that is open at the top: ``profile`` is its outer wall, (radius, y) from bottom to top."""
    outer = np.asarray(profile, dtype=float)
    inner = np.maximum(outer[::-1] - (thickness, 0), 0)
    inner[-1, 1] += thickness
    return lathe(np.concatenate([[(0, outer[0, 1])], outer, inner, [(0, inner[-1, 1])]]))


def sleeve(low_radius: Number, high_radius: Number, height: Number, thickness: Number = 0.01) -> Mesh:
    """Return a thin conical wall from y = 0, open at both ends."""
    outer = [(low_radius, 0), (high_radius, height)]
    return lathe([*outer, (high_radius - thickness, height), (low_radius - thickness, 0), outer[0]])


def torus(radius: Number, thickness: Number) -> Mesh:
    """Return a torus about the y axis; ``thickness`` is the radius of its tube."""
    angle = np.linspace(0, 2 * np.pi, 11)
    return lathe(np.stack([radius + thickness * np.cos(angle), thickness * np.sin(angle)], axis=1))


def ellipsoid(width: Number, height: Number, depth: Number, squareness: Number = 0.0) -> Mesh:
    """Return an ellipsoid about the origin; ``squareness`` near 1 makes it a box with round edges (superellipsoid)."""
    power = 1 - squareness
    tilt, turn = np.linspace(-np.pi / 2, np.pi / 2, 11), np.linspace(0, 2 * np.pi, NUM_SIDES + 1)
    line, circle = (np.stack([np.cos(angle), np.sin(angle)], axis=1) for angle in (tilt, turn))
    radii = np.array([width, height, depth], dtype=float) / 2
    corners = _sweep(_power(line, power), _power(circle, power)) * radii
    normals = unit(_sweep(_power(line, 2 - power), _power(circle, 2 - power)) / radii)
    return Mesh(_split(corners[:-1], corners[1:]), _split(normals[:-1], normals[1:]))


def tube(path: Sequence | ndarray, radius: Number | Sequence | ndarray, sides: int = 8) -> Mesh:
    """Return a bar with flat ends along a path that is nearly planar; it is round, or square with four sides."""
    path = np.asarray(path, dtype=float)
    radius = np.broadcast_to(np.asarray(radius, dtype=float), len(path))
    step = np.gradient(path, axis=0)
    length = np.linalg.norm(step, axis=1, keepdims=True)
    along = step / length
    aside = np.eye(3)[np.abs(along).sum(axis=0).argmin()]
    across = unit(np.cross(aside, along))
    frame = np.stack([across, np.cross(along, across)], axis=1)
    angle = np.linspace(0, 2 * np.pi, sides + 1) + np.pi / sides
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1) @ frame
    rings = path[:, None] + radius[:, None, None] * circle
    if sides < 6:
        return _flat_quads(np.concatenate([_quads(rings[:-1], rings[1:]), *_caps(path, rings)]))
    normals = unit(circle - (np.gradient(radius)[:, None] / length * along)[:, None])
    ends = _flat_quads(np.concatenate(_caps(path, rings)))
    return join([Mesh(_split(rings[:-1], rings[1:]), _split(normals[:-1], normals[1:])), ends])


def extrude(outline: Sequence | ndarray, thickness: Number) -> Mesh:
    """Return an outline in x and y extruded along z, centred on z = 0.

    The outline must be star-shaped about the mean of its points.
    """
    outline = np.asarray(outline, dtype=float)
    if not np.array_equal(outline[0], outline[-1]):
        outline = np.concatenate([outline, outline[:1]])
    (x, y), (next_x, next_y) = outline[:-1].T, outline[1:].T
    if (x * next_y - y * next_x).sum() < 0:
        outline = outline[::-1]
    normals = [np.pad(line, ((0, 0), (0, 1))) for line in _line_normals(outline)]
    back, front = (np.pad(outline, ((0, 0), (0, 1)), constant_values=z) for z in (-thickness / 2, thickness / 2))
    walls = np.stack([back[:-1], back[1:], front[1:], front[:-1]], axis=1)
    walls = Mesh(_halves(walls), _halves(np.stack([normals[0], normals[1], normals[1], normals[0]], axis=1)))
    return join([walls, _fan(front, 1.0), _fan(back, -1.0)])


def _power(values: ndarray, power: Number) -> ndarray:
    return np.sign(values) * np.abs(values) ** power


def _sweep(line: Float[ndarray, "K 2"], circle: Float[ndarray, "sides 2"]) -> Float[ndarray, "K sides 3"]:
    """Return points (radius, y) rotated about the y axis to every (cos, sin)."""
    flat = line[:, None, :1] * circle
    return np.stack([flat[..., 0], np.broadcast_to(line[:, 1:], flat.shape[:2]), flat[..., 1]], axis=-1)


def _line_normals(line: Float[ndarray, "K 2"]) -> tuple[Float[ndarray, "K-1 2"], Float[ndarray, "K-1 2"]]:
    """Return the normals, to the right of each segment, at its start and end; smooth where the bend is small."""
    along = np.diff(line, axis=0)
    normal = np.stack([along[:, 1], -along[:, 0]], axis=1) / np.maximum(np.linalg.norm(along, axis=1), 1e-12)[:, None]
    following = np.roll(normal, -1, axis=0)
    smooth = (normal * following).sum(axis=1) > 0.75
    smooth[-1] &= np.allclose(line[0], line[-1])
    blend = normal + following
    end = np.where(smooth[:, None], blend / np.maximum(np.linalg.norm(blend, axis=1), 1e-12)[:, None], normal)
    start = np.where(np.roll(smooth, 1)[:, None], np.roll(end, 1, axis=0), normal)
    return start, end


def _quads(low: Float[ndarray, "K sides 3"], high: Float[ndarray, "K sides 3"]) -> Float[ndarray, "quads 4 3"]:
    return np.stack([low[:, :-1], low[:, 1:], high[:, 1:], high[:, :-1]], axis=2).reshape(-1, 4, 3)


def _halves(quads: Float[ndarray, "quads 4 3"]) -> Float[ndarray, "T 3 3"]:
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


def _split(low: Float[ndarray, "K sides 3"], high: Float[ndarray, "K sides 3"]) -> Float[ndarray, "T 3 3"]:
    """Return the triangles between consecutive rings of points; ``low`` and ``high`` may be their normals too."""
    return _halves(_quads(low, high))


def _flat_quads(quads: Float[ndarray, "quads 4 3"]) -> Mesh:
    """Return the mesh of flat quads, whose corners are counterclockwise seen from outside."""
    normal = unit(np.cross(quads[:, 2] - quads[:, 0], quads[:, 3] - quads[:, 1]))
    return Mesh(_halves(quads), _halves(np.broadcast_to(normal[:, None], quads.shape)))


def _caps(path: Float[ndarray, "K 3"], rings: Float[ndarray, "K sides 3"]) -> list[Float[ndarray, "quads 4 3"]]:
    """Return the flat ends of a tube as quads; two corners of each are the center of the end."""
    first, last = (np.broadcast_to(path[k], rings[k].shape)[None] for k in (0, -1))
    return [_quads(first, rings[:1]), _quads(rings[-1:], last)]


def _fan(outline: Float[ndarray, "K 3"], side: Number) -> Mesh:
    """Return the triangles from the mean of an outline to its segments, with the normal (0, 0, ``side``)."""
    middle = np.broadcast_to(outline[:-1].mean(axis=0), outline[:-1].shape)
    corners = np.stack([middle, outline[:-1], outline[1:]], axis=1)
    return Mesh(corners, np.broadcast_to(np.array([0, 0, side]), corners.shape))
