"""The names that programs and instruments give to the columns of positions."""

import re
from collections.abc import Sequence

from bixt3d.io.bounds import listed
from bixt3d.types import InputError

HEIGHTS = ("z", "elevation", "elev", "height", "altitude", "alt", "h", "up", "u", "höhe", "hoehe", "quota", "cota")
EASTS = ("easting", "eastings", "east", "e", "rechtswert", "ostwert", "ost", "est", "este")
NORTHS = ("northing", "northings", "north", "n", "hochwert", "nordwert", "nord", "norte")
FAMILIES = (("x",), ("y",), ("z",)), (("x",), ("y",), HEIGHTS), (EASTS, NORTHS, HEIGHTS)
NUMBERED = (("0",), ("1",), ("2",)), (("1",), ("2",), ("3",))
"""The usual names of x, y and z, in lower case; of several for the same axis, the first counts."""

QUALIFIERS = {
    "axis",
    "cartesian",
    "coord",
    "coordinate",
    "coordinates",
    "coords",
    "global",
    "grid",
    "local",
    "location",
}
QUALIFIERS |= {
    "map",
    "point",
    "points",
    "pos",
    "pt",
    "pts",
    "position",
    "positions",
    "utm",
    "value",
    "vertex",
    "world",
    "xyz",
}
"""Words in the name of a column that do not change which axis it is: ``Points:0``, ``x_coordinate``."""
LENGTHS = dict.fromkeys(("m", "meter", "meters", "metre", "metres"), 1.0) | {"mm": 0.001, "cm": 0.01, "km": 1000.0}
LENGTHS |= dict.fromkeys(("ft", "feet", "foot"), 0.3048) | {"in": 0.0254, "inch": 0.0254, "usft": 1200 / 3937}
"""Units in the name of a column, as in ``Easting_m``, in meters."""

DEGREES = ("longitude", "lon", "long", "lng"), ("latitude", "lat")
UNITS_OF_ANGLES = ("deg", "degree", "degrees", "°", "rad")

_COLORS = {"r", "g", "b"}
QUANTITIES = "azimuth bearing heading inclination zenith range distance radius rho theta phi roll pitch yaw depth "
QUANTITIES += "time timestamp gpstime date temperature pressure humidity speed velocity vx vy vz curvature density "
QUANTITIES += "intensity reflectance reflectivity amplitude red green blue nx ny nz id index label class category "
QUANTITIES += "classification confidence"
NO_POSITIONS = {*QUANTITIES.split(), "gps time", "return number"}
NO_POSITIONS |= {f"{word} {axis}" for word in ("normal", "normals", "color", "colors", "rgb") for axis in "xyz012"}
"""Names of what is no position, as `plain_name` returns them."""
_AXIS = {word: axis for axis, its in enumerate((EASTS, NORTHS, HEIGHTS)) for word in its if len(word) > 1}


def find_positions(names: Sequence[str]) -> tuple[int, int, int] | None:
    """Return the indices of the columns of x, y and z; None if the names do not say which they are.

    Raises InputError for two columns of the same axis, degrees, and axes in different units.
    """
    exact, plain = [name.strip().lower() for name in names], list(map(plain_name, names))
    found = next(filter(None, (_places(exact, family, names) for family in FAMILIES)), None)
    found = found or next(filter(None, (_places(plain, family, names) for family in (*FAMILIES, *NUMBERED))), None)
    if found is None:
        if all(set(spellings) & set(plain) for spellings in DEGREES):
            raise InputError(f"has positions in degrees ({listed(names)}): project them to metres, such as to UTM")
        return None
    meters_of_units([unit_of(names[place]) for place in found])
    return found


def _places(words: Sequence[str], family: Sequence[Sequence[str]], names: Sequence[str]) -> tuple[int, int, int] | None:
    places = []
    for axis, spellings in zip("xyz", family, strict=True):
        word = next((one for one in spellings if one in words), None)
        own = [place for place, one in enumerate(words) if one == word]
        if not own:
            return None
        places.append((axis, own))
    for axis, own in places:
        if len(own) > 1:
            raise InputError(f"has more than one column for {axis}: {listed(names[place] for place in own)}")
    x, y, z = (own[0] for _, own in places)
    return x, y, z


def are_no_positions(names: Sequence[str], least: int) -> bool:
    """Return whether the first three columns are no x, y, z, as at least ``least`` known names say.

    One of them is another quantity, such as ``time`` or ``depth``, or another axis than its place: ``North`` comes
    first. Single letters are known as ``r g b`` alone.
    """
    plain = list(map(plain_name, names))
    if set(plain) == _COLORS:
        return True
    wrong = [one in NO_POSITIONS or _AXIS.get(one, place) != place for place, one in enumerate(plain)]
    return any(wrong) and sum(one in NO_POSITIONS or one in _AXIS for one in plain) >= least


def plain_name(name: str) -> str:
    """Return the name of a column in lower case without units and words such as ``coordinate``."""
    name = re.sub(r"[\[(<{/].*", "", name.strip().strip("\"'"))
    name = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name).lower()  # pointX, XCoord
    name = re.sub(r"^(coords?|pos|points?|pts?)(?=[xyz]$)", "", name)
    words = [word for word in re.split(r"[\s_\-.:,*]+", name) if word]
    return " ".join(word for word in words if word not in QUALIFIERS | LENGTHS.keys())


def unit_of(name: str) -> str | None:
    """Return the unit in a name, in lower case: ``m`` for ``X [m]``, ``x_m`` and ``X/m``; None without one."""
    name = name.strip().strip("\"'").lower()
    if inside := re.search(r"[\[(<{/]\s*([^\])>}]*?)\s*([\])>}]|$)", name):
        return inside[1]
    last = re.split(r"[\s_\-.:,]+", name)[-1]
    return last if last in LENGTHS and last != name else None


def without_unit(name: str) -> str:
    """Return a name without a unit in brackets: ``intensity`` for ``intensity [dB]``."""
    return re.sub(r"\s*[\[(].*", "", name) or name


def meters_of_units(units: Sequence[str | None]) -> tuple[float, float] | None:
    """Return the unit of x, y and z in meters, as `Cloud.meters`; None if it is not named.

    Raises InputError if the units are angles, or different.
    """
    known = [unit for unit in units if unit in LENGTHS or unit in UNITS_OF_ANGLES]
    if any(unit in UNITS_OF_ANGLES for unit in known):
        raise InputError(f"has positions in degrees ({', '.join(known)}): project them to metres, such as to UTM")
    if len(set(known)) > 1:
        raise InputError(f"has x, y, z in different units ({', '.join(known)}): write them in the same")
    return (LENGTHS[known[0]], LENGTHS[known[0]]) if known else None


def are_meaningless(names: Sequence[str]) -> bool:
    """Return whether a program numbered the columns itself: ``0,1,2`` of pandas, ``V1 V2 V3`` of R, ``Var1,Var2``."""
    numbered = re.compile(r"(v|var|variable|c|col|column|f|field|unnamed:?|column\s*no\.?)?[\s_]*\d+", re.IGNORECASE)
    named = [name for name in names if name]
    return len(named) >= 3 and all(numbered.fullmatch(name) for name in named)


def is_unnamed(column: str) -> bool:
    """Return whether a column has no name in its file, and got its number as one."""
    return column.startswith("column") and column[6:].isdigit()


def is_index_name(name: str) -> bool:
    """Return whether a column has no name, or ``Unnamed: 0``, which pandas gives it."""
    return not name or name.lower().startswith("unnamed")
