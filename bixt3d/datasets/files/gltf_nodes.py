"""The nodes of a glTF scene: where its meshes are placed."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from bixt3d.datasets.files.gltf_accessors import GltfData
from bixt3d.datasets.files.mesh_bounds import MAX_LEVELS, MAX_PIECES
from bixt3d.types import InputError

Placed = tuple[Mapping[str, Any], Float[np.ndarray, "4 4"]]
"""A node with a mesh, and the transform from the mesh to the scene."""


def placed_meshes(data: GltfData) -> Iterator[Placed]:
    """Yield the nodes with meshes of the default scene, once for each instance, with their transforms.

    Without scenes: of all nodes; without nodes: all meshes as they are. Raises InputError for too many pieces or
    levels, and for nodes that are no tree.
    """
    nodes, pieces = data.tree.get("nodes", []), 0
    if not nodes:
        yield from (({"mesh": place}, np.eye(4)) for place in range(len(data.tree.get("meshes", []))))
        return
    for node, transform in _placed_nodes(nodes, _roots(data)):
        for placed in _instances(data, node, transform) if "mesh" in node else ():
            pieces += len(data.tree["meshes"][node["mesh"]]["primitives"])
            if pieces > MAX_PIECES:
                raise InputError(f"is of more than {MAX_PIECES} pieces: join them")
            yield node, placed


def _roots(data: GltfData) -> Sequence[int]:
    """Return the indices of the nodes of the default scene; of those that no other contains, if there are no scenes."""
    scenes, nodes = data.tree.get("scenes", []), data.tree["nodes"]
    if not scenes:
        inner = {child for node in nodes for child in node.get("children", ())}
        return [place for place in range(len(nodes)) if place not in inner]
    chosen = data.tree.get("scene", 0)
    data.notes += (f"only its scene {chosen} of {len(scenes)} read",) * (len(scenes) > 1)
    return scenes[chosen].get("nodes", [])


def _placed_nodes(nodes: Sequence[Mapping[str, Any]], roots: Sequence[int]) -> Iterator[Placed]:
    """Yield the nodes of a tree, level by level, with their transforms."""
    level, levels, visited = [(root, np.eye(4)) for root in roots], 0, set()
    while level:
        below = []
        for index, outer in level:
            if index in visited:
                raise InputError("has a node in two places: its nodes are no tree, so write it again")
            visited.add(index)
            transform = outer @ _matrix(nodes[index])
            yield nodes[index], transform
            below += [(child, transform) for child in nodes[index].get("children", ())]
        level, levels = below, levels + 1
        if levels > MAX_LEVELS:
            raise InputError(f"is nested in more than {MAX_LEVELS} levels: join its pieces")


def _instances(
    data: GltfData, node: Mapping[str, Any], transform: Float[np.ndarray, "4 4"]
) -> Iterator[Float[np.ndarray, "4 4"]]:
    """Yield the transform of a node, or those of its instances (EXT_mesh_gpu_instancing)."""
    found = node.get("extensions", {}).get("EXT_mesh_gpu_instancing")
    if found is None:
        yield transform
        return
    widths = {"TRANSLATION": ("translation", "VEC3"), "ROTATION": ("rotation", "VEC4"), "SCALE": ("scale", "VEC3")}
    given = {
        widths[name][0]: data.array(index, widths[name][1]).astype(np.float64)
        for name, index in found["attributes"].items()
        if name in widths
    }
    counts = [data.tree["accessors"][index]["count"] for index in found["attributes"].values()]
    for row in range(min(counts, default=0)):
        yield transform @ _matrix({name: values[row] for name, values in given.items()})


def _matrix(node: Mapping[str, Any]) -> Float[np.ndarray, "4 4"]:
    """Return the transform of a node: ``matrix``, column by column, or translation, rotation (x y z w) and scale."""
    if "matrix" in node:
        found = np.array(node["matrix"], np.float64).reshape(4, 4).T
    else:
        found = np.eye(4)
        x, y, z, w = _unit(np.array(node.get("rotation", (0, 0, 0, 1)), np.float64))
        turn = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
        with np.errstate(invalid="ignore", over="ignore"):
            found[:3, :3] = np.array(turn) * np.array(node.get("scale", (1, 1, 1)), np.float64).reshape(3)
        found[:3, 3] = np.array(node.get("translation", (0, 0, 0)), np.float64).reshape(3)
    if not np.isfinite(found).all():
        raise InputError("places a piece at numbers that are not finite: write it again")
    return found


def _unit(quaternion: Float[np.ndarray, "4"]) -> Float[np.ndarray, "4"]:
    length = np.linalg.norm(quaternion)
    return quaternion / length if length > 0 else np.array([0.0, 0, 0, 1])
