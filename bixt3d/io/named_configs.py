"""Configs by name, and suggestions for unknown names."""

import difflib
from collections.abc import Iterable
from pathlib import Path

from bixt3d.errors import InputError
from bixt3d.io.bounds import printable


def shipped(folder: str) -> Path:
    """Return a folder that comes with bixt3d, ``cfgs`` or ``data``: inside the installed package, or beside it."""
    package = Path(__file__).parents[1]
    return package / folder if (package / folder).is_dir() else package.parent / folder


def known_configs() -> dict[str, Path]:
    """Return the paths of the configs that come with bixt3d, by name."""
    return {path.stem: path for path in sorted(shipped("cfgs").glob("*.yaml"))}


def config_file(name: str) -> Path:
    """Return the path of a config by its name. Raises InputError for an unknown name."""
    files = known_configs()
    if name not in files:
        raise InputError(f"there is no config '{printable(name)}'" + nearest(name, files))
    return files[name]


def find_config(place: str) -> Path:
    """Return the path of a config given by path or name. Raises InputError with the nearest name if there is none."""
    path = Path(place)
    if place and (path.exists() or path.is_symlink()) and not (path.is_dir() and place in known_configs()):
        return path  # a folder that has the name of a config does not hide it
    if path.name == place and not path.suffix:
        return config_file(place)
    hint = nearest(path.stem, known_configs())
    raise InputError(f"there is no config file {printable(place)}" + hint * ("did you mean" in hint))


def nearest(name: str, names: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: the nearest valid name, or all of them."""
    group = name.rpartition(".")[0] + "."
    names = sorted({one for one in names if not one.endswith(".help") and one != "print_shtab"})
    if of_group := [one for one in names if one.startswith(group)]:  # optim.lrr is near optim.lr, not near train
        close = difflib.get_close_matches(name[len(group) :], [one[len(group) :] for one in of_group], n=1, cutoff=0.5)
        return f"; did you mean '{group}{close[0]}'?" if close else f"; there are: {', '.join(of_group)}"
    same = [one for one in names if one.endswith(f".{name}")]  # --lr is --optim.lr
    close = same if len(same) == 1 else difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else f"; there are: {', '.join(names)}"
