"""``bixt3d info FILE``: facts about clouds and meshes: points, columns, bounds, spacing, units, what is up."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from bixt3d.cli.data_scenes import LARGE, count_voxels, grid_words
from bixt3d.datasets.clouds.point_labels import find_label
from bixt3d.datasets.files.cloud import Cloud, median_spacing
from bixt3d.datasets.files.las import open_las
from bixt3d.datasets.files.las_crs import crs_of
from bixt3d.datasets.files.las_large import LAS
from bixt3d.types import Feature, InputError

FAR = 10_000
"""Coordinates from this size on are taken for map coordinates."""
UP_WORDS = {".pcd": "as depth cameras write such files", ".e57": "as scanners write such files"}
UP_WORDS |= dict.fromkeys(LAS, "as survey files have it") | dict.fromkeys((".gltf", ".glb"), "as glTF defines it")
METRIC = (".e57", ".gltf", ".glb")
"""Formats that define their unit as metres."""
CLASSES = 8
"""Classes whose shares are printed."""


def cloud_facts(
    path: Path, clouds: Sequence[Cloud], total: int | None = None, box: Float[np.ndarray, "3 2"] | None = None
) -> dict[str, Any]:
    """Return number, size and columns of the clouds of a file.

    ``total``, ``box``: of a file of which only runs were read (``clouds``), its number of points and the greatest and
    least coordinates that its header says.
    """
    first, suffix = clouds[0], path.suffix.lower()
    sizes = sorted({cloud.num_original for cloud in clouds}) if total is None else [total]
    least = np.min([cloud.xyz.min(axis=0) for cloud in clouds], axis=0)
    most = np.max([cloud.xyz.max(axis=0) for cloud in clouds], axis=0)
    if box is not None:
        least, most = np.minimum(least, box[:, 1]), np.maximum(most, box[:, 0])
    notes = list(dict.fromkeys(note for cloud in clouds for note in cloud.notes))
    if total is not None:
        part = sum(map(len, clouds))
        notes.append(f"bounds as its header says; columns and spacing of {part:,} points in {len(clouds)} places")
    number, kind, spacing = 1 if total else len(clouds), "mesh" if first.from_mesh else "cloud", spacing_of(clouds)
    las = las_facts(path)
    return {
        "what": f"a {kind} ({suffix}{las['form']})" if number == 1 else f"{number:,} clouds ({suffix})",
        "points": count_words(sizes, number) + (", spread over its faces for reading" if first.from_mesh else ""),
        "faces": f"{first.num_faces:,} triangles" if first.num_faces else None,
        "columns": column_lines(clouds) or "none beside x, y, z",
        "min": dict(zip("xyz", least.tolist(), strict=True)),
        "max": dict(zip("xyz", most.tolist(), strict=True)),
        "size": dict(zip("xyz", (most - least).tolist(), strict=True)),
        "spacing": f"{spacing:.3g} (median distance to the nearest point)" if spacing is not None else None,
        "grid": grid_of(clouds, spacing, total),
        "units": units_words(least, most, suffix, las["units"]),
        "system": las["name"] or None,
        "up": f"{first.up}, {UP_WORDS[suffix]}" if first.up else "the file does not say; see --up of bixt3d predict",
        "notes": notes,
        "details": {
            "clouds": number,
            "points": total or sum(cloud.num_original for cloud in clouds),
            "columns": list(first.columns),
            "ranges": {name: range_of(name, clouds) for name in first.columns},
            "spacing": spacing,
        },
    }


def grid_of(clouds: Sequence[Cloud], spacing: float | None, total: int | None) -> str | None:
    """Return the proposed side of a voxel, and the number of voxels; None for small or too wide clouds and meshes."""
    sizes = [len(cloud) for cloud in clouds]
    if not spacing or (total or min(sizes)) < LARGE:
        return None
    voxels = [count_voxels(cloud.xyz, spacing) for cloud in clouds]
    if not all(voxels):
        return None
    return grid_words(spacing, [round(sum(voxels) * total / sum(sizes))] if total else voxels)


def las_facts(path: Path) -> dict[str, str]:
    """Return form, coordinate system and units of a LAS file; empty words for other files."""
    facts = {"form": "", "name": "", "units": ""}
    if path.suffix.lower() not in LAS:
        return facts
    with open_las(path) as las:
        form = f": LAS 1.{las.header.version}, point format {las.header.point_format}"
        return facts | {"form": form} | crs_of(las.all_records)


def spacing_of(clouds: Sequence[Cloud]) -> float | None:
    """Return the spacing of the middle cloud (see `median_spacing`); None for a mesh."""
    cloud = clouds[len(clouds) // 2]
    return None if cloud.from_mesh else median_spacing(cloud.xyz)


def range_of(name: str, clouds: Sequence[Cloud]) -> list[float] | None:
    """Return the least and the greatest finite value of a column, or None."""
    own = [cloud.columns[name] for cloud in clouds if name in cloud.columns]
    finite = [values[np.isfinite(values)] for values in own]
    finite = [values for values in finite if values.size]
    return [float(min(v.min() for v in finite)), float(max(v.max() for v in finite))] if finite else None


def column_lines(clouds: Sequence[Cloud]) -> list[str]:
    """Return a line for each column with its kind, width, type and range; those that are 0 everywhere share one."""
    names = list(clouds[0].columns)
    zero = [name for name in names if range_of(name, clouds) == [0, 0]]
    zero = zero if len(zero) > 1 else []
    rows = [(name, type_words(name, clouds), range_words(name, clouds)) for name in names if name not in zero]
    widths = [max((len(row[place]) for row in rows), default=0) for place in range(2)]
    lines = [f"{name:<{widths[0]}}  {kind:<{widths[1]}}  {values}" for name, kind, values in rows]
    return lines + ([f"0 everywhere: {', '.join(zero)}"] if zero else [])


def type_words(name: str, clouds: Sequence[Cloud]) -> str:
    """Return kind (if it is no scalar), width and type of a column."""
    try:
        kind = Feature.parse(name).kind
    except InputError:  # not a valid name of a feature
        kind = "scalar"
    values = clouds[0].columns[name]
    width = f"{values.shape[1]} x {values.dtype}" if values.shape[1] > 1 else str(values.dtype)
    return width if kind == "scalar" else f"{kind}, {width}"


def range_words(name: str, clouds: Sequence[Cloud]) -> str:
    """Return the range of a column as text, the shares of its classes, and what is missing."""
    own, bounds = [cloud.columns[name] for cloud in clouds if name in cloud.columns], range_of(name, clouds)
    words = [f"{bounds[0]:.6g} to {bounds[1]:.6g}" if bounds else "no finite number"]
    if name == find_label(clouds[0].columns) and are_classes(own):
        found, counts = np.unique(np.concatenate([values.ravel() for values in own]), return_counts=True)
        order = np.argsort(-counts, kind="stable")
        shares = ", ".join(f"{int(found[one])}: {counts[one] / counts.sum():.1%}" for one in order[:CLASSES])
        words.append(f"({shares}{', ...' if len(order) > CLASSES else ''})")
    if lost := sum(int((~np.isfinite(values)).sum()) for values in own):
        words.append(f"({lost:,} not finite)")
    if len(own) < len(clouds):
        words.append(f"(only in {len(own)} of {len(clouds)} clouds)")
    return " ".join(words)


def are_classes(own: Sequence[np.ndarray]) -> bool:
    """Return whether the values of a column can be labels: whole numbers from -1 to 255."""
    return all(
        values.shape[1] == 1 and values.min() >= -1 and values.max() <= 255 and (values == np.round(values)).all()
        for values in own
    )


def count_words(sizes: Sequence[int], num_clouds: int) -> str:
    """Return the number of points as text; ``sizes`` are in order."""
    words = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
    return f"{words} each" if num_clouds > 1 else words


def units_words(least: Float[np.ndarray, "3"], most: Float[np.ndarray, "3"], suffix: str = "", known: str = "") -> str:
    """Return the units, or a guess at them from the extent of the points, as most files do not store them."""
    if known or suffix in METRIC:
        return f"{known}, as its coordinate system says" if known else "metres, as the format defines"
    largest, across = np.maximum(np.abs(least), np.abs(most)), most - least
    if np.all(largest[:2] <= (180, 90)) and largest[:2].max() > 1 and across[2] > 20 * across[:2].max():
        return "not said; x and y are perhaps degrees of longitude and latitude: project them to metres first"
    if largest.max() >= FAR and across.max() < FAR:
        return "not said; coordinates of a map (such as UTM), perhaps metres"
    if across.max() <= 2.001:
        return "not said; perhaps scaled to a unit sphere or cube, or metres"
    return "not said; perhaps " + ("metres" if across.max() < 100 else "millimetres, or metres of a large scene")
