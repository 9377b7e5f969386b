"""Data sets sampled from the meshes of an archive, in the layout that configs read."""

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
"""Number of meshes of ModelNet10's official splits."""
CAVEATS = {
    "modelnet10": "This is a new random sample of the official meshes, not the one of the figures in README: scores "
    "differ a little.",
    "psb": "This is a new random sample of the official meshes, and a new split into training and test shapes, not "
    "those of the figures in README: scores differ.",
}


def make_sampled(name: str, root: Path) -> tuple[Path, str]:
    """Sample a data set below ``root``, whole or not at all; return its folder and a summary in sentences.

    The meshes are downloaded first, and stay. A data set that exists is not changed. Raises InputError, as `fetch`.
    """
    made = SAMPLED[name]
    folder = root / made.folder
    if is_there(folder, made.contains):
        return folder, "It was there already."
    meshes = fetch(ARCHIVES[made.archive], root)
    with writing(folder), tempfile.TemporaryDirectory(dir=root, prefix=".sampling-") as temporary:
        unfinished = Path(temporary) / "set"
        unfinished.mkdir()
        summary = {"modelnet10": write_modelnet, "psb": write_parts}[name](meshes, unfinished)
        summary = f"{summary} {CAVEATS[name]}"
        (unfinished / "README.txt").write_text(f"Made of {meshes} by `bixt3d download {name}`. {summary}\n")
        unfinished.rename(folder)
    return folder, f"{summary} The meshes stay in {meshes}, and may be deleted."


def write_modelnet(meshes: Path, folder: Path) -> str:
    """Write clouds of all meshes in the layout of ``modelnet40_ply_hdf5_2048``; return a summary in a sentence."""
    names = sorted(path.parent.name for path in meshes.glob("*/train"))
    check_names(names, meshes)
    (folder / "shape_names.txt").write_text("".join(f"{name}\n" for name in names))
    counts = {}
    for split in OFFICIAL:
        paths = [path for name in names for path in sorted(meshes.glob(f"{name}/{split}/*.[oO][fF][fF]"))]
        if not paths:
            raise InputError(f"{meshes} has no meshes in */{split}/*.off")
        counts[split], files = len(paths), []
        for start in range(0, len(paths), CLOUDS_PER_FILE):
            chunk = paths[start : start + CLOUDS_PER_FILE]
            files.append(f"ply_data_{split}{len(files)}.h5")
            label = [names.index(path.parent.parent.name) for path in chunk]
            write_sampled(folder / files[-1], chunk, label, MODELNET_POINTS)
        (folder / f"{split}_files.txt").write_text("".join(f"{file}\n" for file in files))
    other = f" (the official split has {OFFICIAL['train']} and {OFFICIAL['test']})" if counts != OFFICIAL else ""
    return (
        f"{counts['train']} training and {counts['test']} test clouds{other} of {len(names)} classes, each of "
        f"{MODELNET_POINTS} points with normals."
    )
