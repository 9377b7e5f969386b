"""Limits of meshes, and the files that a glTF refers to."""

import unicodedata
import urllib.parse
from pathlib import Path

from bixt3d.io.bounds import printable, read_plain, shortened
from bixt3d.types import InputError

MESH_FLOOR = 200 << 20
"""Bytes of memory that any mesh may take, whatever the size of its file."""

MAX_PIECES, MAX_LEVELS = 5000, 200


class Resolver:
    """Reads the regular files in the folder of a glTF by name, and none outside it."""

    def __init__(self, path: Path):
        self.folder, self.read = path.resolve().parent, {}

    def __getitem__(self, name: str) -> bytes:
        """Return the bytes of a file, which is read once. Raises InputError if it is missing or outside the folder."""
        plain = urllib.parse.unquote(name)
        forms = [unicodedata.normalize(form, plain) for form in ("NFC", "NFD")]  # macOS decomposes letters
        for spelled in (name, plain, plain.replace("\\", "/"), *forms):
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
