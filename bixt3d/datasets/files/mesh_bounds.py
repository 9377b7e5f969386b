"""Checks of the sizes that a mesh file declares against its bytes, before trimesh reads it."""

import re
import urllib.parse
from pathlib import Path

from bixt3d.io.bounds import printable, read_plain, shortened
from bixt3d.types import InputError

MESH_FLOOR = 200 << 20
"""Bytes of memory that any mesh may take, whatever the size of its file."""

MAX_PIECES, MAX_MATERIALS, MAX_LEVELS = 5000, 100, 200


class Resolver:
    """Reads the regular files in the folder of a glTF by name, and none outside it."""

    def __init__(self, path: Path):
        self.folder, self.read = path.resolve().parent, {}

    def __getitem__(self, name: str) -> bytes:
        """Return the bytes of a file, which is read once. Raises InputError if it is missing or outside the folder."""
        for spelled in (name, urllib.parse.unquote(name), urllib.parse.unquote(name).replace("\\", "/")):
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


def check_mesh(raw: bytes, path: Path) -> None:
    """Raise InputError if a .ply has missing or extra rows, or an .stl more pieces than trimesh reads in a minute."""
    suffix = path.suffix.lower()
    if suffix == ".ply":
        _check_ply(raw)
    if suffix == ".stl" and raw.count(b"endsolid") > MAX_PIECES:
        raise InputError(f"is of more than {MAX_PIECES} solids: write them as one")


def without_materials(raw: bytes) -> bytes:
    """Return an .obj file without its materials if they are many: trimesh copies all vertices for each."""
    return re.sub(rb"(?m)^[ \t]*usemtl\b.*$", b"", raw) if raw.count(b"usemtl") > MAX_MATERIALS else raw


def _check_ply(raw: bytes) -> None:
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
