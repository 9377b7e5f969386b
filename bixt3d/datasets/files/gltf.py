"""Reader of glTF 2.0 (.gltf, .glb): triangles and points of the default scene, placed by its nodes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from bixt3d.datasets.files.gltf_accessors import GltfData, check_index
from bixt3d.datasets.files.gltf_draco import decode_draco
from bixt3d.datasets.files.gltf_nodes import placed_meshes
from bixt3d.datasets.files.mesh_bounds import MAX_PIECES
from bixt3d.io.bounds import listed, printable, shortened
from bixt3d.types import InputError

POINTS, STRIP, FAN, TRIANGLES = 0, 5, 6, 4
LINES = (1, 2, 3)
KNOWN = ("POSITION", "NORMAL", "COLOR_0", "TANGENT", "TEXCOORD_", "JOINTS_", "WEIGHTS_")


class Piece(NamedTuple):
    """A primitive: its mode, positions, indices of its triangles or points, and vertex attributes by name."""

    mode: int
    xyz: Float[np.ndarray, "V 3"]
    index: Int[np.ndarray, "K _"]
    attributes: Mapping[str, Shaped[np.ndarray, "V _"]]


class GltfPoints(NamedTuple):
    """What a file contains: triangles (with the colors of their corners, 0 to 1), or points with features."""

    corners: Float[np.ndarray, "T 3 3"]
    colors: Float[np.ndarray, "T 3 3"] | None
    xyz: Float[np.ndarray, "N 3"]
    columns: dict[str, Shaped[np.ndarray, "N _"]]
    notes: tuple[str, ...]


def read_gltf(path: Path) -> GltfPoints:
    """Return the triangles of a file, or its points if it has no triangles. Raises InputError."""
    try:
        data = GltfData(path)
        if len(data.tree.get("nodes", ())) > 2 * MAX_PIECES:
            raise InputError(f"is of more than {MAX_PIECES} pieces: join them")
        pieces: list[Piece] = []
        read: dict[int, list[Piece]] = {}
        for node, transform in placed_meshes(data):
            if node["mesh"] not in read:
                primitives = data.tree["meshes"][node["mesh"]]["primitives"]
                read[node["mesh"]] = [piece for one in primitives if (piece := _read(data, one))]
            _note_pose(data, data.tree["meshes"][node["mesh"]], node)
            pieces += [_placed(data, piece, transform) for piece in read[node["mesh"]]]
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 (a damaged tree fails in any way)
        reason = printable(shortened(" ".join(str(error).split()), 300)) or type(error).__name__
        raise InputError(f"cannot be read ({reason}): it is damaged, or a file that it refers to is missing") from error
    return _joined(pieces, data.notes)


def _note_pose(data: GltfData, mesh: Mapping[str, Any], node: Mapping[str, Any]) -> None:
    if "skin" in node:
        data.note("its skin not applied: the mesh is read in the pose that is stored")
    if any(node.get("weights", mesh.get("weights", ()))):
        data.note("its morph targets not applied")


def _read(data: GltfData, primitive: Mapping[str, Any]) -> Piece | None:
    """Return a primitive; None, with a note, for lines."""
    mode = primitive.get("mode", TRIANGLES)
    if mode in LINES:
        data.note("its lines not read")
        return None
    if mode not in (POINTS, TRIANGLES, STRIP, FAN):
        raise ValueError(f"mode {mode}")
    packed = primitive.get("extensions", {}).get("KHR_draco_mesh_compression")
    if packed is not None:
        attributes, index = decode_draco(data, packed)
    else:
        kinds = ("SCALAR", "VEC2", "VEC3", "VEC4")
        attributes = {name: data.array(one, *kinds) for name, one in primitive["attributes"].items()}
        index = data.array(primitive["indices"], "SCALAR")[:, 0] if "indices" in primitive else None
    if "POSITION" not in attributes:
        data.note("a piece without positions not read")
        return None
    xyz = attributes["POSITION"].astype(np.float64)
    if xyz.shape[1] != 3 or any(len(values) != len(xyz) for values in attributes.values()):
        raise ValueError("its vertices have different numbers of values")
    index = np.arange(len(xyz)) if index is None else index.astype(np.int64)
    check_index(index, len(xyz))
    return Piece(mode, xyz, _elements(index, mode), attributes)


def _elements(index: Int[np.ndarray, " K"], mode: int) -> Int[np.ndarray, "M _"]:
    """Return the indices of the corners of the triangles, or of the points."""
    if mode == POINTS:
        return index[:, None]
    if mode == TRIANGLES:
        return index[: len(index) // 3 * 3].reshape(-1, 3)
    place = np.arange(max(0, len(index) - 2))
    if mode == FAN:
        return np.stack([index[place + 1], index[place + 2], np.broadcast_to(index[:1], len(place))], 1)
    return np.stack([index[place], index[place + 1 + place % 2], index[place + 2 - place % 2]], 1)


def _placed(data: GltfData, piece: Piece, transform: Float[np.ndarray, "4 4"]) -> Piece:
    """Return a piece in the scene; a mirror turns its triangles, so that normals point outwards."""
    data.need(8 * 9 * len(piece.index) + 8 * 3 * len(piece.xyz))
    linear, attributes = transform[:3, :3], dict(piece.attributes)
    with np.errstate(over="ignore", invalid="ignore"):
        mirrored = np.linalg.det(linear) < 0
        xyz = piece.xyz @ linear.T + transform[:3, 3]
        if piece.mode == POINTS and "NORMAL" in attributes and not np.array_equal(linear, np.eye(3)):
            turned = attributes["NORMAL"].astype(np.float64) @ np.linalg.pinv(linear)
            length = np.linalg.norm(turned, axis=1, keepdims=True)
            attributes["NORMAL"] = turned / np.where(length > 0, length, 1)
    return piece._replace(xyz=xyz, index=piece.index[:, ::-1] if mirrored else piece.index, attributes=attributes)


def _joined(pieces: list[Piece], notes: tuple[str, ...]) -> GltfPoints:
    faces = [piece for piece in pieces if piece.mode != POINTS and len(piece.index)]
    points = [piece for piece in pieces if piece.mode == POINTS and len(piece.index)]
    nothing = np.zeros((0, 3))
    if faces:
        notes += (f"{sum(len(one.index) for one in points)} points beside its faces not read",) * bool(points)
        corners = np.concatenate([piece.xyz[piece.index] for piece in faces])
        colors, more = _colors(faces)
        return GltfPoints(corners, colors, nothing, {}, notes + more)
    if not points:
        raise InputError("contains no mesh and no points: it is damaged, or its format does not match its extension")
    found = [_features(piece) for piece in points]
    shared = [
        name for name in found[0] if all(name in one and one[name].shape[1] == found[0][name].shape[1] for one in found)
    ]
    columns = {name: np.concatenate([one[name] for one in found]) for name in shared}
    if unread := {name for one in found for name in one} - set(shared):
        notes += (f"{listed(sorted(unread))} not read, which not all of its pieces have",)
    xyz = np.concatenate([piece.xyz[piece.index[:, 0]] for piece in points])
    return GltfPoints(np.zeros((0, 3, 3)), None, xyz, columns, notes)


def _features(piece: Piece) -> dict[str, Shaped[np.ndarray, "N _"]]:
    """Return the features of points by their usual names: ``intensity`` for the attribute ``_INTENSITY``."""
    named = {"NORMAL": "normal", "COLOR_0": "rgb"}
    found = {}
    for name, values in piece.attributes.items():
        if name in named or name.startswith("_"):
            values = values[piece.index[:, 0]]
            found[named.get(name, name.lstrip("_").lower())] = values[:, :3] if name == "COLOR_0" else values
    return found


def _colors(faces: list[Piece]) -> tuple[Float[np.ndarray, "T 3 3"] | None, tuple[str, ...]]:
    """Return the colors of the corners if all pieces have colors, and notes on what is not read."""
    names = dict.fromkeys(name for piece in faces for name in piece.attributes)
    notes = ("its texture not read",) if any(name.startswith("TEXCOORD_") for name in names) else ()
    if unread := [name for name in names if not name.startswith(KNOWN)]:
        notes += (f"{listed(unread)} of its vertices not read",)
    if "COLOR_0" not in names:
        return None, notes
    if not all("COLOR_0" in piece.attributes for piece in faces):
        return None, (*notes, "colors not read, which not all of its pieces have")
    return np.concatenate([_unit_color(piece.attributes["COLOR_0"])[piece.index] for piece in faces]), notes


def _unit_color(values: Shaped[np.ndarray, "V _"]) -> Float[np.ndarray, "V 3"]:
    """Return red, green and blue from 0 to 1: integers are normalized whether or not the file says so."""
    unit = np.iinfo(values.dtype).max if values.dtype.kind in "iu" else 1
    return np.nan_to_num(values[:, :3].astype(np.float64) / unit).clip(0, 1)
