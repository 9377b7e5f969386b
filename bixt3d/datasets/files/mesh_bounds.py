"""Checks of the sizes that a mesh file declares against its bytes, before trimesh reads it."""

import json
import re
import urllib.parse
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bixt3d.io.bounds import check_unpacked, printable, read_plain, shortened
from bixt3d.types import InputError

MESH_FLOOR = 200 << 20
"""Bytes of memory that any mesh may take, whatever the size of its file."""

MAX_PIECES, MAX_MATERIALS, MAX_LEVELS = 5000, 100, 200
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


def check_mesh(raw: bytes, path: Path) -> Resolver | None:
    """Return the resolver for the files that a glTF refers to, None for other formats.

    Raises InputError if the mesh declares far more data than its bytes justify, or so many pieces that trimesh, which
    makes a mesh of each, would take minutes.
    """
    suffix = path.suffix.lower()
    if suffix in _CHECKS:
        return _CHECKS[suffix](raw, Resolver(path))
    if suffix == ".stl" and raw.count(b"endsolid") > MAX_PIECES:
        raise InputError(f"is of more than {MAX_PIECES} solids: write them as one")
    return None


def without_materials(raw: bytes) -> bytes:
    """Return an .obj file without its materials if they are many: trimesh copies all vertices for each."""
    return re.sub(rb"(?m)^[ \t]*usemtl\b.*$", b"", raw) if raw.count(b"usemtl") > MAX_MATERIALS else raw


def _check_ply(raw: bytes, resolver: Resolver) -> None:
    """Raise InputError for missing or extra rows, which trimesh ignores."""
    head, end, body = raw.partition(b"end_header")
    lines = [line.split() for line in head.decode("utf-8", errors="replace").splitlines()]
    counts = [int(line[2]) for line in lines if line[:1] == ["element"]]
    if min(counts, default=0) < 0:
        raise InputError("declares a negative size: write it again")
    if end and ["format", "ascii", "1.0"] in lines:
        rows = sum(not line.isspace() for line in body.splitlines()[1:] if line)
        if rows != sum(counts):
            raise InputError(f"announces {sum(counts)} lines of points and faces, but it has {rows}")


def _check_gltf(raw: bytes, resolver: Resolver) -> Resolver:
    return _check_tree(json.loads(raw.decode()), len(raw), resolver)


def _check_glb(raw: bytes, resolver: Resolver) -> Resolver:
    size = int.from_bytes(raw[12:16], "little")
    return _check_tree(json.loads(raw[20 : 20 + size]), len(raw), resolver)


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
    if pieces + len(nodes) > 2 * MAX_PIECES or _levels(nodes, parents) > MAX_LEVELS:
        raise InputError(f"is of more than {MAX_PIECES} pieces, or nested in more than {MAX_LEVELS} levels: join them")
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


_CHECKS: dict[str, Callable[[bytes, Resolver], Resolver | None]] = {
    ".ply": _check_ply,
    ".gltf": _check_gltf,
    ".glb": _check_glb,
}
