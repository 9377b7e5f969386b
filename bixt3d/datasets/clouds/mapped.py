"""Tensors in a .safetensors file that is mapped into memory: filled in place, checked and mapped again."""

import json
import math
import mmap
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import safe_open
from torch import Tensor

from bixt3d.io.bounds import open_plain
from bixt3d.io.writing import reserve, write_whole
from bixt3d.types import InputError

LONGEST_HEADER = 10_000
"""Bytes of the header of a cache: it names a few tensors."""

DTYPES = {
    torch.float32: "F32",
    torch.float64: "F64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.uint8: "U8",
}
"""Names of the types in the header."""

Tensors = Mapping[str, Tensor]
Layout = Mapping[str, tuple[torch.dtype, tuple[int, ...]]]
"""Type and shape of each tensor."""
Allocate = Callable[[Layout], Tensors]
Build = Callable[[Allocate], None]
"""Calls its argument once, with the layout, and fills the tensors that it returns."""


def in_memory(build: Build) -> Tensors:
    """Return the tensors, in the memory of this process alone."""
    made: dict[str, Tensor] = {}

    def allocate(layout: Layout) -> Tensors:
        made.update({name: torch.empty(shape, dtype=dtype) for name, (dtype, shape) in layout.items()})
        return made

    build(allocate)
    return made


def write_mapped(path: Path, build: Build, source: str) -> None:
    """Write the tensors to a file, atomically; they are filled in place, so they take no memory besides the file.

    ``source``: what they were made from, which `read_mapped` compares. Raises InputError if the disk is full.
    """

    def write(temporary: Path) -> None:
        layout: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {}
        with open(temporary, "w+b") as file:

            def allocate(given: Layout) -> Tensors:
                layout.update(given)
                return _in_file(file, layout, source)

            build(allocate)
            checksum = _checksum(_views(_mapped_bytes(file), layout, source))
            file.seek(0)
            file.write(_header(layout, checksum, source)[0])

    write_whole(path, write)


def read_mapped(path: Path, source: str) -> Tensors:
    """Map the tensors of a file into memory, copy on write.

    Raises InputError if it is missing, damaged, or made from another ``source`` (``""``: any).
    """
    with open_plain(path) as file:
        if int.from_bytes(file.read(8), "little") > LONGEST_HEADER:
            raise InputError(f"{path} is no cache of clouds")
    try:
        with safe_open(path, "pt") as stored:
            facts = stored.metadata() or {}
            if source and facts["source"] != source:
                raise ValueError("it was made from other files")
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (it is no mapping)
            if facts["checksum"] != _checksum(tensors):
                raise ValueError("its content has another checksum")
    except Exception as error:  # noqa: BLE001 (safetensors and PyTorch raise many types for damaged files)
        raise InputError(f"{path} is no cache of clouds, or it is damaged") from error
    return tensors


def size_of(layout: Layout) -> int:
    """Return the bytes of all tensors."""
    return sum(dtype.itemsize * math.prod(shape) for dtype, shape in layout.values())


def _in_file(file: BinaryIO, layout: Layout, source: str) -> Tensors:
    header, _ = _header(layout, "0" * 8, source)
    reserve(file, len(header) + size_of(layout))
    return _views(_mapped_bytes(file), layout, source)


def _mapped_bytes(file: BinaryIO) -> Tensor:
    return torch.frombuffer(mmap.mmap(file.fileno(), 0), dtype=torch.uint8)


def _views(content: Tensor, layout: Layout, source: str) -> Tensors:
    header, places = _header(layout, "0" * 8, source)
    stored = content[len(header) :]
    return {name: stored[places[name]].view(dtype).view(shape) for name, (dtype, shape) in layout.items()}


def _header(layout: Layout, checksum: str, source: str) -> tuple[bytes, dict[str, slice]]:
    """Return the header of the file, whose length does not depend on the checksum, and the bytes of each tensor."""
    entries: dict[str, object] = {"__metadata__": {"checksum": checksum, "source": source}}
    places, start = {}, 0
    for name in sorted(layout, key=lambda name: (-layout[name][0].itemsize, name)):  # so that all are aligned
        end = start + size_of({name: layout[name]})
        dtype, shape = layout[name]
        entries[name] = {"dtype": DTYPES[dtype], "shape": list(shape), "data_offsets": [start, end]}
        places[name], start = slice(start, end), end
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, places


def _checksum(tensors: Tensors) -> str:
    number = 0
    for name in sorted(tensors):
        number = zlib.crc32(tensors[name].contiguous().view(-1).view(torch.uint8).numpy(), number)
    return f"{number:08x}"
