"""The coordinate reference system of a LAS file, from its WKT or GeoTIFF keys: name and units, in words."""

import re
import struct
from collections.abc import Sequence

from bixt3d.datasets.files.las_header import Record
from bixt3d.io.bounds import printable, shortened

WKT, KEYS, ASCII = ("LASF_Projection", 2112), ("LASF_Projection", 34735), ("LASF_Projection", 34737)
UNITS = {9001: "metres", 9002: "feet", 9003: "US survey feet"}
METERS = {"metres": 1.0, "feet": 0.3048, "US survey feet": 1200 / 3937}
"""Units of length in meters."""
SMALLEST, LARGEST = 1e-4, 1e4
"""What a unit of length may be, in meters."""
MODEL, CITATIONS, PROJECTED, GEOGRAPHIC, LINEAR, VERTICAL = 1024, (3073, 1026, 2049), 3072, 2048, 3076, 4099
"""GeoTIFF keys: kind of system, names of it, its codes in EPSG's register, units of length, of x and y and of z."""
HEIGHTS = r"\b(?:VERT_CS|VERTCS|VERTCRS)\s*[\[(]"
UNIT = r'\b(?:LENGTHUNIT|UNIT)\s*[\[(]\s*"([^"]*)"\s*,\s*([\d.eE+-]+)'


def crs_of(records: Sequence[Record]) -> dict[str, str]:
    """Return ``name``, ``units`` and ``vertical`` of the coordinate reference system, as far as the file says.

    ``vertical`` are the units of z. Units are metres, feet, US survey feet, degrees, or as the file names them.
    """
    content = {record.key: record.data for record in reversed(records)}
    wkt = content.get(WKT, b"").split(b"\0")[0].decode("utf-8", errors="replace").strip()
    found = _from_wkt(wkt) if wkt else {}
    if not found and KEYS in content:
        found = _from_keys(content[KEYS], content.get(ASCII, b"").decode("latin-1"))
    return {name: printable(shortened(value, 200)) for name, value in found.items() if value}


def _from_wkt(wkt: str) -> dict[str, str]:
    """Return name and units of a system in WKT, version 1 or 2: of the horizontal part of a compound one."""
    name = re.search(r'[\[(]\s*"((?:[^"]|"")*)"', wkt)
    if not name:
        return {}
    wkt, *heights = re.split(HEIGHTS, wkt, maxsplit=1)
    vertical = {"vertical": _unit(*found[-1]) if (found := re.findall(UNIT, "".join(heights))) else ""}
    projected = re.search(r"\b(?:PROJCS|PROJCRS|PROJECTEDCRS)\s*[\[(]", wkt)
    units = re.findall(UNIT, wkt)
    geographic = re.search(r"\b(?:GEOGCS|GEOGCRS|GEODCRS|GEOGRAPHICCRS)\s*[\[(]", wkt)
    if not projected and geographic:
        return vertical | {"name": name[1], "units": "degrees"}
    return vertical | {"name": name[1], "units": _unit(*units[-1]) if projected and units else ""}


def _unit(name: str, metres: str) -> str:
    try:
        size = float(metres)
    except ValueError:
        return name
    return next((words for words, one in METERS.items() if abs(size - one) < 1e-9), f"{name} of {metres} m")


def _from_keys(raw: bytes, words: str) -> dict[str, str]:
    """Return name and units from GeoTIFF keys: four numbers each, behind a head of four."""
    numbers = struct.unpack(f"<{len(raw) // 2}H", raw[: len(raw) // 2 * 2])
    keys = {numbers[at]: numbers[at + 1 : at + 4] for at in range(4, len(numbers) - 3, 4)}
    short = {key: value for key, (place, _, value) in keys.items() if place == 0}
    names = [
        words[value : value + count].strip(" |\0")
        for key in CITATIONS
        if (entry := keys.get(key))
        for place, count, value in [entry]
        if place == ASCII[1]
    ]
    code = short.get(PROJECTED) or short.get(GEOGRAPHIC)
    name = next(filter(None, names), "") or (f"EPSG:{code}" if code not in (None, 32767) else "")
    degrees = short.get(MODEL) == 2 or (PROJECTED not in short and GEOGRAPHIC in short and MODEL not in short)
    units, vertical = (UNITS.get(short.get(key, 0), "") for key in (LINEAR, VERTICAL))
    return {"name": name, "units": "degrees" if degrees else units, "vertical": vertical}


def meters_of(records: Sequence[Record]) -> tuple[float, float] | None:
    """Return the units of x and y, and of z (the same if it is not said), in meters; None: not known."""
    found = crs_of(records)
    size, vertical = (_meters(found.get(name, "")) for name in ("units", "vertical"))
    return None if size is None else (size, vertical or size)


def _meters(units: str) -> float | None:
    found = re.search(r" of (\d*\.?\d+) m$", units)
    size = float(found[1]) if found else METERS.get(units)
    return size if size and SMALLEST < size < LARGEST else None


def crs_notes(records: Sequence[Record]) -> tuple[str, ...]:
    """Return a warning for positions in degrees, which distort shapes, or another unit that is no metre."""
    units = crs_of(records).get("units", "metres")
    if units == "degrees":
        return ("x and y are degrees of longitude and latitude, which distort shapes: project them to metres first",)
    return () if units == "metres" else (f"coordinates are in {units}, as the coordinate system of the file says",)
