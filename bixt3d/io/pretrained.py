"""Trained weights by name: those that come with bixt3d, and those of the Hugging Face hub."""

import os
import sys
from pathlib import Path

from bixt3d.errors import InputError
from bixt3d.io.bounds import printable
from bixt3d.io.hub import HUB, WEIGHTS, fetch_from_hub
from bixt3d.io.named_configs import nearest, shipped


def known_pretrained() -> dict[str, Path]:
    """Return the folders of the weights that come with bixt3d, by name."""
    return {path.parent.name: path.parent for path in sorted(shipped("pretrained").resolve().glob(f"*/{WEIGHTS}"))}


def find_pretrained(name: str) -> Path:
    """Return the weights of this name: the folder of bixt3d's, the file of ``hf-hub:USER/MODEL``. Raises InputError."""
    folders = known_pretrained()
    if name.startswith(HUB):
        return fetch_from_hub(name.removeprefix(HUB))
    if name not in folders:
        hint = "; load_run opens the run at that path" if os.path.exists(name) else nearest(name, folders)
        raise InputError(f"there are no pretrained weights '{printable(name)[:80]}'{hint}")
    return folders[name]


def find_run(place: str | Path) -> Path:
    """Return the path of a run: the given one, or that of weights by name.

    A run of that name in the current folder is taken first; for a file or folder that is no run, the weights are taken,
    and a line says so.
    """
    path, name = Path(place), str(place)
    if not (name.startswith(HUB) or (name in known_pretrained() and not is_run(path))):
        return path
    if path.exists():
        what = "folder" if path.is_dir() else "file"
        print(f"weights: {name}, which come with bixt3d; the {what} {name} here is no run", file=sys.stderr)
    return find_pretrained(name)


def is_run(path: Path) -> bool:
    """Return whether a folder has a run, or weights."""
    return (path / "run.json").is_file() or any(path.glob("*.safetensors")) or any(path.glob(f"seed*/{WEIGHTS}"))


def name_of(weights: Path) -> str:
    """Return the name of weights by name; of all others the folder."""
    folder = weights.parent
    if folder.resolve() in known_pretrained().values():
        return folder.name
    return HUB + found if (found := _repository(folder)) else str(folder)


def is_named(weights: Path) -> bool:
    """Return whether weights are those of a name, and not of a run of the user's."""
    return name_of(weights) != str(weights.parent)


def shown(path: Path) -> str:
    """Return a run folder or its weights as text for messages: the path, or of weights by name the name."""
    weights = path if path.suffix == ".safetensors" else path / WEIGHTS
    return name_of(weights) if is_named(weights) else str(path)


def results_folder(weights: Path) -> Path:
    """Return the folder for what is made of weights: their own; for weights by name one under ``runs/``."""
    return Path("runs") / name_of(weights).removeprefix(HUB).replace("/", "--") if is_named(weights) else weights.parent


def _repository(folder: Path) -> str | None:
    """Return the repository of a folder in the hub's cache, ``models--USER--MODEL/snapshots/COMMIT``; or None."""
    place = folder.parents[1].name if folder.parent.name == "snapshots" else ""
    return place.removeprefix("models--").replace("--", "/", 1) if place.startswith("models--") else None
