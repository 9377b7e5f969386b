"""Safe reading of HDF5 files: no links to other files, no more memory than the stored bytes justify."""

import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from bixt3d.datasets.files.text_columns import MAX_WORDS
from bixt3d.io.bounds import (
    NAME_LENGTH,
    UNPACKED_FLOOR,
    UNPACKED_RATIO,
    check_unpacked,
    listed,
    open_plain,
    printable,
)
from bixt3d.types import InputError

BLOCK_BYTES = 2 << 20
"""About the number of bytes that are read at once."""
FEW_WORDS = 16
"""Words of any length that are read at once: they may all be stored as one, of nearly the size of the file."""


@contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """Open a file for reading. Errors inside the context become an InputError that names the file."""
    import h5py

    open_plain(path).close()
    try:
        with h5py.File(path, "r") as file:
            yield file
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 (h5py raises many types for damaged files)
        reason = printable(" ".join(str(error).split()))
        raise InputError(f"{printable(path)} cannot be read as HDF5 ({reason}): fetch or write it again") from error


def holds_numbers(group: Any, name: str) -> bool:
    """Return whether a group contains a dataset of numbers or records of this name, not a group, text or a link."""
    import h5py

    return (
        is_own(group, name)
        and isinstance(group[name], h5py.Dataset)
        and group[name].shape is not None
        and (group[name].dtype.kind in "fiub" or bool(group[name].dtype.names))
    )


def word_column(group: Any, name: str, sizes: Collection[int]) -> Shaped[np.ndarray, "*N"] | None:
    """Return a dataset of one word for each point, as bytes; None if it is none, or takes too much memory.

    ``sizes``: the numbers of points that there may be.
    """
    import h5py

    if not is_own(group, name) or not isinstance(group[name], h5py.Dataset):
        return None
    dataset, kind = group[name], h5py.check_string_dtype(group[name].dtype)
    is_column = bool(dataset.shape) and dataset.shape[0] in sizes and dataset.shape[1:] in ((), (1,))
    if not kind or not is_column or dataset.is_virtual or dataset.external:
        return None
    most = UNPACKED_FLOOR + UNPACKED_RATIO * dataset.id.get_storage_size()
    if max(len(dataset), math.prod(dataset.chunks or ())) * dataset.dtype.itemsize > most:
        return None
    known, codes = _word_codes(dataset, BLOCK_BYTES // kind.length + 1 if kind.length else FEW_WORDS)
    width = max(map(len, known), default=0)
    fits = len(known) <= MAX_WORDS and width <= NAME_LENGTH and 4 * width * len(codes) <= most  # 4: as text
    return np.array([*known], "S")[codes].reshape(dataset.shape) if fits and len(codes) else None


def _word_codes(dataset: Any, rows: int) -> tuple[dict[bytes, int], Int[np.ndarray, " N"]]:
    """Return the different words of a dataset, and the index of the word of each row, up to the first that is too long.

    ``rows``: the number of words that are read at once.
    """
    known: dict[bytes, int] = {}
    codes = np.zeros(len(dataset), np.int64)
    for start in range(0, len(dataset), rows):
        words = dataset[start : start + rows].ravel().tolist()
        codes[start : start + rows] = [known.setdefault(word, len(known)) for word in words]
        if len(known) > MAX_WORDS or max(map(len, words)) > NAME_LENGTH:
            break
    return known, codes


def is_own(group: Any, name: str, only_groups: bool = False) -> bool:
    """Return whether a group contains an object of this name itself, not a link to it."""
    import h5py

    own = isinstance(group.get(name, getlink=True), h5py.HardLink)
    return own and (not only_groups or isinstance(group[name], h5py.Group))


def find_dataset(file: Any, name: str, advice: str = "", records: bool = False) -> Any:
    """Return a dataset of numbers that is stored in the file itself; ``advice`` ends the error if there is none.

    ``records``: it may be one of records (a compound dataset) as well.

    Raises InputError if it is missing, a link, stored in another file, or declares a size far above its stored bytes.
    """
    import h5py

    where = f"{printable(file.file.filename)} has"
    if name not in (names := list(file)):
        raise InputError(f"{where} no dataset {name!r} (it has {listed(names)}){advice}")
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise InputError(f"{where} {name!r} as a link: only data stored in the file itself is read")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
        raise InputError(f"{where} {name!r}, but not as a dataset with numbers in it")
    if dataset.is_virtual or dataset.external:
        raise InputError(f"{where} {name!r} in another file: only data stored in the file itself is read")
    if dataset.dtype.kind not in "fiub" and not (records and dataset.dtype.names):
        kind = dataset.dtype if dataset.dtype.kind != "V" else "tables"
        raise InputError(f"{where} {name!r}, which contains no numbers, but {kind}")
    bytes_each, stored = max(8, dataset.dtype.itemsize), dataset.id.get_storage_size()  # 8: most become float64
    check_unpacked(dataset.size * bytes_each, stored, f"{where} a dataset {name!r} that needs")
    check_unpacked(math.prod(dataset.chunks or ()) * bytes_each, stored, f"{where} chunks in {name!r} that need")
    return dataset


def find_text(group: Any, name: str, most: int) -> list[str]:
    """Return the words of a dataset in a group, or its whole numbers as words.

    Raises InputError if it is none of these, or has more than ``most``.
    """
    import h5py

    dataset = group[name] if is_own(group, name) else None
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "Siu" or dataset.is_virtual:
        raise InputError(f"has {name!r}, which contains no words")
    if len(dataset.shape) != 1 or dataset.external or dataset.size > most:
        raise InputError(f"has {name!r}, which is no list of at most {most} words")
    check_unpacked(
        dataset.size * dataset.dtype.itemsize, dataset.id.get_storage_size(), f"has words in {name!r} that need"
    )
    return [one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one) for one in dataset[()].tolist()]


def blocks(dataset: Any) -> Iterator[tuple[slice, Any]]:
    """Yield a dataset in blocks of rows: the slice along the first axis, and its array."""
    per_row = max(1, dataset.size // max(1, len(dataset)) * dataset.dtype.itemsize)
    chunk_rows = (dataset.chunks or (1,))[0]
    rows = max(1, BLOCK_BYTES // (per_row * chunk_rows)) * chunk_rows  # whole chunks: none is decompressed twice
    for start in range(0, len(dataset), rows):
        place = slice(start, min(start + rows, len(dataset)))
        yield place, dataset[place]
