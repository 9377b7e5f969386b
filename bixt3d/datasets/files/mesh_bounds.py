"""Checks of the sizes that a glTF file declares against its bytes, before trimesh reads it."""

import json
import urllib.parse
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bixt3d.io.bounds import check_unpacked, printable, read_plain, shortened
from bixt3d.types import InputError

MESH_FLOOR = 200 << 20
"""Bytes of memory that any mesh may take, whatever the size of its file."""

MOST_PIECES, MOST_LEVELS = 5000, 200
_NUMBERS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}


class Resolver:
    """Resolver for trimesh: reads the regular files in the folder of a mesh by name, and none outside it."""

    def __init__(self, path: Path):
        self.folder, self.read = path.resolve().parent, {}

    def __getitem__(self, name: str) -> bytes:
        """Return the bytes of a file, which is read once. Raises InputError if it is missing or outside the folder."""
        for spelled in (name, urllib.parse.unquote(name)):
            path = (self.folder / spelled).resolve()
            if ":" in name or not path.is_relative_to(self.folder):
                raise InputError(
                    f"refers to {printable(shortened(name))!r}, which is not in its own folder: put the file there"
                )
            if path.exists():
                break
        else:
            raise InputError(f"refers to {printable(shortened(name))!r}, which is missing: put it beside the mesh")
        if path not in self.read:
            self.read[path] = read_plain(path)
        return self.read[path]

    get = __getitem__


def check_mesh(raw: bytes, path: Path) -> Resolver:
    """Return the resolver for the files that a glTF refers to.

    Raises InputError if the mesh declares far more data than its bytes justify, or so many pieces that trimesh, which
    makes a mesh of each, would take minutes.
    """
    content = raw
    if path.suffix.lower() == ".glb":
        content = raw[20 : 20 + int.from_bytes(raw[12:16], "little")]
    return _check_tree(json.loads(content.decode()), len(raw), Resolver(path))


def _check_tree(tree: Mapping[str, Any], stored: int, resolver: Resolver) -> Resolver:
    """Check the memory that trimesh will need: buffers, a copy of each view and accessor, and a mesh for each node."""
    uris = [one["uri"] for one in tree.get("buffers", ()) if "base64," not in one.get("uri", "base64,")]
    buffers = sum(len(resolver[uri]) for uri in uris)
    views = [int(one["byteLength"]) for one in tree.get("bufferViews", ())]
    arrays = [8 * int(one["count"]) * _NUMBERS[one["type"]] for one in tree.get("accessors", ())]
    meshes = [_mesh_bytes(one, arrays) for one in tree.get("meshes", ())]
    nodes = tree.get("nodes", ())
    parents = Counter(child for node in nodes for child in node.get("children", ()))
    placed = sum((1 + parents[place]) * meshes[node["mesh"]] for place, node in enumerate(nodes) if "mesh" in node)
    if min([0, *views, *arrays]) < 0:
        raise InputError("declares a negative size: write it again")
    pieces = sum(
        (1 + parents[place]) * len(tree["meshes"][node["mesh"]]["primitives"])
        for place, node in enumerate(nodes)
        if "mesh" in node
    )
    if pieces + len(nodes) > 2 * MOST_PIECES or _levels(nodes, parents) > MOST_LEVELS:
        raise InputError(
            f"is of more than {MOST_PIECES} pieces, or nested in more than {MOST_LEVELS} levels: join them"
        )
    stored += sum(map(len, resolver.read.values()))
    check_unpacked(
        buffers + sum(views) + sum(arrays) + sum(meshes) + placed, stored, "has meshes that need", MESH_FLOOR
    )
    return resolver


def _levels(nodes: Sequence[Mapping[str, Any]], parents: Counter) -> int:
    """Return the depth of the nodes; the number of nodes if they are not a tree."""
    if max(parents.values(), default=0) > 1:
        return len(nodes)
    level, count = [place for place in range(len(nodes)) if not parents[place]], 0
    while level:  # a tree: no node is visited twice
        level, count = [child for place in level for child in nodes[place].get("children", ())], count + 1
    return count


def _mesh_bytes(mesh: Mapping[str, Any], arrays: Sequence[int]) -> int:
    total = 0
    for primitive in mesh["primitives"]:
        total += sum(arrays[one] for one in primitive["attributes"].values())
        if "indices" in primitive:  # a face takes 3 x 3 numbers; in a triangle strip each index adds a face
            total += (12 if primitive.get("mode") == 5 else 4) * arrays[primitive["indices"]]
    return total
