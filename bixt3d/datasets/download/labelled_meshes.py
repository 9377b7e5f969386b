"""The Labeled Princeton Segmentation Benchmark: meshes with part labels of faces, sampled to labelled clouds."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from bixt3d.datasets.download.sampling import PartOfFace, draws_of, write_sampled
from bixt3d.errors import InputError
from bixt3d.io.bounds import check_names, listed, printable, read_words

NUM_POINTS = 4096
VAL_SHARE, TEST_SHARE = 0.1, 0.2
"""Shares of the shapes of each category: 2 and 4 of 20."""

FacesOfParts = Mapping[str, Int[np.ndarray, " L"]]
"""The indices of the faces of each part, by the name of the part."""


def write_parts(meshes: Path, folder: Path) -> str:
    """Write clouds of all labelled meshes in the layout of `PartHDF5`; return a summary in sentences."""
    shapes = sorted(meshes.glob("*/*.[oO][fF][fF]"), key=_place)
    labelled = {path: read_labels(labels) for path in shapes if (labels := _labels_of(path)).is_file()}
    if not labelled:
        raise InputError(f"{meshes} has no meshes with labels: CATEGORY/1.off with CATEGORY/1_labels.txt and so on")
    words = {name: set() for name in sorted({path.parent.name for path in labelled})}
    for path, faces in labelled.items():
        words[path.parent.name] |= set(faces)
    categories = list(words)
    check_names(categories, meshes)
    parts = [(name, word) for name in categories for word in sorted(words[name], key=str.lower)]
    own = {name: [part for part, (owner, _) in enumerate(parts) if owner == name] for name in categories}
    (folder / "seg_classes.json").write_text(json.dumps(own, indent=1))
    names = [f"{name}/{without_category(word, words[name])}" for name, word in parts]
    (folder / "part_names.json").write_text(json.dumps(names, indent=1))
    number = {part: place for place, part in enumerate(parts)}

    def parts_of(mesh: Path, num_faces: int) -> PartOfFace:
        faces = {number[mesh.parent.name, word]: found for word, found in labelled[mesh].items()}
        return part_of_faces(faces, num_faces)

    partial, splits = [], split_shapes(labelled)
    for split, paths in splits.items():
        if paths:
            label = [categories.index(path.parent.name) for path in paths]
            partial += write_sampled(folder / f"{split}.h5", paths, label, NUM_POINTS, parts_of)
    summary = f"{', '.join(f'{len(paths)} {split}' for split, paths in splits.items())} shapes of {len(categories)} "
    summary += f"categories and {len(parts)} parts, each of {NUM_POINTS} points with normals."
    if len(labelled) < len(shapes):
        summary += f" Left out: {len(shapes) - len(labelled)} meshes without labels."
    if partial:
        names = listed(f"{path.parent.name}/{path.name}" for path in partial)
        summary += f" Faces with no label, or with two, are left out of {names}."
    return summary


def read_labels(path: Path) -> FacesOfParts:
    """Return the faces of each part, from 0, of a file of pairs of lines: a part, then its faces, numbered from 1."""
    lines = [line.strip() for line in read_words(path).splitlines() if line.strip()]
    try:
        pairs = zip(lines[::2], lines[1::2], strict=True)
        found = {name: np.array(faces.split(), dtype=np.int64) - 1 for name, faces in pairs}
    except ValueError as error:
        raise InputError(
            f"{printable(path)} must contain pairs of lines: the name of a part, then the numbers of its faces"
        ) from error
    check_names(list(found), path)
    return found


def part_of_faces(faces: Mapping[int, Int[np.ndarray, " L"]], num_faces: int) -> PartOfFace:
    """Return the part of each face, -1 for faces of no or several parts. Raises InputError for unknown faces."""
    part, times = np.full(num_faces, -1), np.zeros(num_faces, np.int64)
    for number, places in faces.items():
        if not 0 <= places.min() <= places.max() < num_faces:
            raise InputError(f"it has {num_faces} faces, but its labels name face {places.max() + 1}")
        part[places] = number
        np.add.at(times, places, 1)
    part[times != 1] = -1
    return part


def split_shapes(shapes: Iterable[Path]) -> dict[str, Sequence[Path]]:
    """Split the shapes into train, val and test at random, with the same shares of each category."""
    shapes, splits = list(shapes), {"train": [], "val": [], "test": []}
    for name in dict.fromkeys(path.parent.name for path in shapes):
        own = [path for path in shapes if path.parent.name == name]
        order = draws_of(name).permutation(len(own))
        num_test, num_val = round(TEST_SHARE * len(own)), round(VAL_SHARE * len(own))
        pieces = np.split(order, [num_test, num_test + num_val])
        for split, piece in zip(("test", "val", "train"), pieces, strict=True):
            splits[split] += [own[place] for place in sorted(piece)]
    return splits


def without_category(word: str, words: set[str]) -> str:
    """Return the name of a part without the prefix common to its category: ``wing`` for ``airplane_wing``."""
    heads = {one.partition("_")[0] if "_" in one else one for one in words}
    return word.partition("_")[2] if len(heads) == 1 and all("_" in one for one in words) else word


def _labels_of(mesh: Path) -> Path:
    return mesh.with_name(f"{mesh.stem}_labels.txt")


def _place(path: Path) -> tuple[str, int, str]:
    return path.parent.name, int(path.stem) if path.stem.isdecimal() else 0, path.stem
