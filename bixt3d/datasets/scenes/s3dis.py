"""S3DIS: rooms of six areas, each object of a room in a text file, or the arrays of Pointcept."""

import re
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float

from bixt3d.datasets.scenes.crops import CropSize, Shape
from bixt3d.datasets.scenes.files import SceneFiles, SceneList, folders_of, labelled, read_arrays
from bixt3d.datasets.scenes.room_layout import CLASSES
from bixt3d.datasets.scenes.stored import Labelled, SceneFile
from bixt3d.io.bounds import listed, printable, read_plain
from bixt3d.types import InputError

FOLDER = "Stanford3dDataset_v1.2_Aligned_Version"
OBJECT = re.compile(r"([A-Za-z]+)_\d+\.txt")
"""Name of a file of ``Annotations``: class and number. The genuine set has one other, a duplicate: 'wall_3 (1).txt'."""
PLAIN = bytes([9, 10, 13, *range(32, 127)])
"""The bytes of a sound file."""
OTHERS = {"stairs"}
"""Objects that count as clutter, as in all published figures."""


class S3DIS(SceneFiles):
    """Rooms of S3DIS with 13 classes; one of the six areas is the test set. Units are metres, colors are ``rgb``.

    ``Area_1/office_1/Annotations/chair_1.txt`` as in the aligned version 1.2, or Pointcept's
    ``Area_1/office_1/coord.npy``, ``color.npy``, ``normal.npy``, ``segment.npy``. The broken lines of the genuine files
    are mended, which is noted.

    Args:
        root: the folder of the areas, or the one above it.
        test_area: the area to test on; all others are for training.
        grid, num_points, crops, shape, balance, features: see `SceneSource`.
    """

    def __init__(  # noqa: PLR0913 (one argument for each line of a config)
        self,
        root: str = "data/" + FOLDER,
        test_area: int = 5,
        grid: float = 0.04,
        num_points: CropSize = 4096,
        crops: int = 1000,
        shape: Shape = "sphere",
        balance: float = 0.0,
        features: str = "",
    ):
        super().__init__(root, grid, num_points, crops, shape, balance, features)
        if not 1 <= test_area <= 6:
            raise InputError(f"data.test_area must be from 1 to 6, not {test_area}")
        self.test_area = test_area

    def find(self, root: Path) -> SceneList:
        root = root / FOLDER if (root / FOLDER).is_dir() else root
        rooms, notes = {area: _rooms_of(root / f"Area_{area}") for area in range(1, 7)}, []
        missing = [f"Area_{area}" for area, own in rooms.items() if not own]
        if not rooms[self.test_area] or len(missing) == 5:
            raise InputError(
                f"{printable(root)} has no rooms in {listed(missing)}: a room is a folder such as Area_1/office_1 with "
                "Annotations/chair_1.txt and so on, or with coord.npy, color.npy and segment.npy"
            )
        if missing:
            notes.append(f"{listed(missing)} not there: published figures use all six areas")
        train = [room for area, own in rooms.items() if area != self.test_area for room in own]
        return SceneList(root, CLASSES, train, rooms[self.test_area], tuple(notes))


def _rooms_of(area: Path) -> list[SceneFile]:
    """Return the rooms of an area."""
    rooms = []
    for room in folders_of(area):
        name, objects = f"{area.name}/{room.name}", room / "Annotations"
        if (room / "coord.npy").is_file():
            paths = tuple(room / f"{file}.npy" for file in ("coord", "color", "normal", "segment"))
            rooms.append(SceneFile(name, paths, partial(read_arrays, room, "segment", len(CLASSES), name)))
        elif objects.is_dir():
            paths = tuple(sorted(one for one in objects.glob("*.txt") if not one.name.startswith(".")))
            rooms.append(SceneFile(name, paths, partial(_read_room, paths, name)))
        else:
            raise InputError(f"{printable(room)} has neither Annotations/ nor coord.npy: is it a room?")
    return rooms


def _read_room(paths: tuple[Path, ...], name: str) -> Labelled:
    """Read the objects of a room."""
    tables, labels, notes = [], [], []
    for path in paths:
        found = OBJECT.fullmatch(path.name)
        if not found:
            notes.append(f"{name}/Annotations/{path.name} left out: an object is named CLASS_NUMBER.txt")
            continue
        word = found[1] if found[1] in CLASSES else "clutter"
        if found[1] not in (*CLASSES, *OTHERS):
            notes.append(f"'{found[1]}' is no class of S3DIS: taken for clutter")
        table, own = read_object(path)
        tables.append(table)
        labels.append(np.full(len(table), CLASSES.index(word)))
        notes += [f"{name}/Annotations/{path.name} {note}" for note in own]
    if not tables:
        raise InputError(f"{name} of S3DIS has no objects in its folder Annotations")
    points = np.concatenate(tables)
    notes = [printable(note) for note in notes]
    return labelled(points[:, :3], {"rgb": points[:, 3:]}, np.concatenate(labels), name, notes)


def read_object(path: Path) -> tuple[Float[np.ndarray, "N 6"], list[str]]:
    """Return the points of an object, x y z r g b, and notes on lines that were mended or dropped.

    Raises InputError for a file with any other fault.
    """
    lines, notes = read_plain(path).split(b"\n"), []
    if any(line.translate(None, PLAIN) for line in lines):
        for place, line in enumerate(lines):
            if line.translate(None, PLAIN):
                lines[place] = mended(line)
                what = f"read as '{lines[place].decode()}'" if lines[place] else "dropped"
                notes.append(f"has the broken line {place + 1}, '{line.decode('latin-1').strip()}': {what}")
    rows = [line.decode() for line in lines if line.strip()]
    if not rows:
        raise InputError(f"{printable(path)} has no points")
    try:
        table = np.loadtxt(rows, np.float64, comments=None, ndmin=2)
    except ValueError as error:
        raise InputError(f"{printable(path)} is damaged: {str(error).split(';')[0]}") from error
    if table.shape[1] != 6:
        raise InputError(f"{printable(path)} has {table.shape[1]} columns, not x y z r g b")
    return table, notes


def mended(line: bytes) -> bytes:
    """Return a line whose characters are damaged as x y z r g b; empty if it cannot be told what it was.

    In the genuine files one bit of a character was lost, which made a control character of a digit or a blank: it is
    set again. If that gives no such line, the character is taken for a blank.
    """
    with_bit = bytes(one | 32 if one < 32 else one for one in line.rstrip())
    for text in (with_bit, line):
        row = bytes(one if one in PLAIN else 32 for one in text).split()
        try:
            numbers = [float(cell) for cell in row]
        except ValueError:
            continue
        if len(row) == 6 and np.isfinite(numbers).all() and all(0 <= color <= 255 for color in numbers[3:]):
            return b" ".join(row)
    return b""
