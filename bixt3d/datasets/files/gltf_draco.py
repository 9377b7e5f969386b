"""Meshes in a glTF that are compressed by Draco (KHR_draco_mesh_compression), by DracoPy."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from bixt3d.datasets.files.gltf_accessors import GltfData
from bixt3d.io.extras import need
from bixt3d.types import InputError

BYTES_EACH = 100
"""About the memory that Draco takes for a vertex and for a face."""

HEADER = 11
"""Bytes before the numbers of vertices and faces: DRACO, version, kind, method, flags."""


def decode_draco(
    data: GltfData, extension: Mapping[str, Any]
) -> tuple[dict[str, Shaped[np.ndarray, "V _"]], Int[np.ndarray, " K"]]:
    """Return the attributes by name, and the corners of the triangles one after the other."""
    need("a mesh that is compressed by Draco", "DracoPy")
    import DracoPy

    raw = bytes(data.view(extension["bufferView"]))
    data.need(BYTES_EACH * _announced(raw))
    try:
        mesh = DracoPy.decode(raw)
        found = {one["unique_id"]: np.asarray(one["data"]) for one in mesh.attributes}
        faces = np.asarray(mesh.faces).reshape(-1).astype(np.int64)
    except Exception as error:  # noqa: BLE001 (DracoPy raises its own types)
        raise InputError(f"has a mesh that Draco cannot decompress ({type(error).__name__}): it is damaged") from error
    attributes = {name: found[place] for name, place in extension["attributes"].items()}
    return {name: values.reshape(len(values), -1) for name, values in attributes.items()}, faces


def _announced(raw: bytes) -> int:
    """Return the vertices and faces that a mesh announces. Raises InputError for what is no mesh of Draco 2.2."""
    if raw[:5] != b"DRACO" or raw[5:7] != b"\x02\x02" or raw[7] != 1 or raw[10] & 0x80:
        raise InputError("has data that is no mesh of Draco 2.2: write it again")
    place, total = HEADER + (raw[8] == 1), 0  # method 1 has one byte more: how it goes through the faces
    for _ in range(2):
        number, shift = 0, 0
        while True:
            byte = raw[place]
            number, shift, place = number | (byte & 127) << shift, shift + 7, place + 1
            if byte < 128:
                break
        total += number
    return total
