"""What of a folder is not read, for notes: files of other kinds, links that lead nowhere, folders that are left out."""

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

from bixt3d.io.bounds import counted, listed

SKIPPED = (".", "bixt3d_")
"""How names of hidden files and of caches begin."""
CLASSES = "classes.yaml"
"""Name of the file of classes, in the folder of the data itself."""
OF_SYSTEM = ("thumbs.db", "desktop.ini")
TEXTS = ("readme", "license", "licence", "copying", "notice", "citation", "changelog")
"""Names of files, without their endings, that are never data."""


def other_files(folder: Path, known: Collection[Path]) -> Iterator[Path]:
    """Yield the files below a folder that are not ``known``, and links to folders without known files."""
    read = {*known, *(parent for path in known for parent in path.parents)}
    for here, below, names in os.walk(folder):
        below[:] = [name for name in below if not name.startswith(SKIPPED)]
        links = [name for name in below if os.path.islink(os.path.join(here, name))]
        yield from (path for name in (*names, *links) if (path := Path(here, name)) not in read)


def unread_notes(folder: Path, others: Iterable[Path], kinds: Sequence[str]) -> list[str]:
    """Return notes on files below a folder that are not read.

    Hidden files, caches, files of labels, the folder's own classes.yaml, the buffers of glTF, and texts such as
    README.md are not counted.

    Args:
        folder: the folder that the names of the files are relative to.
        others: the files that are not read, in any order; links to folders too.
        kinds: endings of files that are read, in lower case.
    """
    files, known, folders, links = [], [], [], []
    has_gltf = cache(lambda place: any(place.glob("*.gltf")))
    for path in sorted(others):
        name, ending = path.relative_to(folder), path.suffix.lower()
        if _is_beside_data(name) or (ending == ".bin" and has_gltf(path.parent)):
            continue
        of_kind = folders if path.is_dir() else known if ending in kinds and path.is_file() else files
        (of_kind if path.exists() else links).append(name)
    found = (
        (files, "file", "of other kinds not read"),
        (known, "file", "in folders that are not read"),
        (folders, "linked folder", "not read"),
        (links, "link", "to missing files not read"),
    )
    return [f"{counted(len(names), word)} {what}: {listed(names)}" for names, word, what in found if names]


def _is_beside_data(name: Path) -> bool:
    """Return whether a file is no data, by its name in the folder: hidden, of labels or classes, or a text on a set."""
    hidden = any(part.startswith(SKIPPED) for part in name.parts)
    of_labels = name.suffix == ".labels" or name == Path(CLASSES)
    return hidden or of_labels or name.name.lower() in OF_SYSTEM or name.stem.lower() in TEXTS
