"""The data of a glTF 2.0 file: its tree (JSON), buffers, and accessors as arrays."""

import base64
import json
import struct
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from bixt3d.datasets.files.mesh_bounds import MESH_FLOOR, Resolver
from bixt3d.io.bounds import check_unpacked, counted, printable, read_plain, shortened
from bixt3d.types import InputError

TYPES = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
READ = ("KHR_draco_mesh_compression", "KHR_mesh_quantization", "EXT_mesh_gpu_instancing")
"""Extensions that are read."""
ONLY_LOOKS = (
    "KHR_materials_",
    "KHR_texture_",
    "EXT_texture_",
    "MSFT_texture_",
    "KHR_lights_",
    "EXT_lights_",
    "KHR_xmp",
)
"""Beginnings of extensions that change no position."""


class GltfData:
    """An opened file: ``tree``, its JSON; ``notes``; and `array`, which counts the memory that it needs.

    Raises InputError for a file that is cut short, of version 1, or requires an extension that is not read.
    """

    def __init__(self, path: Path):
        raw = read_plain(path)
        self.notes: tuple[str, ...] = ()
        self.resolver, self.stored, self.needed = Resolver(path), len(raw), 0
        text, self.binary = self._chunks(raw) if raw[:4] == b"glTF" else (raw, None)
        self.tree: Mapping[str, Any] = json.loads(text)
        version = str(self.tree["asset"]["version"])
        if not version.startswith("2"):
            raise InputError(f"is glTF {printable(shortened(version))}: only 2.0 is read, so convert it")
        for name in self.tree.get("extensionsRequired", ()):
            if name not in READ and not name.startswith(ONLY_LOOKS):
                advice = ": remove it by gltfpack or gltf-transform" if "compression" in name else ""
                raise InputError(f"requires the extension {printable(shortened(name))}, which is not read{advice}")
        self._buffers: dict[int, bytes] = {}

    def _chunks(self, raw: bytes) -> tuple[bytes, bytes | None]:
        version, size = struct.unpack_from("<II", raw, 4)
        if version != 2:
            raise InputError(f"is glTF {version}: only 2.0 is read, so convert it")
        if size > len(raw):
            raise InputError(f"announces {size} bytes, but it ends after {len(raw)}")
        if size < len(raw):
            self.notes = (f"{counted(len(raw) - size, 'byte')} behind its end not read",)
        chunks, place = {}, 12
        while place + 8 <= size:
            length, kind = struct.unpack_from("<II", raw, place)
            if place + 8 + length > size:
                raise InputError(f"has a chunk of {length} bytes, but it ends after {size - place - 8}")
            chunks.setdefault(kind, raw[place + 8 : place + 8 + length])
            place += 8 + length
        return chunks[0x4E4F534A], chunks.get(0x004E4942)

    def note(self, text: str) -> None:
        """Add a note, once."""
        self.notes += (text,) * (text not in self.notes)

    def need(self, num_bytes: int) -> None:
        """Count memory that is needed. Raises InputError if it is more than the file justifies."""
        self.needed += num_bytes
        stored = self.stored + sum(map(len, self.resolver.read.values()))
        check_unpacked(self.needed, stored, "has meshes that need", MESH_FLOOR)

    def view(self, index: int) -> memoryview:
        """Return the bytes of a buffer view."""
        view = _entry(self.tree["bufferViews"], index)
        start, length = _size(view.get("byteOffset", 0)), _size(view["byteLength"])
        buffer = self._buffer(view)
        if start + length > len(buffer):
            raise InputError(f"has a buffer that ends after {len(buffer)} bytes, but {start + length} are used")
        return memoryview(buffer)[start : start + length]

    def _buffer(self, view: Mapping[str, Any]) -> bytes:
        index = view["buffer"]
        if index in self._buffers:
            return self._buffers[index]
        uri = _entry(self.tree["buffers"], index).get("uri")
        if uri is not None and uri.startswith("data:"):
            head, _, content = uri.partition(",")
            packed = urllib.parse.unquote_to_bytes(content)
            found = base64.b64decode(packed) if head.endswith(";base64") else packed
        elif uri is not None:
            found = self.resolver[uri]
        elif index == 0 and self.binary is not None:
            found = self.binary
        else:
            packed = next((name for name in view.get("extensions", ()) if "compression" in name), None)
            advice = f": it is packed by {printable(shortened(packed))}, so unpack it by gltfpack" if packed else ""
            raise InputError(f"has a buffer without data{advice}")
        self._buffers[index] = found
        return found

    def array(self, index: int, *kinds: str) -> Shaped[np.ndarray, "N _"]:
        """Return an accessor of one of these types as (count, width): normalized integers as float64 from -1 or 0 to 1.

        Raises InputError for one that ends too early, or of another type.
        """
        accessor = _entry(self.tree["accessors"], index)
        if accessor["type"] not in kinds:
            raise InputError(f"has {printable(shortened(str(accessor['type'])))} where {' or '.join(kinds)} belong")
        count, width = _size(accessor["count"]), TYPES[accessor["type"]]
        dtype = np.dtype(COMPONENTS[accessor["componentType"]])
        self.need(8 * count * width)
        if "bufferView" in accessor:
            values = self._strided(accessor, count, width, dtype, self.tree["bufferViews"][accessor["bufferView"]])
        else:
            values = np.zeros((count, width), dtype)
        if "sparse" in accessor:
            values = self._with_sparse(values, accessor["sparse"])
        if accessor.get("normalized", False) and dtype.kind in "iu":
            return np.maximum(values / np.iinfo(dtype).max, -1.0)
        return values

    def _strided(
        self, entry: Mapping[str, Any], count: int, width: int, dtype: np.dtype, view: Mapping[str, Any]
    ) -> Shaped[np.ndarray, "N _"]:
        start, size = _size(entry.get("byteOffset", 0)), width * dtype.itemsize
        stride = _size(view.get("byteStride", 0)) or size
        raw = self.view(entry["bufferView"])
        if count and (stride < size or start + stride * (count - 1) + size > len(raw)):
            raise InputError(f"has {count} entries where only {len(raw)} bytes are stored: it is damaged or cut short")
        return np.ndarray((count, width), dtype, raw, start if count else 0, (stride, dtype.itemsize))

    def _with_sparse(self, values: Shaped[np.ndarray, "N _"], sparse: Mapping[str, Any]) -> Shaped[np.ndarray, "N _"]:
        count, found = _size(sparse["count"]), []
        self.need(8 * count * (1 + values.shape[1]))
        kind = np.dtype(COMPONENTS[sparse["indices"]["componentType"]])
        for entry, width, dtype in ((sparse["indices"], 1, kind), (sparse["values"], values.shape[1], values.dtype)):
            found.append(self._strided(entry, count, width, dtype, {}))
        place = found[0][:, 0].astype(np.int64)
        check_index(place, len(values))
        values = values.copy()
        values[place] = found[1]
        return values


def check_index(index: Shaped[np.ndarray, "..."], count: int) -> None:
    """Raise InputError for an index of a vertex that is not there."""
    if index.size and not (index.min() >= 0 and index.max() < count):
        raise InputError(f"refers to vertex {index.max() if index.max() >= count else index.min()} of {count}")


def _entry(entries: Sequence[Any], index: int) -> Any:
    if not 0 <= index < len(entries):
        raise IndexError(f"entry {index} of {len(entries)}")
    return entries[index]


def _size(value: Any) -> int:
    if isinstance(value, bool) or value != int(value) or value < 0:
        raise InputError("declares a negative size: write it again" if value < 0 else "has a size that is no integer")
    return int(value)
