"""Read the files of a folder into clouds of one size, once: they are cached."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from bixt3d.datasets.clouds.cache import are_finite, cache_folder, cached, short_hash
from bixt3d.datasets.clouds.folder_files import shown_path
from bixt3d.datasets.clouds.mapped import Allocate, Tensors
from bixt3d.datasets.clouds.point_labels import count_gaps, gap_notes, label_words
from bixt3d.datasets.clouds.preparing import prepare_cloud, up_axis, with_model_features
from bixt3d.datasets.files.cloud import Cloud
from bixt3d.datasets.files.reader import MESH_POINTS, read_file
from bixt3d.datasets.transforms.upright import Up
from bixt3d.io.bounds import counted, listed, printable, shortened
from bixt3d.types import Features, InputError
from bixt3d.version import __version__

MAX_NOTES = 6
"""Number of different notes of files that are printed; the others are counted."""
MAX_FAULTS, MAX_FILES = 20, 5
"""Number of different faults that a message lists, and of files with the same one."""


@dataclass(frozen=True)
class Reading:
    """How the files of a folder are read: all that the content of the cache depends on.

    Args:
        num_points: points kept of each cloud.
        features: the features to keep.
        up: the axis that points up.
        seed: seed of the random choice of points.
        skip_broken: leave out files that cannot be read.
        labelled: keep the label of each point.
        label: the column of the labels; "": found by its name.
    """

    num_points: int
    features: Features
    up: Up
    seed: int = 0
    skip_broken: bool = False
    labelled: bool = False
    label: str = ""


@dataclass
class ReadClouds:
    """The clouds of a folder, all of one size, in the unit sphere.

    Args:
        file_index: the file of each cloud; a file may have several.
        code: the label of each point as an index in ``words``; no columns without labels.
        words: the labels that occur, as text; `NO_LABEL`, if some points have none.
        notes: what was guessed, repeated or left out.
    """

    xyz: Float[Tensor, "S N 3"]
    feats: Float[Tensor, "S N F"]
    file_index: Int[Tensor, " S"]
    code: Int[Tensor, "S M"]
    words: list[str]
    notes: list[str]


@dataclass
class Findings:
    """What happens while files are read: faults, counted notes, and points without a label (``gaps``)."""

    faults: list[tuple[str, str]] = field(default_factory=list)
    notes: Counter = field(default_factory=Counter)
    unread: Counter = field(default_factory=Counter)
    sizes: list[int] = field(default_factory=list)
    gaps: int = 0

    def texts(self, reading: Reading) -> list[str]:
        """Return the notes as text: the most common ones, each with the number of its clouds."""
        number, notes = len(self.sizes), []
        for note, times in self.notes.most_common(MAX_NOTES):
            notes.append(f"{note}: in {'all' if times == number else times} of {counted(number, 'cloud')}")
        if more := len(self.notes) - MAX_NOTES:
            notes += [f"{counted(more, 'other note')}: see `bixt3d info FILE`"] if more > 0 else []
        few = [size for size in self.sizes if size < reading.num_points]
        if few:
            notes.append(
                f"{len(few)} of {counted(number, 'cloud')} have fewer than {reading.num_points} points (the smallest "
                f"{min(few)}): points are repeated"
            )
        notes += gap_notes(self.gaps, sum(self.sizes))
        if self.unread:
            notes.append(f"columns that are not read: {listed(name for name, _ in self.unread.most_common())}")
        if self.faults:
            notes.append(f"{counted(len(self.faults), 'file')} left out: {listed_faults(self.faults)}")
        return notes


def read_folder(root: Path, paths: Sequence[Path], reading: Reading, kind: str) -> ReadClouds:
    """Return the clouds of files, from the cache if the files have not changed since; else read them and write it.

    ``kind``: a word in the name of the cache. Raises InputError with a list of the files that cannot be read, unless
    these are to be skipped.
    """
    settings = short_hash(ascii(reading), __version__)
    state = [(ascii(str(path)), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    folder = cache_folder(root)
    path = folder / f"bixt3d_{kind}_{settings}_{short_hash(*map(repr, state))}.safetensors"
    width = reading.features.width

    def fits(tensors: Tensors) -> bool:
        xyz = tensors["xyz"]
        return (
            xyz.ndim == 3
            and xyz.shape[1:] == (reading.num_points, 3)
            and tensors["feats"].shape == (*xyz.shape[:2], width)
            and tensors["code"].shape == (len(xyz), reading.num_points * reading.labelled)
            and tensors["file_index"].shape == (len(xyz),)
            and len(xyz) > 0
            and int(tensors["file_index"].min()) >= 0
            and int(tensors["file_index"].max()) < len(paths)
            and are_finite(xyz)
        )

    tensors = cached(path, partial(_read_all, root, paths, reading), fits)
    for old in folder.glob(f"bixt3d_{kind}_{settings}_*.safetensors"):
        if old != path:  # of the folder as it was before
            old.unlink(missing_ok=True)
    words, notes = json.loads(bytes(tensors["text"].numpy()))
    return ReadClouds(*(tensors[name] for name in ("xyz", "feats", "file_index", "code")), words, notes)


def _read_all(root: Path, paths: Sequence[Path], reading: Reading, allocate: Allocate) -> None:
    findings, rows, codes = Findings(), defaultdict(list), {}
    with tqdm(paths, desc=f"reading {printable(root)}", unit="file") as progress:
        for place, path in enumerate(progress):
            try:
                clouds = [_read_cloud(cloud, reading) for cloud in read_clouds(path, reading.num_points)]
            except InputError as error:
                findings.faults.append(fault_of(path, root, error))
                continue
            for cloud, row in clouds:
                _note(findings, cloud, reading)
                words = row.pop("words")
                findings.gaps += row.pop("gaps")
                number_of = torch.tensor([codes.setdefault(word, len(codes)) for word in words], dtype=torch.int16)
                row["code"] = number_of[row["code"]] if words else torch.zeros(0, dtype=torch.int16)
                for name, tensor in (row | {"file_index": torch.tensor(place)}).items():
                    rows[name].append(tensor)
    check_faults(findings.faults, len(paths), root, reading.skip_broken)
    text = json.dumps([list(codes), findings.texts(reading)]).encode()
    layout = {name: (its[0].dtype, (len(its), *its[0].shape)) for name, its in rows.items()}
    tensors = allocate({**layout, "text": (torch.uint8, (len(text),))})
    tensors["text"].copy_(torch.frombuffer(bytearray(text), dtype=torch.uint8))
    for name, its in rows.items():
        for place, row in enumerate(its):
            tensors[name][place] = row


def read_clouds(path: Path, num_points: int = 0) -> list[Cloud]:
    """Return the clouds of a file; meshes are sampled as for prediction."""
    return read_file(path, max(MESH_POINTS, num_points))


def _read_cloud(cloud: Cloud, reading: Reading) -> tuple[Cloud, dict[str, Any]]:
    """Return a cloud, with the features that are read, and its row of the cache."""
    words, code, gaps = [], torch.zeros(0, dtype=torch.int64), 0
    if reading.labelled:
        name, words, all_codes = label_words(cloud, reading.label)
        gaps = count_gaps(words, all_codes)
        cloud = _without(cloud, name)
    cloud = with_model_features(cloud, reading.features)
    up = up_axis(cloud, reading.up)
    xyz, index, feats = prepare_cloud(cloud, reading.features, reading.num_points, up, reading.up, reading.seed)
    if reading.labelled:
        code = torch.from_numpy(all_codes)[index]
    return cloud, {"xyz": xyz[0, index], "feats": feats[0], "code": code, "words": words, "gaps": gaps}


def _without(cloud: Cloud, label: str) -> Cloud:
    columns = {name: values for name, values in cloud.columns.items() if name != label}
    return replace(cloud, columns=columns, notes=(*cloud.notes, f"labels in the column '{label}'"))


def _note(findings: Findings, cloud: Cloud, reading: Reading) -> None:
    findings.sizes.append(len(cloud))
    findings.notes.update(set(cloud.notes))
    if cloud.from_mesh:
        findings.notes["sampled from the faces of a mesh"] += 1
    if (up := up_axis(cloud, reading.up)) != reading.up:
        findings.notes[f"{up} taken for up, as the format has it"] += 1
    own = [name for name in cloud.columns if not (cloud.from_mesh and name == "normal")]
    findings.unread.update(name for name in own if name not in reading.features.names)


def fault_of(path: Path, root: Path, error: InputError) -> tuple[str, str]:
    """Return the name of a file, relative to its folder, and what is wrong with it."""
    words = printable(error)
    for start in (str(path), path.name):
        words = words.removeprefix(f"{printable(start)} ").removeprefix(f"{printable(start)}: ")
    return printable(shown_path(path, root)), shortened(words, 200)


def listed_faults(faults: Sequence[tuple[str, str]]) -> str:
    """Return faults as text: each reason once, with the names of its files."""
    names = defaultdict(list)
    for name, reason in faults:
        names[reason].append(name)
    texts = [f"{listed(files, MAX_FILES)} {reason}" for reason, files in names.items()]
    more = f"; and {len(texts) - MAX_FAULTS} other reasons" if len(texts) > MAX_FAULTS else ""
    return "; ".join(texts[:MAX_FAULTS]) + more


def check_faults(faults: Sequence[tuple[str, str]], number: int, root: Path, skip: bool) -> None:
    """Raise InputError for files that cannot be read, unless they are to be skipped; also if none is left."""
    if len(faults) == number:
        raise InputError(f"none of {counted(number, 'file')} of {printable(root)} can be used: {listed_faults(faults)}")
    if faults and not skip:
        raise InputError(
            f"{len(faults)} of {counted(number, 'file')} of {printable(root)} cannot be used: {listed_faults(faults)}. "
            "Mend or remove them, or leave them out by --data.skip_broken true"
        )
