"""Data sets that are made here of the meshes of an archive, in the folders and files that configs read."""

import tempfile
from pathlib import Path

from bixt3d.datasets.download.archives import ARCHIVES, SAMPLED
from bixt3d.datasets.download.fetch import fetch, is_there
from bixt3d.datasets.download.labelled_meshes import write_parts
from bixt3d.datasets.download.sampling import write_sampled
from bixt3d.errors import InputError
from bixt3d.io.bounds import check_names
from bixt3d.io.fetching import writing

MODELNET_POINTS, CLOUDS_PER_FILE = 1024, 2048
OFFICIAL = {"train": 3991, "test": 908}
NEW = {
    "modelnet10": "This is a new random sample of the official meshes, not the one of the figures in README: scores "
    "differ a little.",
    "psb": "This is a new random sample of the official meshes, and a new split into training and test shapes, not "
    "those of the figures in README: scores differ.",
}


def make_sampled(name: str, root: Path) -> tuple[Path, str]:
    """Make a data set below ``root``, whole or not at all; returns its folder and what there is to say of it.

    The meshes are fetched first, and stay; a data set that is there already is left alone. Raises InputError.
    """
    made = SAMPLED[name]
    folder = root / made.folder
    if is_there(folder, made.holds):
        return folder, "It was there already."
    meshes = fetch(ARCHIVES[made.archive], root)
    with writing(folder), tempfile.TemporaryDirectory(dir=root, prefix=".sampling-") as temporary:
        part = Path(temporary) / "set"
        part.mkdir()
        said = {"modelnet10": write_modelnet, "psb": write_parts}[name](meshes, part)
        said = f"{said} {NEW[name]}"
        (part / "README.txt").write_text(f"Made of {meshes} by `bixt3d download {name}`. {said}\n")
        part.rename(folder)
    return folder, f"{said} The meshes stay in {meshes}, and may be deleted."


def write_modelnet(meshes: Path, folder: Path) -> str:
    """Write clouds of all meshes in the layout of ``modelnet40_ply_hdf5_2048``; returns what to say of them."""
    names = sorted(path.parent.name for path in meshes.glob("*/train"))
    check_names(names, meshes)
    (folder / "shape_names.txt").write_text("".join(f"{name}\n" for name in names))
    counts = {}
    for split in OFFICIAL:
        paths = [path for name in names for path in sorted(meshes.glob(f"{name}/{split}/*.off"))]
        if not paths:
            raise InputError(f"{meshes} has no meshes in */{split}/*.off")
        counts[split], files = len(paths), []
        for start in range(0, len(paths), CLOUDS_PER_FILE):
            few = paths[start : start + CLOUDS_PER_FILE]
            files.append(f"ply_data_{split}{len(files)}.h5")
            label = [names.index(path.parent.parent.name) for path in few]
            write_sampled(folder / files[-1], few, label, MODELNET_POINTS)
        (folder / f"{split}_files.txt").write_text("".join(f"{file}\n" for file in files))
    other = f" (the official split has {OFFICIAL['train']} and {OFFICIAL['test']})" if counts != OFFICIAL else ""
    return (
        f"{counts['train']} training and {counts['test']} test clouds{other} of {len(names)} classes, each of "
        f"{MODELNET_POINTS} points with normals."
    )
