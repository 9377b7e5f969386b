"""``bixt3d info FILE``: facts about files of clouds, meshes and images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bixt3d.datasets.files.cloud import Cloud
from bixt3d.datasets.files.reader import SUFFIXES, read_file
from bixt3d.datasets.images.reading import ENDINGS, exif_turn, open_image
from bixt3d.errors import InputError
from bixt3d.io.bounds import printable
from bixt3d.io.error_messages import enough_memory
from bixt3d.types import Feature

FAR = 10_000
"""Coordinates from this size on are taken for map coordinates."""


def file_facts(path: Path) -> dict[str, Any]:
    """Return the facts about a file. Raises InputError if it cannot be read, or has an unknown format."""
    if path.suffix.lower() in ENDINGS:
        return image_facts(path)
    if path.is_file() and path.suffix.lower() not in SUFFIXES:
        known = ", ".join((*SUFFIXES, *ENDINGS))
        raise InputError(f"{printable(path)} is of an unknown kind: known are runs (folder, .safetensors), {known}")
    with enough_memory(f"{printable(path)} is too large for this machine"):
        return cloud_facts(path, read_file(path))


def image_facts(path: Path) -> dict[str, Any]:
    """Return size, colors and orientation of an image."""
    with open_image(path) as image:
        turned = "read turned, as its EXIF orientation says" if exif_turn(image) is not None else None
        facts = {"what": f"an image ({image.format})", "pixels": f"{image.width} x {image.height}"}
        return facts | {"colors": f"{image.mode}, read as RGB", "orientation": turned}


def cloud_facts(path: Path, clouds: Sequence[Cloud]) -> dict[str, Any]:
    """Return number, size and columns of the clouds of a file."""
    first, sizes = clouds[0], sorted({len(cloud) for cloud in clouds})
    kind = f"a mesh ({path.suffix.lower()})" if first.from_mesh else f"a cloud ({path.suffix.lower()})"
    least = np.min([cloud.xyz.min(axis=0) for cloud in clouds], axis=0)
    most = np.max([cloud.xyz.max(axis=0) for cloud in clouds], axis=0)
    notes = list(dict.fromkeys(note for cloud in clouds for note in cloud.notes))
    return {
        "what": kind if len(clouds) == 1 else f"{len(clouds):,} clouds ({path.suffix.lower()})",
        "points": count_words(sizes, len(clouds)) + (", spread over its faces for reading" if first.from_mesh else ""),
        "faces": f"{first.num_faces:,} triangles" if first.num_faces else None,
        "columns": [column_words(name, clouds) for name in first.columns] or "none beside x, y, z",
        "least": dict(zip("xyz", least.tolist(), strict=True)),
        "greatest": dict(zip("xyz", most.tolist(), strict=True)),
        "size": dict(zip("xyz", (most - least).tolist(), strict=True)),
        "units": units_words(least, most),
        "up": f"{first.up}, as depth cameras write such files"
        if first.up
        else "the file does not say; see --up of bixt3d predict",
        "notes": notes,
        "details": {"clouds": len(clouds), "points": sum(map(len, clouds)), "columns": list(first.columns)},
    }


def column_words(name: str, clouds: Sequence[Cloud]) -> str:
    """Return name, kind, width, type and range (of the finite values) of a column as text."""
    own = [cloud.columns[name] for cloud in clouds if name in cloud.columns]
    finite = [values[np.isfinite(values)] for values in own]
    finite = [values for values in finite if values.size]
    bounds = (
        f"{min(v.min() for v in finite):.6g} to {max(v.max() for v in finite):.6g}" if finite else "no finite number"
    )
    lost = sum(values.size for values in own) - sum(values.size for values in finite)
    try:
        kind = Feature.parse(name).kind
    except InputError:  # not a valid name of a feature
        kind = "scalar"
    width = own[0].shape[1]
    words = [f"{name} ({kind}, {width} x {own[0].dtype}, {bounds})"]
    if lost:
        words.append(f"{lost:,} not finite")
    if len(own) < len(clouds):
        words.append(f"only in {len(own)} of {len(clouds)} clouds")
    return ", ".join(words)


def count_words(sizes: Sequence[int], num_clouds: int) -> str:
    """Return the number of points as text; ``sizes`` are in order."""
    words = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
    return f"{words} each" if num_clouds > 1 else words


def units_words(least: np.ndarray, most: np.ndarray) -> str:
    """Return a guess at the units from the extent of the points; files do not store them."""
    size = float((most - least).max())
    if max(np.abs(least).max(), np.abs(most).max()) >= FAR and size < FAR:
        return "not said; coordinates of a map (such as UTM), perhaps metres"
    if size <= 2.001:
        return "not said; perhaps scaled to a unit sphere or cube, or metres"
    return "not said; perhaps " + ("metres" if size < 100 else "millimetres, or metres of a large scene")
