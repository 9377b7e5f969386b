"""LAS files for tests, written by laspy."""

import io
import struct
from pathlib import Path

import numpy as np

WKT = (
    'COMPD_CS["Paris + height",PROJCS["RGF93 / Lambert-93",GEOGCS["RGF93",UNIT["degree",0.0174532925199433]],'
    'UNIT["metre",1]],VERT_CS["height",UNIT["foot",0.3048]]]'
)
VERSIONS = {0: "1.2", 1: "1.2", 2: "1.2", 3: "1.2", 4: "1.3", 5: "1.3"}
"""The version in which each point format is written; the others in 1.4."""


def make_las(point_format: int = 3, size: int = 200, extra: bool = True, wkt: str = "", seed: int = 0):
    """Return the points of a small survey, with random numbers in every dimension, and with an extra one."""
    import laspy
    from laspy.vlrs.known import WktCoordinateSystemVlr

    rng = np.random.default_rng(seed)
    header = laspy.LasHeader(point_format=point_format, version=VERSIONS.get(point_format, "1.4"))
    header.scales, header.offsets = [0.01, 0.01, 0.001], [600_000.0, 5_400_000.0, 0.0]
    if extra:
        header.add_extra_dim(laspy.ExtraBytesParams("height", "u2", scales=np.array([0.5]), offsets=np.array([-3.0])))
    if wkt:
        header.vlrs.append(WktCoordinateSystemVlr(wkt))
    las = laspy.LasData(header)
    las.x, las.y, las.z = (rng.random((3, size)).T * [90, 60, 20] + [650_000, 5_450_000, 0]).T
    for dimension in las.point_format.standard_dimensions:
        if dimension.name not in "XYZ":
            most = min(1000, dimension.max)
            values = rng.random(size) * (most + 1)
            las[dimension.name] = values if dimension.kind.name == "FloatingPoint" else values.astype(np.uint16) % 32
    if extra:
        las["height"] = rng.integers(0, 100, size) * 0.5 - 3
    if "red" in las.point_format.dimension_names:
        las.red = rng.integers(0, 65536, size)
    return las


def las_bytes(las, compress: bool = False) -> bytes:
    """Return a file of LAS or LAZ as bytes."""
    file = io.BytesIO()
    las.write(file, do_compress=compress)
    return file.getvalue()


def write_las_file(path: Path, las) -> Path:
    """Write LAS, or LAZ by the extension."""
    path.write_bytes(las_bytes(las, path.suffix == ".laz"))
    return path


def first_point(raw: bytes) -> int:
    """Return the place of the first point of a file."""
    return struct.unpack_from("<I", raw, 96)[0]
