"""Import of user modules from the folder of a config; only with ``--trust``, as this runs their code."""

import shutil
import sys
from pathlib import Path

_FOLDERS: list[Path] = []
"""Folders that were added to the import path, in this order."""


def import_from(folder: Path) -> None:
    """Put a folder first on the import path, so that settings can name the classes of its modules."""
    folder = folder.resolve()
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    if folder not in _FOLDERS:
        _FOLDERS.append(folder)


def copy_imported(folder: Path) -> list[Path]:
    """Copy the imported modules of those folders to ``folder``, that of a run; return the copies."""
    copies = []
    for source in _FOLDERS:
        for file in sorted(_imported(source)):
            copy = folder / file.relative_to(source)
            if copy.resolve() != file:
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)
                copies.append(copy)
    return copies


def _imported(folder: Path) -> set[Path]:
    """Return the files of all imported modules and packages in a folder."""
    found: set[Path] = set()
    for name, module in list(sys.modules.items()):
        top = getattr(sys.modules.get(name.partition(".")[0]), "__file__", None)
        file = getattr(module, "__file__", None)
        if not (top and file) or name.partition(".")[0] in ("bixt3d", "__main__"):
            continue
        beside = Path(top).resolve() in (folder / Path(top).name, folder / Path(top).parent.name / "__init__.py")
        if beside and Path(file).suffix == ".py" and Path(file).resolve().is_relative_to(folder):
            found.add(Path(file).resolve())
    return found
