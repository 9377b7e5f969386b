"""Labels of scenes in files beside those of the points, one a line, as Semantic3D has them."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bixt3d.datasets.files.cloud import Cloud
from bixt3d.io.bounds import counted, printable, read_plain
from bixt3d.types import InputError


def labels_beside(paths: Sequence[Path]) -> Path | None:
    """Return the labels beside the first of the files that has some."""
    return next((labels for path in paths for labels in with_labels_of(path)[1:]), None)


def with_labels_beside(cloud: Cloud, path: Path) -> Cloud:
    """Return the cloud of a file with the labels of the file beside it, if there is one."""
    _, *beside = with_labels_of(path)
    return with_labels(cloud, beside[0]) if beside else cloud


def with_labels_of(path: Path) -> tuple[Path, ...]:
    """Return a file, and the file of the labels of its points, if there is one: ``a.labels`` beside ``a.txt``."""
    labels = path.with_suffix(".labels")
    return (path, labels) if labels.is_file() else (path,)


def with_labels(cloud: Cloud, path: Path) -> Cloud:
    """Return a cloud with a column of labels from a file of one whole number a line, as Semantic3D has them."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # of a text that is no number
            labels = np.fromstring(read_plain(path), np.int64, sep="\n")
    except (ValueError, DeprecationWarning) as error:
        raise InputError(f"{printable(path)} should have one whole number a line: {error}") from error
    if len(labels) != cloud.num_original:
        total = counted(cloud.num_original, "point")
        raise InputError(f"{printable(path)} has {counted(len(labels), 'label')} for {total}")
    kept = labels if cloud.kept is None else labels[cloud.kept]
    return replace(cloud, columns={**cloud.columns, "label": kept[:, None]})
