"""Fields of structured arrays and compound datasets, with records inside records."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from bixt3d.datasets.files.columns import TRIPLES, as_rows
from bixt3d.datasets.files.fields import VECTORS
from bixt3d.types import InputError, feature_name

AXES = ("x", "y", "z")
PARTS = (AXES, *TRIPLES["normal"], *TRIPLES["rgb"])
FOURTH = ("w", "a", "alpha")
"""The usual names, in lower case, of the fields of a vector, and of what a quaternion or a color has besides."""

Fields = Mapping[str, Shaped[np.ndarray, "N ..."]]


class Record(NamedTuple):
    """The outer record (its path is empty), or one inside it, with its own fields of numbers."""

    path: tuple[str, ...]
    fields: dict[str, Shaped[np.ndarray, "N ..."]]

    @property
    def name(self) -> str:
        """Its own name, in lower case."""
        return self.path[-1].strip().lower() if self.path else ""

    @property
    def parts(self) -> Sequence[str]:
        """The usual names, in lower case, of the vector that it contains; none if it contains no vector."""
        lower = set(_lower(self.fields))
        return next((names for names in PARTS if set(names) <= lower), ())


def structured_fields(table: Shaped[np.ndarray, " N"]) -> tuple[dict[str, Any], list[str]]:
    """Return the fields of a structured array, and the names of those of text and objects.

    Fields of records inside it keep their own names. Vectors that are not the position, such as ``normal`` of
    ``x y z`` beside ``position`` of ``x y z``, become one field with the name of their record. Raises InputError if two
    fields would have the same name.
    """
    records, unread = _records(table, ())
    position = _position(records)
    times = Counter(name for record in records for name in _lower(record.fields))
    found: dict[str, Any] = {}
    owners: dict[str, str] = {}
    for record in records:
        is_other = record.parts == AXES and record is not position
        repeated = any(times[name] > 1 for name in record.parts) and record is not position
        fields = _joined(record) if record.path and (is_other or repeated) else record.fields
        where = f"in {'/'.join(record.path)}" if record.path else "outside"
        for name, values in fields.items():
            if name in found:
                raise InputError(f"has two fields {name}, {owners[name]} and {where}: rename one of them")
            found[name], owners[name] = values, where
    return found, unread


def _records(table: Shaped[np.ndarray, "N ..."], path: tuple[str, ...]) -> tuple[list[Record], list[str]]:
    """Return a record and all those in it, and the names of the fields that are no numbers."""
    records, unread = [Record(path, {})], []
    for name in table.dtype.names or ():
        values = table[name]
        if values.dtype.names:
            inner, words = _records(values, (*path, name))
            records += inner
            unread += words
        elif values.dtype.kind in "fiub":
            records[0].fields[name] = values
        else:
            unread.append(name)
    return records, unread


def _position(records: Sequence[Record]) -> Record | None:
    """Return the record whose ``x y z`` are the position; None if there is none, or if it is ambiguous."""
    if records[0].parts == AXES:
        return records[0]
    fields = [field for record in records for field in _lower(record.fields).items()]
    if any(name in VECTORS and values.shape[1:] == (3,) for name, values in fields):
        return None
    axes = [record for record in records if record.parts == AXES and feature_name(record.name) not in TRIPLES]
    named = [record for record in axes if record.name in VECTORS]
    chosen = named or axes
    return chosen[0] if len(chosen) == 1 else None


def _joined(record: Record) -> dict[str, Shaped[np.ndarray, "N ..."]]:
    """Return the fields of a record with its vector as one, of three numbers or four, under the name of the record."""
    lower = _lower(record.fields)
    names = [*record.parts, *(name for name in FOURTH if name in lower)]
    vector = np.concatenate([as_rows(lower.pop(name)) for name in names], axis=1)
    rest = {name: values for name, values in record.fields.items() if name.strip().lower() in lower}
    return {record.path[-1]: vector, **rest}


def _lower(fields: Fields) -> dict[str, Shaped[np.ndarray, "N ..."]]:
    return {name.strip().lower(): values for name, values in fields.items()}
