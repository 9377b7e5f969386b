"""Triangle meshes with normals: transformed, joined, and sampled.

y points up, the front is towards +z; angles are in degrees. Letters: T triangles.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from bixt3d.types import InputError

Number = float | int  # beartype does not accept an int for a float


@dataclass(frozen=True)
class Mesh:
    """Triangles with an outward unit normal at each corner."""

    corners: Float[ndarray, "T 3 3"]
    normals: Float[ndarray, "T 3 3"]

    def moved(self, x: Number = 0.0, y: Number = 0.0, z: Number = 0.0) -> "Mesh":
        """Return the mesh translated by (x, y, z)."""
        return Mesh(self.corners + np.array([x, y, z], dtype=float), self.normals)

    def turned(self, axis: str, degrees: Number) -> "Mesh":
        """Return the mesh rotated about the axis ``"x"``, ``"y"`` or ``"z"`` through the origin."""
        matrix = rotation(axis, degrees)
        return Mesh(self.corners @ matrix.T, self.normals @ matrix.T)

    def stretched(self, x: Number = 1.0, y: Number = 1.0, z: Number = 1.0) -> "Mesh":
        """Return the mesh scaled along the axes; a negative factor mirrors it."""
        factors = np.array([x, y, z], dtype=float)
        return Mesh(self.corners * factors, unit(self.normals / factors))


def join(meshes: Sequence[Mesh]) -> Mesh:
    """Return one mesh with the triangles of all meshes."""
    return Mesh(np.concatenate([mesh.corners for mesh in meshes]), np.concatenate([mesh.normals for mesh in meshes]))


def both_sides(mesh: Mesh) -> Mesh:
    """Return the mesh and its mirror image in the plane x = 0."""
    return join([mesh, mesh.stretched(x=-1)])


def four_corners(mesh: Mesh) -> Mesh:
    """Return the mesh and its mirror images in the planes x = 0 and z = 0."""
    return join([both_sides(mesh), both_sides(mesh.stretched(z=-1))])


def around(mesh: Mesh, count: int, start: Number = 0.0) -> Mesh:
    """Return ``count`` copies of the mesh at equal angles about the y axis."""
    return join([mesh.turned("y", start + 360 * k / count) for k in range(count)])


def rotation(axis: str, degrees: Number) -> Float[ndarray, "3 3"]:
    """Return the rotation matrix about a coordinate axis, counterclockwise seen from its positive end."""
    first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    matrix = np.eye(3)
    matrix[[first, second], [first, second]] = cos
    matrix[first, second], matrix[second, first] = -sin, sin
    return matrix


def sample_surface(
    meshes: Sequence[Mesh], num_points: int, rng: np.random.Generator, least_share: Number = 0.02
) -> tuple[Float[ndarray, "N 3"], Float[ndarray, "N 3"], Int[ndarray, " N"]]:
    """Sample points from the meshes by area, in random order; return points, normals and the index of their mesh.

    Every mesh gets at least about ``least_share`` of the points, however small it is.
    """
    mesh, index = join(meshes), np.repeat(np.arange(len(meshes)), [len(mesh.corners) for mesh in meshes])
    first, second, third = mesh.corners.transpose(1, 0, 2)
    area = np.linalg.norm(np.cross(second - first, third - first), axis=1)
    share = np.bincount(index, area) / area.sum()
    triangle, weight = choose_places(area * (np.maximum(share, least_share) / share)[index], num_points, rng)
    xyz, normals = ((weight @ of_corner[triangle])[:, 0] for of_corner in (mesh.corners, mesh.normals))
    return xyz, unit(normals), index[triangle]


def sample_triangles(
    corners: Float[ndarray, "T 3 3"], num_points: int, rng: np.random.Generator
) -> tuple[Float[ndarray, "N 3"], Float[ndarray, "N 3"], Int[ndarray, " N"], Float[ndarray, "N 1 3"]]:
    """Sample points from triangles uniformly by area.

    Returns points, normals of their triangles, indices of their triangles, and the barycentric weights of the corners.
    Raises InputError if no triangle has an area.
    """
    first, second, third = (corners / np.ptp(corners, axis=(0, 1)).max()).transpose(1, 0, 2)
    across = np.cross(second - first, third - first)
    area = np.linalg.norm(across, axis=1)
    if not area.any():
        raise InputError("has only faces without area: there is nothing to spread points over")
    triangle, weight = choose_places(area, num_points, rng)
    return (weight @ corners[triangle])[:, 0], across[triangle] / area[triangle, None], triangle, weight


def choose_places(
    size: Float[ndarray, " T"], num_points: int, rng: np.random.Generator
) -> tuple[Int[ndarray, " N"], Float[ndarray, "N 1 3"]]:
    """Draw triangles in proportion to ``size``, in random order; return their indices and barycentric weights."""
    bound = np.cumsum(size)
    place = (np.arange(num_points) + rng.random(num_points)) / num_points  # stratified: one in each equal interval
    triangle = rng.permutation(np.minimum(np.searchsorted(bound, place * bound[-1], side="right"), len(bound) - 1))
    away, across = np.sqrt(rng.random(num_points)), rng.random(num_points)
    return triangle, np.stack([1 - away, away * (1 - across), away * across], axis=1)[:, None]


def unit(vectors: Float[ndarray, "*any 3"]) -> Float[ndarray, "*any 3"]:
    """Return the vectors scaled to length 1; zero vectors stay zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
