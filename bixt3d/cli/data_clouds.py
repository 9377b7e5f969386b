"""What `bixt3d data check` remembers of each cloud, and how it finds clouds that are the same."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from bixt3d.cli.data_scenes import LARGE, count_voxels
from bixt3d.datasets.clouds.point_labels import NAMES, NO_LABEL, gap_notes, label_words, mixed_notes
from bixt3d.datasets.files.cloud import Cloud, median_spacing
from bixt3d.datasets.files.feature_columns import num_gaps
from bixt3d.datasets.files.las_large import LAS
from bixt3d.datasets.scenes.labels_beside import with_labels_of
from bixt3d.datasets.transforms.normalize import normalize_clouds
from bixt3d.io.bounds import counted, open_plain
from bixt3d.types import Feature, InputError

SOME = 256
"""Points of a cloud that are kept for the comparison of poses, and whose neighbors are measured."""
MAPPED = 100_000
"""Coordinate from which on a cloud lies on a map, as in UTM: objects have their own origin."""
ALIKE = 1e-4
"""Largest difference of the shape descriptors of equal clouds in the unit sphere: files round coordinates."""


@dataclass
class SeenCloud:
    """What is known of a cloud.

    Args:
        size: number of points, or of triangles if it is a mesh.
        extent: largest side of its bounding box.
        mapped: it has the coordinates of a map, such as UTM.
        spacing: median distance of a point from its nearest neighbor; None for a mesh.
        columns, widths: least and greatest number of each column, and its width.
        holes: number of points without a number of each column that has such.
        some: a few of its points, in the unit sphere.
        shape: numbers that describe its geometry, in whatever order the points are.
        digest: hash of its file.
        labels: number of points of each label.
        gaps: number of points without a label.
        voxels: number of voxels of the side that is proposed for its spacing; 0: not counted.
    """

    path: Path
    name: str
    split: str
    label: str
    size: int
    extent: float
    mapped: bool
    spacing: float | None
    columns: Mapping[str, tuple[float, float]]
    widths: Mapping[str, int]
    holes: Mapping[str, int]
    some: Float[ndarray, "_ 3"]
    shape: Float[ndarray, " Q"]
    digest: str
    labels: Counter = field(default_factory=Counter)
    gaps: int = 0
    voxels: int = 0

    @property
    def looks_like_scene(self) -> bool:
        """Whether it is large, LAS, on a map, or has its labels in a file beside it."""
        beside = len(with_labels_of(self.path)) > 1
        return self.size >= LARGE or self.path.suffix.lower() in LAS or self.mapped or beside


def see_cloud(path: Path, cloud: Cloud, split: str, label: str, parts: bool, column: str) -> SeenCloud:
    """Return what matters of a cloud; ``parts``: count its labels too. Raises InputError for points without extent."""
    xyz = normalize_clouds(torch.from_numpy(cloud.xyz)[None], cloud.name)[0].numpy()
    chosen = np.random.default_rng(0).permutation(len(xyz))[:SOME]
    labels, own = Counter(), ""
    if parts:
        own, words, codes = label_words(cloud, column)
        for word, number in zip(words, np.bincount(codes, minlength=len(words)).tolist(), strict=True):
            labels[word] += number
    spacing = None if cloud.from_mesh else median_spacing(cloud.xyz)
    columns = {name: values for name, values in cloud.columns.items() if not (cloud.from_mesh and name == "normal")}
    return SeenCloud(
        path=path,
        name=cloud.name,
        split=split,
        label=label,
        size=cloud.num_faces if cloud.from_mesh else len(cloud),
        extent=float(np.ptp(cloud.xyz, axis=0).max()),
        mapped=bool(np.abs(cloud.xyz[:, :2]).max() >= MAPPED),
        spacing=spacing,
        voxels=count_voxels(cloud.xyz, spacing) if parts else 0,
        columns={name: _range(values) for name, values in columns.items() if name != own},
        widths={name: values.shape[-1] for name, values in columns.items()},
        holes={name: gaps for name, values in columns.items() if name != own and (gaps := num_gaps(values))},
        some=xyz[chosen],
        shape=_shape(xyz),
        digest=_digest(path),
        gaps=labels.pop(NO_LABEL, 0),
        labels=labels,
    )


def _range(values: ndarray) -> tuple[float, float]:
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    return (float(finite.min()), float(finite.max())) if finite.size else (np.inf, -np.inf)


def _shape(xyz: Float[ndarray, "N 3"]) -> Float[ndarray, " Q"]:
    """Return quantiles of the radius and of the three coordinates."""
    values = np.concatenate([xyz, np.linalg.norm(xyz, axis=1, keepdims=True)], 1)
    return np.quantile(values, np.linspace(0, 1, 9), axis=0).ravel()


def _digest(path: Path) -> str:
    found = hashlib.sha256()
    with open_plain(path) as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def duplicates(clouds: Sequence[SeenCloud]) -> Iterator[tuple[SeenCloud, SeenCloud, str]]:
    """Yield pairs of clouds of the same content or geometry, each cloud with the first one that it equals."""
    by_size = defaultdict(list)
    for cloud in clouds:
        by_size[cloud.size].append(cloud)
    for group in by_size.values():
        shapes = np.stack([cloud.shape for cloud in group])
        for place in range(1, len(group)):
            for first in np.flatnonzero(np.abs(shapes[:place] - shapes[place]).max(1) < ALIKE)[:1]:
                one, other = group[first], group[place]
                same = one.digest == other.digest
                yield one, other, "the same file" if same else "the same geometry"


def label_lines(clouds: Sequence[SeenCloud], given: bool) -> list[str]:
    """Return lines on points without a label, and on labels of two kinds unless a file of classes is ``given``."""
    labels, gaps = sum((cloud.labels for cloud in clouds), Counter()), sum(cloud.gaps for cloud in clouds)
    return gap_notes(gaps, labels.total() + gaps) + ([] if given else mixed_notes(labels))


def hole_lines(clouds: Sequence[SeenCloud]) -> list[str]:
    """Return a line for each column in which some points have no number."""
    numbers, times = Counter(), Counter()
    for cloud in clouds:
        numbers.update(cloud.holes)
        times.update(cloud.holes.keys())
    total, remedy = sum(cloud.size for cloud in clouds), "fill it or take these points out, else no model can read it"
    lacks = "has no number (an empty cell, NaN) in"
    return [
        f"{name} {lacks} {number:,} of {total:,} points, in {counted(times[name], 'cloud')}: {remedy}"
        for name, number in numbers.most_common()
    ]


def usable(clouds: Sequence[SeenCloud]) -> list[str]:
    """Return the columns that all points have, and that can be features: no labels, and not always the same number."""
    names = [name for name in clouds[0].columns if all(name in one.columns and name not in one.holes for one in clouds)]
    names = [name for name in names if name.lower().removeprefix("scalar_") not in NAMES]
    good = []
    for name in names:
        ranges = [cloud.columns[name] for cloud in clouds]
        try:
            fits = Feature.parse(name).width == clouds[0].widths[name]
        except InputError:  # not a valid name of a feature
            continue
        if fits and min(low for low, _ in ranges) < max(high for _, high in ranges):
            good.append(name)
    return good


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as aligned lines: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            f"{cell:{'>' if place else '<'}{width}}"
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
