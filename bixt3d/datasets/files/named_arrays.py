"""Positions and features from named arrays: .npy, .npz and HDF5."""

from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from bixt3d.datasets.files.array_layout import find_layout
from bixt3d.datasets.files.array_positions import POSITIONS, XYZ_KEYS, Arrays, take_positions
from bixt3d.datasets.files.columns import TRIPLES, Points, split_columns
from bixt3d.datasets.files.fields import points_of_fields
from bixt3d.datasets.files.numpy_files import load_arrays
from bixt3d.datasets.files.records import structured_fields
from bixt3d.datasets.files.text_columns import MAX_WORDS
from bixt3d.io.bounds import listed, shortened
from bixt3d.types import InputError, feature_name


def split_arrays(arrays: Arrays) -> list[Points]:
    """Return the clouds of named arrays: one for positions ``(N, 3)``, S for ``(S, N, 3)``, or with more columns.

    Positions may also be three arrays ``x y z``, channels first, or organized; see `find_layout`. A word for each point
    becomes the index of the word, as in `Cloud`.
    """
    arrays, words = _with_codes(arrays)
    arrays, unread = _without_words(arrays)
    xyz, others, candidates, chosen = take_positions(arrays)
    unread += candidates
    if xyz.dtype.names:
        fields, words_inside = structured_fields(np.ravel(xyz))
        unread += [*others, *words_inside]
        points = points_of_fields(fields)
        return [points._replace(notes=points.notes + chosen + _note(unread))]
    if xyz.dtype.kind not in "fiu":
        raise InputError(f"contains no numbers, but {shortened(str(xyz.dtype))}")
    others = {name: values for name, values in others.items() if name not in unread}
    counts = [values.shape for values in others.values() if values.ndim == 1 or values.shape[1:] == (1,)]
    layout = find_layout(xyz, is_set=xyz.ndim == 3 and any(shape[0] == len(xyz) for shape in counts))
    features = {}
    for name, values in others.items():
        arranged = layout.arrange(values) if values.dtype.kind in "fiub" and values.ndim else None
        if arranged is not None and name not in XYZ_KEYS:
            features[name] = arranged
        elif feature_name(name) in TRIPLES:
            raise InputError(f"has points of shape {xyz.shape}, but {name} of shape {values.shape}")
        else:
            unread.append(name)
    table = layout.arrange(xyz)
    features = _joined(features)
    known, notes = set(map(feature_name, features)), layout.notes + chosen + _note(unread)
    found = []
    for place in range(len(table)) if layout.several else [slice(None)]:
        one = split_columns(table[place], known)
        columns = one.columns | {name: values[place] for name, values in features.items()}
        own = {name: known for name, known in words.items() if name in columns}
        found.append(Points(one.xyz, columns, one.notes + notes, words=own))
    return found


def _note(unread: list[str]) -> tuple[str, ...]:
    return (f"{listed(dict.fromkeys(unread))} not read",) if unread else ()


def _with_codes(arrays: Arrays) -> tuple[Arrays, dict[str, tuple[str, ...]]]:
    """Return the arrays, those of one word for each point as indices (NaN for an empty one), and the words by name."""
    found, words = dict(arrays), {}
    for name, values in arrays.items():
        is_column = values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1)
        if is_column and values.dtype.kind in "US" and name.strip().lower() not in POSITIONS:
            text = np.char.decode(values, "utf-8", "replace") if values.dtype.kind == "S" else values
            known, codes = np.unique(text, return_inverse=True)
            if len(known) <= MAX_WORDS:
                numbers = np.arange(len(known)) - float("" in known)  # an empty word sorts first
                numbers[known == ""] = np.nan
                found[name], words[name] = numbers[codes].reshape(values.shape), tuple(known[known != ""].tolist())
    return found, words


def _without_words(arrays: Arrays) -> tuple[dict[str, Shaped[np.ndarray, "..."]], list[str]]:
    """Return the arrays of numbers and records, and the names of the others."""
    kept = {name: values for name, values in arrays.items() if values.dtype.kind in "fiubc" or values.dtype.names}
    return (kept, [name for name in arrays if name not in kept]) if kept else (dict(arrays), [])


def _joined(features: Arrays) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Return the features with those of three arrays, such as ``R G B`` or ``nx ny nz``, as one."""
    found = dict(features)
    lower = {name.strip().lower(): name for name in features if features[name].shape[-1] == 1}
    for feature, spellings in TRIPLES.items():
        for names in spellings:
            if set(names) <= set(lower) and feature not in map(feature_name, found):
                found[feature] = np.concatenate([found.pop(lower[name]) for name in names], -1)
    return found


def read_arrays(path: Path) -> list[Points]:
    """Return the clouds of a .npy or .npz file. Pickled arrays are not loaded."""
    return split_arrays(load_arrays(path))
